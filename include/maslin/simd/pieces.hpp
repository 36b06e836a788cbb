// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Registers as pieces of 128 bits, inside which numbers are shuffled and between which they hardly
/// are: transposing them, reading and writing each at a place of its own.

#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>

#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI::simd::detail {

/// Fixed-size vectors of the compiler, on which shuffles are written by index.
template <class S, int Width>
struct vector {
  typedef S type __attribute__((vector_size(sizeof(S) * Width)));
};
template <class S, int Width>
using vector_t = typename vector<S, Width>::type;

template <class V>
using raw = vector_t<typename lane<V>::scalar, lane<V>::width>;

template <class V>
[[nodiscard]] inline raw<V> to_raw(V x) noexcept {
  raw<V> r;
  static_assert(sizeof r == sizeof x);
  std::memcpy(&r, &x, sizeof r);
  return r;
}
template <class V>
[[nodiscard]] inline V from_raw(raw<V> r) noexcept {
  V x;
  std::memcpy(static_cast<void*>(&x), &r, sizeof r);
  return x;
}

/// Numbers in 128 bits: rows are moved in pieces of this size.
template <class S>
inline constexpr int piece = 16 / static_cast<int>(sizeof(S));

/// The shuffle of (a, b) whose lane i takes source lane Pattern::at(i).
template <class Pattern, class R, int... I>
[[nodiscard]] inline R shuffle(R a, R b, std::integer_sequence<int, I...>) noexcept {
  return __builtin_shufflevector(a, b, Pattern::at(I)...);
}

// Interleaving inside each 128-bit piece of K numbers, pairs of `Unit` numbers at a time.
template <int Width, int K, int Unit, bool High>
struct interleave {
  static constexpr int at(int i) {
    const int base = i / K * K, within = i % K;
    const int unit = within / Unit, offset = within % Unit;
    const int source = base + (High ? K / 2 : 0) + unit / 2 * Unit + offset;
    return unit % 2 == 0 ? source : Width + source;
  }
};

template <int Unit, bool High, class S, int Width, class R>
[[nodiscard]] inline R interleaved(R a, R b) noexcept {
  return shuffle<interleave<Width, piece<S>, Unit, High>>(a, b,
                                                          std::make_integer_sequence<int, Width>{});
}

/// Transposes K registers as K x K matrices, one in each 128-bit piece (K = 4 floats or 2 doubles).
template <class S, int Width, class R>
inline void transpose_pieces(R (&w)[static_cast<std::size_t>(piece<S>)]) noexcept {
  if constexpr (piece<S> == 4) {
    const R a = interleaved<1, false, S, Width>(w[0], w[1]);
    const R b = interleaved<1, true, S, Width>(w[0], w[1]);
    const R c = interleaved<1, false, S, Width>(w[2], w[3]);
    const R d = interleaved<1, true, S, Width>(w[2], w[3]);
    w[0] = interleaved<2, false, S, Width>(a, c);
    w[1] = interleaved<2, true, S, Width>(a, c);
    w[2] = interleaved<2, false, S, Width>(b, d);
    w[3] = interleaved<2, true, S, Width>(b, d);
  } else {
    const R a = interleaved<1, false, S, Width>(w[0], w[1]);
    w[1] = interleaved<1, true, S, Width>(w[0], w[1]);
    w[0] = a;
  }
}

template <int Width, int... I, class P>
[[nodiscard]] inline auto joined(P a, P b, std::integer_sequence<int, I...>) noexcept {
  return __builtin_shufflevector(a, b, I...);
}

/// Lanes First, First + 1 ... of x, half of them. g++ 12 takes the upper half of 256 bits by a slower shuffle across
/// the register: it is named.
template <int First, int... I, class R>
[[nodiscard]] inline auto part(R x, std::integer_sequence<int, I...>) noexcept {
#if defined(__AVX__)
  if constexpr (First > 0 && sizeof(R) == 32) {
    using half = vector_t<std::remove_cvref_t<decltype(x[0])>, static_cast<int>(sizeof...(I))>;
    return half(_mm256_extractf128_ps(__m256(x), 1));
  } else
#endif
    return __builtin_shufflevector(x, x, (First + I)...);
}

/// One register from the 128-bit pieces at Width / K addresses.
template <class S, int Width, class Address>
[[nodiscard]] inline vector_t<S, Width> gather_pieces(const Address& address, int first) noexcept {
  constexpr int K = piece<S>;
  if constexpr (Width == K) {
    vector_t<S, Width> p;
    std::memcpy(&p, address(first), sizeof p);
    return p;
  } else {
    const auto low = gather_pieces<S, Width / 2>(address, first);
    const auto high = gather_pieces<S, Width / 2>(address, first + Width / 2);
    return joined<Width>(low, high, std::make_integer_sequence<int, Width>{});
  }
}

/// A register, or a part of one, to memory: through the cache or past it.
template <bool Past, class R>
inline void put(void* to, const R& x) noexcept {
  if constexpr (Past)
    stream_register(to, x);
  else
    std::memcpy(to, &x, sizeof x);
}

/// Writes the 128-bit pieces of a register to Width / K addresses, those of lanes below n.
template <bool Past, class S, int Width, class Address>
inline void scatter_pieces(vector_t<S, Width> x, const Address& address, int first,
                           int n) noexcept {
  constexpr int K = piece<S>;
  if constexpr (Width == K) {
    if (first < n) put<Past>(address(first), x);
  } else {
    const auto half = std::make_integer_sequence<int, Width / 2>{};
    scatter_pieces<Past, S, Width / 2>(part<0>(x, half), address, first, n);
    scatter_pieces<Past, S, Width / 2>(part<Width / 2>(x, half), address, first + Width / 2, n);
  }
}

/// Half registers side by side: a half of a, then a half of b, the lower one or the upper one of each.
template <int Width, bool OfA, bool OfB>
struct halves {
  static constexpr int at(int i) {
    const bool second = i >= Width / 2;
    const int within = i % (Width / 2) + ((second ? OfB : OfA) ? Width / 2 : 0);
    return second ? Width + within : within;
  }
};
template <bool UpperA, class S, int Width, bool UpperB = UpperA, class R>
[[nodiscard]] inline R side_by_side(R a, R b) noexcept {
  return shuffle<halves<Width, UpperA, UpperB>>(a, b, std::make_integer_sequence<int, Width>{});
}

}  // namespace maslin::inline MASLIN_ABI::simd::detail
