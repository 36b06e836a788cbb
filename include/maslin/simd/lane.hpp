// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `lane<V>` for SIMD registers: the same words as core/lane.hpp, several independent channels
/// wide.

#include <maslin/core/lane.hpp>
#include <maslin/simd/xsimd.hpp>

#include <concepts>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI {

namespace detail {

// xsimd leaves fma to the architecture of a batch: 8.1 has none for AVX-512, and gives registers
// narrower than the target's an architecture without it. Both would round twice.
void fused();  // the name is there on targets without any of these
#if defined(__FMA__)
inline __m128 fused(__m128 a, __m128 b, __m128 c) noexcept { return _mm_fmadd_ps(a, b, c); }
inline __m128d fused(__m128d a, __m128d b, __m128d c) noexcept { return _mm_fmadd_pd(a, b, c); }
inline __m256 fused(__m256 a, __m256 b, __m256 c) noexcept { return _mm256_fmadd_ps(a, b, c); }
inline __m256d fused(__m256d a, __m256d b, __m256d c) noexcept { return _mm256_fmadd_pd(a, b, c); }
#endif
#if defined(__AVX512F__)
inline __m512 fused(__m512 a, __m512 b, __m512 c) noexcept { return _mm512_fmadd_ps(a, b, c); }
inline __m512d fused(__m512d a, __m512d b, __m512d c) noexcept { return _mm512_fmadd_pd(a, b, c); }
#endif

void root();  // the name is there on every target
#if defined(__aarch64__)
inline float32x4_t root(float32x4_t x) noexcept { return vsqrtq_f32(x); }
#endif

// Part of a register: xsimd 8.1 has no loads and stores of it, and a detour through memory waits for its own
// stores. Stores go in powers of two: masked ones are slow on Zen 3, and on a Xeon loads that follow wait for
// them (bench/NOTES.md).
void load_first();   // the names are there
void store_first();  // on every target
#if defined(__aarch64__)
inline float32x4_t load_first(const float* p, int n, float32x4_t) noexcept {
  if (n >= 4) return vld1q_f32(p);
  const float32x2_t none = vdup_n_f32(0);
  const float32x2_t last = (n & 1) != 0 ? vld1_lane_f32(p + (n & 2), none, 0) : none;
  return (n & 2) != 0 ? vcombine_f32(vld1_f32(p), last) : vcombine_f32(last, none);
}
inline float64x2_t load_first(const double* p, int n, float64x2_t) noexcept {
  if (n >= 2) return vld1q_f64(p);
  const float64x1_t none = vdup_n_f64(0);
  return vcombine_f64((n & 1) != 0 ? vld1_f64(p) : none, none);
}
inline void store_first(float* p, int n, float32x4_t x) noexcept {
  if (n >= 4) return vst1q_f32(p, x);
  float32x2_t part = vget_low_f32(x);
  if ((n & 2) != 0) {
    vst1_f32(p, part);
    part = vget_high_f32(x);
    p += 2;
  }
  if ((n & 1) != 0) vst1_lane_f32(p, part, 0);
}
inline void store_first(double* p, int n, float64x2_t x) noexcept {
  if (n >= 2) return vst1q_f64(p, x);
  if ((n & 1) != 0) vst1_f64(p, vget_low_f64(x));
}
#endif
#if defined(__SSE2__)
inline __m128 load_first(const float* p, int n, __m128) noexcept {
  if (n >= 4) return _mm_loadu_ps(p);
  const __m128 last = (n & 1) != 0 ? _mm_load_ss(p + (n & 2)) : _mm_setzero_ps();
  if ((n & 2) == 0) return last;
  const __m128 two = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(p));
  return _mm_movelh_ps(two, last);
}
inline __m128d load_first(const double* p, int n, __m128d) noexcept {
  if (n >= 2) return _mm_loadu_pd(p);
  return (n & 1) != 0 ? _mm_load_sd(p) : _mm_setzero_pd();
}
inline void store_first(float* p, int n, __m128 x) noexcept {
  if (n >= 4) return _mm_storeu_ps(p, x);
  if ((n & 2) != 0) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), x);
    x = _mm_movehl_ps(x, x);
    p += 2;
  }
  if ((n & 1) != 0) _mm_store_ss(p, x);
}
inline void store_first(double* p, int n, __m128d x) noexcept {
  if (n >= 2) return _mm_storeu_pd(p, x);
  if ((n & 1) != 0) _mm_store_sd(p, x);
}
#endif
#if defined(__AVX2__)
inline __m256 load_first(const float* p, int n, __m256) noexcept {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes));
}
inline __m256d load_first(const double* p, int n, __m256d) noexcept {
  const __m256i lanes = _mm256_setr_epi64x(0, 1, 2, 3);
  return _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lanes));
}
#endif
#if defined(__AVX512F__)
inline __m512 load_first(const float* p, int n, __m512) noexcept {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
}
inline __m512d load_first(const double* p, int n, __m512d) noexcept {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p);
}
#endif

