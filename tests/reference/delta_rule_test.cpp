// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/delta_rule.hpp>

#include <cfloat>
#include <cmath>
#include <numbers>
#include <vector>

using maslin::index_t;
using maslin::row_major;
namespace reference = maslin::reference;

namespace {

/// One head of two keys and one value, R micro-steps a token; y of each token.
struct one_head {
  index_t T, R;
  std::vector<double> query, key, value, beta;
  std::vector<double> decay{};  // logarithms

  [[nodiscard]] std::vector<double> run(double scale, std::vector<double>& state) const {
    reference::delta_arrays x{.query = row_major(query.data(), 1, T, 1, 2),
                              .key = row_major(key.data(), 1, T, R, 1, 2),
                              .value = row_major(value.data(), 1, T, R, 1, 1),
                              .beta = row_major(beta.data(), 1, T, R, 1)};
    if (!decay.empty()) x.log_decay = row_major(decay.data(), 1, T, 1);
    std::vector<double> y(static_cast<std::size_t>(T));
    reference::delta_rule(x, scale, row_major(state.data(), 1, 1, 2, 1),
                          row_major(y.data(), 1, T, 1, 1));
    return y;
  }
};

/// Gradients of one head of two keys and one value, of T tokens of R micro-steps.
struct one_adjoint {
  index_t T, R;
  std::vector<double> query, key, value, beta, initial, dy, dfinal;
  std::vector<double> decay{};
  std::vector<double> dquery{}, dkey{}, dvalue{}, dbeta{}, ddecay{}, dinitial{};

  void run(double scale) {
    dquery.assign(query.size(), 0);
    dkey.assign(key.size(), 0);
    dvalue.assign(value.size(), 0);
    dbeta.assign(beta.size(), 0);
    ddecay.assign(decay.size(), 0);
    dinitial.assign(2, 0);
    std::vector<double> y(static_cast<std::size_t>(T)), final(2);
    const auto in = [](const std::vector<double>& x, auto... e) {
      return row_major(x.data(), e...);
    };
    reference::delta_call<double> u;
    u.scale = scale;
    u.query = in(query, 1, T, 1, 2);
    u.key = in(key, 1, T, R, 1, 2);
    u.value = in(value, 1, T, R, 1, 1);
    u.beta = in(beta, 1, T, R, 1);
    if (!decay.empty()) u.log_decay = in(decay, 1, T, 1);
    u.initial = in(initial, 1, 1, 2, 1);
    u.dy = in(dy, 1, T, 1, 1);
    u.dfinal = in(dfinal, 1, 1, 2, 1);
    reference::delta_answer<double> out;
    out.y = row_major(y.data(), 1, T, 1, 1);
    out.final = row_major(final.data(), 1, 1, 2, 1);
    out.dquery = row_major(dquery.data(), 1, T, 1, 2);
    out.dkey = row_major(dkey.data(), 1, T, R, 1, 2);
    out.dvalue = row_major(dvalue.data(), 1, T, R, 1, 1);
    out.dbeta = row_major(dbeta.data(), 1, T, R, 1);
    if (!decay.empty()) out.dlog_decay = row_major(ddecay.data(), 1, T, 1);
    out.dinitial = row_major(dinitial.data(), 1, 1, 2, 1);
    reference::delta_rule_backward(u, out);
  }
};

}  // namespace

TEST_CASE("three tokens of the delta rule, worked out by hand", "[reference][delta_rule]") {
  const one_head plain{3, 1, {1, 1, 0, 1, 2, -1}, {1, 0, 0, 1, 1, 1}, {5, 4, 1}, {1, 0.5, 0.25}};
  std::vector<double> state{1, -2};
  // Updates 1 (5 - 1), 1/2 (4 + 2), 1/4 (1 - 6); S: (5, -2), (5, 1), (3.75, -0.25)
  CHECK(plain.run(2, state) == std::vector<double>{6, 2, 15.5});
  CHECK(state == std::vector<double>{3.75, -0.25});

  one_head gated = plain;
  gated.decay = {std::log(0.5), 0, 0};
  state = {2, -4};
  CHECK(gated.run(2, state) == std::vector<double>{6, 2, 15.5});
}

