// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the benches of the mixers of earlier rows share: the reads of a pattern and sizes.

#include "bound.hpp"
#include "contender.hpp"

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/distance.hpp>
#include <maslin/pattern/reads.hpp>

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>
#include <vector>

namespace bench {

namespace pattern = maslin::pattern;
using reads_of_token = std::vector<std::pair<index_t, index_t>>;  // position and slot, ascending

/// Slots that T tokens of a pattern have; of a dense one, its positions.
template <class P>
[[nodiscard]] index_t slots_of(const P& p, index_t T) {
  return std::max<index_t>(1, pattern::max_levels(p, T));
}
template <class P>
[[nodiscard]] reads_of_token reads_of(const P& p, index_t t) {
  reads_of_token found;
  pattern::for_each_read(p, t, [&](index_t position, index_t level) {
    found.emplace_back(position, std::is_same_v<P, pattern::dense> ? position : level);
  });
  return found;
}
template <class P>
[[nodiscard]] double total_reads(const P& p, index_t T) {
  double n = 0;
  for (index_t t = 0; t < T; ++t) n += static_cast<double>(pattern::read_count(p, t));
  return n;
}

/// The earlier rows that tokens of a pattern read, by the cache that still holds them: since a row
/// was written, as many rows as it is far have been.
template <class P>
[[nodiscard]] std::array<gather, 4> gathers_of(const P& p, index_t first, index_t last,
                                               index_t row_bytes, const caches& sizes) {
  const index_t l1 = std::max<index_t>(sizes.l1, 16 << 10), l2 = std::max(sizes.l2, 8 * l1),
                l3 = std::max(sizes.l3, 4 * l2);
  std::array<gather, 4> found{gather{0, l1 / 2}, {0, l2 / 2}, {0, l3 / 4}, {0, 4 * l3}};
  for (index_t t = first; t < last; ++t)
    pattern::for_each_read(p, t, [&](index_t position, index_t) {
      const index_t reach = (t - position) * row_bytes;
      const std::size_t level = reach <= l1 ? 0 : reach <= l2 ? 1 : reach <= l3 ? 2 : 3;
      found[level].bytes += static_cast<double>(row_bytes);
    });
  return found;
}

struct sizes_of_rows {
  index_t B, T, H, E;
  index_t capacity = 0;  ///< tokens of a call that takes the T tokens again and again; 0: T
  [[nodiscard]] index_t all() const { return std::max(capacity, T); }
  [[nodiscard]] index_t tokens() const { return B * T; }
  [[nodiscard]] index_t numbers() const { return B * T * H * E; }
};

/// `f` again and again; once for the comparison.
template <class F>
[[nodiscard]] contender repeated(const F& f) {
  return contender_of(f, [] {});
}

}  // namespace bench
