// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// softplus and silu as fixed sequences of fma. Their exponential is taken in base 2: a third fewer
/// operations than exp_of_negated_size, whose last bit they have no need of.

#include <maslin/simd/decay.hpp>
#include <maslin/simd/math.hpp>

namespace maslin::inline MASLIN_ABI::simd {

/// What rounding log2(e) leaves.
template <class S>
inline constexpr S log2e_rest = S(0);
template <>
inline constexpr float log2e_rest<float> = 1.92596299e-8f;
template <>
inline constexpr double log2e_rest<double> = 2.03552737409310331e-17;

/// exp(x) from exp_constants' lowest, where it is 0, to its scaled_highest, where it is inf.
/// numerics  relative error at most 2 u where the result is normal; NaN stays NaN; only of the FMA
///           family, since a rounded product would err by |x| u
template <class V>
[[nodiscard, gnu::always_inline]] inline V exp_in_range(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = exp_constants<S>;
  const V magic = L::broadcast(C::magic), log2e = L::broadcast(C::log2e);
  const V shifted = L::fma(x, log2e, magic);
  const V near = L::fma(x, log2e, magic - shifted);
  const V r = L::fma(x, L::broadcast(log2e_rest<S>), near);
  const V rest = horner(decay_constants<S>::c, r);
  return L::fma(rest, r, L::broadcast(S(1))) * L::to_exponent(shifted);
}

/// exp(-|x|) as softplus takes it: 0 for |x| above 88 (double: 709).
template <class V>
[[nodiscard, gnu::always_inline]] inline V softplus_exp(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  if constexpr (!fused_family)
    return exp_of_negated_size(x);
  else
    return exp_in_range(
        L::max(L::broadcast(exp_constants<S>::lowest), L::broadcast(S(0)) - L::abs(x)));
}

/// log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|), by log(1 + e) = 2 atanh(e / (2 + e)).
/// `e` is what `softplus_exp` gives.
/// numerics  at most 3 ulp where the result is normal; below -87.7 exactly 0 (double: -708.8);
///           softplus(inf) = inf, NaN stays NaN
template <class V>
[[nodiscard, gnu::always_inline]] inline V softplus(V x, V e) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V s = L::div(e, L::broadcast(S(2)) + e);
  const V square = s * s, twice = s + s;
  const V tail = twice * square;
  const V log1p = L::fma(tail, horner(exp2_constants<S>::a, square), twice);
  return L::max(L::broadcast(S(0)), x) + log1p;
}
template <class V>
[[nodiscard, gnu::always_inline]] inline V softplus(V x) noexcept {
  return softplus(x, softplus_exp(x));
}

/// exp(-x) as silu takes it: 0 above 87.7 (double: 708.8), inf below -88.7 (double: -709.8).
template <class V>
[[nodiscard, gnu::always_inline]] inline V silu_exp(V x) noexcept {
  using L = lane<V>;
  using C = exp_constants<typename L::scalar>;
  const V turned = L::min(L::broadcast(C::scaled_highest), L::broadcast(typename L::scalar(0)) - x);
  return exp_in_range(L::max(L::broadcast(C::lowest), turned));
}

/// x sigmoid(x) = x / (1 + exp(-x)).
/// numerics  at most 3 ulp where exp(x) is normal (4 outside the FMA family); 0 below -88.4 (double: -709.5);
///           silu(inf) = inf, silu(-inf) and NaN are NaN, as the product is
template <class V>
[[nodiscard, gnu::always_inline]] inline V silu(V x) noexcept {
  using L = lane<V>;
  if constexpr (!fused_family)
    return x * sigmoid(x);
  else
    return L::div(x, L::broadcast(typename L::scalar(1)) + silu_exp(x));
}

/// The sigmoid of x as the adjoint of silu takes it.
/// numerics  at most 3 ulp where the result is normal; 0 below -88.7 (double: -709.8), NaN stays
///           NaN
template <class V>
[[nodiscard, gnu::always_inline]] inline V silu_gate(V x) noexcept {
  using L = lane<V>;
  const V one = L::broadcast(typename L::scalar(1));
  if constexpr (!fused_family)
    return sigmoid(x);
  else
    return L::div(one, one + silu_exp(x));
}
/// The derivative of silu at x, gate (1 + x (1 - gate)), from its gate.
template <class V>
[[nodiscard, gnu::always_inline]] inline V silu_slope(V x, V gate) noexcept {
  using L = lane<V>;
  const V one = L::broadcast(typename L::scalar(1));
  return gate * L::fma(x, one - gate, one);
}

}  // namespace maslin::inline MASLIN_ABI::simd
