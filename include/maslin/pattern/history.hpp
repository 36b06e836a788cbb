// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where a decoder keeps the outputs that later tokens read: numbered entries, and which of them
/// token t reads and writes. The outputs themselves lie with the decoder.
///
/// `ring` serves plain patterns and keeps every output up to the largest distance; `slots` serves
/// cache-efficient ones and keeps what will be read again, nothing else; `binary_slots` does so for
/// cached 2^k, and computes what `slots` remember. All are used alike:
///   for_each_read(f)   f(entry, level) for all reads of token `time()`, farthest first, once each
///   list_reads(to, s)  the same as a list of {entry s, level}, for which there is room for every
///                      level; how many there are
///   newest()           the entry that takes the output of token `time()`
///   advance()          goes on to the next token, as far as `limit()`
/// `newest()` may be an entry that a read of the same token uses: write after all reads.
/// All are values, depend on the pattern and the number of tokens alone, and need no pattern after
/// they are made.

#include <maslin/pattern/binary_slots.hpp>
#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/pattern/table.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI::pattern {

/// The entries of a plain pattern: position p lies in entry p mod entries().
///
/// cost      O(levels) numbers; for_each_read: levels calls; advance: O(1); neither allocates
/// throws    shape_error where `p` is no pattern for `length` tokens; std::bad_alloc
class ring {
 public:
  ring() = default;
  template <any_pattern P>
    requires(!is_cached<P>)
  ring(P p, index_t length)
      : levels_(p, length), entries_(std::max<index_t>(1, cache_entries(p, length))) {
    restart(0);
  }

  /// The token whose reads are answered.
  [[nodiscard]] index_t time() const noexcept { return time_; }
  /// Number of tokens that it serves: `length`, or more where they would use no further level.
  [[nodiscard]] index_t limit() const noexcept { return levels_.limit(); }
  /// Number of entries that the decoder must have: at least 1.
  [[nodiscard]] index_t entries() const noexcept { return entries_; }
  [[nodiscard]] index_t newest() const noexcept { return newest_; }
  [[nodiscard]] const table& levels() const noexcept { return levels_; }

  template <class F>
  void for_each_read(F&& f) const {
    for (index_t k = active_; k-- > 0;) {
      const index_t entry = newest_ - levels_[k].distance;
      f(entry < 0 ? entry + entries_ : entry, k);
    }
  }
  template <class Read>
  index_t list_reads(Read* to, index_t stride) const {
    index_t n = 0;
    for_each_read([&](index_t entry, index_t level) { to[n++] = {entry * stride, level}; });
    return n;
  }

  /// cost      O(1)
  void advance() noexcept {
    ++time_;
    newest_ = newest_ + 1 == entries_ ? 0 : newest_ + 1;
    if (active_ < levels_.size() && levels_[active_].distance <= time_) ++active_;
  }

  /// Goes to token t. What is kept then, from the farthest position to t - 1, must be written to
  /// the entries that `for_each_kept` names.
  void restart(index_t t) {
    time_ = t;
    newest_ = t % entries_;
    active_ = levels_.levels(t);
  }

  /// f(entry, position) for the outputs that token `time()` or a later one may read, ascending.
  template <class F>
  void for_each_kept(F&& f) const {
    for (index_t p = std::max<index_t>(0, time_ - entries_); p < time_; ++p) f(p % entries_, p);
  }

 private:
  table levels_;
  index_t entries_ = 1, time_ = 0, newest_ = 0, active_ = 0;
};

/// The entries of a cache-efficient pattern. Each level has a slot, which names an entry; levels
/// that read one position name one entry, and the lowest of them reads it. When level k moves on it
/// takes over what level k - 1 read before,
///   slot k <- slot k - 1  at t = f(k), f(k) + a_k, f(k) + 2 a_k, ...,   slot 0 <- y[t - 1],
/// since p_k changes exactly then, to p_{k-1}(t - 1): a_{k-1} divides a_k, and
/// a_k - a_{k-1} < f(k) - f(k-1) <= a_k. Outputs are never moved, and an entry that no slot names
/// is free again at once: |S_t| + 1 are taken while token t is mixed, and there are as many as that
/// ever gets.
///
/// Levels of one spacing a are due in turn, by f(k) mod a, so that nobody asks the others. Of n such
/// levels n / a are due in a step on average; their distances span n or more, and so n / a or more
/// of the positions that the spacing lets them read.
///
/// cost      O(levels) numbers; for_each_read: |R_t| calls and a look at each level; advance: O(1) a
///           read on average, and a look at each of at most log2(t) spacings; no allocation. Making
///           one counts reads as `cache_entries` does; where that takes more than `counted_reads` it settles for one
///           entry a level and one for the newest output
/// throws    shape_error where `p` is no pattern for `length` tokens; std::bad_alloc
class slots {
 public:
  /// Reads that making one may count: a few milliseconds.
  static constexpr index_t counted_reads = index_t{1} << 22;

