// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Small matrix products, C = begin(C) + A^T B, for matrices that a cache holds: a tile of C stays in
/// registers while the products of all its terms are added to it.
///
/// Every number of C is one chain of fma in the order of the terms, whatever the tiles: neither the
/// register width nor the part of C that a call computes changes a bit of it.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/simd/lane.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::simd {

/// Columns that lie side by side: at least the widest register, so that no layout depends on the
/// instruction set.
inline constexpr index_t panel_columns = 16;

/// A matrix cut into panels of 16 columns: (i, j) at data[i row + j / 16 panel + j % 16]. Rows one
/// after another, as usual, are panels 16 apart.
template <class S>
struct panels {
  S* data = nullptr;
  index_t row = 0, panel = panel_columns;

  [[nodiscard]] S* at(index_t i, index_t j) const noexcept {
    // No column is negative: a shift, where a signed quotient takes four instructions.
    const auto column = static_cast<std::size_t>(j), wide = std::size_t{panel_columns};
    return data + i * row + static_cast<index_t>(column / wide) * panel +
           static_cast<index_t>(column % wide);
  }
  /// The same from row i and column j on, a multiple of 16.
  [[nodiscard]] panels from(index_t i, index_t j) const noexcept { return {at(i, j), row, panel}; }
  [[nodiscard]] panels<const S> read() const noexcept { return {data, row, panel}; }
};

/// What a product is added to.
template <class S>
struct begin_with {
  bool nothing = false;      ///< zeros, not what C holds
  const S* scale = nullptr;  ///< row i of C times scale[i], or C as it is
  /// Of terms::through_after: a product of `depth` terms, added before the scale.
  panels<const S> a{}, b{};
  index_t depth = 0;
};

/// Which terms row i has.
enum class terms {
  all,            ///< as many as A and B have rows
  through,        ///< those up to its own number, i: A^T is lower triangular
  through_after,  ///< the same after another product, whose sums never leave registers
  before,         ///< those before its own number, B being C itself: forward substitution
  from,           ///< those from its own number on, last first: A^T is upper triangular
  after,          ///< those after its own number, last first, B being C itself: back substitution
};

namespace detail {

template <terms T>
inline constexpr bool upper = T == terms::from || T == terms::after;

/// Rows of the largest tile: what leaves registers for a row of B and a number of A.
inline constexpr int tile_rows = native_width<float> >= 16 ? 8 : 6;

/// Lanes of register k of N: `n` in the last one.
template <class V, int N, class Count, class K>
[[nodiscard]] constexpr auto lanes_of(K k, Count n) noexcept {
  if constexpr (static_cast<int>(k()) + 1 == N)
    return n;
  else
    return all_lanes<V>{};
}

template <class V, class K>
[[nodiscard]] constexpr index_t offset_of(K k) noexcept {
  return static_cast<index_t>(k()) * lane<V>::width;
}

/// Where the N registers of a row of a tile begin, of whose panels each has a pointer.
template <class V, int N, class T>
struct tile_row {
  using L = lane<V>;
  static constexpr int together =
      N * L::width <= panel_columns ? N : static_cast<int>(panel_columns / L::width);
  static constexpr int count = N / together;
  T* at[static_cast<std::size_t>(count)];

