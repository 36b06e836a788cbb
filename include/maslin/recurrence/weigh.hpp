// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From logits to coefficients for rows whose length is known at run time; recurrence/normalise.hpp
/// serves rows that fit in registers.

#include <maslin/core/each.hpp>
#include <maslin/recurrence/dot_row.hpp>
#include <maslin/simd/math.hpp>

#include <cmath>
#include <limits>

namespace maslin::inline MASLIN_ABI::recurrence {

namespace detail {

/// f(c, x) for each register x of a row, c counting it among those of `row_lanes` numbers.
template <class V, class S, class F>
inline void for_each_register(S* row, index_t padded, const F& f) noexcept {
  for (index_t i = 0; i < padded; i += row_lanes)
    each<row_registers<V>>([&](int c) { f(c, row + i + c * lane<V>::width); });
}

template <class V, class S, class F>
[[nodiscard]] inline S sum_of_row(S* row, index_t padded, const F& term) noexcept {
  V part[row_registers<V>];
  each<row_registers<V>>([&](int c) { part[c] = lane<V>::broadcast(S(0)); });
  for_each_register<V>(row, padded, [&](int c, S* p) { part[c] = part[c] + term(p); });
  return fold_lanes<V>(part, [](auto a, auto b) { return a + b; });
}

template <class V, class S>
[[nodiscard]] inline S largest_of_row(const S* row, index_t padded) noexcept {
  V part[row_registers<V>];
  each<row_registers<V>>(
      [&](int c) { part[c] = lane<V>::broadcast(-std::numeric_limits<S>::infinity()); });
  for_each_register<V>(
      row, padded, [&](int c, const S* p) { part[c] = lane<V>::max(part[c], lane<V>::load(p)); });
  return fold_lanes<V>(part, [](auto a, auto b) { return lane<decltype(a)>::max(a, b); });
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
