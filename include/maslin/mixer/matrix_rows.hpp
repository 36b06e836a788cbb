// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the mixers with a matrix state share: the registers of a row of it, rows of tokens moved
/// into the panels of simd/tile.hpp, and outputs moved out of them.

#include <maslin/core/each.hpp>
#include <maslin/scan/heads.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/tile.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::matrix {

using simd::panel_columns;
using simd::panels;
static_assert(panel_columns == scan::state_lanes);

/// Longest chunk: the work of a chunk grows with its square, and so does its scratch.
inline constexpr index_t most_chunk = 256;

[[nodiscard]] constexpr index_t round_up(index_t n) noexcept {
  return (n + panel_columns - 1) / panel_columns * panel_columns;
}

/// Columns begin .. end - 1 of the matrix of a span, one span's worth of panels.
template <class S>
[[nodiscard]] index_t columns_of(const scan::head_span<S>& span, index_t E) noexcept {
  return std::min(span.end * panel_columns, E) - span.begin * panel_columns;
}

/// The matrix of a span as panels, from its first column on.
template <class S>
[[nodiscard]] panels<S> matrix_of(const scan::head_span<S>& span, index_t K) noexcept {
  return {span.matrix + span.begin * K * panel_columns, panel_columns, K * panel_columns};
}

/// Calls f(registers, first column, lanes of the last register) for pieces that cover `count`
/// columns: the first of `Sizes` registers while it lasts, and so on, then a part of one. Numbers by
/// themselves, which are for debugging, come one by one.
template <class V, int... Sizes, class F>
inline void for_each_piece(index_t count, const F& f) {
  constexpr index_t width = lane<V>::width;
  index_t c = 0;
  const auto pieces = [&]<int N>(std::integral_constant<int, N> registers) {
    for (; c + N * width <= count; c += N * width) f(registers, c, all_lanes<V>{});
  };
  if constexpr (width == 1) return pieces(std::integral_constant<int, 1>{});
  (pieces(std::integral_constant<int, Sizes>{}), ...);
  if constexpr (width > 1)
    if (c < count) f(std::integral_constant<int, 1>{}, c, static_cast<int>(count - c));
}

/// Where R registers of columns from c on begin in a row of panels.
template <class V, int R, class S>
struct register_places {
  S* at[static_cast<std::size_t>(R)];

  register_places(const panels<S>& m, index_t i, index_t c) noexcept {
    unrolled<R>([&](auto r) { at[r] = m.at(i, c + static_cast<index_t>(r()) * lane<V>::width); });
  }
};

namespace detail {

/// Columns of `rows` rows, times `by`, to lines of 16 numbers, for as many columns as whole pieces
/// have, which it returns.
template <class V, class Count, class S>
[[gnu::always_inline]] inline index_t transpose_pieces(const S* from, index_t stride, Count rows,
                                                       index_t K, S* to, V by) noexcept {
  constexpr int piece = 4;
  index_t i = 0;
  for (; i + piece <= K; i += piece, to += piece * panel_columns) {
    V x[static_cast<std::size_t>(piece)];
    simd::load_columns<V, piece>(from + i, stride, rows, x);
    each<piece>([&](int k) { lane<V>::store(to + k * panel_columns, by * x[k]); });
  }
  return i;
}

}  // namespace detail

/// Row r of `n` rows of K numbers, `stride` apart, times `factor`, becomes column r of panels
/// [n / 16][K][16]. Columns from n on hold nothing of use.
template <class V, class S>
void transpose(const S* rows, index_t stride, index_t n, index_t K, S* to,
               S factor = S(1)) noexcept {
  using L = lane<V>;
  const V by = L::broadcast(factor);
  constexpr index_t width = L::width;
  for (index_t r = 0; r < n; r += width) {
    S* column = to + r / panel_columns * K * panel_columns + r % panel_columns;
    const S* from = rows + r * stride;
    const int count = static_cast<int>(std::min(width, n - r));
    index_t i = count == width
                    ? detail::transpose_pieces<V>(from, stride, all_lanes<V>{}, K, column, by)
                    : detail::transpose_pieces<V>(from, stride, count, K, column, by);
    for (; i < K; ++i)
      for (int k = 0; k < count; ++k) column[i * panel_columns + k] = factor * from[k * stride + i];
  }
}

