// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Neighbours in memory, each to all lanes of a register when it is asked for.

#include <maslin/core/types.hpp>
#include <maslin/simd/lane.hpp>

#include <type_traits>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI::simd {

namespace detail {

// 128 bits to both halves of a register, and number J of them to all lanes.
void both_halves();  // the names are there
template <int J>
void to_all_lanes();  // on every target
#if defined(__AVX__)
inline __m256 both_halves(const float* p, __m256) noexcept {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
}
inline __m256d both_halves(const double* p, __m256d) noexcept {
  return _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(p));
}
template <int J>
inline __m256 to_all_lanes(__m256 x) noexcept {
  return _mm256_permute_ps(x, J * 0b01010101);
}
template <int J>
inline __m256d to_all_lanes(__m256d x) noexcept {
  return _mm256_permute_pd(x, J * 0b1111);
}
#endif

}  // namespace detail

/// The numbers p[0 .. count - 1]. With registers of 32 bytes they are loaded at once and spread by
/// shuffles, for loops in which loads are what is short: each of them is one of two a cycle. With others,
/// whose shuffles may take the pipe of a multiply-add (64 bytes), each is loaded to all lanes by itself.
template <class V>
class spread {
 public:
  using S = typename lane<V>::scalar;
  static constexpr int count = 16 / static_cast<int>(sizeof(S));

  explicit spread(const S* p) noexcept : from_(source(p)) {}

  /// p[J] in every lane.
  template <int J>
  [[nodiscard]] V at() const noexcept {
    static_assert(0 <= J && J < count);
    if constexpr (together)
      return V(detail::to_all_lanes<J>(from_));
    else
      return lane<V>::broadcast(from_[J]);
  }

 private:
  static auto source(const S* p) noexcept {
    if constexpr (lane<V>::width == 1) {
      return p;
    } else {
      using R = typename V::register_type;
      if constexpr (requires(R r) { detail::both_halves(p, r); })
        return detail::both_halves(p, R{});
      else
        return p;
    }
  }
  using held = decltype(source(nullptr));
  static constexpr bool together = !std::is_pointer_v<held>;

  held from_;
};

}  // namespace maslin::inline MASLIN_ABI::simd
