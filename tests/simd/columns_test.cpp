// SPDX-License-Identifier: Apache-2.0
#include "guard_page.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"

#include <maslin/simd/columns.hpp>
#include <maslin/simd/lane.hpp>

#include <cstddef>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
using maslin::lane;
namespace simd = maslin::simd;

/// The number at row r, column c: no two are the same.
template <class S>
S entry(int r, int c) {
  return S(1 + r * 512 + c);
}

/// What was wrong with a layout, or nothing.
template <class V>
struct report {
  std::string text;
  void add(const char* what, int C, index_t stride, int n) {
    if (text.empty())
      text = std::string(what) + ": C " + std::to_string(C) + ", stride " + std::to_string(stride) +
             ", rows " + std::to_string(n) + ", width " + std::to_string(lane<V>::width);
  }
};

/// Loads n rows that end at a guard page, and n rows that begin at one; `Count` is int or all_lanes.
template <class V, int C, class Count>
void check_load(const guarded& memory, index_t stride, Count count, report<V>& wrong) {
  using S = typename lane<V>::scalar;
  const int n = count;
  const index_t size = (n - 1) * stride + C;
  for (S* rows : {memory.front<S>(), memory.back<S>(size)}) {
    poison<S>::fill({rows, std::size_t(size)});
    for (int r = 0; r < n; ++r)
      for (int c = 0; c < C; ++c) rows[r * stride + c] = entry<S>(r, c);
    V columns[std::size_t(C)];
    const auto compare = [&](const char* what) {
      S lanes[std::size_t(lane<V>::width)];
      for (int c = 0; c < C; ++c) {
        lane<V>::store(lanes, columns[c]);
        for (int r = 0; r < n; ++r)
          if (lanes[r] != entry<S>(r, c)) wrong.add(what, C, stride, n);
      }
    };
    simd::load_columns<V, C>(rows, stride, count, columns);
    compare("load_columns");
    if constexpr (simd::loads_registers<V, C, Count>) {
      std::vector<int> calls;
      for (V& column : columns) column = lane<V>::broadcast(S(0));
      simd::load_columns<V, C>(rows, stride, columns, [&](int q) { calls.push_back(q); });
      compare("load_columns, with calls between");
      std::vector<int> expected(std::size_t(C / lane<V>::width));
      std::iota(expected.begin(), expected.end(), 0);
      if (calls != expected) wrong.add("calls between", C, stride, n);
    }
  }
}

/// Stores n rows into poison, at a guard page on either side; what lies between rows must stay.
template <class V, int C, class Count>
void check_store(const guarded& memory, index_t stride, Count count, report<V>& wrong) {
  using S = typename lane<V>::scalar;
  const int n = count, W = lane<V>::width;
  const index_t size = (n - 1) * stride + C;
  V columns[std::size_t(C)];
  S lanes[std::size_t(lane<V>::width)];
  for (int c = 0; c < C; ++c) {
    for (int r = 0; r < W; ++r) lanes[r] = entry<S>(r, c);
    columns[c] = lane<V>::load(lanes);
  }
  for (S* rows : {memory.front<S>(), memory.back<S>(size)}) {
    poison<S>::fill({rows, std::size_t(size)});
    simd::store_columns<V, C>(rows, stride, count, columns);
    for (index_t i = 0; i < size; ++i) {
      const int r = int(i / stride), c = int(i % stride);
      if (c < C ? rows[i] != entry<S>(r, c) : !poison<S>::is(rows[i]))
        wrong.add("store_columns", C, stride, n);
    }
  }
}

template <class V, int C>
[[gnu::noinline]] void check_columns(const guarded& memory, report<V>& wrong) {
  for (const index_t stride : {C, C + 1, C + 5, 3 * C}) {
    for (int n = 1; n <= lane<V>::width; ++n) {
      check_load<V, C>(memory, stride, n, wrong);
      check_store<V, C>(memory, stride, n, wrong);
    }
    check_load<V, C>(memory, stride, maslin::all_lanes<V>{}, wrong);
    check_store<V, C>(memory, stride, maslin::all_lanes<V>{}, wrong);
  }
}

template <class S>
using quarter = typename simd::sized<S, 16 / sizeof(S)>::type;

}  // namespace

