// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From logits to coefficients for rows whose length is known at run time; recurrence/normalise.hpp
/// serves rows that fit in registers.

#include <maslin/core/each.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

namespace maslin::inline MASLIN_ABI::recurrence {

/// Rows lie in memory padded to whole multiples of this. Sums run in so many lanes whatever the
/// registers, and the lanes are added by halves: the same bits for every width.
inline constexpr index_t row_lanes = 16;

namespace detail {

/// Registers that hold `row_lanes` numbers.
template <class V>
inline constexpr int row_registers = static_cast<int>(row_lanes) / lane<V>::width;

/// f(c, x) for each register x of a row, c counting it among those of `row_lanes` numbers.
template <class V, class S, class F>
inline void for_each_register(S* row, index_t padded, const F& f) noexcept {
  for (index_t i = 0; i < padded; i += row_lanes)
    each<row_registers<V>>([&](int c) { f(c, row + i + c * lane<V>::width); });
}

/// op over all lanes, by halves.
template <class V, class Op>
[[nodiscard]] inline typename lane<V>::scalar fold_lanes(const V (&part)[row_registers<V>],
                                                         const Op& op) noexcept {
  using S = typename lane<V>::scalar;
  S x[row_lanes];
  each<row_registers<V>>([&](int c) { lane<V>::store(x + c * lane<V>::width, part[c]); });
  for (index_t half = row_lanes / 2; half > 0; half /= 2)
    for (index_t i = 0; i < half; ++i) x[i] = op(x[i], x[i + half]);
  return x[0];
}

template <class V, class S, class F>
[[nodiscard]] inline S sum_of_row(S* row, index_t padded, const F& term) noexcept {
  V part[row_registers<V>];
  each<row_registers<V>>([&](int c) { part[c] = lane<V>::broadcast(S(0)); });
  for_each_register<V>(row, padded, [&](int c, S* p) { part[c] = part[c] + term(p); });
  return fold_lanes(part, [](S a, S b) { return a + b; });
}

template <class V, class S>
[[nodiscard]] inline S largest_of_row(const S* row, index_t padded) noexcept {
  V part[row_registers<V>];
  each<row_registers<V>>(
      [&](int c) { part[c] = lane<V>::broadcast(-std::numeric_limits<S>::infinity()); });
  for_each_register<V>(
      row, padded, [&](int c, const S* p) { part[c] = lane<V>::max(part[c], lane<V>::load(p)); });
  return fold_lanes(part, [](S a, S b) { return lane<S>::max(a, b); });
}

/// Replaces each register of a row by f of it.
template <class V, class S, class F>
inline void map_row(S* row, index_t padded, const F& f) noexcept {
  for_each_register<V>(row, padded, [&](int, S* p) { lane<V>::store(p, f(lane<V>::load(p))); });
}

/// Coefficients of logits whose largest is infinite: a dead row (-inf) gives zeros, c entries of
/// +inf share 1, a NaN spoils the row.
template <class S>
[[gnu::noinline]] inline void share_infinite(S* z, index_t n) noexcept {
  constexpr S infinity = std::numeric_limits<S>::infinity();
  S count = 0, poison = 0;
  for (index_t i = 0; i < n; ++i) {
    if (z[i] == infinity) ++count;
    if (std::isnan(z[i])) poison = z[i];
  }
  for (index_t i = 0; i < n; ++i) z[i] = (z[i] == infinity ? 1 / count : S(0)) + poison;
}

/// Coefficients w / norm whose norm is not an ordinary number: entries of infinite size share 1 by
/// sign, rows whose sum overflows are scaled first, rows that vanish are zeros.
template <class S>
[[gnu::noinline]] inline void divide_unusual(S* w, index_t n, S offset, S norm) noexcept {
  constexpr S infinity = std::numeric_limits<S>::infinity();
  S infinite = 0, largest = 0;
  for (index_t i = 0; i < n; ++i) {
    if (std::abs(w[i]) == infinity) ++infinite;
    largest = std::abs(w[i]) > largest ? std::abs(w[i]) : largest;
  }
  S scaled = offset / largest;
  for (index_t i = 0; i < n; ++i) scaled += std::abs(w[i]) / largest;
  for (index_t i = 0; i < n; ++i) {
    if (std::isnan(norm))
      w[i] = norm;
    else if (norm < std::numeric_limits<S>::min())
      w[i] = 0;
    else if (infinite > 0)
      w[i] = std::abs(w[i]) == infinity ? std::copysign(1 / infinite, w[i]) : S(0);
    else
      w[i] = w[i] / largest / scaled;
  }
}

template <class V, class S>
inline void divide_row_by_l1(S* w, index_t n, index_t padded, S offset) noexcept {
  using L = lane<V>;
  const S norm = offset + sum_of_row<V>(w, padded, [](const S* p) { return L::abs(L::load(p)); });
  const bool usual =
      norm >= std::numeric_limits<S>::min() && norm < std::numeric_limits<S>::infinity();
  if (!usual) [[unlikely]]
    return divide_unusual(w, n, offset, norm);
  const V inverse = L::broadcast(S(1) / norm);
  map_row<V>(w, padded, [&](V x) { return x * inverse; });
}

template <class V, class S>
inline void softmax_row(S* z, index_t n, index_t padded) noexcept {
  using L = lane<V>;
  const S largest = largest_of_row<V>(z, padded);
  if (std::abs(largest) == std::numeric_limits<S>::infinity()) [[unlikely]]
    return share_infinite(z, n);
  const V top = L::broadcast(largest);
  const S sum = sum_of_row<V>(z, padded, [&](S* p) {
    const V e = simd::exp_nonpositive(V(L::load(p) - top));
    L::store(p, e);
    return e;
  });
  const V inverse = L::broadcast(S(1) / sum);
  map_row<V>(z, padded, [&](V x) { return x * inverse; });
}

template <class V, class S>
inline void sigmoid_l1_row(S* z, index_t n, index_t padded) noexcept {
  using L = lane<V>;
  const S largest = largest_of_row<V>(z, padded);
  if (largest == -std::numeric_limits<S>::infinity()) [[unlikely]]
    return share_infinite(z, n);
  // As in recurrence/normalise.hpp: rows of negative logits are shifted by their largest.
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  const V shift = L::broadcast(largest < 0 ? largest : S(0));
  const V back = simd::exp_nonpositive(shift);
  const S sum = sum_of_row<V>(z, padded, [&](S* p) {
    const V x = L::load(p);
    const V t = simd::exp_nonpositive(V(zero - L::abs(x) - shift));
    const V w = L::div(L::select(x < zero, t, one), L::fma(t, back, one));
    L::store(p, w);
    return w;
  });
  const V inverse = L::broadcast(S(1) / sum);
  map_row<V>(z, padded, [&](V x) { return x * inverse; });
}

}  // namespace detail

namespace detail {

/// The chains of `dot_row`: lane i of `part` is the sum over numbers i, i + row_lanes, ...
template <class V, class S, class F>
inline void dot_chains(const S* a, const S* b, index_t n, const F& f,
                       V (&part)[row_registers<V>]) noexcept {
  using L = lane<V>;
  constexpr index_t width = L::width;
  each<row_registers<V>>([&](int c) { part[c] = L::broadcast(S(0)); });
  index_t i = 0;
  for (; i + row_lanes <= n; i += row_lanes)
    each<row_registers<V>>([&](int c) {
      const index_t at = i + c * width;
      part[c] = L::fma(f(c, L::load(a + at)), L::load(b + at), part[c]);
    });
  if (i == n) return;
  each<row_registers<V>>([&](int c) {
    const index_t at = i + c * width;
    // Lanes past the end add 0 * 0.
    if (at >= n) return;
    const int left = static_cast<int>(std::min(width, n - at));
    part[c] = L::fma(f(c, L::load(a + at, left)), L::load(b + at, left), part[c]);
  });
}

}  // namespace detail

/// <f(a), b> over n numbers: `row_lanes` chains of fma, number i in chain i mod row_lanes, then added
/// by halves. f(c, x) takes register c of those of `row_lanes` numbers.
template <class V, class S, class F>
[[nodiscard]] inline S dot_row(const S* a, const S* b, index_t n, const F& f) noexcept {
  V part[detail::row_registers<V>];
  detail::dot_chains(a, b, n, f, part);
  return detail::fold_lanes(part, [](S x, S y) { return x + y; });
}
template <class V, class S>
[[nodiscard]] inline S dot_row(const S* a, const S* b, index_t n) noexcept {
  return dot_row<V>(a, b, n, [](int, V x) { return x; });
}

/// out[i] = the chains of row i added by halves, for up to lane<V>::width rows of `row_lanes` chains,
/// lanes being rows: the bits of `fold_lanes`.
template <class V, class S>
inline void fold_chains(const S* chains, index_t rows, S* out) noexcept {
  using L = lane<V>;
  if constexpr (L::width == 1) {
    V part[detail::row_registers<V>];
    each<detail::row_registers<V>>([&](int c) { part[c] = chains[c]; });
    *out = detail::fold_lanes(part, [](S x, S y) { return x + y; });
  } else {
    const auto add = [&](auto lanes) {
      V quarter[4][4];
      each<4>(
          [&](int q) { simd::load_columns<V, 4>(chains + 4 * q, row_lanes, lanes, quarter[q]); });
      V sum[4];
      each<4>([&](int c) {
        sum[c] = (quarter[0][c] + quarter[2][c]) + (quarter[1][c] + quarter[3][c]);
      });
      L::store(out, (sum[0] + sum[2]) + (sum[1] + sum[3]), lanes);
    };
    if (rows == L::width)
      add(all_lanes<V>{});
    else
      add(static_cast<int>(rows));
  }
}

/// out[i] = <a, row(i)> for i < count, the bits of `dot_row`: a register of rows is added at a time,
/// lanes being rows.
template <class V, class S, class Row>
inline void dot_rows(const S* a, index_t n, index_t count, const Row& row, S* out) noexcept {
  using L = lane<V>;
  constexpr index_t width = L::width;
  if constexpr (width == 1) {
    for (index_t i = 0; i < count; ++i) out[i] = dot_row<V>(a, row(i), n);
  } else {
    alignas(64) S chains[static_cast<std::size_t>(width * row_lanes)];
    for (index_t i = 0; i < count; i += width) {
      const index_t rows = std::min(width, count - i);
      for (index_t r = 0; r < rows; ++r) {
        V part[detail::row_registers<V>];
        detail::dot_chains(
            a, row(i + r), n, [](int, V x) { return x; }, part);
        each<detail::row_registers<V>>(
            [&](int c) { L::store(chains + r * row_lanes + c * width, part[c]); });
      }
      fold_chains<V>(chains, rows, out + i);
    }
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

/// Turns the n logits of a row into its coefficients, in place, as core/types.hpp defines them for
/// each `weights`; what pads the row is overwritten.
///
/// numerics  each coefficient within (n + 8) u relative for ordinary logits (softmax and sigmoid_l1:
///           and |z - max z| u more); the rules of `normalise_row` for -inf, +inf and rows that
///           vanish; a NaN logit makes its whole row NaN (`given` and `sigmoid`: itself alone)
/// cost      softmax, tanh_l1, sigmoid: n exp, sigmoid_l1: n exp and n divisions
template <weights W, class V, class S>
inline void weigh_row(S* z, index_t n) noexcept {
  using L = lane<V>;
  const index_t padded = (n + row_lanes - 1) / row_lanes * row_lanes;
  constexpr bool by_exp = W == weights::softmax || W == weights::sigmoid_l1;
  for (index_t i = n; i < padded; ++i) z[i] = by_exp ? -std::numeric_limits<S>::infinity() : S(0);
  const V zero = L::broadcast(S(0));
  if constexpr (W == weights::softmax) {
    detail::softmax_row<V>(z, n, padded);
  } else if constexpr (W == weights::sigmoid_l1) {
    detail::sigmoid_l1_row<V>(z, n, padded);
  } else if constexpr (W == weights::sigmoid) {
    detail::map_row<V>(z, padded, [](V x) { return simd::sigmoid(x); });
  } else if constexpr (W != weights::given) {
    if constexpr (W == weights::relu_l1)
      detail::map_row<V>(z, padded, [&](V x) { return L::select(x <= zero, zero, x); });
    else if constexpr (W == weights::tanh_l1)
      detail::map_row<V>(z, padded, [](V x) { return simd::tanh(x); });
    const S offset = W == weights::relu_l1 ? S(0.001) * static_cast<S>(n) : S(0);
    detail::divide_row_by_l1<V>(z, n, padded, offset);
  }
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
