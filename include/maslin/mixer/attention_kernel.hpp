// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The two products of attention for a few rows and one block of keys: scores, and weighted values.
/// A row is one query of one head. Neither the rows that share a tile nor the width of a register
/// decides a bit: a score is one chain over the key's numbers, an output one chain over the keys of
/// a block.

#include <maslin/core/each.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/storage.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::detail {

/// Keys of a block.
inline constexpr index_t key_block = 64;

/// Numbers of a query that are packed at a time, and from one packed query to the next: not a power
/// of two, of which few share a cache set.
inline constexpr index_t query_width = 256, query_row = query_width + 16;

/// Registers side by side in a tile of R rows: with two for six rows the accumulators, two registers
/// of keys and a query fill the 16 of AVX2, four fill 29 of the 32 of AVX-512, and fewer rows take more
/// so that no chain waits.
template <class V, int R>
inline constexpr int tile_registers = std::min(R >= 4   ? (simd::native_width<float> >= 16 ? 4 : 2)
                                               : R == 2 ? 4
                                                        : 8,
                                               static_cast<int>(key_block) / lane<V>::width);

/// f(R, begin, end) for the rows that tiles of R rows take: of six, then of what remains; without
/// registers, row by row.
template <class V, class F>
inline void for_each_tile_size(index_t rows, const F& f) {
  index_t r = 0;
  const auto tiles = [&]<int R>(std::integral_constant<int, R> count) {
    const index_t end = r + (rows - r) / R * R;
    if (r < end) f(count, r, end);
    r = end;
  };
  if constexpr (lane<V>::width > 1) {
    tiles(std::integral_constant<int, 6>{});
    tiles(std::integral_constant<int, 4>{});
    tiles(std::integral_constant<int, 2>{});
  }
  tiles(std::integral_constant<int, 1>{});
}

/// f(R, r) for rows r .. r + R - 1, tile by tile.
template <class V, class F>
inline void for_each_row_tile(index_t rows, const F& f) {
  for_each_tile_size<V>(rows,
                        [&]<int R>(std::integral_constant<int, R> count, index_t r, index_t end) {
                          for (; r < end; r += R) f(count, r);
                        });
}

/// Bytes that few rows ask for ahead in a cache of 16-bit numbers, whose conversion keeps hardware from
/// running ahead. Measured: 0.91 to 0.94 of the time from memory, where float would take 1.3 times as long.
inline constexpr index_t halves_ahead = 1024;

/// sum[r][n] += weight(r) row[n] for R rows and N registers. Registers hold one factor: of few rows
/// their weights, of more the row.
template <int R, int N, class V, class C, class Weight>
[[gnu::always_inline]] inline void add_products(
    V (&sum)[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)], const C* row,
    const Weight& weight) noexcept {
  using L = lane<V>;
  const auto at = [&](auto n) {
    return simd::load_stored<V>(row + static_cast<index_t>(n) * L::width);
  };
  if constexpr (R <= 2) {
    if constexpr (half_storage<C> && L::width > 1)
      simd::prefetch_ahead<index_t{N} * L::width * index_t{sizeof(C)}, halves_ahead>(row);
    V w[static_cast<std::size_t>(R)];
    unrolled<R>([&](auto r) { w[r] = L::broadcast(weight(r)); });
    unrolled<N>([&](auto n) {
      const V x = at(n);
      unrolled<R>([&](auto r) { sum[r][n] = L::fma(w[r], x, sum[r][n]); });
    });
  } else {
    V x[static_cast<std::size_t>(N)];
    unrolled<N>([&](auto n) { x[n] = at(n); });
    unrolled<R>([&](auto r) {
      const V w = L::broadcast(weight(r));
      unrolled<N>([&](auto n) { sum[r][n] = L::fma(w, x[n], sum[r][n]); });
    });
  }
}

/// score[r][c] (+)= sum_k query[r][k] keys[k][c] for R rows and the columns of N registers; `fresh`
/// begins the chains, else they go on from what is there.
template <int R, int N, class V, class S, class C>
[[gnu::always_inline]] inline void score_tile(const S* query, index_t K, const C* keys, S* score,
                                              bool fresh) noexcept {
  using L = lane<V>;
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
  unrolled<R>([&](auto r) {
    unrolled<N>([&](auto n) {
      const S* from = score + static_cast<index_t>(r) * key_block + n * L::width;
      sum[r][n] = fresh ? L::broadcast(S(0)) : L::load(from);
    });
  });
  MASLIN_UNROLL_BY_4
  for (index_t k = 0; k < K; ++k)
    add_products<R, N>(sum, keys + k * key_block,
                       [&](auto r) { return query[static_cast<index_t>(r) * query_row + k]; });
  unrolled<R>([&](auto r) {
    unrolled<N>([&](auto n) {
      L::store(score + static_cast<index_t>(r) * key_block + n * L::width, sum[r][n]);
    });
  });
}

/// Keys of a block that one row sees: columns begin .. end - 1.
struct key_range {
  index_t begin = 0, end = 0;
};

/// The columns that any of R rows sees; all of them without ranges.
template <int R>
[[nodiscard]] inline key_range span_of(const key_range* range) noexcept {
  if (range == nullptr) return {0, key_block};
  key_range seen{key_block, 0};
  unrolled<R>([&](auto r) {
    if (range[r].begin == range[r].end) return;
    seen.begin = std::min(seen.begin, range[r].begin);
    seen.end = std::max(seen.end, range[r].end);
  });
  return seen;
}