  slots() = default;
  template <any_pattern P>
  slots(cached<P> p, index_t length) : levels_(p, length) {
    entries_ = most_taken(p, length);
    slot_.resize(static_cast<std::size_t>(levels_.size()) + 1);
    reads_.resize(static_cast<std::size_t>(levels_.size() / word) + 1);
    due_.resize(slot_.size());
    free_.resize(static_cast<std::size_t>(entries_));
    take_turns();
    restart(0);
  }

  /// The token whose reads are answered.
  [[nodiscard]] index_t time() const noexcept { return time_; }
  /// Number of tokens that it serves: `length`, or more where they would use no further level.
  [[nodiscard]] index_t limit() const noexcept { return levels_.limit(); }
  /// Number of entries that the decoder must have: cache_entries(p, length), but see the cost.
  [[nodiscard]] index_t entries() const noexcept { return entries_; }
  /// Number of entries that are taken: |S_t| + 1, or |S_t| past the last token.
  [[nodiscard]] index_t taken() const noexcept { return entries() - free_count_; }
  /// Of a token before `limit()`.
  [[nodiscard]] index_t newest() const noexcept { return newest_; }
  [[nodiscard]] const table& levels() const noexcept { return levels_; }

  template <class F>
  void for_each_read(F&& f) const {
    index_t k = levels_.size() - 1;
    for (std::uint64_t left : reads_) {
      for (; left != 0; left &= left - 1) {
        const index_t level = k - std::countr_zero(left);
        f(slot(level), level);
      }
      k -= word;
    }
  }
  template <class Read>
  index_t list_reads(Read* to, index_t stride) const {
    index_t n = 0;
    for_each_read([&](index_t entry, index_t level) { to[n++] = {entry * stride, level}; });
    return n;
  }

  /// cost      see above
  void advance() {
    ++time_;
    // No token has this position, at which levels wait that are never due again.
    if (time_ == beyond) return take_newest();
    if (active_ < levels_.size() && levels_[active_].distance <= time_) {
      ++active_;
      if (begun_ < turn_count() && turns_[at(begun_)].begin < active_)
        settle(turns_[at(begun_++)], time_);
    }
    // Higher levels first: each takes over what the one below it read before this step.
    for (index_t i = begun_; i-- > 0;)
      if (turns_[at(i)].due == time_) take_turn(turns_[at(i)]);
    take_newest();
  }

  /// Goes to token t. What is kept then must be written to the entries that `for_each_kept` names.
  void restart(index_t t) {
    time_ = t;
    active_ = levels_.levels(t);
    free_count_ = entries();
    std::fill(slot_.begin(), slot_.end(), none);
    std::fill(reads_.begin(), reads_.end(), std::uint64_t{0});
    for (index_t e = 0; e < entries(); ++e) free_[at(e)] = entries() - 1 - e;
    for (index_t k = active_; k-- > 0;) {
      const bool shared = k + 1 < active_ && levels_.position(t, k + 1) == levels_.position(t, k);
      slot_[at(k)] = shared ? slot(k + 1) : take_free();
      set_read(k, k == 0 || levels_.position(t, k - 1) != levels_.position(t, k));
    }
    for (begun_ = 0; begun_ < turn_count() && turns_[at(begun_)].begin < active_; ++begun_)
      settle(turns_[at(begun_)], t + 1);
    take_newest();
  }

  /// f(entry, position) for the outputs that token `time()` or a later one may read, ascending.
  template <class F>
  void for_each_kept(F&& f) const {
    for_each_read([&](index_t entry, index_t k) { f(entry, levels_.position(time_, k)); });
  }

 private:
  static constexpr index_t none = -1, word = 64;

  /// Levels begin .. end - 1 of one spacing, in the order in which they are due.
  struct turn {
    index_t begin, end, spacing;
    index_t next;  // place in order_ of the level that is due next,
    index_t due;   // at this token
  };

