// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The two unit triangular systems of a chunk of the delta rule, solved tile by tile: what a state
/// answers keys, which begins the right side, never leaves registers.

#include <maslin/core/each.hpp>
#include <maslin/mixer/matrix_rows.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// Of `rows` rows of whole panels of columns. `found` is the solution; `made`, beside it, `by` times
/// the solution.
/// numerics  one fma a term: those of the state with keys ascending, then those of rows in order
template <class S>
struct chunk_solve {
  using panels = matrix::panels<S>;
  using reading = matrix::panels<const S>;

  reading keys, state;  // transposed [K][rows], and [K][columns]
  index_t K, rows, columns;
  const S* scale;  // of what the state answers, a row; null: 1
  reading links;   // of rows by those found before: [before][row]
  panels found;

  /// found_r = values_r - scale[r] S^T k_r + sum_{c < r} links[c,r] found_c, values_r <- by[r] found_r
  template <class V>
  void forward(const panels& values, const S* by) const noexcept {
    each_tile<V, false>([&]<int R, int N>(auto& sum, index_t i,
                                          index_t j) __attribute__((always_inline)) {
      using L = lane<V>;
      simd::detail::tile_row<V, N, S> value(values, i, j);
      unrolled<R>([&](auto r) {
        const V factor =
            L::broadcast(scale != nullptr ? -scale[i + static_cast<index_t>(r())] : S(-1));
        unrolled<N>(
            [&](auto k) { sum[r][k] = L::fma(factor, sum[r][k], L::load(value.begin(k))); });
        value.move(values.row);
      });
      simd::detail::add_terms(sum, links, found.read(), i, j, i, all_lanes<V>{});
      simd::detail::add_triangle<V, simd::terms::before>(sum, links, found.read(), i, j,
                                                         all_lanes<V>{});
      put<V>(sum, i, j, by, S(1), values);
    });
  }

  /// found_r = scale[r] D^T k_r + sum_{s >= r} scores[s,r] dy_s + sum_{s > r} links[s,r] found_s, and
  /// made_r = -by[r] found_r
  template <class V>
  void backward(const reading& scores, const reading& dy, const panels& made,
                const S* by) const noexcept {
    each_tile<V, true>([&]<int R, int N>(auto& sum, index_t i,
                                         index_t j) __attribute__((always_inline)) {
      using L = lane<V>;
      constexpr all_lanes<V> all;
      if (scale != nullptr)
        unrolled<R>([&](auto r) {
          const V factor = L::broadcast(scale[i + static_cast<index_t>(r())]);
          unrolled<N>([&](auto k) { sum[r][k] = factor * sum[r][k]; });
        });
      simd::detail::add_last_terms(sum, scores, dy, i, j, i + R, rows, all);
      simd::detail::add_upper_triangle<V, simd::terms::from>(sum, scores, dy, i, j, all);
      simd::detail::add_last_terms(sum, links, found.read(), i, j, i + R, rows, all);
      simd::detail::add_upper_triangle<V, simd::terms::after>(sum, links, found.read(), i, j, all);
      put<V>(sum, i, j, by, S(-1), made);
    });
  }

 private:
  /// Stores a tile, and `sign` by[r] times it.
  template <class V, std::size_t R, std::size_t N>
  [[gnu::always_inline]] void put(const V (&sum)[R][N], index_t i, index_t j, const S* by, S sign,
                                  const panels& made) const noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(N);
    simd::detail::tile_row<V, registers, S> to(found, i, j), beside(made, i, j);
    unrolled<static_cast<int>(R)>([&](auto r) {
      const V factor = L::broadcast(sign * by[i + static_cast<index_t>(r())]);
      unrolled<registers>([&](auto k) {
        L::store(to.begin(k), sum[r][k]);
        L::store(beside.begin(k), factor * sum[r][k]);
      });
      to.move(found.row);
      beside.move(made.row);
    });
  }

  /// finish(sum, first row, first column) for each tile, which holds what the state answers. Rows of
  /// a tile stay within a panel of keys.
  template <class V, bool Last, class F>
  void each_tile(const F& finish) const noexcept {
    constexpr int N = lane<V>::width < matrix::panel_columns ? 2 : 1;
    for (index_t j = 0; j < columns; j += N * lane<V>::width)
      simd::detail::for_each_tile<Last>(
          rows, [&]<int R>(std::integral_constant<int, R>, index_t i) {
            V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
            unrolled<R>([&](auto r) {
              unrolled<N>([&](auto k) { sum[r][k] = lane<V>::broadcast(S(0)); });
            });
            simd::detail::add_terms(sum, keys, state, i, j, K, all_lanes<V>{});
            finish.template operator()<R, N>(sum, i, j);
          });
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
