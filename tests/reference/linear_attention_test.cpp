// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/linear_attention.hpp>

#include <cfloat>
#include <cmath>
#include <vector>

using maslin::index_t;
using maslin::row_major;
namespace reference = maslin::reference;

namespace {

/// One head of two keys and one value; y of each token.
struct one_head {
  std::vector<double> query, key, value;
  std::vector<double> decay{}, decays{};  // logarithms

  [[nodiscard]] std::vector<double> run(const reference::linear_options& options,
                                        std::vector<double>& state,
                                        std::vector<double>& sums) const {
    const auto T = static_cast<index_t>(value.size());
    reference::linear_arrays x{.query = row_major(query.data(), 1, T, 1, 2),
                               .key = row_major(key.data(), 1, T, 1, 2),
                               .value = row_major(value.data(), 1, T, 1, 1)};
    if (!decay.empty()) x.log_decay = row_major(decay.data(), 1, T, 1);
    if (!decays.empty()) x.log_decays = row_major(decays.data(), 1, T, 1, 2);
    std::vector<double> y(value.size());
    reference::linear_attention(x, options, row_major(state.data(), 1, 1, 2, 1),
                                row_major(sums.data(), 1, 1, 2), row_major(y.data(), 1, T, 1, 1));
    return y;
  }
};

const double half = std::log(0.5);

/// Gradients of one head of two keys and one value.
struct one_adjoint {
  std::vector<double> query, key, value, decays, initial, dy, dfinal;
  std::vector<double> dquery{}, dkey{}, dvalue{}, ddecays{}, dinitial{};

  void run(double scale) {
    const auto T = static_cast<index_t>(value.size());
    dquery.assign(query.size(), 0);
    dkey.assign(key.size(), 0);
    dvalue.assign(value.size(), 0);
    ddecays.assign(decays.size(), 0);
    dinitial.assign(2, 0);
    std::vector<double> y(value.size()), final(2);
    const auto in = [](const std::vector<double>& x, auto... e) {
      return row_major(x.data(), e...);
    };
    reference::linear_call<double> u;
    u.scale = scale;
    u.query = in(query, 1, T, 1, 2);
    u.key = in(key, 1, T, 1, 2);
    u.value = in(value, 1, T, 1, 1);
    if (!decays.empty()) u.log_decays = in(decays, 1, T, 1, 2);
    u.initial = in(initial, 1, 1, 2, 1);
    u.dy = in(dy, 1, T, 1, 1);
    u.dfinal = in(dfinal, 1, 1, 2, 1);
    reference::linear_answer<double> out;
    out.y = row_major(y.data(), 1, T, 1, 1);
    out.final = row_major(final.data(), 1, 1, 2, 1);
    out.dquery = row_major(dquery.data(), 1, T, 1, 2);
    out.dkey = row_major(dkey.data(), 1, T, 1, 2);
    out.dvalue = row_major(dvalue.data(), 1, T, 1, 1);
    if (!decays.empty()) out.dlog_decays = row_major(ddecays.data(), 1, T, 1, 2);
    out.dinitial = row_major(dinitial.data(), 1, 1, 2, 1);
    reference::linear_attention_backward(u, out);
  }
};

bool close(const std::vector<double>& got, const std::vector<double>& want) {
  for (std::size_t i = 0; i < want.size(); ++i)
    if (std::abs(got[i] - want[i]) > 100 * DBL_EPSILON) return false;
  return got.size() == want.size();
}

}  // namespace

TEST_CASE("three tokens of linear attention, worked out by hand", "[reference][linear_attention]") {
  const one_head plain{{1, 0, 1, 1, 2, -1}, {1, 2, 0, 1, 3, 0}, {5, 4, 1}};
  std::vector<double> state{1, -1}, sums{0, 0};
  // S: (6, 9), (6, 13), (9, 13), read by (1, 0), (1, 1), (2, -1)
  CHECK(plain.run({.scale = 0.5}, state, sums) == std::vector<double>{3, 9.5, 2.5});
  CHECK(state == std::vector<double>{9, 13});

  one_head faded = plain;
  faded.decay = {0, half, half};
  state = {1, -1};
  // S: (6, 9), (3, 8.5), (4.5, 4.25)
  const auto y = faded.run({}, state, sums);
  const std::vector<double> want{6, 11.5, 4.75};
  for (std::size_t t = 0; t < 3; ++t) CHECK(std::abs(y[t] - want[t]) <= 20 * DBL_EPSILON);

  one_head keyed = plain;
  keyed.decays = {0, 0, half, 0, 0, half};
  state = {1, -1};
  // S: (6, 9), (3, 13), (6, 6.5)
  const auto z = keyed.run({}, state, sums);
  const std::vector<double> wanted{6, 16, 5.5};
  for (std::size_t t = 0; t < 3; ++t) CHECK(std::abs(z[t] - wanted[t]) <= 20 * DBL_EPSILON);
}

