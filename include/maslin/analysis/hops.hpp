// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How many reads in a row carry an output to a later token: the path length of a pattern.
///   hops(d) = 1 + min_{f(k) <= d} hops(d - f(k)),  hops(0) = 0       (plain; arXiv 2605.31367)
/// For a plain pattern it depends on the distance alone. For a cache-efficient one it depends on
/// both ends, and is the shortest path along the positions that tokens read.
///
/// Known, and tested: power2 needs popcount(d) hops, at most ceil(log2(d + 1)), which the published
/// bound log2 d misses at every d = 2^r - 1. square1 needs at most 4, since d - 4 is a sum of four
/// squares. Cached square1 has no such guarantee: 6 hops occur within 1024 positions.

#include <maslin/core/check.hpp>
#include <maslin/pattern/reads.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace maslin::inline MASLIN_ABI::analysis {

/// Hops of a pair that no path connects.
inline constexpr index_t unreachable = std::numeric_limits<index_t>::max();

/// hops[d] of a plain pattern, for d = 0 .. T - 1.
/// cost      sum over d of levels(d) steps at most
/// throws    shape_error where `p` is no pattern for T tokens, std::bad_alloc
template <pattern::any_pattern P>
  requires(!pattern::is_cached<P>)
[[nodiscard]] std::vector<index_t> hops_by_distance(P p, index_t T) {
  const pattern::table known(p, T);
  std::vector<index_t> hops(static_cast<std::size_t>(T), 0);
  for (index_t d = 1, levels = 0; d < T; ++d) {
    if (known.distance(levels) <= d) ++levels;
    index_t fewest = unreachable;
    // From the farthest jump down: what is left then is short, and 0 cannot be improved.
    for (index_t k = levels; k-- > 0 && fewest > 0;)
      fewest = std::min(fewest, hops[static_cast<std::size_t>(d - known.distance(k))]);
    hops[static_cast<std::size_t>(d)] = fewest + 1;
  }
  return hops;
}

/// hops(d) of a plain pattern.
template <pattern::any_pattern P>
  requires(!pattern::is_cached<P>)
[[nodiscard]] index_t hops(P p, index_t distance) {
  check::count({"analysis", "hops"}, "distance", distance);
  return hops_by_distance(p, distance + 1).back();
}

/// The shortest paths that lead to one token.
struct path_tree {
  std::vector<index_t> hops;  // [t + 1], from the output of token s to token t
  std::vector<index_t> next;  // [t + 1], the token that reads the output of s on a shortest path
};

/// Shortest paths from every token s <= t to token t, for any pattern. Of several shortest ones it
/// is that whose last tokens lie farthest back.
/// cost      what all tokens read that are visited before the last is found, at most the reads of
///           tokens 0 .. t
/// throws    shape_error where `p` is no pattern for t + 1 tokens, std::bad_alloc
[[nodiscard]] inline path_tree paths_to(const pattern::table& p, index_t t) {
  check::count({"analysis", "paths_to"}, "t", t);
  expect_valid({"analysis", "paths_to"}, p, t + 1);
  const auto n = static_cast<std::size_t>(t) + 1;
  path_tree tree{std::vector<index_t>(n, unreachable), std::vector<index_t>(n, t)};
  std::vector<index_t> front{t};  // in the order in which they were found: by hops
  front.reserve(n);
  tree.hops.back() = 0;
  for (std::size_t i = 0; i < front.size() && front.size() < n; ++i) {
    const index_t reader = front[i], next = tree.hops[static_cast<std::size_t>(reader)] + 1;
    pattern::for_each_read(p, reader, [&](index_t position, index_t) {
      index_t& found = tree.hops[static_cast<std::size_t>(position)];
      if (found != unreachable) return;
      found = next;
      tree.next[static_cast<std::size_t>(position)] = reader;
      front.push_back(position);
    });
  }
  return tree;
}

/// hops[s] from the output of each token s <= t to token t, for any pattern: see `paths_to`.
[[nodiscard]] inline std::vector<index_t> hops_to(const pattern::table& p, index_t t) {
  return paths_to(p, t).hops;
}
template <pattern::any_pattern P>
[[nodiscard]] std::vector<index_t> hops_to(P p, index_t t) {
  return hops_to(pattern::table(p, t + 1), t);
}

/// The longest of many paths, and their mean length.
struct path_lengths {
  index_t worst = 0;
  double mean = 0;
};

/// Worst and mean hops to token T - 1 from every earlier one.
/// cost      see hops_to
template <pattern::any_pattern P>
[[nodiscard]] path_lengths paths_to_last(P p, index_t T) {
  if (T < 2) return {};
  const auto hops = hops_to(p, T - 1);
  double sum = 0;
  for (const index_t h : hops) sum += static_cast<double>(h);
  return {*std::max_element(hops.begin(), hops.end()), sum / static_cast<double>(T - 1)};
}

/// Worst and mean hops over all pairs of tokens below T.
/// cost      T times hops_to
template <pattern::any_pattern P>
[[nodiscard]] path_lengths paths_of_all(P p, index_t T) {
  path_lengths all;
  const pattern::table known(p, T);
  double sum = 0, pairs = 0;
  for (index_t t = 1; t < T; ++t) {
    const auto hops = hops_to(known, t);
    for (const index_t h : hops) sum += static_cast<double>(h);
    all.worst = std::max(all.worst, *std::max_element(hops.begin(), hops.end()));
    pairs += static_cast<double>(t);
  }
  all.mean = pairs == 0 ? 0 : sum / pairs;
  return all;
}

}  // namespace maslin::inline MASLIN_ABI::analysis