TEMPLATE_TEST_CASE("short rows become columns and rows again, touching nothing beside them",
                   "[simd][columns][guard]", float, simd::native<float>, simd::native<double>,
                   quarter<float>) {
  using S = typename lane<TestType>::scalar;
  const guarded memory(std::size_t(lane<TestType>::width) * 60 * sizeof(S));
  report<TestType> wrong;
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (check_columns<TestType, I + 1>(memory, wrong), ...);
  }
  (std::make_integer_sequence<int, 20>{});
  CHECK(wrong.text == "");
}

TEMPLATE_TEST_CASE("rows as long as a block of 8 or 16 with its input become columns",
                   "[simd][columns][guard]", simd::native<float>, simd::native<double>) {
  using S = typename lane<TestType>::scalar;
  const guarded memory(std::size_t(lane<TestType>::width) * 3 * 272 * sizeof(S));
  report<TestType> wrong;
  check_columns<TestType, 72>(memory, wrong);
  check_columns<TestType, 272>(memory, wrong);
  CHECK(wrong.text == "");
}

TEMPLATE_TEST_CASE("a twin has the columns of two registers", "[simd][columns][guard]",
                   simd::native<float>, simd::native<double>, quarter<float>) {
  using V = simd::twin<TestType>;
  using S = typename lane<V>::scalar;
  const guarded memory(std::size_t(lane<V>::width) * 60 * sizeof(S));
  report<V> wrong;
  [&]<int... I>(std::integer_sequence<int, I...>) {
    const auto check = [&](auto C) {
      for (const index_t stride : {C + 0, C + 1})
        check_load<V, C>(memory, stride, maslin::all_lanes<V>{}, wrong);
    };
    (check(std::integral_constant<int, I + 1>{}), ...);
  }
  (std::make_integer_sequence<int, 9>{});
  CHECK(wrong.text == "");
}

TEMPLATE_TEST_CASE("two half registers come from two places, or zeros from none",
                   "[simd][columns][guard]", simd::native<float>, simd::native<double>) {
  using S = typename lane<TestType>::scalar;
  constexpr int W = lane<TestType>::width, half = W / 2;
  if constexpr (W >= 4) {
    const guarded first(1), second(1);
    S* low = first.back<S>(half);
    S* high = second.back<S>(half);
    for (int i = 0; i < half; ++i) low[i] = entry<S>(0, i), high[i] = entry<S>(1, i);
    S lanes[std::size_t(W)];
    lane<TestType>::store(lanes, simd::load_halves<TestType>(low, high));
    for (int i = 0; i < half; ++i) {
      CHECK(lanes[i] == low[i]);
      CHECK(lanes[half + i] == high[i]);
    }
    lane<TestType>::store(lanes, simd::load_halves<TestType>(low, nullptr));
    for (int i = 0; i < half; ++i) {
      CHECK(lanes[i] == low[i]);
      CHECK(lanes[half + i] == 0);
    }
  }
}

TEMPLATE_TEST_CASE("halves that lie one after another are read in whole registers",
                   "[simd][columns][guard]", simd::native<float>, simd::native<double>) {
  using S = typename lane<TestType>::scalar;
  constexpr int W = lane<TestType>::width, half = W / 2;
  if constexpr (W >= 4) [&]<int... K>(std::integer_sequence<int, K...>) {
      const auto check = [&]<int N>(std::integral_constant<int, N>) {
        const guarded memory(N);
        S* p = memory.back<S>(N * W);
        for (int i = 0; i < N * W; ++i) p[i] = entry<S>(i / half, i % half);
        TestType out[std::size_t(N)];
        simd::load_all_halves<TestType, N>(p, out);
        for (int k = 0; k < N; ++k) {
          S lanes[std::size_t(W)];
          lane<TestType>::store(lanes, out[k]);
          CAPTURE(N, k);
          CHECK(std::memcmp(lanes, p + k * half, sizeof(S) * half) == 0);
          CHECK(std::memcmp(lanes + half, p + (N + k) * half, sizeof(S) * half) == 0);
        }
      };
      (check(std::integral_constant<int, K + 1>{}), ...);
    }
  (std::make_integer_sequence<int, 9>{});
}