TEST_CASE("micro-steps follow one another and are read once", "[reference][delta_rule]") {
  const one_head product{1, 2, {1, 1}, {1, 0, 1, 1}, {5, 1}, {1, 0.25}};
  std::vector<double> state{1, 1};
  // Updates 1 (5 - 1), 1/4 (1 - 6); S: (5, 1), (3.75, -0.25)
  CHECK(product.run(1, state) == std::vector<double>{3.5});
}

TEST_CASE("reflections of two micro-steps rotate", "[reference][delta_rule]") {
  // beta = 2 and v = 0 reflect: across two lines pi / 8 apart, a turn by pi / 4.
  const double c = std::cos(std::numbers::pi / 8), s = std::sin(std::numbers::pi / 8);
  const one_head turn{1, 2, {1, 0}, {0, 1, -s, c}, {0, 0}, {2, 2}};
  std::vector<double> state{1, 0};
  const auto y = turn.run(1, state);
  CHECK(std::abs(y[0] - std::sqrt(0.5)) <= 4 * DBL_EPSILON);
  CHECK(std::abs(state[1] - std::sqrt(0.5)) <= 4 * DBL_EPSILON);
}

TEST_CASE("three tokens of the delta rule backwards, worked out by hand",
          "[reference][delta_rule]") {
  one_adjoint plain{3,
                    1,
                    {1, 1, 0, 1, 2, -1},
                    {1, 0, 0, 1, 1, 1},
                    {5, 4, 1},
                    {1, 0.5, 0.25},
                    {1, -2},
                    {1, 2, -1},
                    {0, 1}};
  plain.run(2);
  // Gradients of S: (-1.75, 5.625), (-3.75, 7.25), (-4, 3); of the updates 4, 3, -1.25: -1.75,
  // 7.25, -1, of which beta goes to the values
  CHECK(plain.dquery == std::vector<double>{10, -4, 20, 4, -7.5, 0.5});
  CHECK(plain.dkey == std::vector<double>{-5.25, 19, -29.375, 29, 6.25, -3.5});
  CHECK(plain.dvalue == std::vector<double>{-1.75, 3.625, -0.25});
  CHECK(plain.dbeta == std::vector<double>{-7, 43.5, 5});
  CHECK(plain.dinitial == std::vector<double>{0, 5.625});

  one_adjoint gated = plain;
  gated.decay = {std::log(0.5), 0, 0};
  gated.initial = {2, -4};
  gated.run(2);
  // The first decay leaves what was there before; S after it is (1, -2).
  CHECK(gated.dkey == plain.dkey);
  CHECK(gated.dinitial == std::vector<double>{0, 2.8125});
  CHECK(gated.ddecay[0] == -11.25);
}

TEST_CASE("micro-steps backwards, worked out by hand", "[reference][delta_rule]") {
  one_adjoint product{1, 2, {1, 1}, {1, 0, 1, 1}, {5, 1}, {1, 0.25}, {1, 1}, {2}, {0, 0}};
  product.run(1);
  // Gradients of S: (2, 2), then (1, 1), then (0, 1)
  CHECK(product.dquery == std::vector<double>{7.5, -0.5});
  CHECK(product.dkey == std::vector<double>{3, 3, -7.5, -3.5});
  CHECK(product.dvalue == std::vector<double>{1, 1});
  CHECK(product.dbeta == std::vector<double>{4, -20});
  CHECK(product.dinitial == std::vector<double>{0, 1});
}

TEST_CASE("the reference of the delta rule refuses shapes that disagree",
          "[reference][delta_rule]") {
  std::vector<double> x(4);
  CHECK_THROWS_AS(reference::delta_rule({}, 1, row_major(x.data(), 1, 1, 2, 2),
                                        row_major(x.data(), 1, 2, 1, 2)),
                  maslin::shape_error);
}