void lower();
void upper();
#if defined(__AVX__)
inline __m128 lower(__m256 x) noexcept { return _mm256_castps256_ps128(x); }
inline __m128 upper(__m256 x) noexcept { return _mm256_extractf128_ps(x, 1); }
inline __m128d lower(__m256d x) noexcept { return _mm256_castpd256_pd128(x); }
inline __m128d upper(__m256d x) noexcept { return _mm256_extractf128_pd(x, 1); }
#endif
#if defined(__AVX512F__)
inline __m256 lower(__m512 x) noexcept { return _mm512_castps512_ps256(x); }
inline __m256 upper(__m512 x) noexcept {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}
inline __m256d lower(__m512d x) noexcept { return _mm512_castpd512_pd256(x); }
inline __m256d upper(__m512d x) noexcept { return _mm512_extractf64x4_pd(x, 1); }
#endif
template <class S, class R>
  requires requires(R x) { lower(x); }
inline void store_first(S* p, int n, R x) noexcept {
  constexpr int half = static_cast<int>(sizeof(R) / sizeof(S)) / 2;
  if (n >= 2 * half) {
    std::memcpy(p, &x, sizeof x);
    return;
  }
  auto part = lower(x);
  if ((n & half) != 0) {
    std::memcpy(p, &part, sizeof part);
    part = upper(x);
    p += half;
  }
  store_first(p, n & (half - 1), part);
}

void chosen_by_sign();  // the names are there on every target
void unordered();
#if defined(__AVX__)
inline bool unordered(__m256 x, __m256 y) noexcept {
  return _mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_UNORD_Q)) != 0;
}
inline bool unordered(__m256d x, __m256d y) noexcept {
  return _mm256_movemask_pd(_mm256_cmp_pd(x, y, _CMP_UNORD_Q)) != 0;
}
inline __m256 chosen_by_sign(__m256 x, __m256 yes, __m256 no) noexcept {
  return _mm256_blendv_ps(no, yes, x);
}
inline __m256d chosen_by_sign(__m256d x, __m256d yes, __m256d no) noexcept {
  return _mm256_blendv_pd(no, yes, x);
}
#endif

}  // namespace detail

template <class T, class A>
struct lane<xsimd::batch<T, A>> {
  using V = xsimd::batch<T, A>;
  using scalar = T;
  using mask = xsimd::batch_bool<T, A>;
  static constexpr int width = static_cast<int>(V::size);