  [[gnu::always_inline]] tile_row(const panels<T>& m, index_t i, index_t j) noexcept {
    unrolled<count>(
        [&](auto p) { at[p] = m.at(i, j + static_cast<index_t>(p()) * panel_columns); });
  }
  template <class K>
  [[nodiscard, gnu::always_inline]] T* begin(K) const noexcept {
    constexpr int place = static_cast<int>(K::value);
    return at[place / together] + place % together * L::width;
  }
  [[gnu::always_inline]] void move(index_t row) noexcept {
    unrolled<count>([&](auto p) { at[p] += row; });
  }
};

/// Adds `depth` terms to a tile of R rows from i on and N registers of columns from j on.
template <class V, std::size_t R, std::size_t N, class S, class Count>
[[gnu::always_inline]] inline void add_terms(V (&sum)[R][N], const panels<const S>& a,
                                             const panels<const S>& b, index_t i, index_t j,
                                             index_t depth, Count n) noexcept {
  using L = lane<V>;
  constexpr int rows = static_cast<int>(R), registers = static_cast<int>(N);
  const S* weights = a.at(0, i);
  tile_row<V, registers, const S> from(b, 0, j);
  for (index_t p = 0; p < depth; ++p) {
    V x[N];
    unrolled<registers>(
        [&](auto k) { x[k] = L::load(from.begin(k), lanes_of<V, registers>(k, n)); });
    from.move(b.row);
    unrolled<rows>([&](auto r) {
      const V weight = L::broadcast(weights[r()]);
      unrolled<registers>([&](auto k) { sum[r][k] = L::fma(weight, x[k], sum[r][k]); });
    });
    weights += a.row;
  }
}

/// Adds the terms i .. i + R - 1, of which row i + r has the first r (`before`) or r + 1; what lies
/// above is never read.
template <class V, terms T, std::size_t R, std::size_t N, class S, class Count>
[[gnu::always_inline]] inline void add_triangle(V (&sum)[R][N], const panels<const S>& a,
                                                const panels<const S>& b, index_t i, index_t j,
                                                Count n) noexcept {
  using L = lane<V>;
  constexpr int rows = static_cast<int>(R), registers = static_cast<int>(N);
  const S* weights = a.at(i, i);
  unrolled<rows>([&](auto p) {
    V x[N];
    unrolled<registers>([&](auto k) {
      if constexpr (T == terms::before)
        x[k] = sum[p][k];
      else
        x[k] = L::load(b.at(i + static_cast<index_t>(p()), j + offset_of<V>(k)),
                       lanes_of<V, registers>(k, n));
    });
    unrolled<rows>([&](auto r) {
      if constexpr (r() > p() || (T != terms::before && r() == p())) {
        const V weight =
            L::broadcast(weights[static_cast<index_t>(p()) * a.row + static_cast<index_t>(r())]);
        unrolled<registers>([&](auto k) { sum[r][k] = L::fma(weight, x[k], sum[r][k]); });
      }
    });
  });
}

/// The terms i + R - 1 .. i from the last to the first, of which row i + r has those from r on (`from`)
/// or after it; what lies below is never read.
template <class V, terms T, std::size_t R, std::size_t N, class S, class Count>
[[gnu::always_inline]] inline void add_upper_triangle(V (&sum)[R][N], const panels<const S>& a,
                                                      const panels<const S>& b, index_t i,
                                                      index_t j, Count n) noexcept {
  using L = lane<V>;
  constexpr int rows = static_cast<int>(R), registers = static_cast<int>(N);
  const S* weights = a.at(i, i);
  unrolled<rows>([&](auto back) {
    constexpr std::size_t p = R - 1 - back();
    V x[N];
    unrolled<registers>([&](auto k) {
      if constexpr (T == terms::after)
        x[k] = sum[p][k];
      else
        x[k] = L::load(b.at(i + static_cast<index_t>(p), j + offset_of<V>(k)),
                       lanes_of<V, registers>(k, n));
    });
    unrolled<rows>([&](auto r) {
      if constexpr (r() < p || (T == terms::from && r() == p)) {
        const V weight =
            L::broadcast(weights[static_cast<index_t>(p) * a.row + static_cast<index_t>(r())]);
        unrolled<registers>([&](auto k) { sum[r][k] = L::fma(weight, x[k], sum[r][k]); });
      }
    });
  });
}

/// Terms depth - 1 down to `first`.
template <class V, std::size_t R, std::size_t N, class S, class Count>
[[gnu::always_inline]] inline void add_last_terms(V (&sum)[R][N], const panels<const S>& a,
                                                  const panels<const S>& b, index_t i, index_t j,
                                                  index_t first, index_t depth, Count n) noexcept {
  if (first >= depth) return;
  add_terms(sum, panels<const S>{a.at(depth - 1, 0), -a.row, a.panel},
            panels<const S>{b.at(depth - 1, 0), -b.row, b.panel}, i, j, depth - first, n);
}

/// One tile of `multiply`, the last of its registers of n lanes.
template <class V, terms T, int R, int N, class S, class Count>
inline void multiply_tile(const panels<S>& out, const panels<const S>& c, const panels<const S>& a,
                          const panels<const S>& b, const begin_with<S>& from, index_t i, index_t j,
                          index_t depth, Count n) noexcept {
  using L = lane<V>;
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(N)];
  if (from.nothing) {
    unrolled<R>([&](auto r) { unrolled<N>([&](auto k) { sum[r][k] = L::broadcast(S(0)); }); });
  } else {
    tile_row<V, N, const S> at(c, i, j);
    unrolled<R>([&](auto r) {
      unrolled<N>([&](auto k) { sum[r][k] = L::load(at.begin(k), lanes_of<V, N>(k, n)); });
      at.move(c.row);
    });
  }
  if constexpr (T == terms::through_after) add_terms(sum, from.a, from.b, i, j, from.depth, n);
  if (from.scale != nullptr)
    unrolled<R>([&](auto r) {
      const V factor = L::broadcast(from.scale[i + static_cast<index_t>(r())]);
      unrolled<N>([&](auto k) { sum[r][k] = factor * sum[r][k]; });
    });
  if constexpr (upper<T>) {
    add_last_terms(sum, a, b, i, j, i + R, depth, n);
    add_upper_triangle<V, T>(sum, a, b, i, j, n);
  } else {
    add_terms(sum, a, b, i, j, T == terms::all ? depth : i, n);
    if constexpr (T != terms::all) add_triangle<V, T>(sum, a, b, i, j, n);
  }
  tile_row<V, N, S> to(out, i, j);
  unrolled<R>([&](auto r) {
    unrolled<N>([&](auto k) { L::store(to.begin(k), sum[r][k], lanes_of<V, N>(k, n)); });
    to.move(out.row);
  });
}

