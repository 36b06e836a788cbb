// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The positions that a token reads, and how many outputs must be kept for that.

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/distance.hpp>
#include <maslin/pattern/table.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::pattern {

/// Calls f(position, level) for every position that token t reads: once each, in ascending order
/// (the farthest first, t - 1 last), with the lowest level that reads it. It is the order of the
/// sum in every generalized mixer, R_t of arXiv 2605.31367 without duplicates.
/// cost      levels(t) calls of p.position; no allocation
template <any_pattern P, class F>
constexpr void for_each_read(const P& p, index_t t, F&& f) {
  const index_t levels = p.levels(t);
  if (levels == 0) return;
  index_t position = p.position(t, levels - 1);
  for (index_t k = levels - 1; k > 0; --k) {
    const index_t nearer = p.position(t, k - 1);
    if (nearer != position) f(position, k);
    position = nearer;
  }
  f(position, index_t{0});
}

/// |R_t|: the number of distinct positions that token t reads.
template <any_pattern P>
[[nodiscard]] constexpr index_t read_count(const P& p, index_t t) {
  index_t count = 0;
  for_each_read(p, t, [&count](index_t, index_t) { ++count; });
  return count;
}

/// sum over t < T of |R_t|: the positions that T tokens read.
/// cost      O(levels); cached: levels(t) a token
template <any_pattern P>
[[nodiscard]] index_t read_total(P p, index_t T) {
  const table known(p, T);
  index_t total = 0;
  if constexpr (is_cached<P>) {
    for (index_t t = 0; t < T; ++t) total += read_count(known, t);
  } else {
    for (index_t k = 0; k < known.size(); ++k) total += T - known.distance(k);
  }
  return total;
}

/// Outputs that a decoder of T tokens keeps: max_t |S_t| + 1 for a cache-efficient form (what token
/// t reads, and its own), otherwise all up to the largest distance below T, so count for
/// order(count).
/// cost      plain: one look at the largest level; cached: read_count of at most a_K tokens, K the
///           last level
template <any_pattern P>
[[nodiscard]] index_t cache_entries(P p, index_t T) {
  const index_t levels = max_levels(p, T);
  if constexpr (!is_cached<P>) {
    return levels == 0 ? 0 : p.distance(levels - 1);
  } else {
    if (levels == 0) return std::clamp(T, index_t{0}, index_t{1});
    // All spacings divide the last one, a: token t + a reads all that token t reads, a later, and
    // maybe more. So the maximum is among the last a tokens.
    const table known(p, T);
    index_t most = 0;
    for (index_t t = std::max(index_t{0}, T - known[levels - 1].spacing); t < T; ++t)
      most = std::max(most, read_count(known, t));
    return most + 1;
  }
}

}  // namespace maslin::inline MASLIN_ABI::pattern
