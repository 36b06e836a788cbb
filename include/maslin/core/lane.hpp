// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `lane<V>`: what an algorithm may ask of a value V that holds one or several channels. Here V is
/// a plain number, one lane wide; simd/lane.hpp adds registers. Algorithms written against `lane`
/// are the same source, and give the same bits, for both.

#include <maslin/core/types.hpp>

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace maslin::inline MASLIN_ABI {

template <class V>
struct lane;

/// Lane count of a full register, known to the compiler: passed where a count of lanes is asked
/// for, it selects the whole-register form.
template <class V>
using all_lanes = std::integral_constant<int, lane<V>::width>;

/// One channel in one number: float, double, or an unsigned integer (the exact ring of the tests).
template <class V>
  requires std::floating_point<V> || std::unsigned_integral<V>
struct lane<V> {
  using scalar = V;
  using mask = bool;
  static constexpr int width = 1;

  static constexpr V broadcast(scalar x) noexcept { return x; }
  static constexpr V load(const scalar* p) noexcept { return *p; }
  static constexpr V load(const scalar* p, int) noexcept { return *p; }
  static constexpr void store(scalar* p, V x) noexcept { *p = x; }
  static constexpr void store(scalar* p, V x, int) noexcept { *p = x; }

  /// a b + c with one rounding in the FMA family, with two elsewhere. Always called by name:
  /// nothing is left for a compiler to contract, so the bits do not depend on it.
  static constexpr V fma(V a, V b, V c) noexcept {
    if constexpr (!fused_family || !std::floating_point<V>)
      return static_cast<V>(a * b + c);
    else if constexpr (std::same_as<V, float>)
      return __builtin_fmaf(a, b, c);
    else
      return __builtin_fma(a, b, c);
  }

  /// a / b, correctly rounded. Called by name, since the operator of a register may be less exact.
  static constexpr V div(V a, V b) noexcept { return a / b; }
  /// The square root, correctly rounded; NaN for x < 0.
  static V sqrt(V x) noexcept {
    return std::same_as<V, float> ? V(__builtin_sqrtf(float(x))) : V(__builtin_sqrt(double(x)));
  }
  /// a > b ? a : b, so that an unordered comparison answers b.
  static constexpr V max(V a, V b) noexcept { return a > b ? a : b; }
  /// a < b ? a : b, so that an unordered comparison answers b.
  static constexpr V min(V a, V b) noexcept { return a < b ? a : b; }
  static constexpr V abs(V x) noexcept {
    if constexpr (std::floating_point<V>)
      return std::same_as<V, float> ? V(__builtin_fabsf(float(x))) : V(__builtin_fabs(double(x)));
    else
      return x;
  }
  static constexpr V select(mask m, V yes, V no) noexcept { return m ? yes : no; }
  static constexpr V clear_negative(V x) noexcept { return x < V(0) ? V(0) : x; }
  static constexpr V select_negative(V x, V yes, V no) noexcept { return x < V(0) ? yes : no; }
  static constexpr bool any_nan(V x) noexcept { return !(x <= x); }
  static constexpr bool any(mask m) noexcept { return m; }
  static constexpr bool all(mask m) noexcept { return m; }
  static constexpr mask both(mask a, mask b) noexcept { return a && b; }

  /// The bits of x moved left into the exponent field: 2^k from a number whose low mantissa bits
  /// hold the biased exponent (see simd/math.hpp).
  static constexpr V to_exponent(V x) noexcept {
    if constexpr (std::same_as<V, float>)
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) << 23);
    else
      return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) << 52);
  }
  /// x times 2^k, k being what the low mantissa bits of `shifted` hold: the bits of both added,
  /// those of `shifted` moved into the exponent field. For normal x and results.
  static constexpr V add_exponent(V x, V shifted) noexcept {
    if constexpr (std::same_as<V, float>)
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) +
                                  (std::bit_cast<std::uint32_t>(shifted) << 23));
    else
      return std::bit_cast<double>(std::bit_cast<std::uint64_t>(x) +
                                   (std::bit_cast<std::uint64_t>(shifted) << 52));
  }
};

/// a h + b, the product that carries the state from one token to the next.
///
/// In the FMA family one fma. Elsewhere a product and a sum lose most where it matters, at a close
/// to one, so between 2/3 and 2 the step is written as a difference: h + (b - (1 - a) h), in which
/// 1 - a is exact (Sterbenz). Both forms err by at most 2 u (|a h| + |b|).
template <class V>
[[nodiscard]] constexpr V carry_state(V a, V h, V b) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  if constexpr (fused_family || !std::floating_point<S>) {
    return L::fma(a, h, b);
  } else {
    const V product = a * h + b;
    const V difference = h + (b - (L::broadcast(S(1)) - a) * h);
    const auto close = L::both(a >= L::broadcast(S(2) / S(3)), a <= L::broadcast(S(2)));
    return L::select(close, difference, product);
  }
}

}  // namespace maslin::inline MASLIN_ABI
