// SPDX-License-Identifier: Apache-2.0
#pragma once

// Functions that users might bring, and the definition of SPEC in its own words: no code is shared
// with the patterns of the library.

#include <maslin/pattern/distance.hpp>

#include <set>
#include <utility>
#include <vector>

namespace maslin::test {

/// f(k) = 3^k.
inline constexpr pattern::user power3{[](index_t k) {
  index_t f = 1;
  for (index_t i = 0; i < k; ++i) f = pattern::product(f, 3);
  return f;
}};

/// f(k) = k (k + 1) / 2 + 1.
inline constexpr pattern::user triangle{[](index_t k) { return k * (k + 1) / 2 + 1; }};

/// Distances that grow, stall and leap: 1, 2, 3, 40, 41, 42, 43, 44, 300, 301, 302, ...
inline constexpr pattern::user uneven{[](index_t k) {
  return k < 3 ? k + 1 : k < 8 ? k + 37 : k + 292;
}};

/// One near distance and a crowd: 1, 100, 101, 102, ... Many levels read one position.
inline constexpr pattern::user crowd{[](index_t k) { return k == 0 ? 1 : k + 99; }};

/// Reads of one token, by the definition: positions ascending, each with its lowest level.
using reads = std::vector<std::pair<index_t, index_t>>;

/// The distances f(k) < T of a pattern, and their spacings a_k by the recurrence.
struct definition {
  std::vector<index_t> distance, spacing;

  template <class F>
  definition(F f, index_t T) {
    for (index_t k = 0; f(k) < T; ++k) distance.push_back(f(k));
    index_t a = 1;
    for (std::size_t k = 0; k < distance.size(); ++k) {
      if (k > 0) {
        const index_t gap = distance[k] - distance[k - 1];
        a *= gap / a + (gap % a != 0);
      }
      spacing.push_back(a);
    }
  }

  /// { t - f(k) : f(k) <= t }
  [[nodiscard]] reads plain(index_t t) const {
    reads r;
    for (std::size_t k = 0; k < distance.size() && distance[k] <= t; ++k)
      r.insert(r.begin(), {t - distance[k], static_cast<index_t>(k)});
    return r;
  }

  /// { a_k ceil((t + 1 - f(k)) / a_k) - 1 : f(k) <= t }
  [[nodiscard]] reads cached(index_t t) const {
    std::vector<std::pair<index_t, index_t>> nearest_first;
    for (std::size_t k = 0; k < distance.size() && distance[k] <= t; ++k) {
      index_t multiples = (t + 1 - distance[k]) / spacing[k];
      if (multiples * spacing[k] < t + 1 - distance[k]) ++multiples;
      const index_t p = spacing[k] * multiples - 1;
      if (nearest_first.empty() || nearest_first.back().first != p)
        nearest_first.push_back({p, static_cast<index_t>(k)});
    }
    return {nearest_first.rbegin(), nearest_first.rend()};
  }
};

}  // namespace maslin::test
