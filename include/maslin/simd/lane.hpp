// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `lane<V>` for SIMD registers: the same words as core/lane.hpp, several independent channels wide.

#include <maslin/core/lane.hpp>
#include <maslin/simd/xsimd.hpp>

#include <cstring>

namespace maslin::inline MASLIN_ABI {

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
    alignas(V) scalar padded[V::size] = {};
    std::memcpy(padded, p, static_cast<std::size_t>(n) * sizeof(scalar));
    return V::load_aligned(padded);
  }
  static void store(scalar* p, V x) noexcept { x.store_unaligned(p); }
  static void store(scalar* p, V x, all_lanes<V>) noexcept { store(p, x); }
  /// The first n lanes to memory; nothing past p[n - 1] is written.
  static void store(scalar* p, V x, int n) noexcept {
    alignas(V) scalar padded[V::size];
    x.store_aligned(padded);
    std::memcpy(p, padded, static_cast<std::size_t>(n) * sizeof(scalar));
  }

  static V fma(V a, V b, V c) noexcept { return xsimd::fma(a, b, c); }
  /// a > b ? a : b where an unordered comparison answers b; where the instruction set's maximum
  /// propagates NaN from both sides (NEON) it may answer a NaN of a.
  static V max(V a, V b) noexcept { return xsimd::max(a, b); }
  static V abs(V x) noexcept {
    if constexpr (std::floating_point<T>)
      return xsimd::abs(x);
    else
      return x;
  }
  static V select(mask m, V yes, V no) noexcept { return xsimd::select(m, yes, no); }
  static bool any(mask m) noexcept { return xsimd::any(m); }

  static V to_exponent(V x) noexcept {
    using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    using B = xsimd::batch<bits, A>;
    constexpr int shift = sizeof(T) == 4 ? 23 : 52;
#if XSIMD_VERSION_MAJOR >= 9
    return xsimd::bitwise_cast<T>(xsimd::bitwise_cast<bits>(x) << shift);
#else
    return xsimd::bitwise_cast<V>(xsimd::bitwise_cast<B>(x) << shift);
#endif
  }
};

namespace simd {

/// A register of `Width` lanes of S, or a plain S where the target has none of that width.
template <class S, int Width>
struct sized {
  using batch = xsimd::make_sized_batch_t<S, static_cast<std::size_t>(Width)>;
  using type = std::conditional_t<std::is_void_v<batch>, S, batch>;
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