/// f(R, i) for tiles of R rows, a constant, from row i on: from the first to the last, or the other
/// way round. The rows of a tile stay within a panel, of which 16 are 6, 5 and 5: tiles of fewer
/// rows than that wait for their own chains.
template <bool Last, class F>
inline void for_each_tile(index_t rows, const F& f) noexcept {
  for (index_t done = 0; done < rows;) {
    const index_t end = rows - done;
    const index_t left =
        Last ? end - (end - 1) / panel_columns * panel_columns
             : std::min(done / panel_columns * panel_columns + panel_columns, rows) - done;
    const auto go = [&]<int R>(std::integral_constant<int, R> of) {
      f(of, Last ? end - R : done);
      done += R;
    };
    if (left == tile_rows || left > 2 * tile_rows - 2)
      go(std::integral_constant<int, tile_rows>{});
    else if (left > 4 && left != 8)
      go(std::integral_constant<int, 5>{});
    else if (left >= 4)
      go(std::integral_constant<int, 4>{});
    else
      go(std::integral_constant<int, 1>{});
  }
}

}  // namespace detail

/// out <- begin(C) + A^T B, C of m rows and n columns: out[i,j] = begin + sum_p A[p,i] B[p,j] over
/// `depth` terms, or those that `T` says.
/// layout    out may be C, and overlaps nothing else, but for terms::before
/// numerics  begin(C), then one fma a term, in the order of the terms; those of a product that begin(C)
///           has come before its scale
template <class V, terms T = terms::all>
void multiply(const panels<typename lane<V>::scalar>& out,
              const panels<const typename lane<V>::scalar>& c,
              const panels<const typename lane<V>::scalar>& a,
              const panels<const typename lane<V>::scalar>& b,
              const begin_with<typename lane<V>::scalar>& from, index_t m, index_t n,
              index_t depth = 0) noexcept {
  constexpr index_t width = lane<V>::width;
  const auto columns = [&]<int N, class Count>(std::integral_constant<int, N>, index_t j,
                                               Count lanes) {
    const auto tile = [&]<int R>(std::integral_constant<int, R>, index_t i) {
      detail::multiply_tile<V, T, R, N>(out, c, a, b, from, i, j, depth, lanes);
    };
    detail::for_each_tile<detail::upper<T>>(m, tile);
  };
  constexpr int N = 2;
  index_t j = 0;
  for (; j + N * width <= n; j += N * width)
    columns(std::integral_constant<int, N>{}, j, all_lanes<V>{});
  for (; j + width <= n; j += width) columns(std::integral_constant<int, 1>{}, j, all_lanes<V>{});
  if constexpr (width > 1)
    if (j < n) columns(std::integral_constant<int, 1>{}, j, static_cast<int>(n - j));
}

/// The same into C itself.
template <class V, terms T = terms::all>
void multiply(const panels<typename lane<V>::scalar>& c,
              const panels<const typename lane<V>::scalar>& a,
              const panels<const typename lane<V>::scalar>& b,
              const begin_with<typename lane<V>::scalar>& from, index_t m, index_t n,
              index_t depth = 0) noexcept {
  multiply<V, T>(c, c.read(), a, b, from, m, n, depth);
}

}  // namespace maslin::inline MASLIN_ABI::simd
