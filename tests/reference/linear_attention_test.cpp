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

TEST_CASE("the reference of linear attention refuses shapes that disagree",
          "[reference][linear_attention]") {
  std::vector<double> x(4);
  CHECK_THROWS_AS(reference::linear_attention({}, {}, row_major(x.data(), 1, 1, 2, 2), {},
                                              row_major(x.data(), 1, 2, 1, 2)),
                  maslin::shape_error);
}
