// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The way back through the normalisation of a row of gates (recurrence/normalise.hpp).

#include <maslin/recurrence/normalise.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

namespace detail {

/// 1 / (offset + sum |w|), zero where the norm is below the smallest normal number.
template <class V, std::size_t K>
[[nodiscard]] inline V inverse_l1(const V (&w)[K], V offset) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  V size[K];
  each<K>([&](std::size_t k) { size[k] = L::abs(w[k]); });
  const V norm = offset + sum_of(size);
  const V inverse = L::div(L::broadcast(S(1)), norm);
  return L::select(norm < L::broadcast(std::numeric_limits<S>::min()), L::broadcast(S(0)), inverse);
}

}  // namespace detail

/// What a gradient needs of a row of logits z: its coefficients p and, with the denominator n,
///   slope_k = phi'(z_k) / n        so that  dz_k = slope_k (dp_k - e_k sum_l p_l dp_l),
///   e_k = d n / d w_k              (arXiv 2602.12021 for the normalisations)
/// Arrays of the caller, since g++ 12 would return a structure of twins through memory.
///
/// numerics  a row whose p are zeros by rule has slopes of zero too: nothing flows back
template <normalise N, class V, std::size_t K>
inline void gate_gradient_of(const V (&z)[K], V (&p)[K], V (&slope)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  if constexpr (N == normalise::softmax) {
    normalise_row<N>(z, p);
    each<K>([&](std::size_t k) { slope[k] = p[k]; });
  } else {
    V w[K];
    gate_weights<N>(z, w);
    gate_shares<N>(w, p);
    if constexpr (N == normalise::none) {
      each<K>([&](std::size_t k) { slope[k] = one; });
    } else if constexpr (N == normalise::sigmoid_l1) {
      // w (1 - w) / n, and 1 - sigmoid(z) is the sigmoid of -z.
      each<K>([&](std::size_t k) { slope[k] = p[k] * simd::sigmoid(V(zero - z[k])); });
    } else {
      const V offset = L::broadcast(N == normalise::relu_l1 ? S(0.001) * S(K) : S(0));
      const V inverse = detail::inverse_l1(w, offset);
      each<K>([&](std::size_t k) {
        if constexpr (N == normalise::relu_l1)
          slope[k] = L::select(z[k] > zero, inverse, zero);
        else if constexpr (N == normalise::tanh_l1)
          slope[k] = L::fma(zero - w[k], w[k], one) * inverse;
        else
          slope[k] = inverse;
      });
    }
  }
}

/// x where the weight of logit z enters the denominator with sign +, -x with sign -, and 0 where it
/// does not.
template <normalise N, class V>
[[nodiscard]] inline V denominator_share(V z, V x) noexcept {
  using L = lane<V>;
  const V zero = L::broadcast(typename L::scalar(0));
  if constexpr (N == normalise::none) {
    return zero;
  } else if constexpr (N == normalise::tanh_l1 || N == normalise::lin_l1) {
    return L::select(z > zero, x, L::select(z < zero, V(zero - x), zero));
  } else {
    return x;
  }
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
