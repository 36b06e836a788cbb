// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/bdlru.hpp>
#include <maslin/reference/hlru.hpp>

#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using Catch::Matchers::WithinAbs;
using maslin::index_t;
using maslin::normalise;
using maslin::row_major;
using maslin::view;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double unit = DBL_EPSILON / 2;

/// A sequence of one batch entry and its reference result.
struct sequence {
  index_t steps, width, order;
  std::vector<double> gate, input, state, y{};

  [[nodiscard]] view<const double, 4> gates() const {
    return row_major(gate.data(), 1, steps, width, order + 1);
  }
  [[nodiscard]] view<const double, 3> inputs() const {
    return row_major(input.data(), 1, steps, width);
  }
  [[nodiscard]] view<double, 3> states() { return row_major(state.data(), 1, width, order); }
  [[nodiscard]] view<double, 3> outputs() {
    y.resize(input.size());
    return row_major(y.data(), 1, steps, width);
  }
  void run(normalise kind) {
    maslin::reference::hlru(kind, gates(), inputs(), states(), outputs());
  }
};

sequence random_sequence(std::uint64_t seed, index_t steps, index_t width, index_t order) {
  maslin::test::random numbers(seed);
  sequence s{.steps = steps, .width = width, .order = order, .gate = {}, .input = {}, .state = {}};
  s.gate.resize(static_cast<std::size_t>(steps * width * (order + 1)));
  s.input.resize(static_cast<std::size_t>(steps * width));
  s.state.resize(static_cast<std::size_t>(width * order));
  numbers.fill_normal<double>(s.gate, 2);
  numbers.fill_normal<double>(s.input);
  numbers.fill_normal<double>(s.state);
  return s;
}

}  // namespace

TEST_CASE("three tokens of order two with given gates, worked out by hand", "[reference][hlru]") {
  sequence s{.steps = 3,
             .width = 1,
             .order = 2,
             .gate = {0.5, 0.25, 1, -1, 2, 0.5, 0.25, 0.125, -2},
             .input = {1, 4, 0.5},
             .state = {4, 8}};
  s.run(normalise::none);
  // 0.5 4 + 0.25 8 + 1;  -1 5 + 2 4 + 0.5 4;  0.25 5 + 0.125 5 - 2 0.5
  CHECK(s.y == std::vector<double>{5, 5, 0.875});
  CHECK(s.state == std::vector<double>{0.875, 5});
}

TEST_CASE("three tokens of order two with softmax gates, worked out by hand", "[reference][hlru]") {
  const double ln2 = std::log(2.0), ln3 = std::log(3.0);
  // Coefficients (1/2, 1/4, 1/4), (1/5, 1/5, 3/5), (0, 1, 0).
  sequence s{.steps = 3,
             .width = 1,
             .order = 2,
             .gate = {ln2, 0, 0, 1, 1, 1 + ln3, -inf, 5, -inf},
             .input = {8, 5, 100},
             .state = {4, 8}};
  s.run(normalise::softmax);
  // 2 + 2 + 2;  6/5 + 4/5 + 3;  the state of two steps before
  const double allowed =
      2 * (3 + 10) * unit * 8;  // two steps of M + 1 terms and M + 8 of the gates
  CHECK_THAT(s.y[0], WithinAbs(6, allowed));
  CHECK_THAT(s.y[1], WithinAbs(5, allowed));
  CHECK(s.y[2] == s.y[0]);
  CHECK(s.state == std::vector<double>{s.y[2], s.y[1]});
}

TEST_CASE("constant coefficients are an all-pole filter", "[reference][hlru]") {
  sequence fibonacci{.steps = 10,
                     .width = 1,
                     .order = 2,
                     .gate = {},
                     .input = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                     .state = {0, 0}};
  for (int t = 0; t < 10; ++t) fibonacci.gate.insert(fibonacci.gate.end(), {1, 1, 1});
  fibonacci.run(normalise::none);
  CHECK(fibonacci.y == std::vector<double>{1, 1, 2, 3, 5, 8, 13, 21, 34, 55});
}

TEST_CASE("lags of the first tokens come from the initial state", "[reference][hlru][lags]") {
  const std::vector<double> y{10, 20, 11, 21}, initial{1, 2, 3, 4, 5, 6};
  std::vector<double> lags(12);
  maslin::reference::hlru_lags(row_major(y.data(), 1, 2, 2), row_major(initial.data(), 1, 2, 3),
                               row_major(lags.data(), 1, 2, 2, 3));
  CHECK(lags == std::vector<double>{10, 1, 2, 20, 4, 5, 11, 10, 1, 21, 20, 4});
}

TEST_CASE("the state is the lags of the last token", "[reference][hlru][lags]") {
  for (const index_t steps : {1, 2, 3, 4, 9}) {
    sequence s = random_sequence(3, steps, 5, 4);
    const std::vector<double> initial = s.state;
    s.run(normalise::softmax);
    std::vector<double> lags(static_cast<std::size_t>(steps * 5 * 4));
    maslin::reference::hlru_lags(s.outputs(), row_major(initial.data(), 1, 5, 4),
                                 row_major(lags.data(), 1, steps, 5, 4));
    CHECK(std::vector<double>(lags.end() - 20, lags.end()) == s.state);
  }
}

