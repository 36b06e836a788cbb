// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Patterns of a generalized mixer: which earlier outputs token t reads, said by distances f(k).
///   R_t = { t - f(k) : f(k) <= t },  f(0) = 1, f strictly increasing    (arXiv 2605.31367)
/// A level is the number k of a distance. All patterns here are *plain*: each token reads exactly
/// at its distances, so that every output up to the largest distance must be kept. The form that
/// keeps few outputs is `cached` (pattern/cached.hpp).
///
/// Every pattern answers the same questions, at compile time too:
///   distance(k)     f(k), or `beyond` where there is no level k, or f(k) would overflow
///   levels(t)       how many k have f(k) <= t: the levels that token t reads, 0 .. levels(t) - 1
///   position(t, k)  the position that token t reads at level k, for k < levels(t)
/// Arguments are 0 or more; nothing overflows for any of them. `expect_valid` refuses patterns that
/// are none. Patterns are passed by value: most are empty, and g++ 12 takes a reference to an empty
/// member for one to memory that nobody has set.

#include <maslin/core/check.hpp>
#include <maslin/core/types.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

namespace maslin::inline MASLIN_ABI::pattern {

/// The distance of a level that no token can read: positions are smaller than this.
inline constexpr index_t beyond = std::numeric_limits<index_t>::max();

/// a + b for a, b >= 0, or `beyond` where that does not fit. For functions f of your own.
[[nodiscard]] constexpr index_t sum(index_t a, index_t b) noexcept {
  index_t c = 0;
  return __builtin_add_overflow(a, b, &c) ? beyond : c;
}

/// a b for a, b >= 0, or `beyond` where that does not fit. For functions f of your own.
[[nodiscard]] constexpr index_t product(index_t a, index_t b) noexcept {
  index_t c = 0;
  return __builtin_mul_overflow(a, b, &c) ? beyond : c;
}

/// What a pattern offers, plain or not.
template <class P>
concept any_pattern = requires(const P& p, index_t n) {
  { p.distance(n) } -> std::same_as<index_t>;
  { p.levels(n) } -> std::same_as<index_t>;
  { p.position(n, n) } -> std::same_as<index_t>;
};

/// The last `count` outputs: f(k) = k + 1 for k < count. With normalised coefficients it is H-LRU.
struct order {
  index_t count = 1;

  [[nodiscard]] constexpr index_t distance(index_t k) const noexcept {
    return k < count ? k + 1 : beyond;
  }
  [[nodiscard]] constexpr index_t levels(index_t t) const noexcept { return std::min(t, count); }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const noexcept {
    return t - 1 - k;
  }
};

/// All earlier outputs: f(k) = k + 1.
struct dense {
  [[nodiscard]] constexpr index_t distance(index_t k) const noexcept { return sum(k, 1); }
  [[nodiscard]] constexpr index_t levels(index_t t) const noexcept { return t; }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const noexcept {
    return t - 1 - k;
  }
};

/// f(k) = 2^k: floor(log2 t) + 1 reads, and every earlier position within popcount(distance) hops.
struct power2 {
  [[nodiscard]] constexpr index_t distance(index_t k) const noexcept {
    return k < std::numeric_limits<index_t>::digits ? index_t{1} << k : beyond;
  }
  [[nodiscard]] constexpr index_t levels(index_t t) const noexcept {
    return static_cast<index_t>(std::bit_width(static_cast<std::size_t>(t)));
  }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const noexcept {
    return t - distance(k);
  }
};

/// f(k) = k^2 + 1: about sqrt(t) reads, and every earlier position within 4 hops, since a number is
/// a sum of four squares.
struct square1 {
  [[nodiscard]] constexpr index_t distance(index_t k) const noexcept {
    return sum(product(k, k), 1);
  }
  [[nodiscard]] constexpr index_t levels(index_t t) const noexcept {
    return t < 1 ? 0 : root(static_cast<std::size_t>(t - 1)) + 1;
  }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const noexcept {
    return t - distance(k);
  }

