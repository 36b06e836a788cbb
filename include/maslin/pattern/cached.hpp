// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The cache-efficient form of a pattern: distances are rounded so that neighbouring tokens read
/// the same positions, and few outputs must be kept.

#include <maslin/pattern/distance.hpp>

namespace maslin::inline MASLIN_ABI::pattern {

/// The spacing after `a` when the next distance is `gap` farther: a ceil(gap / a). A spacing never
/// exceeds its distance, so that it does not overflow.
[[nodiscard]] constexpr index_t next_spacing(index_t a, index_t gap) noexcept {
  return a * ((gap - 1) / a + 1);
}

/// The position that token t reads at distance d rounded to spacing a, for d <= t:
///   a ceil((t + 1 - d) / a) - 1
/// At a = 1 it is t - d.
[[nodiscard]] constexpr index_t spaced_position(index_t t, index_t d, index_t a) noexcept {
  return t - d - (t - d) % a + (a - 1);
}

/// a_k of the cache-efficient form of p, for a level k that p has.
/// cost      closed forms; a general p is walked from level 0
template <any_pattern P>
[[nodiscard]] constexpr index_t spacing_of(const P& p, index_t k) {
  index_t a = 1, d = p.distance(0);
  for (index_t i = 1; i <= k; ++i) {
    const index_t next = p.distance(i);
    a = next_spacing(a, next - d);
    d = next;
  }
  return a;
}
[[nodiscard]] constexpr index_t spacing_of(const order&, index_t) noexcept { return 1; }
[[nodiscard]] constexpr index_t spacing_of(const dense&, index_t) noexcept { return 1; }
[[nodiscard]] constexpr index_t spacing_of(const power2& p, index_t k) noexcept {
  return k == 0 ? 1 : p.distance(k - 1);
}
[[nodiscard]] constexpr index_t spacing_of(const linear& p, index_t k) noexcept {
  return k == 0 ? 1 : p.step;
}
/// 1, 1, 3, 6, 12, 12, 12, 24, ...: the smallest 3 2^j that is at least f(k) - f(k - 1) = 2 k - 1.
[[nodiscard]] constexpr index_t spacing_of(const square1&, index_t k) noexcept {
  if (k < 2) return 1;
  const auto thirds = static_cast<std::size_t>((2 * k + 1) / 3);
  return index_t{3} << std::bit_width(thirds - 1);
}

template <class P>
struct cached;

/// True for `cached<P>`.
template <class P>
inline constexpr bool is_cached = false;
template <class P>
inline constexpr bool is_cached<cached<P>> = true;

/// The cache-efficient form of a plain pattern P    (arXiv 2605.31367, Proposition 4.12).
///   S_t = { p_k(t) : f(k) <= t },  p_k(t) = a_k ceil((t + 1 - f(k)) / a_k) - 1,  a_0 = 1,
///   a_{k+1} = a_k ceil((f(k+1) - f(k)) / a_k)
/// Level k reads a distance in f(k) - a_k + 1 .. f(k). Positions do not increase with k, so that
/// levels that share a position are neighbours; the lowest of them is the one that reads.
///
/// Three things differ from the paper. The seed a_0 = 1, which it does not state, is needed. Its
/// containment holds one token earlier than stated: S_{t+1} lies within S_t and {t}, that is, token
/// t + 1 reads what token t read and the output of token t (in its 1-based terms
/// S_i within S_{i-1} and {i - 1}, never i). And a path guarantee of f does not carry over: cached
/// k^2 + 1 needs up to 6 hops within 1024 positions, not 4, and cached 2^k up to 10.
/// It is another operator than the plain form, not an approximation made at decode: train with the
/// pattern that decodes.
///
/// cost      position: closed forms, or a walk from level 0 for patterns of your own (see `table`)
template <class P>
struct cached {
  static_assert(any_pattern<P> && !is_cached<P>, "cached is the form of a plain pattern");

  P plain{};

  [[nodiscard]] constexpr index_t distance(index_t k) const { return plain.distance(k); }
  [[nodiscard]] constexpr index_t levels(index_t t) const { return plain.levels(t); }
  /// a_k: positions that level k reads are a_k apart.
  [[nodiscard]] constexpr index_t spacing(index_t k) const { return spacing_of(plain, k); }
  [[nodiscard]] constexpr index_t position(index_t t, index_t k) const {
    return spaced_position(t, distance(k), spacing(k));
  }
};
template <class P>
cached(P) -> cached<P>;

template <class P>
void expect_valid(const check::caller& who, const cached<P>& p, index_t T) {
  expect_valid(who, p.plain, T);
}

}  // namespace maslin::inline MASLIN_ABI::pattern
