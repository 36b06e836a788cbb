// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `twin`: two registers as one value. An algorithm written for one runs on the twin with its
/// operations interleaved, so that a processor finds independent work beside each long chain of
/// dependent ones without looking far ahead. Each lane computes what it computes alone.
///
/// All of it is inlined by force, as functions of twins should be: an argument of two registers
/// would go through memory.

#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>

#include <type_traits>

namespace maslin::inline MASLIN_ABI {

namespace simd {

template <class V>
struct twin;

namespace detail {

/// Defined for registers of as many lanes as a twin has: `to_twin` gives their numbers to it.
template <class V, class U>
struct twin_conversion {
  static constexpr bool exists = false;
};

}  // namespace detail

/// Two registers V, lanes of the first one first.
template <class V>
struct twin {
  V first, second;

  twin() = default;
  [[gnu::always_inline]] twin(V a, V b) noexcept : first(a), second(b) {}
  /// The same numbers, of a register of narrower ones (simd/wide.hpp).
  template <class U>
    requires(detail::twin_conversion<V, U>::exists)
  [[gnu::always_inline]] explicit twin(U x) noexcept
      : first(detail::twin_conversion<V, U>::first(x)),
        second(detail::twin_conversion<V, U>::second(x)) {}

  /// The answers of a comparison.
  struct mask {
    typename lane<V>::mask first, second;
  };

  [[gnu::always_inline]] friend twin operator+(twin a, twin b) noexcept {
    return {a.first + b.first, a.second + b.second};
  }
  [[gnu::always_inline]] friend twin operator-(twin a, twin b) noexcept {
    return {a.first - b.first, a.second - b.second};
  }
  [[gnu::always_inline]] friend twin operator*(twin a, twin b) noexcept {
    return {a.first * b.first, a.second * b.second};
  }
  [[gnu::always_inline]] friend mask operator<(twin a, twin b) noexcept {
    return {a.first < b.first, a.second < b.second};
  }
  [[gnu::always_inline]] friend mask operator<=(twin a, twin b) noexcept {
    return {a.first <= b.first, a.second <= b.second};
  }
  [[gnu::always_inline]] friend mask operator>(twin a, twin b) noexcept { return b < a; }
  [[gnu::always_inline]] friend mask operator>=(twin a, twin b) noexcept { return b <= a; }
};

template <class V>
inline constexpr bool is_twin = false;
template <class V>
inline constexpr bool is_twin<twin<V>> = true;

/// Two registers past the cache, one after the other.
template <class V>
[[gnu::always_inline]] inline void stream_register(void* to, const twin<V>& x) noexcept {
  stream_register(to, x.first);
  stream_register(static_cast<char*>(to) + sizeof x.first, x.second);
}

}  // namespace simd

template <class V>
struct lane<simd::twin<V>> {
  using T = simd::twin<V>;
  using L = lane<V>;
  using scalar = typename L::scalar;
  using mask = typename T::mask;
  static constexpr int width = 2 * L::width;

  [[gnu::always_inline]] static T broadcast(scalar x) noexcept {
    return {L::broadcast(x), L::broadcast(x)};
  }
  [[gnu::always_inline]] static T load(const scalar* p) noexcept {
    return {L::load(p), L::load(p + L::width)};
  }
  [[gnu::always_inline]] static T load(const scalar* p, all_lanes<T>) noexcept { return load(p); }
  [[gnu::always_inline]] static void store(scalar* p, T x) noexcept {
    L::store(p, x.first);
    L::store(p + L::width, x.second);
  }
  [[gnu::always_inline]] static void store(scalar* p, T x, all_lanes<T>) noexcept { store(p, x); }

  [[gnu::always_inline]] static T fma(T a, T b, T c) noexcept {
    return {L::fma(a.first, b.first, c.first), L::fma(a.second, b.second, c.second)};
  }
  [[gnu::always_inline]] static T div(T a, T b) noexcept {
    return {L::div(a.first, b.first), L::div(a.second, b.second)};
  }
  [[gnu::always_inline]] static T sqrt(T x) noexcept {
    return {L::sqrt(x.first), L::sqrt(x.second)};
  }
  [[gnu::always_inline]] static T max(T a, T b) noexcept {
    return {L::max(a.first, b.first), L::max(a.second, b.second)};
  }
  [[gnu::always_inline]] static T min(T a, T b) noexcept {
    return {L::min(a.first, b.first), L::min(a.second, b.second)};
  }
  [[gnu::always_inline]] static T abs(T x) noexcept { return {L::abs(x.first), L::abs(x.second)}; }
  [[gnu::always_inline]] static T select(mask m, T yes, T no) noexcept {
    return {L::select(m.first, yes.first, no.first), L::select(m.second, yes.second, no.second)};
  }
  [[gnu::always_inline]] static T clear_negative(T x) noexcept {
    return {L::clear_negative(x.first), L::clear_negative(x.second)};
  }
  [[gnu::always_inline]] static T select_negative(T x, T yes, T no) noexcept {
    return {L::select_negative(x.first, yes.first, no.first),
            L::select_negative(x.second, yes.second, no.second)};
  }
  [[gnu::always_inline]] static bool any_nan(T x) noexcept {
    if constexpr (requires { L::any_nan(x.first, x.second); })
      return L::any_nan(x.first, x.second);
    else
      return L::any_nan(x.first) || L::any_nan(x.second);
  }
  [[gnu::always_inline]] static bool any(mask m) noexcept {
    return L::any(m.first) || L::any(m.second);
  }
  [[gnu::always_inline]] static bool all(mask m) noexcept {
    return L::all(m.first) && L::all(m.second);
  }
  [[gnu::always_inline]] static mask both(mask a, mask b) noexcept {
    return {L::both(a.first, b.first), L::both(a.second, b.second)};
  }
  [[gnu::always_inline]] static T to_exponent(T x) noexcept {
    return {L::to_exponent(x.first), L::to_exponent(x.second)};
  }
  [[gnu::always_inline]] static T add_exponent(T x, T shifted) noexcept {
    return {L::add_exponent(x.first, shifted.first), L::add_exponent(x.second, shifted.second)};
  }
};

}  // namespace maslin::inline MASLIN_ABI
