// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Between rows in memory and lanes in registers: `load_columns` reads one short row for each lane
/// and transposes them, so that register c holds entry c of every row; `store_columns` is its
/// inverse.

#include <maslin/core/each.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/pieces.hpp>
#include <maslin/simd/stream.hpp>
#include <maslin/simd/twin.hpp>

#include <cstring>
#include <utility>

namespace maslin::inline MASLIN_ABI::simd {

namespace detail {

/// True where a register has two pieces of 128 bits and rows of C numbers can be moved a register at a
/// time: half the loads and stores of pieces. Rows of one piece must then be dense.
template <class V, int C, class Count>
inline constexpr bool paired_rows = lane<V>::width == 2 * piece<typename lane<V>::scalar> &&
                                    (C == piece<typename lane<V>::scalar> ||
                                     C % lane<V>::width == 0) &&
                                    std::is_same_v<Count, all_lanes<V>>;

/// Rows r and r + K of K columns, low and high half of w[r], from registers of memory: for each r two
/// neighbours in a row of 2 K columns, or two rows of K. Calls between(q) after register q of every row.
template <class V, int C, class F>
inline void load_paired(const typename lane<V>::scalar* p, index_t apart,
                        V (&out)[static_cast<std::size_t>(C)], const F& between) noexcept {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width, K = piece<S>;
  const auto at = [&](index_t i) {
    raw<V> x;
    std::memcpy(&x, p + i, sizeof x);
    return x;
  };
  const auto turn = [&](raw<V>(&w)[static_cast<std::size_t>(K)], int column) {
    transpose_pieces<S, W>(w);
    each<K>([&](int j) { out[column + j] = from_raw<V>(w[j]); });
  };
  raw<V> first[static_cast<std::size_t>(K)];
  if constexpr (C == K) {
    each<K / 2>([&](int j) {
      const raw<V> low = at(2 * j * K), high = at((2 * j + K) * K);
      first[2 * j] = side_by_side<false, S, W>(low, high);
      first[2 * j + 1] = side_by_side<true, S, W>(low, high);
    });
    turn(first, 0);
  } else {
    each<C / W>([&](int q) {
      raw<V> second[static_cast<std::size_t>(K)];
      each<K>([&](int j) {
        const raw<V> low = at(j * apart + q * W), high = at((j + K) * apart + q * W);
        first[j] = side_by_side<false, S, W>(low, high);
        second[j] = side_by_side<true, S, W>(low, high);
      });
      turn(first, q * W);
      turn(second, q * W + K);
      between(q);
    });
  }
}

/// The inverse.
template <bool Past, class V, int C>
inline void store_paired(typename lane<V>::scalar* p, index_t apart,
                         const V (&in)[static_cast<std::size_t>(C)]) noexcept {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width, K = piece<S>;
  const auto turned = [&](raw<V>(&w)[static_cast<std::size_t>(K)], int column) {
    each<K>([&](int j) { w[j] = to_raw(in[column + j]); });
    transpose_pieces<S, W>(w);
  };
  raw<V> first[static_cast<std::size_t>(K)];
  if constexpr (C == K) {
    turned(first, 0);
    each<2>([&](int half) {
      each<K / 2>([&](int j) {
        const raw<V> a = first[2 * j], b = first[2 * j + 1];
        put<Past>(p + (2 * j + half * K) * K,
                  half == 0 ? side_by_side<false, S, W>(a, b) : side_by_side<true, S, W>(a, b));
      });
    });
  } else {
    each<C / W>([&](int q) {
      raw<V> second[static_cast<std::size_t>(K)];
      turned(first, q * W);
      turned(second, q * W + K);
      each<K>([&](int j) {
        put<Past>(p + j * apart + q * W, side_by_side<false, S, W>(first[j], second[j]));
      });
      each<K>([&](int j) {
        put<Past>(p + (j + K) * apart + q * W, side_by_side<true, S, W>(first[j], second[j]));
      });
    });
  }
}

/// f(stride), with a stride known to the compiler where short rows are dense, as they mostly are.
template <int C, class F>
inline void with_stride(index_t stride, const F& f) {
  constexpr int short_row = 16;
  if (C <= short_row && stride == C)
    f(std::integral_constant<int, C>{});
  else
    f(stride);
}

// Flat memory of C short rows: number f belongs to row f / C, column f % C.
template <int Width, int C, int Column, int Step>
struct split {
  // Lane r of the column is flat number r C + Column. Step s merges source register s + 1 into what
  // was gathered from registers 0 .. s.
  static constexpr int at(int r) {
    const int flat = r * C + Column, reg = flat / Width;
    if (reg == Step + 1) return Width + flat % Width;
    return Step == 0 ? flat % Width : r;
  }
};
template <int Width, int C, int Register, int Step>
struct merge {
  static constexpr int at(int i) {
    const int flat = Register * Width + i, column = flat % C, row = flat / C;
    if (column == Step + 1) return Width + row;
    return Step == 0 ? row : i;
  }
};

/// out[k] = fold over the sources with patterns Pattern<Width, C, k, step>.
template <template <int, int, int, int> class Pattern, int Width, int C, int K, class R>
[[nodiscard]] inline R fold(const R (&in)[static_cast<std::size_t>(C)]) noexcept {
  const auto lanes = std::make_integer_sequence<int, Width>{};
  R x = shuffle<Pattern<Width, C, K, 0>>(in[0], in[1], lanes);
  if constexpr (C == 3) x = shuffle<Pattern<Width, C, K, 1>>(x, in[2], lanes);
  return x;
}

template <class V, int C>
inline constexpr bool flat_rows = (C == 2 || C == 3) && C < piece<typename lane<V>::scalar>;

/// Register `at` of the flat memory of n such rows: only what they hold is read and written.
template <class V, int C, class Count>
[[nodiscard]] inline raw<V> load_flat(const typename lane<V>::scalar* p, Count n, int at) noexcept {
  constexpr int W = lane<V>::width;
  if constexpr (std::is_same_v<Count, all_lanes<V>>) {
    return to_raw(lane<V>::load(p + at * W));
  } else {
    const int left = n * C - at * W;
    return left > 0 ? to_raw(lane<V>::load(p + at * W, left < W ? left : W)) : raw<V>{};
  }
}
template <bool Past, class V, int C, class Count>
inline void store_flat(typename lane<V>::scalar* p, Count n, int at, raw<V> x) noexcept {
  constexpr int W = lane<V>::width;
  if constexpr (std::is_same_v<Count, all_lanes<V>>) {
    put<Past>(p + at * W, x);
  } else if (const int left = n * C - at * W; left > 0) {
    lane<V>::store(p + at * W, from_raw<V>(x), left < W ? left : W);
  }
}

}  // namespace detail

/// Reads the first C numbers of rows anywhere in memory, row r at `row(r)` for every lane r, into
/// columns: out[c], lane r = row(r)[c]. C is at least what 128 bits hold.
template <class V, int C, class Row>
[[gnu::always_inline]] inline void load_columns_of(const Row& row,
                                                   V (&out)[static_cast<std::size_t>(C)]) noexcept {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width;
  constexpr int K = detail::piece<S>;
  static_assert(C >= K);
  if constexpr (W == 1) {
    for (int c = 0; c < C; ++c) out[c] = row(0)[c];
  } else {
    each<(C + K - 1) / K>([&](int q) {
      const int column = q * K + K <= C ? q * K : C - K;  // the last piece may repeat columns
      detail::raw<V> w[static_cast<std::size_t>(K)];
      each<K>([&](int j) {
        w[j] = detail::gather_pieces<S, W>([&](int r) { return row(r + j) + column; }, 0);
      });
      detail::transpose_pieces<S, W>(w);
      each<K>([&](int j) { out[column + j] = detail::from_raw<V>(w[j]); });
    });
  }
}

/// Reads rows of C numbers, row r at p + r * stride for lane r < n, into columns:
///   out[c], lane r  =  p[r * stride + c]
/// Lanes from n on hold nothing of use. Nothing outside the n rows is read. `n` is an int, or
/// `all_lanes<V>` for a whole register, as for every twin.
template <class V, int C, class Count>
inline void load_columns(const typename lane<V>::scalar* p, index_t stride, Count n,
                         V (&out)[static_cast<std::size_t>(C)]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  constexpr int W = L::width;
  if constexpr (W == 1) {
    for (int c = 0; c < C; ++c) out[c] = p[c];
  } else if constexpr (is_twin<V>) {
    static_assert(std::is_same_v<Count, all_lanes<V>>, "the lanes of a twin are read whole");
    using half = decltype(V::first);
    half first[static_cast<std::size_t>(C)], second[static_cast<std::size_t>(C)];
    load_columns<half, C>(p, stride, all_lanes<half>{}, first);
    load_columns<half, C>(p + W / 2 * stride, stride, all_lanes<half>{}, second);
    each<C>([&](int c) { out[c] = V(first[c], second[c]); });
  } else if constexpr (C >= detail::piece<S>) {
    constexpr int K = detail::piece<S>;
    if constexpr (detail::paired_rows<V, C, Count>)
      if (C > K || stride == C) return detail::load_paired<V, C>(p, stride, out, [](int) {});
    detail::with_stride<C>(stride, [&](auto apart) {
      load_columns_of<V, C>(
          [&](int r) {
            const int known = std::is_same_v<Count, all_lanes<V>> || r < n ? r : n - 1;
            return p + known * apart;
          },
          out);
    });
  } else {
    if (stride == C) {
      if constexpr (C == 1) {
        out[0] = L::load(p, n);
        return;
      } else if constexpr (detail::flat_rows<V, C>) {
        detail::raw<V> in[static_cast<std::size_t>(C)];
        each<C>([&](int c) { in[c] = detail::load_flat<V, C>(p, n, c); });
        if constexpr (C == 2 && W == 2 * detail::piece<S> && W == 8) {
          // Halves first: shuffles inside pieces then sort the columns, which cost less than across.
          const auto low = detail::side_by_side<false, S, W>(in[0], in[1]);
          const auto high = detail::side_by_side<true, S, W>(in[0], in[1]);
          out[0] =
              detail::from_raw<V>(__builtin_shufflevector(low, high, 0, 2, 8, 10, 4, 6, 12, 14));
          out[1] =
              detail::from_raw<V>(__builtin_shufflevector(low, high, 1, 3, 9, 11, 5, 7, 13, 15));
          return;
        }
        out[0] = detail::from_raw<V>(detail::fold<detail::split, W, C, 0>(in));
        out[1] = detail::from_raw<V>(detail::fold<detail::split, W, C, 1>(in));
        if constexpr (C == 3)
          out[2] = detail::from_raw<V>(detail::fold<detail::split, W, C, 2>(in));
        return;
      }
    }
    alignas(V) S columns[static_cast<std::size_t>(C)][static_cast<std::size_t>(W)];
    for (int r = 0; r < W; ++r)
      for (int c = 0; c < C; ++c) columns[c][r] = p[(r < n ? r : n - 1) * stride + c];
    for (int c = 0; c < C; ++c) out[c] = L::load(columns[c]);
  }
}

/// True if rows of C numbers are read a register at a time, C / W registers each.
template <class V, int C, class Count>
inline constexpr bool loads_registers =
    !is_twin<V> && C > lane<V>::width&& detail::paired_rows<V, C, Count>;

/// load_columns of such rows, which calls between(q) after register q of every row has been turned: for
/// what memory can do meanwhile.
template <class V, int C, class F>
  requires(loads_registers<V, C, all_lanes<V>>)
inline void load_columns(const typename lane<V>::scalar* p, index_t stride,
                         V (&out)[static_cast<std::size_t>(C)], const F& between) noexcept {
  detail::load_paired<V, C>(p, stride, out, between);
}

/// True if `store_columns` can write whole registers of rows of C numbers past the cache.
template <class V, int C>
inline constexpr bool streams_columns =
    C == 1 || C % detail::piece<typename lane<V>::scalar> == 0 || detail::flat_rows<V, C>;

/// Writes columns to rows of C numbers, the inverse of `load_columns`:
///   p[r * stride + c]  =  in[c], lane r,  for r < n
/// With `Past`, which wants a `p` at the start of a cache line, past the cache.
template <class V, int C, bool Past = false, class Count>
inline void store_columns(typename lane<V>::scalar* p, index_t stride, Count n,
                          const V (&in)[static_cast<std::size_t>(C)]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  constexpr int W = L::width;
  if constexpr (W == 1) {
    for (int c = 0; c < C; ++c) p[c] = in[c];
  } else if constexpr (C >= detail::piece<S>) {
    constexpr int K = detail::piece<S>;
    if constexpr (detail::paired_rows<V, C, Count>)
      if (C > K || stride == C) return detail::store_paired<Past, V, C>(p, stride, in);
    detail::with_stride<C>(stride, [&](auto apart) {
      each<(C + K - 1) / K>([&](int q) {
        const int column = q * K + K <= C ? q * K : C - K;
        detail::raw<V> w[static_cast<std::size_t>(K)];
        each<K>([&](int j) { w[j] = detail::to_raw(in[column + j]); });
        detail::transpose_pieces<S, W>(w);
        each<K>([&](int j) {
          detail::scatter_pieces<Past, S, W>(
              w[j], [&](int r) { return p + (r + j) * apart + column; }, 0, n - j);
        });
      });
    });
  } else {
    if (stride == C) {
      if constexpr (C == 1) {
        if constexpr (Past)
          stream_register(p, in[0]);
        else
          L::store(p, in[0], n);
        return;
      } else if constexpr (detail::flat_rows<V, C>) {
        detail::raw<V> columns[static_cast<std::size_t>(C)];
        for (int c = 0; c < C; ++c) columns[c] = detail::to_raw(in[c]);
        const auto store = [&](int at, detail::raw<V> x) {
          detail::store_flat<Past, V, C>(p, n, at, x);
        };
        store(0, detail::fold<detail::merge, W, C, 0>(columns));
        store(1, detail::fold<detail::merge, W, C, 1>(columns));
        if constexpr (C == 3) store(2, detail::fold<detail::merge, W, C, 2>(columns));
        return;
      }
    }
    alignas(V) S columns[static_cast<std::size_t>(C)][static_cast<std::size_t>(W)];
    for (int c = 0; c < C; ++c) L::store(columns[c], in[c]);
    for (int r = 0; r < n; ++r)
      for (int c = 0; c < C; ++c) p[r * stride + c] = columns[c][r];
  }
}

/// Two half registers from two places, the lower lanes from `low`; `high` may be null: zeros then.
template <class V>
[[nodiscard]] inline V load_halves(const typename lane<V>::scalar* low,
                                   const typename lane<V>::scalar* high) noexcept {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width;
  detail::vector_t<S, W / 2> a, b{};
  std::memcpy(&a, low, sizeof a);
  if (high != nullptr) std::memcpy(&b, high, sizeof b);
  return detail::from_raw<V>(detail::joined<W>(a, b, std::make_integer_sequence<int, W>{}));
}

/// load_halves for K registers whose halves lie one after another: first the K lower ones from p on, then the
/// upper ones. Measured: whole registers leave hardware prefetchers more to see than halves do.
template <class V, int K>
inline void load_all_halves(const typename lane<V>::scalar* p,
                            V (&out)[static_cast<std::size_t>(K)]) noexcept {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width;
  detail::raw<V> in[static_cast<std::size_t>(K)];
  unrolled<K>([&](auto k) __attribute__((always_inline)) {
    std::memcpy(&in[k], p + static_cast<index_t>(k) * W, sizeof in[k]);
  });
  unrolled<K>([&](auto k) __attribute__((always_inline)) {
    constexpr int low = static_cast<int>(k.value), high = K + low;
    out[k] = detail::from_raw<V>(
        detail::side_by_side<low % 2 != 0, S, W, high % 2 != 0>(in[low / 2], in[high / 2]));
  });
}

}  // namespace maslin::inline MASLIN_ABI::simd