/// `count` numbers of a row, times `factor`, into panels from column 0 on, the last one padded with
/// zeros.
template <class V, class S>
void load_row(const S* row, index_t count, const panels<S>& to, index_t i,
              S factor = S(1)) noexcept {
  using L = lane<V>;
  constexpr index_t width = L::width;
  const V by = L::broadcast(factor);
  constexpr int registers = static_cast<int>(panel_columns / width);
  S* panel = to.at(i, 0);
  for (; count >= panel_columns; count -= panel_columns) {
    unrolled<registers>([&](auto k) {
      const index_t c = static_cast<index_t>(k()) * width;
      L::store(panel + c, by * L::load(row + c));
    });
    row += panel_columns;
    panel += to.panel;
  }
  if (count == 0) return;
  for (index_t c = 0; c < panel_columns; c += width) {
    const int left = static_cast<int>(std::clamp(count - c, index_t{0}, width));
    L::store(panel + c, left == 0 ? L::broadcast(S(0)) : by * L::load(row + c, left));
  }
}

/// Row i of panels, divided by `divisor`, to a row of `count` numbers.
template <class V, class S>
void store_row(const panels<const S>& from, index_t i, S divisor, S* row, index_t count) noexcept {
  using L = lane<V>;
  const V by = L::broadcast(divisor);
  for_each_piece<V, 1>(count, [&](auto, index_t c, auto n) {
    const V x = L::load(from.at(i, c));
    L::store(row + c, divisor == S(1) ? x : L::div(x, by), n);
  });
}

/// A row of `count` numbers times `factor`, into another or itself.
template <class V, class S>
void scale_row(const S* from, S factor, S* to, index_t count) noexcept {
  const V by = lane<V>::broadcast(factor);
  for_each_piece<V, 4, 1>(count, [&](auto registers, index_t i, auto n) {
    unrolled<registers()>([&](auto k) {
      const index_t at = i + static_cast<index_t>(k()) * lane<V>::width;
      if constexpr (registers() == 1)
        lane<V>::store(to + at, by * lane<V>::load(from + at, n), n);
      else
        lane<V>::store(to + at, by * lane<V>::load(from + at));
    });
  });
}
template <class V, class S>
void scale_row(S* row, S factor, index_t count) noexcept {
  scale_row<V>(static_cast<const S*>(row), factor, row, count);
}

/// Decays between the n tokens of a chunk: calls f(c, factors) for c from the last token to the
/// first, with factors[r] = prod_{c < i <= r} decays[i] for r >= c and 0 before. Then decays[r]
/// becomes the product of all up to r. Both arrays have room for n rounded up.
template <class V, class S, class F>
void fade(S* decays, S* factors, index_t n, const F& f) noexcept {
  const index_t padded = round_up(n);
  std::fill_n(factors, padded, S(0));
  for (index_t c = n - 1; c >= 0; --c) {
    if (c + 1 < n)
      scale_row<V>(factors + c / panel_columns * panel_columns, decays[c + 1],
                   padded - c / panel_columns * panel_columns);
    factors[c] = 1;
    f(c, static_cast<const S*>(factors));
  }
  scale_row<V>(factors, decays[0], padded);
  std::copy_n(factors, n, decays);
}

enum class access { read, write };

/// Starts fetching `count` numbers of a row: a hint, which reads nothing. g++ takes functions that
/// only fetch for ones without effect and drops their calls, unless they are inlined by force.
template <access How = access::read, class T>
[[gnu::always_inline]] inline void fetch_row(const T* row, index_t count) noexcept {
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  for (index_t i = 0; i < count; i += line)
    __builtin_prefetch(row + i, How == access::write ? 1 : 0, 2);
}

/// Starts fetching `count` numbers from `first` on of rows t .. t + n - 1 of a head: they lie a whole
/// token apart, too far for hardware to run ahead of them.
template <access How = access::read, class T>
[[gnu::always_inline]] inline void fetch(const scan::head_rows<T>& rows, index_t t, index_t n,
                                         index_t first, index_t count) noexcept {
  for (index_t r = t; r < t + n; ++r) fetch_row<How>(rows.at(r) + first, count);
}

/// Rows that are copied are fetched so many before: measured, 8 to 24 do as well.
inline constexpr index_t rows_ahead = 12;

}  // namespace maslin::inline MASLIN_ABI::matrix
