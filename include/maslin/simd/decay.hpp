// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What decays are made of: 2^x together with its complement, which does not cancel, and log(1 +
/// e). Fixed sequences of fma, as in simd/math.hpp.

#include <maslin/simd/math.hpp>

namespace maslin::inline MASLIN_ABI::simd {

/// Coefficients of 2^f = 1 + f (c0 + c1 f + c2 f^2 + ...) on |f| <= 1/2.
template <class S>
struct decay_constants;

template <>
struct decay_constants<float> {  // relative error of the polynomial 2.3e-8
  static constexpr float c[] = {0x1.62e43p-1f,  0x1.ebfbep-3f,   0x1.c6af6cp-5f,
                                0x1.3b2a54p-7f, 0x1.5f0890p-10f, 0x1.44138ap-13f};
  static constexpr float lowest = -127.0f;  // whose 2^n reads as zero
};

template <>
struct decay_constants<double> {  // relative error of the polynomial 4.9e-17
  static constexpr double c[] = {
      0x1.62e42fefa39efp-1,  0x1.ebfbdff82c58fp-3,  0x1.c6b08d704a0c6p-5,  0x1.3b2ab6fba4e79p-7,
      0x1.5d87fe78a3f9cp-10, 0x1.430912f86b7dbp-13, 0x1.ffcbfc6da6ed1p-17, 0x1.62c02242b879cp-20,
      0x1.b524ebd13a55fp-24, 0x1.e4cf10dec0f59p-28, 0x1.e9ec1fcb69a7fp-32, 0x1.c4a29324a1038p-36};
  static constexpr double lowest = -1023.0;
};

/// What is kept of a value and what is lost.
template <class V>
struct decay_parts {
  V kept;  ///< 2^x
  V lost;  ///< 1 - 2^x
};

/// Both parts of a decay 2^x, x <= 0, of one polynomial. In base 2 the reduction of x to |f| <= 1/2
/// is exact and costs sums, where that of exp costs three fma.
/// numerics  kept: at most 2 ulp for x >= -126, below -126.5 exactly 0 (double: -1022 and -1022.5).
///           lost: at most 3 ulp, near x = 0 too; 0 for x = 0. NaN stays NaN in both; not for x > 0
template <class V>
[[nodiscard, gnu::always_inline]] inline decay_parts<V> exp2_and_complement(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = decay_constants<S>;
  constexpr int pairs = static_cast<int>(std::size(C::c)) / 2;
  x = L::max(L::broadcast(C::lowest), x);
  const V magic = L::broadcast(exp_constants<S>::magic);
  const V shifted = x + magic;
  const V f = x - (shifted - magic);
  const V square = f * f;
  const auto pair = [&](int k) {
    return L::fma(L::broadcast(C::c[2 * k + 1]), f, L::broadcast(C::c[2 * k]));
  };
  V p = pair(pairs - 1);
  each<pairs - 1>([&](int k) { p = L::fma(p, square, pair(pairs - 2 - k)); });
  const V rest = f * p, scale = L::to_exponent(shifted);
  return {L::fma(scale, rest, scale),
          L::fma(L::broadcast(S(0)) - scale, rest, L::broadcast(S(1)) - scale)};
}

/// log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e)) by its series: for parameters, which are
/// converted once, and so without a table or a reduction.
/// numerics  at most 3 ulp, near 0 too; NaN stays NaN
template <class V>
[[nodiscard]] inline V log1p_of_unit(V e) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  // The argument is at most 1/3: each term is a ninth of the one before, or less.
  constexpr int terms = sizeof(S) == 4 ? 8 : 17;
  const V s = L::div(e, e + L::broadcast(S(2)));
  const V square = s * s;
  V p = L::broadcast(S(1) / S(2 * terms + 1));
  for (int k = terms - 1; k >= 1; --k) p = L::fma(p, square, L::broadcast(S(1) / S(2 * k + 1)));
  const V twice = s + s;
  return L::fma(twice * square, p, twice);
}

}  // namespace maslin::inline MASLIN_ABI::simd
