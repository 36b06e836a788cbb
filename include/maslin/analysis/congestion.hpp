// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The congestion of a pattern in the copy task: n tokens must reach the tokens n later, and the
/// paths share tokens on the way (arXiv 2605.31367).

#include <maslin/analysis/hops.hpp>
#include <maslin/core/check.hpp>
#include <maslin/pattern/reads.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace maslin::inline MASLIN_ABI::analysis {

/// How many of the n paths j -> j + n, j = 0 .. n - 1, pass through the busiest token, ends
/// included, for one choice of shortest paths: an upper bound of the congestion.
///
/// A plain pattern translates one shortest path of length n to every j. A token then lies on at
/// most hops(n) of them, since none is both a start and an end: at most ceil(log2(n + 1)) for
/// power2 (published: log2 n, too small where n + 1 is a power of two), 4 for square1, n for
/// order(1), ceil(n / k) for order(k), 1 for dense. For a cache-efficient pattern nothing is
/// published; each path is the first shortest one found, and hubs carry more.
///
/// cost      plain: hops_by_distance of n + 1; cached: n times paths_to
/// throws    shape_error where `p` is no pattern for 2 n tokens, std::bad_alloc
template <pattern::any_pattern P>
[[nodiscard]] index_t copy_congestion(P p, index_t n) {
  check::count({"analysis", "copy_congestion"}, "n", n);
  if (n == 0) return 0;
  const index_t T = pattern::product(2, n);
  const pattern::table known(p, T);
  std::vector<index_t> load(static_cast<std::size_t>(T), 0);
  path_tree tree;
  for (index_t j = 0; j < n; ++j) {
    // A plain pattern reads alike everywhere: the tree of token n serves all, moved by j.
    const bool translated = !pattern::is_cached<P>;
    if (!translated || j == 0) tree = paths_to(known, j + n);
    const index_t shift = translated ? j : 0;
    for (index_t v = j - shift;; v = tree.next[static_cast<std::size_t>(v)]) {
      ++load[static_cast<std::size_t>(v + shift)];
      if (v + shift == j + n) break;
    }
  }
  return *std::max_element(load.begin(), load.end());
}

}  // namespace maslin::inline MASLIN_ABI::analysis
