// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Sums over rows of numbers: `row_lanes` chains whatever the registers, added by halves, so that every
/// width gives the same bits.

#include <maslin/core/each.hpp>
#include <maslin/simd/pieces.hpp>

#include <algorithm>
#include <complex>
#include <utility>

namespace maslin::inline MASLIN_ABI::recurrence {

/// Rows lie in memory padded to whole multiples of this. Sums run in so many lanes whatever the
/// registers, and the lanes are added by halves: the same bits for every width.
inline constexpr index_t row_lanes = 16;

namespace detail {

/// Registers that hold `row_lanes` numbers.
template <class V>
inline constexpr int row_registers = static_cast<int>(row_lanes) / lane<V>::width;

/// Lane i <- lane i + Half, for the lanes below Half.
template <int Half>
struct upper_half {
  static constexpr int at(int i) { return i < Half ? i + Half : i; }
};

/// op over the first 2 Half lanes of a register, by halves.
template <int Half, class V, class Op>
[[nodiscard]] inline V fold_register(V x, const Op& op) noexcept {
  if constexpr (Half == 0) {
    return x;
  } else {
    const auto r = simd::detail::to_raw(x);
    const auto upper = simd::detail::shuffle<upper_half<Half>>(
        r, r, std::make_integer_sequence<int, lane<V>::width>{});
    return fold_register<Half / 2>(V(op(x, simd::detail::from_raw<V>(upper))), op);
  }
}

/// One register of the `row_lanes` lanes, op over those whose numbers differ by multiples of a
/// register, by halves.
template <class V, class Op>
[[nodiscard]] inline V fold_registers(V (&part)[row_registers<V>], const Op& op) noexcept {
  constexpr int all = row_registers<V>;
  const auto halve = [&]<int Half>(std::integral_constant<int, Half>) {
    if constexpr (Half >= 1 && 2 * Half <= all)
      each<Half>([&](int c) { part[c] = op(part[c], part[c + Half]); });
  };
  halve(std::integral_constant<int, 8>{});
  halve(std::integral_constant<int, 4>{});
  halve(std::integral_constant<int, 2>{});
  halve(std::integral_constant<int, 1>{});
  return part[0];
}

/// op over all lanes, by halves.
template <class V, class Op>
[[nodiscard]] inline typename lane<V>::scalar fold_lanes(V (&part)[row_registers<V>],
                                                         const Op& op) noexcept {
  const V folded = fold_registers<V>(part, op);
  if constexpr (lane<V>::width == 1)
    return folded;
  else
    return simd::detail::to_raw(fold_register<lane<V>::width / 2>(folded, op))[0];
}

/// The upper and lower halves of x added until 128 bits are left.
template <class S, int Width>
[[nodiscard]] inline auto fold_to_piece(simd::detail::vector_t<S, Width> x) noexcept {
  if constexpr (Width == simd::detail::piece<S>) {
    return x;
  } else {
    constexpr auto half = std::make_integer_sequence<int, Width / 2>{};
    return fold_to_piece<S, Width / 2>(simd::detail::part<0>(x, half) +
                                       simd::detail::part<Width / 2>(x, half));
  }
}

/// Rows whose sums are folded together: as many numbers as 128 bits hold.
template <class V>
inline constexpr int fold_rows =
    lane<V>::width == 1 ? 1 : simd::detail::piece<typename lane<V>::scalar>;

/// out[r] = the sum of the lanes of row r, by halves, for r < left: a row in each of `fold_rows`
/// registers, as `fold_registers` leaves it.
template <class V, class S>
inline void fold_sums(const V (&row)[fold_rows<V>], S* out, index_t left) noexcept {
  constexpr int K = fold_rows<V>;
  if constexpr (K == 1) {
    *out = row[0];
  } else {
    simd::detail::vector_t<S, K> w[fold_rows<V>];
    each<K>([&](auto r) { w[r] = fold_to_piece<S, lane<V>::width>(simd::detail::to_raw(row[r])); });
    simd::detail::transpose_pieces<S, K>(w);
    if constexpr (K == 4)
      w[0] = (w[0] + w[2]) + (w[1] + w[3]);
    else
      w[0] = w[0] + w[1];
    if (left >= K)
      simd::detail::put<false>(out, w[0]);
    else
      for (index_t r = 0; r < left; ++r) out[r] = w[0][r];
  }
}

/// The chains of `dot_row` for R rows at a time: lane i of `part[r]` is the sum over numbers
/// i, i + row_lanes, ... of row r.
template <class V, std::size_t R, class S, class F>
inline void dot_chains(const S* a, const S* const (&b)[R], index_t n, const F& f,
                       V (&part)[R][row_registers<V>]) noexcept {
  using L = lane<V>;
  constexpr index_t width = L::width;
  each<R>([&](std::size_t r) {
    each<row_registers<V>>([&](int c) { part[r][c] = L::broadcast(S(0)); });
  });
  index_t i = 0;
  for (; i + row_lanes <= n; i += row_lanes)
    each<row_registers<V>>([&](int c) {
      const index_t at = i + c * width;
      const V x = f(c, L::load(a + at));
      each<R>([&](std::size_t r) { part[r][c] = L::fma(x, L::load(b[r] + at), part[r][c]); });
    });
  if (i == n) return;
  each<row_registers<V>>([&](int c) {
    const index_t at = i + c * width;
    // Lanes past the end add 0 * 0.
    if (at >= n) return;
    const int left = static_cast<int>(std::min(width, n - at));
    const V x = f(c, L::load(a + at, left));
    each<R>([&](std::size_t r) { part[r][c] = L::fma(x, L::load(b[r] + at, left), part[r][c]); });
  });
}

/// a + b, of registers and of numbers.
inline constexpr auto add_lanes = [](auto a, auto b) { return decltype(a)(a + b); };

}  // namespace detail

/// <f(a), b> over n numbers: `row_lanes` chains of fma, number i in chain i mod row_lanes, then added
/// by halves. f(c, x) takes register c of those of `row_lanes` numbers.
template <class V, class S, class F>
[[nodiscard]] inline S dot_row(const S* a, const S* b, index_t n, const F& f) noexcept {
  V part[1][detail::row_registers<V>];
  const S* const row[1] = {b};
  detail::dot_chains<V, 1>(a, row, n, f, part);
  return detail::fold_lanes<V>(part[0], detail::add_lanes);
}
template <class V, class S>
[[nodiscard]] inline S dot_row(const S* a, const S* b, index_t n) noexcept {
  return dot_row<V>(a, b, n, [](int, V x) { return x; });
}

/// out[i] = the chains of row i added by halves, for `rows` rows of `row_lanes` chains one after
/// another: the bits of `dot_row`.
template <class V, class S>
inline void fold_chains(const S* chains, index_t rows, S* out) noexcept {
  constexpr int K = detail::fold_rows<V>;
  for (index_t i = 0; i < rows; i += K) {
    V row[detail::fold_rows<V>];
    each<K>([&](auto r) {
      const S* from = chains + std::min(i + r, rows - 1) * row_lanes;
      V part[detail::row_registers<V>];
      each<detail::row_registers<V>>(
          [&](int c) { part[c] = lane<V>::load(from + c * lane<V>::width); });
      row[r] = detail::fold_registers<V>(part, detail::add_lanes);
    });
    detail::fold_sums<V>(row, out + i, rows - i);
  }
}

/// out[i] = <a, row(i)> for i < count, the bits of `dot_row`: a few rows at a time share what is
/// loaded of a and are added together.
template <class V, class S, class Row>
inline void dot_rows(const S* a, index_t n, index_t count, const Row& row, S* out) noexcept {
  constexpr int K = detail::fold_rows<V>;
  for (index_t i = 0; i < count; i += K) {
    // Past the last row the last is taken again.
    const S* from[detail::fold_rows<V>];
    each<K>([&](auto r) { from[r] = row(std::min<index_t>(i + r, count - 1)); });
    V part[detail::fold_rows<V>][detail::row_registers<V>], folded[detail::fold_rows<V>];
    detail::dot_chains<V, detail::fold_rows<V>>(
        a, from, n, [](int, V x) { return x; }, part);
    each<K>([&](auto r) { folded[r] = detail::fold_registers<V>(part[r], detail::add_lanes); });
    detail::fold_sums<V>(folded, out + i, count - i);
  }
}

/// Re(sum_n c[n] h[n]) over N complex numbers, as <(Re c, -Im c), (Re h, Im h)>.
template <class V, class S>
[[nodiscard]] inline S real_dot_row(const std::complex<S>* c, const std::complex<S>* h,
                                    index_t N) noexcept {
  alignas(64) static constexpr S signs[row_lanes] = {1, -1, 1, -1, 1, -1, 1, -1,
                                                     1, -1, 1, -1, 1, -1, 1, -1};
  // A complex number is an array of its two parts.
  return dot_row<V>(reinterpret_cast<const S*>(c), reinterpret_cast<const S*>(h), 2 * N,
                    [](int r, V x) { return x * lane<V>::load(signs + r * lane<V>::width); });
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
