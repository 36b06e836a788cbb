// SPDX-License-Identifier: Apache-2.0
// The stability theorem: if every row of coefficients has an L1 norm of at most 1, then
// max|h[t]| <= max(max|h[-1]|, max|input|). And where it must fail.
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/bdlru.hpp>
#include <maslin/reference/hlru.hpp>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using maslin::index_t;
using maslin::normalise;
using maslin::row_major;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double unit = DBL_EPSILON / 2;
constexpr index_t T = 2000, G = 3;

struct range {
  double low, high;
  void take(double x) {
    low = std::min(low, x);
    high = std::max(high, x);
  }
};

/// The range of all outputs and, in `data`, of initial state and inputs.
range run(normalise kind, index_t M, bool blocks, double spread, range& data) {
  maslin::test::random numbers(static_cast<std::uint64_t>(10 * M + (blocks ? 1 : 0)));
  const index_t rows = blocks ? M : 1;
  std::vector<double> gate(static_cast<std::size_t>(T * G * rows * (M + 1))),
      input(static_cast<std::size_t>(T * G * rows)), state(static_cast<std::size_t>(G * M)),
      y(input.size());
  numbers.fill_normal<double>(gate, spread);
  numbers.fill_uniform<double>(input, -1, 1);
  numbers.fill_uniform<double>(state, -1.5, 1.5);
  data = {inf, -inf};
  for (const double x : input) data.take(x);
  for (const double x : state) data.take(x);
  if (blocks) {
    maslin::reference::bdlru(kind, row_major(gate.data(), 1, T, G, M, M + 1),
                             row_major(input.data(), 1, T, G, M), row_major(state.data(), 1, G, M),
                             row_major(y.data(), 1, T, G, M));
  } else {
    maslin::reference::hlru(kind, row_major(gate.data(), 1, T, G, M + 1),
                            row_major(input.data(), 1, T, G), row_major(state.data(), 1, G, M),
                            row_major(y.data(), 1, T, G));
  }
  range out{inf, -inf};
  for (const double x : y) out.take(x);
  return out;
}

double reach(const range& r) { return std::max(std::abs(r.low), std::abs(r.high)); }

/// What rounded rows may add over T steps.
double slack(index_t M) { return 1 + 4 * static_cast<double>(M * T) * unit; }

}  // namespace

TEST_CASE("normalised gates bound the state by the data", "[reference][stability]") {
  for (const bool blocks : {false, true}) {
    for (const index_t M : {1, 2, 3, 4, 8, 16}) {
      for (const normalise kind : {normalise::softmax, normalise::sigmoid_l1, normalise::relu_l1,
                                   normalise::tanh_l1, normalise::lin_l1}) {
        CAPTURE(blocks, M, static_cast<int>(kind));
        range data{};
        const range out = run(kind, M, blocks, 4, data);
        CHECK(reach(out) <= reach(data) * slack(M));
        // The bound says something: outputs of these gates come near it.
        CHECK(reach(out) > 0.3 * reach(data));
      }
    }
  }
}

TEST_CASE("gates without signs keep the state in the hull of the data", "[reference][stability]") {
  // All data is positive, so the hull excludes 0 and what a signed row could reach.
  maslin::test::random numbers(1);
  for (const index_t M : {1, 2, 4, 8}) {
    std::vector<double> gate(static_cast<std::size_t>(T * (M + 1))), input(T),
        state(static_cast<std::size_t>(M)), y(T);
    numbers.fill_normal<double>(gate, 4);
    numbers.fill_uniform<double>(input, 2, 3);
    numbers.fill_uniform<double>(state, 2, 3);
    const std::vector<double> initial = state;
    for (const normalise kind : {normalise::softmax, normalise::sigmoid_l1, normalise::relu_l1}) {
      state = initial;
      maslin::reference::hlru(kind, row_major(gate.data(), 1, T, 1, M + 1),
                              row_major(input.data(), 1, T, 1), row_major(state.data(), 1, 1, M),
                              row_major(y.data(), 1, T, 1));
      const auto [low, high] = std::minmax_element(y.begin(), y.end());
      // Rows of relu_l1 sum to less than 1: its hull includes 0.
      CHECK(*low >= (kind == normalise::relu_l1 ? 0 : 2 / slack(M)));
      CHECK(*high <= 3 * slack(M));
    }
  }
}

TEST_CASE("gates that are not normalised break the bound", "[reference][stability]") {
  for (const bool blocks : {false, true}) {
    range data{};
    const range out = run(normalise::none, 2, blocks, 1, data);
    CHECK(reach(out) > 1e6 * reach(data));
  }
}