  static constexpr std::size_t at(index_t k) noexcept { return static_cast<std::size_t>(k); }
  [[nodiscard]] index_t slot(index_t k) const noexcept { return slot_[at(k)]; }
  [[nodiscard]] index_t turn_count() const noexcept { return static_cast<index_t>(turns_.size()); }
  void set_read(index_t k, bool reads) noexcept {
    const index_t from_last = levels_.size() - 1 - k;
    std::uint64_t& bits = reads_[at(from_last / word)];
    const auto place = static_cast<unsigned>(from_last % word);
    bits = (bits & ~(std::uint64_t{1} << place)) | (std::uint64_t{reads} << place);
  }
  [[nodiscard]] index_t take_free() {
    MASLIN_ASSERT(free_count_ > 0);
    return free_[at(--free_count_)];
  }
  /// An entry for the output of token `time()`. Past the last token none is needed, and all may be
  /// taken.
  void take_newest() { newest_ = time_ < limit() ? take_free() : none; }

  template <class P>
  [[nodiscard]] index_t most_taken(cached<P> p, index_t length) const {
    const index_t bound = levels_.size() + 1;
    if (bound == 1) return bound;
    const index_t period = levels_[bound - 2].spacing;
    if (product(period, bound) > counted_reads) return bound;
    // A history without end goes on to every phase of its last level.
    return cache_entries(p, limit() == beyond ? sum(length, period) : length);
  }

  /// Fills turns_ and order_. Of levels due at one time the higher comes first.
  void take_turns() {
    for (index_t k = 0; k < levels_.size(); ++k) {
      order_.push_back(k);
      const index_t a = levels_[k].spacing;
      if (turns_.empty() || turns_.back().spacing != a) turns_.push_back({k, k, a, k, 0});
      turns_.back().end = k + 1;
    }
    for (const turn& now : turns_)
      std::sort(order_.begin() + now.begin, order_.begin() + now.end, [&](index_t j, index_t k) {
        const index_t x = levels_[j].distance % now.spacing, y = levels_[k].distance % now.spacing;
        return x != y ? x < y : j > k;
      });
  }

  /// Makes the levels of a turn due from token `first` on. One that has not begun waits like the
  /// others, since it begins at a multiple of the spacing from there.
  void settle(turn& now, index_t first) {
    now.next = now.begin;
    for (index_t i = now.begin; i < now.end; ++i) {
      const index_t phase = (first - levels_[order_[at(i)]].distance) % now.spacing;
      due_[at(i)] = sum(first, (phase > 0 ? now.spacing : 0) - phase);
      if (due_[at(i)] < due_[at(now.next)]) now.next = i;
    }
    now.due = due_[at(now.next)];
  }

  /// Moves on the levels of a turn that are due now.
  void take_turn(turn& now) {
    do {
      const index_t i = now.next;
      due_[at(i)] = sum(time_, now.spacing);
      now.next = i + 1 == now.end ? now.begin : i + 1;
      move_on(order_[at(i)]);
      now.due = due_[at(now.next)];
    } while (now.due == time_);
  }

  /// Slot k <- slot k - 1 as it stood: levels above have had their turn, those below not yet.
  void move_on(index_t k) {
    if (k >= active_) return;
    const index_t old = slot(k);
    slot_[at(k)] = k == 0 ? newest_ : slot(k - 1);
    // It shares with the level below, until that one moves on, and no longer with the one above.
    set_read(k, k == 0);
    if (k + 1 < active_) set_read(k + 1, true);
    // It is free unless the level above names it too; those that read nothing yet name `none`.
    free_[at(free_count_)] = old;
    free_count_ += slot(k + 1) != old ? 1 : 0;
  }

  table levels_;
  std::vector<index_t> slot_;         // entry that level k reads, `none` of one that does not yet
  std::vector<std::uint64_t> reads_;  // one bit a level, the last first: set where it reads, since
                                      // no lower one names its entry
  std::vector<index_t> due_;  // next token at which the level at a place of order_ moves on, where
                              // its turn has begun
  std::vector<index_t> order_;
  std::vector<turn> turns_;    // by spacing, ascending
  std::vector<index_t> free_;  // entries that no slot names, as a stack
  index_t entries_ = 1, free_count_ = 0, time_ = 0, newest_ = 0, active_ = 0;
  index_t begun_ = 0;  // turns that have a level that is read
};

namespace detail {
template <any_pattern P>
struct history_of {
  using type = std::conditional_t<is_cached<P>, slots, ring>;
};
template <>
struct history_of<cached<power2>> {
  using type = binary_slots;
};
}  // namespace detail

/// The history of a pattern: `ring` of a plain one, `slots` of a cache-efficient one, and of cached
/// 2^k `binary_slots`.
template <any_pattern P>
using history = typename detail::history_of<P>::type;

/// True of a history that computes its reads from the time: listing them saves nothing.
template <class History>
inline constexpr bool needs_no_list = std::same_as<History, binary_slots>;

}  // namespace maslin::inline MASLIN_ABI::pattern
