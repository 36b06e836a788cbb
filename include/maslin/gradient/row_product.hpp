// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a chunk of rows has of a state and of each other's keys, rows in lanes:
///
///   out[i,r] <- begin + by[r] sum_e state[i,e] x[e,r] + sum_c rows[c,i] scores[c,r]
///
/// The state is read as it lies, a number of it for all lanes, so that it need not be transposed.

#include <maslin/core/each.hpp>
#include <maslin/mixer/matrix_rows.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// Which rows c a row r has terms of.
enum class reach { earlier, later, all };

/// sum_c rows[c,i] scores[c,r]. Of a block of 16 by 16 of which some c are not within reach, the scores
/// of these are zeros.
template <class S>
struct score_terms {
  matrix::panels<const S> rows, scores;
  reach to;
};

/// layout    state [E / 16][K][16], x and out lines of rows
/// numbers   sums over e ascending, then the products of `terms` one after another, c ascending
template <class S>
struct row_product {
  matrix::panels<S> out;
  const S* state;
  matrix::panels<const S> x;
  index_t K, E, rows;
  const S* by = nullptr;           // null: 1
  matrix::panels<const S> with{};  // dots[r] += sum_i with[i,r] sum_e state[i,e] x[e,r]
  S* dots = nullptr;               // null: none
  bool add = false;                // begin with what `out` holds

  /// `between` is called before each tile.
  template <class V, class F, class... Terms>
  void run(F& between, const Terms&... terms) const noexcept {
    constexpr int most = simd::detail::tile_rows,
                  N = lane<V>::width < matrix::panel_columns ? 2 : 1;
    const auto tiles = [&]<int R>(std::integral_constant<int, R>, index_t i) {
      between();
      for (index_t r = 0; r < rows; r += N * lane<V>::width) tile<V, R, N>(i, r, terms...);
      return R;
    };
    for (index_t i = 0; i < K;) {
      const index_t left = K - i;
      if (left % most == 0)
        i += tiles(std::integral_constant<int, most>{}, i);
      else if (left >= most - 1)
        i += tiles(std::integral_constant<int, most - 1>{}, i);
      else
        i += tiles(std::integral_constant<int, 1>{}, i);
    }
  }

 private:
  template <class V, int R, int N, class... Terms>
  void tile(index_t i, index_t r, const Terms&... terms) const noexcept {
    using L = lane<V>;
    V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
    unrolled<R>([&](auto k) { unrolled<N>([&](auto c) { sum[k][c] = L::broadcast(S(0)); }); });
    add_state(sum, i, r);
    if (dots != nullptr)
      unrolled<N>([&](auto c) {
        const index_t at = r + simd::detail::offset_of<V>(c);
        V all = L::load(dots + at);
        unrolled<R>([&](auto k) {
          all = L::fma(L::load(with.at(i + static_cast<index_t>(k()), at)), sum[k][c], all);
        });
        L::store(dots + at, all);
      });
    if (by != nullptr)
      unrolled<N>([&](auto c) {
        const V factor = L::load(by + r + simd::detail::offset_of<V>(c));
        unrolled<R>([&](auto k) { sum[k][c] = factor * sum[k][c]; });
      });
    (add_scores(sum, terms, i, r), ...);
    unrolled<N>([&](auto c) {
      S* to = out.at(i, r + simd::detail::offset_of<V>(c));
      unrolled<R>([&](auto k) {
        const V found = sum[k][c];
        L::store(to, add ? L::load(to) + found : found);
        to += out.row;
      });
    });
  }

  template <class V, std::size_t R, std::size_t N>
  [[gnu::always_inline]] void add_state(V (&sum)[R][N], index_t i, index_t r) const noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(N);
    constexpr index_t wide = matrix::panel_columns;
    const S* weights = state + i * wide;
    const S* from[N];
    unrolled<registers>([&](auto c) { from[c] = x.at(0, r + simd::detail::offset_of<V>(c)); });
    for (index_t e = 0; e < E; e += wide, weights += K * wide) {
      const index_t count = std::min(wide, E - e);
      for (index_t p = 0; p < count; ++p) {
        V at[N];
        unrolled<registers>([&](auto c) {
          at[c] = L::load(from[c]);
          from[c] += x.row;
        });
        unrolled<static_cast<int>(R)>([&](auto k) {
          const V weight = L::broadcast(weights[p + static_cast<index_t>(k()) * wide]);
          unrolled<registers>([&](auto c) { sum[k][c] = L::fma(weight, at[c], sum[k][c]); });
        });
      }
    }
  }

  template <class V, std::size_t R, std::size_t N>
  [[gnu::always_inline]] void add_scores(V (&sum)[R][N], const score_terms<S>& terms, index_t i,
                                         index_t r) const noexcept {
    const index_t block = r / matrix::panel_columns * matrix::panel_columns;
    const index_t first = terms.to == reach::later ? block : 0;
    const index_t end =
        terms.to == reach::earlier ? std::min(block + matrix::panel_columns, rows) : rows;
    const auto row = [first](matrix::panels<const S> m) {
      m.data += first * m.row;
      return m;
    };
    simd::detail::add_terms(sum, row(terms.rows), row(terms.scores), i, r, end - first,
                            all_lanes<V>{});
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