 private:
  // floor(sqrt(n)), a bit at a time.
  [[nodiscard]] static constexpr index_t root(std::size_t n) noexcept {
    std::size_t r = 0;
    for (std::size_t bit = std::size_t{1} << ((std::bit_width(n) + 1) / 2); bit > 0; bit >>= 1)
      if (const std::size_t next = r | bit; next <= n / next) r = next;
    return static_cast<index_t>(r);
  }
};

/// f(k) = 1 + step k: every step-th output, the last one included. (Our definition.)
struct linear {
  index_t step = 1;

  [[nodiscard]] constexpr index_t distance(index_t k) const noexcept {
    return sum(1, product(step, k));
  }
  [[nodiscard]] constexpr index_t levels(index_t t) const noexcept {
    return t < 1 ? 0 : (t - 1) / step + 1;
  }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const noexcept {
    return t - distance(k);
  }
};

/// Any function f with f(0) = 1 that increases strictly, such as
///   pattern::user{[](index_t k) { return k * (k + 1) / 2 + 1; }}
/// It is called for k = 0, 1, ... up to the first f(k) that is too far to be read, so that an f
/// that grows fast need not fear overflow unless it is asked for positions near 2^63; `sum` and
/// `product` give `beyond` there. A result of an unsigned type above `beyond` counts as `beyond`.
///
/// cost      one call a distance; levels(t) calls f levels(t) + 1 times: kernels and loops over
///           many tokens use a `table`
template <class F>
struct user {
  static_assert(std::integral<std::invoke_result_t<const F&, index_t>>,
                "f takes an index_t and answers an integer");

  F f{};

  [[nodiscard]] constexpr index_t distance(index_t k) const {
    const auto d = f(k);
    return std::cmp_greater(d, beyond) ? beyond : static_cast<index_t>(d);
  }
  [[nodiscard]] constexpr index_t levels(index_t t) const {
    // f(k) > k, so that there are at most t; an f that breaks this must not loop for ever.
    index_t k = 0;
    while (k < t && distance(k) <= t) ++k;
    return k;
  }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const { return t - distance(k); }
};
template <class F>
user(F) -> user<F>;

/// Number of levels that T tokens use: those of token T - 1.
template <any_pattern P>
[[nodiscard]] constexpr index_t max_levels(P p, index_t T) {
  return T < 1 ? 0 : p.levels(T - 1);
}

/// Refuses what is no pattern for T tokens: an order or a step below 1; a function f with
/// f(0) != 1, or that does not increase (as one that overflows) before it is too far for T tokens.
/// throws    shape_error that names the caller `who`
inline void expect_valid(const check::caller& who, const order& p, index_t T) {
  check::count(who, "T", T);
  if (p.count < 1) who.refuse("order must be 1 or more, got " + std::to_string(p.count));
}
inline void expect_valid(const check::caller& who, const linear& p, index_t T) {
  check::count(who, "T", T);
  if (p.step < 1) who.refuse("the step of linear must be 1 or more, got " + std::to_string(p.step));
}
template <any_pattern P>
void expect_valid(const check::caller& who, const P& p, index_t T) {
  check::count(who, "T", T);
  if constexpr (std::same_as<P, dense> || std::same_as<P, power2> || std::same_as<P, square1>)
    return;
  index_t last = p.distance(0);
  if (last != 1) who.refuse("f(0) must be 1, got " + std::to_string(last));
  for (index_t k = 1; last < T; ++k) {
    const index_t d = p.distance(k);
    // Of several levels beyond reach one is as far as the next.
    if (d == beyond) return;
    if (d <= last)
      who.refuse(
          "f must increase strictly (and be pattern::beyond where it would overflow), got f(" +
          std::to_string(k) + ") = " + std::to_string(d) + " after " + std::to_string(last));
    last = d;
  }
}

}  // namespace maslin::inline MASLIN_ABI::pattern