/// Scores of `rows` rows with the keys that each sees, all of them if `range` is null; columns beside them that share a tile may be
/// written too. Columns outside: those of a tile stay in the first cache while all rows meet them.
template <class V, class S, class C>
void score_block(index_t rows, const S* query, index_t K, const C* keys, const key_range* range,
                 S* score, bool fresh) noexcept {
  for_each_tile_size<V>(
      rows, [&]<int R>(std::integral_constant<int, R>, index_t begin, index_t end) {
        const auto columns = [&]<int N>(std::integral_constant<int, N>) {
          constexpr index_t step = N * lane<V>::width;
          for (index_t c = 0; c < key_block; c += step)
            for (index_t r = begin; r < end; r += R) {
              const key_range seen = span_of<R>(range == nullptr ? range : range + r);
              if (seen.begin < c + step && c < seen.end)
                score_tile<R, N, V>(query + r * query_row, K, keys + c, score + r * key_block + c,
                                    fresh);
            }
        };
        constexpr int N = tile_registers<V, R>;
        // Of a block that rows see a part of, half as many columns at a time leave out more of the rest.
        if constexpr (R >= 4 && N > 2)
          if (range != nullptr) return columns(std::integral_constant<int, 2>{});
        columns(std::integral_constant<int, N>{});
      });
}

/// The columns that all of R rows see.
template <int R>
[[nodiscard]] inline key_range common_range(const key_range* range) noexcept {
  key_range common = range[0];
  unrolled<R>([&](auto r) {
    common.begin = std::max(common.begin, range[r].begin);
    common.end = std::min(common.end, range[r].end);
  });
  common.end = std::max(common.begin, common.end);
  return common;
}

/// sum[n] += weight[j] values[j] over some keys, for one row and N registers.
template <int N, class V, class S, class C>
[[gnu::always_inline]] inline void add_keys(V (&sum)[static_cast<std::size_t>(N)], const S* weight,
                                            const C* values, index_t value_row,
                                            key_range keys) noexcept {
  using L = lane<V>;
  for (index_t j = keys.begin; j < keys.end; ++j) {
    const V w = L::broadcast(weight[j]);
    unrolled<N>([&](auto n) {
      sum[n] = L::fma(w, simd::load_stored<V>(values + j * value_row + n * L::width), sum[n]);
    });
  }
}

/// What the rows of a tile add up: R weights a key, R accumulators.
template <class S>
struct mix_rows {
  const S* weight;         // [R][64]
  const key_range* range;  // [R]; null: all rows see all keys
  const S* decay;          // [R]: what is left of the accumulators
  S* acc;
  index_t acc_row;
};

/// acc[r] = decay[r] acc[r] + sum_j weight[r][j] values[j] over the keys that row r sees, for R rows
/// and the columns of N registers. A key that a row does not see is not multiplied by 0: its value
/// may be NaN.
template <int R, int N, class V, class S, class C>
[[gnu::always_inline]] inline void mix_tile(const mix_rows<S>& rows, const C* values,
                                            index_t value_row) noexcept {
  using L = lane<V>;
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
  unrolled<R>([&](auto r) { unrolled<N>([&](auto n) { sum[r][n] = L::broadcast(S(0)); }); });
  const bool ranged = rows.range != nullptr;
  const key_range common = ranged ? common_range<R>(rows.range) : key_range{0, key_block};
  // Keys that all rows see, and before and after them those of some rows only.
  if (ranged)
    unrolled<R>([&](auto r) {
      const key_range seen = rows.range[r];
      add_keys<N>(sum[r], rows.weight + static_cast<index_t>(r) * key_block, values, value_row,
                  {seen.begin, std::min(seen.end, common.begin)});
    });
  MASLIN_UNROLL_BY_4
  for (index_t j = common.begin; j < common.end; ++j)
    add_products<R, N>(sum, values + j * value_row, [&](auto r) {
      return rows.weight[static_cast<index_t>(r) * key_block + j];
    });
  if (ranged)
    unrolled<R>([&](auto r) {
      add_keys<N>(sum[r], rows.weight + static_cast<index_t>(r) * key_block, values, value_row,
                  {common.end, rows.range[r].end});
    });
  unrolled<R>([&](auto r) {
    const V decay = L::broadcast(rows.decay[r]);
    unrolled<N>([&](auto n) {
      S* acc = rows.acc + static_cast<index_t>(r) * rows.acc_row + n * L::width;
      L::store(acc, L::fma(decay, L::load(acc), sum[r][n]));
    });
  });
}

/// The same for any number of rows and columns, a whole number of registers.
template <class V, class S, class C>
void mix_block(index_t count, const mix_rows<S>& rows, const C* values, index_t value_row,
               index_t columns) noexcept {
  for_each_tile_size<V>(
      count, [&]<int R>(std::integral_constant<int, R>, index_t begin, index_t end) {
        index_t e = 0;
        const auto pieces = [&]<int N>(std::integral_constant<int, N>) {
          for (; e + N * lane<V>::width <= columns; e += N * lane<V>::width)
            for (index_t r = begin; r < end; r += R)
              mix_tile<R, N, V>(
                  mix_rows<S>{rows.weight + r * key_block,
                              rows.range == nullptr ? nullptr : rows.range + r, rows.decay + r,
                              rows.acc + r * rows.acc_row + e, rows.acc_row},
                  values + e, value_row);
        };
        pieces(std::integral_constant<int, tile_registers<V, R>>{});
        if constexpr (tile_registers < V, R >> 2) pieces(std::integral_constant<int, 2>{});
        if constexpr (tile_registers < V, R >> 1) pieces(std::integral_constant<int, 1>{});
      });
}

}  // namespace maslin::inline MASLIN_ABI::detail
