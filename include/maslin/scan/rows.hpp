// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Sums of whole earlier rows, channels in lanes:
///   y_t = alpha_t x_t + sum_i c_i row_i
/// Each number of y is one chain of fma in the order of the rows, whatever the lanes and however the
/// rows are grouped, so that every path that adds them in ascending position gives the same bytes.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/core/types.hpp>
#include <maslin/simd/lane.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace maslin::inline MASLIN_ABI::scan {

/// The last piece of a row may hold fewer numbers than registers do: `n` counts those of the last
/// register, `all_lanes<V>` otherwise.
template <class V, std::size_t C, class N>
inline void load_piece(V (&x)[C], const typename lane<V>::scalar* from, N n) noexcept {
  each<C>([&](std::size_t c) {
    const auto* p = from + static_cast<index_t>(c) * lane<V>::width;
    x[c] = c + 1 == C ? lane<V>::load(p, n) : lane<V>::load(p);
  });
}
template <class V, std::size_t C, class N>
inline void store_piece(typename lane<V>::scalar* to, const V (&x)[C], N n) noexcept {
  each<C>([&](std::size_t c) {
    auto* p = to + static_cast<index_t>(c) * lane<V>::width;
    if (c + 1 == C)
      lane<V>::store(p, x[c], n);
    else
      lane<V>::store(p, x[c]);
  });
}

/// Calls f(piece, begin, n) for consecutive pieces of `count` numbers, `piece` being the number of
/// registers as a constant: the first of `Sizes` while it lasts, and so on, then a part of one.
template <class V, int... Sizes, class F>
inline void for_each_piece(index_t count, const F& f) {
  constexpr index_t width = lane<V>::width;
  index_t c = 0;
  const auto pieces = [&]<int C>(std::integral_constant<int, C> piece) {
    for (; c + C * width <= count; c += C * width) f(piece, c, all_lanes<V>{});
  };
  (pieces(std::integral_constant<int, Sizes>{}), ...);
  if constexpr (width > 1)
    if (c < count) f(std::integral_constant<int, 1>{}, c, static_cast<int>(count - c));
}

/// Adds rows to a piece; `rows(add)` calls add(where one begins, its weight) for each, in order.
template <class V, std::size_t C, class N, class Rows>
inline void add_rows(V (&sum)[C], N n, const Rows& rows) noexcept {
  using S = typename lane<V>::scalar;
  rows([&](const S* row, S coefficient) {
    const V weight = lane<V>::broadcast(coefficient);
    V x[C];
    load_piece(x, row, n);
    each<C>([&](std::size_t c) { sum[c] = lane<V>::fma(weight, x[c], sum[c]); });
  });
}

/// R consecutive tokens of a triangular system, one piece of their channels:
///   y_r += sum_{i < count} b[r, i] row_i, then y_r += sum_{q < r} b[r, count + q] y_q
/// Row i lies `row_stride` after row i - 1, the coefficients of token r `token_stride` after those
/// of token r - 1, and `sum` enters with what has been added before.
template <class V, std::size_t R, std::size_t C, class N>
inline void add_tile(V (&sum)[R][C], const typename lane<V>::scalar* rows, index_t row_stride,
                     index_t count, const typename lane<V>::scalar* b, index_t token_stride,
                     N n) noexcept {
  using L = lane<V>;
  for (index_t i = 0; i < count; ++i) {
    V x[C];
    load_piece(x, rows + i * row_stride, n);
    each<R>([&](std::size_t r) {
      const V weight = L::broadcast(b[static_cast<index_t>(r) * token_stride + i]);
      each<C>([&](std::size_t c) { sum[r][c] = L::fma(weight, x[c], sum[r][c]); });
    });
  }
}

/// The second sum of `add_tile`: tokens of the tile read those before them, which are then final.
template <class V, std::size_t R, std::size_t C>
inline void solve_tile(V (&sum)[R][C], const typename lane<V>::scalar* b,
                       index_t token_stride) noexcept {
  using L = lane<V>;
  // Folds, not loops: a triangle of constants keeps the sums in registers at every -O.
  const auto add = [&](auto r, auto q) {
    const V weight =
        L::broadcast(b[static_cast<index_t>(r()) * token_stride + static_cast<index_t>(q())]);
    each<C>([&](std::size_t c) { sum[r()][c] = L::fma(weight, sum[q()][c], sum[r()][c]); });
  };
  const auto token = [&]<std::size_t... Q>([[maybe_unused]] auto r, std::index_sequence<Q...>) {
    (add(r, std::integral_constant<std::size_t, Q>{}), ...);
  };
  [&]<std::size_t... Row>(std::index_sequence<Row...>) {
    (token(std::integral_constant<std::size_t, Row>{}, std::make_index_sequence<Row>{}), ...);
  }
  (std::make_index_sequence<R>{});
}

}  // namespace maslin::inline MASLIN_ABI::scan
