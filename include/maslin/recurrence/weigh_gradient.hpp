// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From the gradients of coefficients to those of the logits that they were made of, for the rows of
/// recurrence/weigh.hpp.

#include <maslin/recurrence/weigh.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::recurrence {

namespace detail {

/// d <- slope (d - p's share of the sum D), register by register: f(i, d) makes one of them from the
/// register at number i.
template <class V, class S, class F>
inline void map_numbers(S* d, index_t padded, const F& f) noexcept {
  for (index_t i = 0; i < padded; i += lane<V>::width)
    lane<V>::store(d + i, f(i, lane<V>::load(d + i)));
}

/// 1 / norm of a row divided by its L1 norm; 0 for one that vanishes.
template <class S>
[[nodiscard]] inline S inverse_norm(S norm) noexcept {
  return norm < std::numeric_limits<S>::min() ? S(0) : 1 / norm;
}

/// d <- w' (d - sign(w) D) / n for weights w = phi(z) of a row whose L1 norm is n: `weight` makes w of
/// a logit, `slope` its derivative of logit and weight.
template <class V, class S, class Weight, class Slope>
inline void l1_gradient(S* z, S* d, index_t padded, S offset, S D, const Weight& weight,
                        const Slope& slope) noexcept {
  using L = lane<V>;
  const S norm =
      offset + sum_of_row<V>(z, padded, [&](const S* p) { return L::abs(weight(L::load(p))); });
  const S inverse = inverse_norm(norm);
  if (inverse == 0) return static_cast<void>(std::fill_n(d, padded, S(0)));
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  map_numbers<V>(d, padded, [&](index_t i, V x) {
    const V logit = L::load(z + i), w = weight(logit);
    const V sign = L::select(w > zero, one, L::select(w < zero, zero - one, w));
    const V share = L::fma(zero - sign, L::broadcast(D), x);
    return slope(logit, w) * L::broadcast(inverse) * share;
  });
}

}  // namespace detail

/// Turns d, the gradients of the n coefficients p that `weigh_row` made of the logits z, into those
/// of the logits, in place; what pads the three rows is overwritten.
///   dz_k = phi'(z_k) / n (d_k - e_k D),  D = sum_l p_l d_l     (e_k = 1, or the sign of a signed w_k)
/// so softmax: p_k (d_k - D), since phi' / n = p. Rows that vanish have gradients 0, and so has an
/// entry whose coefficient is 0 by softmax or sigmoid_l1.
///
/// numerics  each within (n + 16) u of the sum of magnitudes; a NaN logit makes its whole row NaN, but
///           for entries below 0 of relu_l1
/// cost      softmax and lin_l1: none, sigmoid and sigmoid_l1, tanh_l1: n exp
template <weights W, class V, class S>
inline void weigh_row_gradient(S* z, S* p, S* d, index_t n) noexcept {
  using L = lane<V>;
  if constexpr (W == weights::given) return;
  const index_t padded = (n + row_lanes - 1) / row_lanes * row_lanes;
  for (S* row : {z, p, d}) std::fill(row + n, row + padded, S(0));
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  if constexpr (W == weights::sigmoid) {
    detail::map_numbers<V>(d, padded, [&](index_t i, V x) {
      return L::load(p + i) * simd::sigmoid(V(zero - L::load(z + i))) * x;
    });
  } else {
    const S D = dot_row<V>(p, d, n);
    const V all = L::broadcast(D);
    if constexpr (W == weights::softmax || W == weights::sigmoid_l1) {
      detail::map_numbers<V>(d, padded, [&](index_t i, V x) {
        const V share = L::load(p + i);
        V slope = share;
        if constexpr (W == weights::sigmoid_l1)
          slope = share * simd::sigmoid(V(zero - L::load(z + i)));
        return L::select(share == zero, zero, slope * (x - all));
      });
    } else if constexpr (W == weights::relu_l1) {
      detail::l1_gradient<V>(
          z, d, padded, S(0.001) * static_cast<S>(n), D,
          [&](V x) { return L::select(x <= zero, zero, x); },
          [&](V x, V) { return L::select(x > zero, one, zero); });
    } else if constexpr (W == weights::tanh_l1) {
      detail::l1_gradient<V>(
          z, d, padded, S(0), D, [](V x) { return simd::tanh(x); },
          [&](V, V t) { return L::fma(zero - t, t, one); });
    } else {
      detail::l1_gradient<V>(
          z, d, padded, S(0), D, [](V x) { return x; }, [&](V, V) { return one; });
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