TEST_CASE("a sequence may be run in parts", "[reference][hlru][split]") {
  sequence whole = random_sequence(4, 12, 3, 5), parts = whole;
  whole.run(normalise::softmax);
  for (const auto& [begin, end] :
       {std::pair{0, 0}, std::pair{0, 1}, std::pair{1, 8}, std::pair{8, 12}}) {
    maslin::reference::hlru(normalise::softmax, maslin::time_range(parts.gates(), begin, end),
                            maslin::time_range(parts.inputs(), begin, end), parts.states(),
                            maslin::time_range(parts.outputs(), begin, end));
  }
  CHECK(parts.y == whole.y);
  CHECK(parts.state == whole.state);
}

TEST_CASE("order one of both recurrences is minGRU", "[reference][hlru][bdlru]") {
  sequence s = random_sequence(5, 40, 6, 1);
  const std::vector<double> initial = s.state;
  s.run(normalise::softmax);

  std::vector<double> block_state = initial, block_y(s.y.size());
  maslin::reference::bdlru(normalise::softmax, row_major(s.gate.data(), 1, 40, 6, 1, 2),
                           row_major(s.input.data(), 1, 40, 6, 1),
                           row_major(block_state.data(), 1, 6, 1),
                           row_major(block_y.data(), 1, 40, 6, 1));
  CHECK(block_y == s.y);
  CHECK(block_state == s.state);

  // minGRU: g = sigmoid(z_input - z_state), h <- h + g (v - h).
  std::vector<double> h = initial;
  for (std::size_t t = 0; t < 40; ++t) {
    for (std::size_t d = 0; d < 6; ++d) {
      const double* z = s.gate.data() + (t * 6 + d) * 2;
      const double g = 1 / (1 + std::exp(z[0] - z[1])), v = s.input[t * 6 + d];
      h[d] += g * (v - h[d]);
      // Both forms err by at most 2 + 9 units of what the state can be, 6, for each of the t steps.
      const double allowed = 2 * 11 * 6 * unit * static_cast<double>(t + 1);
      CHECK_THAT(s.y[t * 6 + d], WithinAbs(h[d], allowed));
    }
  }
}

TEST_CASE("order M is a block whose other rows shift", "[reference][hlru][bdlru]") {
  constexpr index_t T = 30, M = 4;
  sequence s = random_sequence(6, T, 1, M);
  // Row 0 has the logits; row i > 0 reads component i - 1 only. Inputs enter row 0.
  std::vector<double> gate, input, state = s.state, y(T * M);
  for (index_t t = 0; t < T; ++t) {
    const double* z = s.gate.data() + t * (M + 1);
    gate.insert(gate.end(), z, z + M + 1);
    for (index_t i = 1; i < M; ++i) {
      for (index_t k = 0; k <= M; ++k) gate.push_back(k == i - 1 ? 0 : -inf);
    }
    for (index_t i = 0; i < M; ++i) input.push_back(i == 0 ? s.input[std::size_t(t)] : 0);
  }
  s.run(normalise::softmax);
  maslin::reference::bdlru(normalise::softmax, row_major(gate.data(), 1, T, 1, M, M + 1),
                           row_major(input.data(), 1, T, 1, M), row_major(state.data(), 1, 1, M),
                           row_major(y.data(), 1, T, 1, M));
  for (index_t t = 0; t < T; ++t) CHECK(y[std::size_t(t * M)] == s.y[std::size_t(t)]);
  CHECK(state == s.state);
}

TEST_CASE("a token without weight gives zero, a NaN logit stays in its channel",
          "[reference][hlru][cone]") {
  sequence s = random_sequence(7, 6, 3, 2);
  const auto logit = [&](index_t t, index_t d, index_t k) -> double& {
    return s.gate[static_cast<std::size_t>((t * 3 + d) * 3 + k)];
  };
  for (index_t k = 0; k < 3; ++k) logit(2, 0, k) = -inf;
  logit(3, 1, 2) = std::numeric_limits<double>::quiet_NaN();
  s.run(normalise::softmax);
  CHECK(s.y[2 * 3] == 0);
  for (std::size_t t = 0; t < 6; ++t) {
    CHECK(std::isfinite(s.y[t * 3]));
    CHECK(std::isnan(s.y[t * 3 + 1]) == (t >= 3));
    CHECK(std::isfinite(s.y[t * 3 + 2]));
  }
}

TEST_CASE("shapes that disagree are refused before any write by hlru",
          "[reference][hlru][errors]") {
  sequence s = random_sequence(8, 4, 2, 3);
  const std::vector<double> state = s.state;
  const auto gate = row_major(s.gate.data(), 1, 4, 2, 3);
  CHECK_THROWS_AS(
      maslin::reference::hlru(normalise::none, gate, s.inputs(), s.states(), s.outputs()),
      maslin::shape_error);
  CHECK_THROWS_AS(maslin::reference::hlru_write_side(normalise::none, gate, s.inputs(), s.states(),
                                                     s.outputs()),
                  maslin::shape_error);
  CHECK(s.state == state);
  CHECK(s.y == std::vector<double>(8, 0));
}
