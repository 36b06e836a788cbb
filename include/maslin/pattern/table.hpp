// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The levels of any pattern in memory, for loops over many tokens.

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/distance.hpp>

#include <algorithm>
#include <vector>

namespace maslin::inline MASLIN_ABI::pattern {

/// The levels that `length` tokens use, one distance and one spacing each. A pattern itself, of one type
/// for all patterns: position(t, k) = t - f(k) where the spacing is 1, as in every plain pattern.
///
/// cost      building it calls f max_levels + 1 times and allocates once; position is O(1),
///           levels(t) O(log levels)
/// throws    shape_error where `p` is no pattern for so many tokens; std::bad_alloc
class table {
 public:
  struct level {
    index_t distance, spacing;
  };

  table() = default;
  template <any_pattern P>
  table(P p, index_t length) : length_(length) {
    expect_valid({"pattern", "table"}, p, length);
    levels_.reserve(static_cast<std::size_t>(max_levels(p, length)));
    index_t spacing = 1;
    for (index_t k = 0; p.distance(k) < length; ++k) {
      const index_t d = p.distance(k);
      if (is_cached<P> && k > 0) spacing = next_spacing(spacing, d - levels_.back().distance);
      levels_.push_back({d, spacing});
    }
    endless_ = p.distance(size()) == beyond;
  }

  /// Number of tokens that it was made for.
  [[nodiscard]] index_t length() const noexcept { return length_; }
  /// Number of levels.
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(levels_.size()); }
  /// Number of tokens that it serves: `length`, or `beyond` where more tokens use no further level.
  [[nodiscard]] index_t limit() const noexcept { return endless_ ? beyond : length_; }

  [[nodiscard]] const level& operator[](index_t k) const noexcept {
    return levels_[static_cast<std::size_t>(k)];
  }
  [[nodiscard]] index_t distance(index_t k) const noexcept {
    return k < size() ? (*this)[k].distance : beyond;
  }
  [[nodiscard]] index_t levels(index_t t) const noexcept {
    const auto first_unread = std::ranges::upper_bound(levels_, t, {}, &level::distance);
    return static_cast<index_t>(first_unread - levels_.begin());
  }
  [[nodiscard]] index_t position(index_t t, index_t k) const noexcept {
    return spaced_position(t, (*this)[k].distance, (*this)[k].spacing);
  }

 private:
  std::vector<level> levels_;
  index_t length_ = 0;
  bool endless_ = false;
};

inline void expect_valid(const check::caller& who, const table& p, index_t T) {
  check::count(who, "T", T);
  if (T > p.limit())
    who.refuse("T must be at most " + std::to_string(p.limit()) +
               ", the length of the table, got " + std::to_string(T));
}

}  // namespace maslin::inline MASLIN_ABI::pattern
