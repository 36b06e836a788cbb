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

TEST_CASE("the reference of the delta rule refuses shapes that disagree",
          "[reference][delta_rule]") {
  std::vector<double> x(4);
  CHECK_THROWS_AS(reference::delta_rule({}, 1, row_major(x.data(), 1, 1, 2, 2),
                                        row_major(x.data(), 1, 2, 1, 2)),
                  maslin::shape_error);
}
