// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The products of attention's backward pass: small matrices, tile by tile in registers. A number of
/// a product is one fma chain over its terms in their order, whatever the tiles.

#include <maslin/mixer/attention_kernel.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient::detail {

using maslin::detail::key_block;
using maslin::detail::key_range;

/// Columns of a product come in whole groups of so many: at least the widest register.
inline constexpr index_t column_group = 16;

[[nodiscard]] constexpr index_t whole_columns(index_t n) noexcept {
  return (n + column_group - 1) / column_group * column_group;
}

/// A distance known to the compiler.
template <index_t N>
using fixed = std::integral_constant<index_t, N>;

/// What becomes of what c holds.
enum class onto {
  nothing,  ///< c <- sum
  begun,    ///< the chains of the sum begin with c
  total,    ///< c <- c + sum
};

/// c[i][j] <- sum_p a(i, p) b[p][j], a(i, p) at a[i a_row + p a_step], onto what c holds.
template <class S, class Row, class Step>
struct product {
  const S* a;
  Row a_row;
  Step a_step;
  const S* b;
  index_t b_row;
  S* c;
  index_t c_row;
  onto what;
};

/// R rows from i on and N registers of columns from j on, over the terms of `depth`.
template <int R, int N, class V, class S, class Row, class Step>
[[gnu::always_inline]] inline void product_tile(const product<S, Row, Step>& p, index_t i,
                                                index_t j, const key_range& depth) noexcept {
  using L = lane<V>;
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
  S* const c = p.c + i * p.c_row + j;
  unrolled<R>([&](auto r) {
    unrolled<N>([&](auto n) {
      const S* from = c + static_cast<index_t>(r) * p.c_row + n * L::width;
      sum[r][n] = p.what == onto::begun ? L::load(from) : L::broadcast(S(0));
    });
  });
  const S* a = p.a + i * p.a_row + depth.begin * p.a_step;
  const S* b = p.b + depth.begin * p.b_row + j;
  for (index_t k = depth.begin; k < depth.end; ++k, a += p.a_step, b += p.b_row)
    maslin::detail::add_products<R, N>(
        sum, b, [&](auto r) { return a[static_cast<index_t>(r) * p.a_row]; });
  unrolled<R>([&](auto r) {
    unrolled<N>([&](auto n) {
      S* const to = c + static_cast<index_t>(r) * p.c_row + n * L::width;
      L::store(to, p.what == onto::total ? L::load(to) + sum[r][n] : sum[r][n]);
    });
  });
}

/// All rows of a product. `columns(i, R)` and `depth(i, R)` say which columns, whole groups, and
/// which terms rows i .. i + R - 1 have; others are left as they are, or out.
template <class V, class S, class Row, class Step, class Columns, class Depth>
void multiply(const product<S, Row, Step>& p, index_t rows, const Columns& columns,
              const Depth& depth) noexcept {
  maslin::detail::for_each_row_tile<V>(rows, [&]<int R>(std::integral_constant<int, R>, index_t i) {
    constexpr index_t width = lane<V>::width;
    const key_range c = columns(i, R), d = depth(i, R);
    index_t j = c.begin;
    for (; j + 2 * width <= c.end; j += 2 * width) product_tile<R, 2, V>(p, i, j, d);
    if constexpr (column_group % (2 * width) != 0)
      for (; j < c.end; j += width) product_tile<R, 1, V>(p, i, j, d);
  });
}

/// What ranges i .. i + count - 1 span.
[[nodiscard]] inline key_range span_of(const key_range* range, index_t i, index_t count) noexcept {
  key_range all{key_block, 0};
  bool any = false;
  for (index_t r = i; r < i + count; ++r) {
    if (range[r].begin >= range[r].end) continue;
    all.begin = any ? std::min(all.begin, range[r].begin) : range[r].begin;
    all.end = any ? std::max(all.end, range[r].end) : range[r].end;
    any = true;
  }
  return any ? all : key_range{};
}

/// The whole groups of columns that hold a range.
[[nodiscard]] inline key_range columns_of(const key_range& range) noexcept {
  return {range.begin / column_group * column_group, whole_columns(range.end)};
}

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
