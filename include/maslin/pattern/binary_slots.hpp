// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The entries of cached 2^k, which follow from the time alone.

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/table.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace maslin::inline MASLIN_ABI::pattern {

/// Entries of cached<power2>: position p lies in the entry of as many trailing zero bits as p + 1 has.
///
/// Token t reads at level 0 position t - 1, and at level k > 0, whose spacing is 2^s with s = k - 1,
///   p_k(t) + 1 = (floor(t / 2^s) - 1) 2^s,   a distance in 2^s + 1 .. 2^(s + 1)
/// so that no two levels read one position. A position with v zero bits is read from the distances of
/// levels 0 .. v + 1 alone, at most 2^(v + 1), and that is how far the next position with v zero bits
/// lies: each entry holds one output at a time, and the newest takes the entry of the output that its
/// own token reads for the last time.
///
/// Used as `slots` are (see history.hpp), which serve every pattern and keep what this one computes;
/// `newest()` may be the entry that a read of the same token uses: write after all reads.
/// cost      for_each_read: a shift and a count of zero bits a level; advance: O(1)
/// throws    shape_error where cached 2^k is no pattern for `length` tokens; std::bad_alloc
class binary_slots {
 public:
  binary_slots() = default;
  binary_slots(cached<power2> p, index_t length) : levels_(p, length) {}

  /// The token whose reads are answered.
  [[nodiscard]] index_t time() const noexcept { return static_cast<index_t>(time_); }
  /// Number of tokens that it serves: `length`, or more where they would use no further level.
  [[nodiscard]] index_t limit() const noexcept { return levels_.limit(); }
  /// Number of entries that the decoder must have: cache_entries(p, length), but at least 1. It counts
  /// the newest output beside all that its token reads, and so the last may stay unused.
  [[nodiscard]] index_t entries() const noexcept { return levels_.size() + 1; }
  [[nodiscard]] index_t newest() const noexcept { return std::countr_zero(time_ + 1); }
  [[nodiscard]] const table& levels() const noexcept { return levels_; }

  template <class F>
  void for_each_read(F&& f) const {
    for (index_t k = active_ - 1; k > 0; --k)
      f(k - 1 + std::countr_zero((time_ >> (k - 1)) - 1), k);
    if (active_ > 0) f(std::countr_zero(time_), index_t{0});
  }
  template <class Read>
  index_t list_reads(Read* to, index_t stride) const {
    index_t n = 0;
    for_each_read([&](index_t entry, index_t level) { to[n++] = {entry * stride, level}; });
    return n;
  }

  /// cost      O(1)
  void advance() noexcept { restart(time() + 1); }

  /// Goes to token t. What is kept then must be written to the entries that `for_each_kept` names.
  void restart(index_t t) noexcept {
    time_ = static_cast<std::uint64_t>(t);
    active_ = std::min(static_cast<index_t>(std::bit_width(time_)), levels_.size());
  }

  /// f(entry, position) for the outputs that token `time()` or a later one may read, ascending.
  template <class F>
  void for_each_kept(F&& f) const {
    for_each_read([&](index_t entry, index_t k) { f(entry, levels_.position(time(), k)); });
  }

 private:
  table levels_;
  index_t active_ = 0;
  std::uint64_t time_ = 0;
};

}  // namespace maslin::inline MASLIN_ABI::pattern