TEST_CASE("coefficients of at most 1 each do not bound the state", "[reference][stability]") {
  std::vector<double> gate, input(200, 0.0), state{1, 1}, y(200);
  for (int t = 0; t < 200; ++t) gate.insert(gate.end(), {1, 1, 0});
  maslin::reference::hlru(normalise::none, row_major(gate.data(), 1, 200, 1, 3),
                          row_major(input.data(), 1, 200, 1), row_major(state.data(), 1, 1, 2),
                          row_major(y.data(), 1, 200, 1));
  CHECK(y.back() > 1e40);
}

TEST_CASE("stable poles at every step do not bound the state", "[reference][stability]") {
  // Both steps have poles of modulus 0.949; their product has the eigenvalue -4.87 = -10^0.687.
  std::vector<double> gate, input(200, 0.0), state{1, 1}, y(200);
  for (int t = 0; t < 200; ++t) gate.insert(gate.end(), {t % 2 == 0 ? 1.8 : -1.8, -0.9, 0.0});
  maslin::reference::hlru(normalise::none, row_major(gate.data(), 1, 200, 1, 3),
                          row_major(input.data(), 1, 200, 1), row_major(state.data(), 1, 1, 2),
                          row_major(y.data(), 1, 200, 1));
  CHECK(std::abs(y.back()) > 1e60);
}

TEST_CASE("the transposed companion breaks the bound with the same normalised gates",
          "[reference][stability][write_side]") {
  // Inputs of 1 at tokens 0, 2 and 4; token 1 sends h to lag 4, token 3 to lag 2: all three meet.
  constexpr index_t M = 4, steps = 5, input_gate = 4;
  const index_t chosen[] = {input_gate, 3, input_gate, 1, input_gate};
  std::vector<double> gate(steps * (M + 1), -inf);
  for (index_t t = 0; t < steps; ++t) {
    gate[static_cast<std::size_t>(t * (M + 1) + chosen[t])] = 0;
  }
  const std::vector<double> input{1, 0, 1, 0, 1};
  const auto z = row_major(gate.data(), 1, steps, 1, M + 1);
  const auto v = row_major(input.data(), 1, steps, 1);
  std::vector<double> y(steps), w(M);
  maslin::reference::hlru_write_side(normalise::softmax, z, v, row_major(w.data(), 1, 1, M),
                                     row_major(y.data(), 1, steps, 1));
  CHECK(y == std::vector<double>{1, 0, 1, 0, 3});

  std::vector<double> h(M);
  maslin::reference::hlru(normalise::softmax, z, v, row_major(h.data(), 1, 1, M),
                          row_major(y.data(), 1, steps, 1));
  CHECK(y == std::vector<double>{1, 0, 1, 0, 1});
}

TEST_CASE("the transposed companion is the read side with gates from the writing token",
          "[reference][stability][write_side]") {
  constexpr index_t M = 3, steps = 50;
  maslin::test::random numbers(9);
  std::vector<double> written(steps * (M + 1)), read(written.size()), input(steps), w(M), h(M),
      y1(steps), y2(steps);
  numbers.fill_normal<double>(written, 0.3);
  numbers.fill_normal<double>(input);
  const auto p = row_major(written.data(), steps, M + 1);
  // y[t] = sum_k p[t-k+1, k-1] y[t-k] + p[t, M] v[t]
  for (index_t t = 0; t < steps; ++t) {
    for (index_t k = 1; k <= M; ++k) {
      read[static_cast<std::size_t>(t * (M + 1) + k - 1)] =
          t - k + 1 >= 0 ? p(t - k + 1, k - 1) : 0;
    }
    read[static_cast<std::size_t>(t * (M + 1) + M)] = p(t, M);
  }
  const auto v = row_major(input.data(), 1, steps, 1);
  maslin::reference::hlru_write_side(normalise::none, row_major(written.data(), 1, steps, 1, M + 1),
                                     v, row_major(w.data(), 1, 1, M),
                                     row_major(y1.data(), 1, steps, 1));
  maslin::reference::hlru(normalise::none, row_major(read.data(), 1, steps, 1, M + 1), v,
                          row_major(h.data(), 1, 1, M), row_major(y2.data(), 1, steps, 1));
  double largest = 0;
  for (const double x : y1) largest = std::max(largest, std::abs(x));
  for (std::size_t t = 0; t < y1.size(); ++t) {
    // Two orders of the same M + 1 terms a step.
    const double allowed = 2 * (M + 1) * unit * static_cast<double>(steps * M) * largest;
    CHECK_THAT(y1[t], Catch::Matchers::WithinAbs(y2[t], allowed));
  }
}
