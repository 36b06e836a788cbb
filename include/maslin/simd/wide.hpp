// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `wide<V>`: the lanes of V in double, for sums and products that must not lose what float loses.
/// Integers and doubles are wide as they are.

#include <maslin/simd/columns.hpp>
#include <maslin/simd/twin.hpp>

#include <type_traits>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI::simd {

namespace detail {

template <class V>
struct wide_of {
  using type = V;
};
template <>
struct wide_of<float> {
  using type = double;
};
template <class A>
  requires(xsimd::has_simd_register<double, A>::value)
struct wide_of<xsimd::batch<float, A>> {
  using type = twin<xsimd::batch<double, A>>;
};
template <class A>
  requires(!xsimd::has_simd_register<double, A>::value)
struct wide_of<xsimd::batch<float, A>> {
  using type = void;
};

// g++ 12 takes __builtin_convertvector apart into 128 bits: registers are converted by name.
template <class To, class From>
[[nodiscard, gnu::always_inline]] inline To converted(From x) noexcept {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<To, vector_t<double, 8>>) return To(_mm512_cvtps_pd(__m256(x)));
  if constexpr (std::is_same_v<From, vector_t<double, 8>>) return To(_mm512_cvtpd_ps(__m512d(x)));
#endif
#if defined(__AVX__)
  if constexpr (std::is_same_v<To, vector_t<double, 4>>) return To(_mm256_cvtps_pd(__m128(x)));
  if constexpr (std::is_same_v<From, vector_t<double, 4>>) return To(_mm256_cvtpd_ps(__m256d(x)));
#endif
  return __builtin_convertvector(x, To);
}

/// Floats to doubles, half a register at a time.
template <class A>
struct twin_conversion<xsimd::batch<double, A>, xsimd::batch<float, A>> {
  using from = xsimd::batch<float, A>;
  using to = xsimd::batch<double, A>;
  static constexpr int half = lane<to>::width;
  static constexpr bool exists = lane<from>::width == 2 * half;

  template <int First>
  [[gnu::always_inline]] static to part_of(from x) noexcept {
    const auto lanes = part<First>(to_raw(x), std::make_integer_sequence<int, half>{});
    return from_raw<to>(converted<vector_t<double, half>>(lanes));
  }
  [[gnu::always_inline]] static to first(from x) noexcept { return part_of<0>(x); }
  [[gnu::always_inline]] static to second(from x) noexcept { return part_of<half>(x); }
};

}  // namespace detail

template <class V>
using wide = typename detail::wide_of<V>::type;

/// False where the target has no registers of double.
template <class V>
inline constexpr bool widens = !std::is_void_v<wide<V>>;

/// The numbers of V in double.
template <class V>
[[nodiscard, gnu::always_inline]] inline wide<V> widened(V x) noexcept {
  return static_cast<wide<V>>(x);
}

/// The numbers of a wide value, each rounded once.
template <class V>
[[nodiscard, gnu::always_inline]] inline V narrowed(const wide<V>& x) noexcept {
  if constexpr (std::is_same_v<V, wide<V>> || lane<V>::width == 1) {
    return static_cast<V>(x);
  } else {
    constexpr int W = lane<V>::width;
    using S = typename lane<V>::scalar;
    using half = detail::vector_t<S, W / 2>;
    const auto low = detail::converted<half>(detail::to_raw(x.first));
    const auto high = detail::converted<half>(detail::to_raw(x.second));
    return detail::from_raw<V>(detail::joined<W>(low, high, std::make_integer_sequence<int, W>{}));
  }
}

}  // namespace maslin::inline MASLIN_ABI::simd