TEST_CASE("a normalised token that sees one key answers its value",
          "[reference][linear_attention]") {
  const one_head one{{0.3, -2}, {-1, 4}, {7}};
  std::vector<double> state{0, 0}, sums{0, 0};
  const auto y = one.run({.map = maslin::feature::elu_plus_one, .scale = 0.5, .normalised = true},
                         state, sums);
  CHECK(std::abs(y[0] - 7) <= 1e-8);
  // Features: exp(-1) and 4 + 1.
  CHECK(std::abs(sums[0] - std::exp(-1.0)) <= DBL_EPSILON);
  CHECK(sums[1] == 5);
}

TEST_CASE("three tokens of linear attention backwards, worked out by hand",
          "[reference][linear_attention]") {
  one_adjoint plain{
      {1, 0, 1, 1, 2, -1}, {1, 2, 0, 1, 3, 0}, {5, 4, 1}, {}, {1, -1}, {1, 2, -1}, {1, 0}};
  plain.run(0.5);
  // S: (6, 9), (6, 13), (9, 13); its gradients (1.5, 1.5), (1, 1.5), (0, 0.5)
  CHECK(plain.dquery == std::vector<double>{3, 4.5, 6, 13, -4.5, -6.5});
  CHECK(plain.dkey == std::vector<double>{7.5, 7.5, 4, 6, 0, 0.5});
  CHECK(plain.dvalue == std::vector<double>{4.5, 1.5, 0});
  CHECK(plain.dinitial == std::vector<double>{1.5, 1.5});

  one_adjoint keyed = plain;
  keyed.decays = {0, 0, half, 0, 0, half};
  keyed.run(1);
  // S: (6, 9), (3, 13), (6, 6.5); its gradients (1.5, 2.5), (1, 2.5), (-1, 1)
  CHECK(close(keyed.dquery, {6, 9, 6, 26, -6, -6.5}));
  CHECK(close(keyed.dkey, {7.5, 12.5, 4, 10, -1, 1}));
  CHECK(close(keyed.dvalue, {6.5, 2.5, -3}));
  CHECK(close(keyed.ddecays, {1.5, -2.5, 3, 22.5, -3, 6.5}));
  CHECK(close(keyed.dinitial, {1.5, 2.5}));
}

TEST_CASE("a normalised token backwards, worked out by hand", "[reference][linear_attention]") {
  // S = 1 + 2 3 = 7, z = 3 + 2 = 5, y = 7 / 5: dy / z = 1, and -dy y / z = -1.4 for z.
  const double query = 1, key = 2, value = 3, initial = 1, sums = 3, dy = 5, zero = 0;
  double y, final, final_sums, dquery = 0, dkey = 0, dvalue = 0, dinitial, dinitial_sums;
  const auto of = [](auto& x) { return row_major(&x, 1, 1, 1, 1); };
  const auto sums_of = [](auto& x) { return row_major(&x, 1, 1, 1); };
  reference::linear_call<double> u;
  u.options.normalised = true;
  u.scale = 1;
  u.query = of(query), u.key = of(key), u.value = of(value), u.initial = of(initial);
  u.sums = sums_of(sums), u.dy = of(dy), u.dfinal = of(zero), u.dfinal_sums = sums_of(zero);
  reference::linear_answer<double> out;
  out.y = of(y), out.final = of(final), out.final_sums = sums_of(final_sums);
  out.dquery = of(dquery), out.dkey = of(dkey), out.dvalue = of(dvalue);
  out.dinitial = of(dinitial), out.dinitial_sums = sums_of(dinitial_sums);
  reference::linear_attention_backward(u, out);
  // The constant beside z is worth 1e-10.
  const auto near = [](double a, double b) { return std::abs(a - b) <= 1e-9; };
  CHECK((near(y, 1.4) && near(dquery, 0) && near(dkey, 3 - 1.4) && near(dvalue, 2)));
  CHECK((near(dinitial, 1) && near(dinitial_sums, -1.4) && final == 7 && final_sums == 5));
}

TEST_CASE("the reference of linear attention refuses shapes that disagree",
          "[reference][linear_attention]") {
  std::vector<double> x(4);
  CHECK_THROWS_AS(reference::linear_attention({}, {}, row_major(x.data(), 1, 1, 2, 2), {},
                                              row_major(x.data(), 1, 2, 1, 2)),
                  maslin::shape_error);
}
