// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/concepts.hpp>
#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/simd/lane.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using namespace maslin::test;
namespace simd = maslin::simd;
namespace recurrence = maslin::recurrence;
using maslin::recurrence::companion;
using maslin::recurrence::write_side_companion;

template <int M>
struct read_side {
  template <class V>
  using at = companion<V, M>;
};
using ring = std::uint64_t;

}  // namespace

TEST_CASE("the companion keeps the laws at every order", "[recurrence][companion][laws]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) { laws::check<read_side<order>>(order); });
}
TEST_CASE("the companion keeps the laws in wide and narrow numbers",
          "[recurrence][companion][laws]") {
  for_orders<1, 3, 8>([](auto order) { laws::check_wide<read_side<order>>(order); });
}

TEST_CASE("the companion weights lag k by the gate of the token that reads it",
          "[recurrence][companion][formula]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    constexpr int M = order;
    CAPTURE(M);
    constexpr int T = 2 * M + 3;
    const auto tokens = laws::ring_tokens<companion<ring, M>>(T);
    typename companion<ring, M>::state h;
    std::vector<ring> past;  // h[-M], ..., h[-1], h[0], ...
    for (int k = 0; k < M; ++k) {
      past.push_back(ring(100 + k));
      h.h[M - 1 - k] = past.back();
    }
    for (int t = 0; t < T; ++t) {
      const auto& gates = tokens[std::size_t(t)].gates;
      ring want = gates.input;
      for (int k = 0; k < M; ++k) want += gates.gate[k] * past[past.size() - 1 - std::size_t(k)];
      past.push_back(want);
      companion<ring, M>::step(tokens[std::size_t(t)], h);
      for (int k = 0; k < M; ++k) CHECK(h.h[k] == past[past.size() - 1 - std::size_t(k)]);
    }
  });
}

TEST_CASE("normalised gates bound the companion, not its transpose",
          "[recurrence][companion][stability]") {
  constexpr int M = 4;
  using read = companion<double, M>;
  using write = write_side_companion<double, M>;
  // Every row of gates sums to 1: all weight on the input (of 1), or on one lag. The token at t
  // copies h[t-1] to t + lag on the write side, so that the inputs 0, 2 and 4 meet.
  read::state h{};
  write::state w{};
  double largest_read = 0, largest_write = 0;
  constexpr int by_input = -1;
  for (const int lag : {by_input, 3, by_input, 1, by_input}) {
    read::token u{};
    if (lag == by_input)
      u.gates.input = 1;
    else
      u.gates.gate[lag] = 1;
    read::step(u, h);
    write::step(u, w);
    largest_read = std::fmax(largest_read, std::abs(h.h[0]));
    largest_write = std::fmax(largest_write, std::abs(w.h[0]));
  }
  CHECK(largest_read == 1);
  CHECK(largest_write == 3);
}

TEMPLATE_TEST_CASE("a companion of order 1 has the bytes of the diagonal",
                   "[recurrence][companion][bits]", float, double) {
  using S = TestType;
  maslin::test::random numbers(3);
  typename companion<S, 1>::state h{{S(0.3)}};
  typename recurrence::diagonal<S>::state d{{S(0.3)}};
  for (int t = 0; t < 1000; ++t) {
    const S a = S(numbers.uniform(0.5, 1.2)), b = S(numbers.normal());
    companion<S, 1>::step(typename companion<S, 1>::token{{{a}, b}}, h);
    recurrence::diagonal<S>::step({a, b}, d);
    REQUIRE(std::memcmp(&h, &d, sizeof(S)) == 0);
  }
}

TEST_CASE("a companion takes any token that gives its row", "[recurrence][companion][interface]") {
  struct lazy {
    int* calls;
    recurrence::gate_row<double, 2> row(int i) const {
      CHECK(i == 0);
      ++*calls;
      return {{0.5, 0.25}, 3};
    }
  };
  int calls = 0;
  companion<double, 2>::state h{{8, 4}};
  companion<double, 2>::step(lazy{&calls}, h);
  CHECK(calls == 1);
  CHECK(h.h[0] == 0.5 * 8 + 0.25 * 4 + 3);
  CHECK(h.h[1] == 8);
  const auto u = companion<float, 2>::convert(lazy{&calls});
  CHECK(u.row(0).gate[0] == 0.5f);
  CHECK(u.row(0).gate[1] == 0.25f);
  CHECK(u.row(0).input == 3.0f);
  const auto w = write_side_companion<float, 2>::convert(lazy{&calls});
  CHECK(w.row(0).gate[1] == 0.25f);
}