  static V broadcast(scalar x) noexcept { return V(x); }
  static V load(const scalar* p) noexcept { return V::load_unaligned(p); }
  static V load(const scalar* p, all_lanes<V>) noexcept { return load(p); }
  /// The first n lanes from memory, zero in the others; nothing past p[n - 1] is read.
  static V load(const scalar* p, int n) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { detail::load_first(p, n, r); }) {
      return detail::load_first(p, n, R{});
    } else {
      alignas(V) scalar padded[V::size] = {};
      for (int i = 0; i < n; ++i) padded[i] = p[i];
      return V::load_aligned(padded);
    }
  }
  static void store(scalar* p, V x) noexcept { x.store_unaligned(p); }
  static void store(scalar* p, V x, all_lanes<V>) noexcept { store(p, x); }
  /// The first n lanes to memory; nothing past p[n - 1] is written.
  static void store(scalar* p, V x, int n) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { detail::store_first(p, n, r); }) {
      detail::store_first(p, n, R(x));
    } else {
      alignas(V) scalar padded[V::size];
      x.store_aligned(padded);
      for (int i = 0; i < n; ++i) p[i] = padded[i];
    }
  }

  static V fma(V a, V b, V c) noexcept {
    using R = typename V::register_type;
    if constexpr (fused_family && requires(R r) { detail::fused(r, r, r); })
      return detail::fused(R(a), R(b), R(c));
    else
      return xsimd::fma(a, b, c);
  }
  /// a / b, correctly rounded: on NEON the operator of xsimd 8.1 refines an estimate instead.
  static V div(V a, V b) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { r / r; })
      return V(R(a) / R(b));
    else
      return a / b;
  }
  /// The square root, correctly rounded: on NEON xsimd 8.1 refines an estimate in float.
  static V sqrt(V x) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { detail::root(r); })
      return V(detail::root(R(x)));
    else
      return xsimd::sqrt(x);
  }
  /// a > b ? a : b where an unordered comparison answers b; where the instruction set's maximum
  /// propagates NaN from both sides (NEON) it may answer a NaN of a.
  static V max(V a, V b) noexcept { return xsimd::max(a, b); }
  /// a < b ? a : b, with NaN as in `max`.
  static V min(V a, V b) noexcept { return xsimd::min(a, b); }
  static V abs(V x) noexcept {
    if constexpr (std::floating_point<T>)
      return xsimd::abs(x);
    else
      return x;
  }
  static V select(mask m, V yes, V no) noexcept { return xsimd::select(m, yes, no); }
  /// x < 0 ? 0 : x: a NaN stays, and so does -0. On x86 the maximum of 0 and x, in this order, is just that.
  static V clear_negative(V x) noexcept {
    const V zero(scalar(0));
#if defined(__SSE2__)
    return max(zero, x);
#else
    return select(x < zero, zero, x);
#endif
  }
  /// x < 0 ? yes : no, and either where x is zero or NaN. One operation on AVX, where g++ makes three of
  /// a choice.
  static V select_negative(V x, V yes, V no) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { detail::chosen_by_sign(r, r, r); })
      return V(detail::chosen_by_sign(R(x), R(yes), R(no)));
    else
      return select(x < V(scalar(0)), yes, no);
  }
  /// Whether x or y holds a NaN.
  static bool any_nan(V x, V y) noexcept {
    using R = typename V::register_type;
    if constexpr (requires(R r) { detail::unordered(r, r); })
      return detail::unordered(R(x), R(y));
    else
      return !xsimd::all((x <= x) & (y <= y));
  }
  static bool any_nan(V x) noexcept { return any_nan(x, x); }
  static bool any(mask m) noexcept { return xsimd::any(m); }
  static bool all(mask m) noexcept { return xsimd::all(m); }
  static mask both(mask a, mask b) noexcept { return a & b; }

  static V to_exponent(V x) noexcept { return from_bits(to_bits(x) << exponent_shift); }
  static V add_exponent(V x, V shifted) noexcept {
    return from_bits(to_bits(x) + (to_bits(shifted) << exponent_shift));
  }

 private:
  using word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  using words = xsimd::batch<word, A>;
  static constexpr int exponent_shift = sizeof(T) == 4 ? 23 : 52;
#if XSIMD_VERSION_MAJOR >= 9
  static words to_bits(V x) noexcept { return xsimd::bitwise_cast<word>(x); }
  static V from_bits(words x) noexcept { return xsimd::bitwise_cast<T>(x); }
#else
  static words to_bits(V x) noexcept { return xsimd::bitwise_cast<words>(x); }
  static V from_bits(words x) noexcept { return xsimd::bitwise_cast<V>(x); }
#endif
};

namespace simd {

namespace detail {

/// The first of `Archs` whose register of S has `Width` lanes; S itself if none has.
template <class S, int Width, class... Archs>
struct first_of_width {
  using type = S;
};
template <class S, int Width, class A, class... Rest>
struct first_of_width<S, Width, A, Rest...> {
  static constexpr bool fits = [] {
    if constexpr (xsimd::has_simd_register<S, A>::value)
      return xsimd::batch<S, A>::size == static_cast<std::size_t>(Width);
    else
      return false;
  }();
  using type = typename std::conditional_t<fits, std::type_identity<xsimd::batch<S, A>>,
                                           first_of_width<S, Width, Rest...>>::type;
};

}  // namespace detail

/// A register of `Width` lanes of S, or a plain S where the target has none of that width.
template <class S, int Width>
struct sized {
  using type =
      typename detail::first_of_width<S, Width, xsimd::default_arch, xsimd::fma3<xsimd::avx2>,
                                      xsimd::fma3<xsimd::avx>, xsimd::avx2, xsimd::avx,
                                      xsimd::fma3<xsimd::sse4_2>, xsimd::sse4_2, xsimd::sse2,
                                      xsimd::neon64, xsimd::neon>::type;
};

/// Lanes of S in the target's widest register; 1 without SIMD.
template <class S>
inline constexpr int native_width = [] {
  if constexpr (xsimd::has_simd_register<S>::value)
    return static_cast<int>(xsimd::batch<S>::size);
  else
    return 1;
}();

/// The widest register of S: the value type of the default policy.
template <class S>
using native =
    std::conditional_t<native_width<S> == 1, S,
                       typename sized<S, native_width<S> == 1 ? 4 : native_width<S>>::type>;

}  // namespace simd

static_assert(!fused_family || lane<simd::native<float>>::width >= 4,
              "the target has fused multiply-add but xsimd found no registers for it: compile with "
              "flags that agree, such as -march=x86-64-v3");

}  // namespace maslin::inline MASLIN_ABI
