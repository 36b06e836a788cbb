// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/bdlru.hpp>

#include <array>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace {

using Catch::Matchers::WithinAbs;
using maslin::index_t;
using maslin::normalise;
using maslin::row_major;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double unit = DBL_EPSILON / 2;

/// Runs one sequence of G = 1 block and returns its outputs.
std::vector<double> run(normalise kind, index_t M, const std::vector<double>& gate,
                        const std::vector<double>& input, std::vector<double>& state) {
  const index_t T = static_cast<index_t>(input.size()) / M;
  std::vector<double> y(input.size());
  maslin::reference::bdlru(kind, row_major(gate.data(), 1, T, 1, M, M + 1),
                           row_major(input.data(), 1, T, 1, M), row_major(state.data(), 1, 1, M),
                           row_major(y.data(), 1, T, 1, M));
  return y;
}

}  // namespace

TEST_CASE("three tokens of a block of two with given gates, worked out by hand",
          "[reference][bdlru]") {
  std::vector<double> state{4, 8};
  const std::vector<double> gate{0.5, 0.25, 1, 0,   2, -1,     // token 0, rows 0 and 1
                                 0,   1,    0, 1,   0, 0,      // token 1 swaps the components
                                 -1,  0.5,  2, 0.5, 1, 0.25};  // token 2
  const std::vector<double> y = run(normalise::none, 2, gate, {1, 3, 100, 100, 0.5, -4}, state);
  // 2 + 2 + 1, 16 - 3;  13, 5;  -13 + 2.5 + 1, 6.5 + 5 - 1
  CHECK(y == std::vector<double>{5, 13, 13, 5, -9.5, 10.5});
  CHECK(state == std::vector<double>{-9.5, 10.5});
}

TEST_CASE("three tokens of a block of two with softmax gates, worked out by hand",
          "[reference][bdlru]") {
  const double ln2 = std::log(2.0), ln3 = std::log(3.0);
  std::vector<double> state{4, 8};
  // Rows (1/2, 1/4, 1/4), (0, 1, 0); (1/5, 1/5, 3/5), (1/2, 1/2, 0); (0, 0, 1), (1, 0, 0).
  const std::vector<double> gate{ln2, 0, 0,    -inf, 0,    -inf, 1, 1,    1 + ln3,
                                 9,   9, -inf, -inf, -inf, 3,    2, -inf, -inf};
  const std::vector<double> y = run(normalise::softmax, 2, gate, {8, 7, 5, 7, 3, 7}, state);
  const double allowed =
      2 * (3 + 10) * unit * 8;  // two steps of M + 1 terms and M + 8 of the gates
  CHECK_THAT(y[0], WithinAbs(6, allowed));
  CHECK(y[1] == 8);
  CHECK_THAT(y[2], WithinAbs(5.8, allowed));  // 6/5 + 8/5 + 3
  CHECK_THAT(y[3], WithinAbs(7, allowed));
  CHECK(y[4] == 3);
  CHECK(y[5] == y[2]);
}

TEST_CASE("a block of three follows every product of permutations exactly",
          "[reference][bdlru][expressivity]") {
  // Row i reads component perm[i] alone, so a product of tokens permutes the initial state.
  constexpr std::array<std::array<std::size_t, 3>, 6> group{
      {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}};
  for (const normalise kind : {normalise::softmax, normalise::sigmoid_l1}) {
    maslin::test::random numbers(1);
    std::vector<double> gate, state{1, 2, 3}, expected = state;
    std::vector<double> wanted;
    for (int t = 0; t < 200; ++t) {
      const auto& perm = group[static_cast<std::size_t>(numbers.below(6))];
      std::vector<double> next(3);
      for (std::size_t i = 0; i < 3; ++i) {
        next[i] = expected[perm[i]];
        for (std::size_t k = 0; k <= 3; ++k) gate.push_back(k == perm[i] ? 0 : -inf);
      }
      expected = next;
      wanted.insert(wanted.end(), next.begin(), next.end());
    }
    CHECK(run(kind, 3, gate, std::vector<double>(600, 0.0), state) == wanted);
  }
}

TEST_CASE("a block of two computes parity", "[reference][bdlru][expressivity]") {
  maslin::test::random numbers(2);
  std::vector<double> gate, state{1, 0};
  std::vector<int> parity;
  int odd = 0;
  for (int t = 0; t < 300; ++t) {
    const bool flip = numbers.below(2) == 1;
    odd ^= flip ? 1 : 0;
    parity.push_back(odd);
    for (const double z : {flip ? -inf : 0, flip ? 0 : -inf, -inf,   // row 0
                           flip ? 0 : -inf, flip ? -inf : 0, -inf})  // row 1
      gate.push_back(z);
  }
  const auto y = run(normalise::softmax, 2, gate, std::vector<double>(600, 0.0), state);
  for (std::size_t t = 0; t < 300; ++t) CHECK(y[2 * t + 1] == parity[t]);
}

TEST_CASE("a NaN logit stays in its block, at its own and later tokens",
          "[reference][bdlru][cone]") {
  constexpr index_t T = 5, G = 3, M = 2;
  maslin::test::random numbers(3);
  std::vector<double> gate(T * G * M * (M + 1)), input(T * G * M, 1.0), state(G * M), y(T * G * M);
  numbers.fill_normal<double>(gate);
  const auto logits = row_major(gate.data(), 1, T, G, M, M + 1);
  logits(0, 2, 1, 0, 1) = std::numeric_limits<double>::quiet_NaN();
  maslin::reference::bdlru(normalise::softmax, logits, row_major(input.data(), 1, T, G, M),
                           row_major(state.data(), 1, G, M), row_major(y.data(), 1, T, G, M));
  const auto h = row_major(y.data(), 1, T, G, M);
  for (index_t t = 0; t < T; ++t) {
    for (index_t g = 0; g < G; ++g) {
      for (index_t i = 0; i < M; ++i) {
        // At token 2 only the row of the bad logit; from token 3 on every row reads it.
        CHECK(std::isnan(h(0, t, g, i)) == (g == 1 && (t > 2 || (t == 2 && i == 0))));
      }
    }
  }
}

TEST_CASE("shapes that disagree are refused before any write by bdlru",
          "[reference][bdlru][errors]") {
  std::vector<double> gate(24, 1), input(8, 1), state{1, 2}, y(8, -7);
  CHECK_THROWS_AS(
      maslin::reference::bdlru(normalise::none, row_major(gate.data(), 1, 4, 1, 3, 2),
                               row_major(input.data(), 1, 4, 1, 2),
                               row_major(state.data(), 1, 1, 2), row_major(y.data(), 1, 4, 1, 2)),
      maslin::shape_error);
  CHECK(y == std::vector<double>(8, -7));
  CHECK(state == std::vector<double>{1, 2});
}
