// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Numbers of 16 bits that caches are stored in; arithmetic is always in float. Conversions work on
/// bits and are the same on every target, one lane or many.

#include <maslin/simd/lane.hpp>

#include <bit>
#include <concepts>
#include <cstdint>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI {

/// The upper half of a float: 8 bits of exponent, 7 of mantissa. Storage, no arithmetic.
///   relative error of a conversion from a normal float at most 2^-8; float's range
struct bf16 {
  std::uint16_t bits = 0;

  constexpr bf16() = default;
  /// To the nearest, ties to even; above the largest number to inf. A NaN keeps its sign and what fits
  /// of its payload, and becomes quiet.
  explicit constexpr bf16(float x) noexcept {
    const auto word = std::bit_cast<std::uint32_t>(x);
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = word + 0x7fffu + (word >> 16 & 1u);
    bits = static_cast<std::uint16_t>((is_nan ? word | 0x400000u : rounded) >> 16);
  }
  explicit constexpr operator float() const noexcept {
    return std::bit_cast<float>(std::uint32_t{bits} << 16);
  }
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of mantissa. Storage, no arithmetic.
///   relative error of a conversion at most 2^-11 from 2^-14 to 65504; gradual underflow below
struct fp16 {
  std::uint16_t bits = 0;

  constexpr fp16() = default;
  /// To the nearest, ties to even; from 65520 on to inf. A NaN keeps its sign and what fits of its
  /// payload, and becomes quiet.
  explicit constexpr fp16(float x) noexcept {
    const auto word = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = word >> 16 & 0x8000u, size = word & 0x7fffffffu;
    std::uint32_t half = 0;
    if (size > 0x7f800000u) {
      half = 0x7e00u | (size >> 13 & 0x3ffu);
    } else if (size >= 0x477ff000u) {
      half = 0x7c00u;
    } else if (size >= 0x38800000u) {
      // The exponent's bias falls from 127 to 15; a carry of the mantissa goes into the exponent.
      half = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
    } else if (size >= 0x33000000u) {
      // A multiple of 2^-24: the mantissa with its leading bit, shifted and rounded.
      const std::uint32_t mantissa = (size & 0x7fffffu) | 0x800000u;
      const auto shift = static_cast<int>(126u - (size >> 23));
      const std::uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1u);
      const std::uint32_t tie = 1u << (shift - 1);
      half = kept + (rest > tie || (rest == tie && (kept & 1u) != 0) ? 1u : 0u);
    }
    bits = static_cast<std::uint16_t>(sign | half);
  }
  explicit constexpr operator float() const noexcept {
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, size = bits & 0x7fffu;
    if (size > 0x7c00u) return std::bit_cast<float>(sign | 0x7fc00000u | (size & 0x3ffu) << 13);
    if (size == 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u);
    if (size >= 0x400u) return std::bit_cast<float>(sign | ((size << 13) + 0x38000000u));
    const float tiny = static_cast<float>(size) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(tiny));
  }
  friend constexpr bool operator==(fp16, fp16) = default;
};

/// What a cache of float arithmetic may be stored in beside float itself.
template <class C>
concept half_storage = std::same_as<C, bf16> || std::same_as<C, fp16>;

namespace simd {

namespace detail {

// Whole registers of float from numbers of 16 bits.
void widen_bf16();  // the names are there
void widen_fp16();  // on every target
#if defined(__SSE2__)
inline __m128 widen_bf16(const void* p, __m128) noexcept {
  const __m128i words = _mm_loadl_epi64(static_cast<const __m128i*>(p));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), words));
}
#endif
#if defined(__AVX2__)
inline __m256 widen_bf16(const void* p, __m256) noexcept {
  // A load to both halves and one shuffle in them: half of what zeros and a shift take of the pipes
  // that shuffle.
  const __m256i words =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m256i places =
      _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, -1, -1, 8, 9, -1, -1,
                       10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(words, places));
}
#endif
#if defined(__F16C__)
inline __m128 widen_fp16(const void* p, __m128) noexcept {
  return _mm_cvtph_ps(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
inline __m256 widen_fp16(const void* p, __m256) noexcept {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
#endif
#if defined(__AVX512F__)
inline __m512 widen_bf16(const void* p, __m512) noexcept {
  const __m256i words = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}
inline __m512 widen_fp16(const void* p, __m512) noexcept {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
#endif

template <class V, class C>
[[nodiscard]] inline V widen_each(const C* p) noexcept {
  using L = lane<V>;
  typename L::scalar x[static_cast<std::size_t>(L::width)];
  for (int i = 0; i < L::width; ++i) x[i] = static_cast<typename L::scalar>(p[i]);
  return L::load(x);
}

}  // namespace detail

/// A whole register from numbers stored as C: those of V itself, bf16 or fp16.
template <class V, class C>
[[nodiscard, gnu::always_inline]] inline V load_stored(const C* p) noexcept {
  using S = typename lane<V>::scalar;
  if constexpr (std::same_as<C, S>) {
    return lane<V>::load(p);
  } else if constexpr (lane<V>::width == 1) {
    return static_cast<S>(*p);
  } else {
    using R = typename V::register_type;
    if constexpr (std::same_as<C, bf16> && requires(R r) { detail::widen_bf16(p, r); })
      return detail::widen_bf16(p, R{});
    else if constexpr (std::same_as<C, fp16> && requires(R r) { detail::widen_fp16(p, r); })
      return detail::widen_fp16(p, R{});
    else
      return detail::widen_each<V>(p);
  }
}

}  // namespace simd

}  // namespace maslin::inline MASLIN_ABI
