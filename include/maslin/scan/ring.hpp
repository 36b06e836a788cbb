// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Forward substitution where tokens read at fixed distances: rows lie in a ring, position p in entry
/// p mod entries, so that from token to token every read goes on by one entry.
///
/// Long calls go by blocks of tokens. Rows from before a block are gathered first, for all of its
/// tokens a few levels at a time, the sums waiting in y: that many streams are what prefetchers
/// follow, no token waits for another, and where levels lie close together each finds in the cache
/// what the one before it has brought there. Then the tokens read each other, one after the other.

#include <maslin/scan/rows.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// Rows, inputs and coefficients of one head.
template <class S>
struct row_system {
  const S* self;  // one a token
  const S*
      past;  // of token 0; of a dense pattern entry p weighs the row of position p, else level p
  const S* input;
  S* y;
  S* rows;  // of position 0
  index_t self_time, past_time, input_time, y_time, row_stride;
  index_t entries;  // rows that there is room for
  index_t first;    // position of token 0; of a dense pattern the last of all may wrap to row 0
};

namespace detail {

/// Where the rows lie that one token after the other reads, of the levels below `near`.
template <class S, class Levels>
struct ring_walk {
  const row_system<S>& of;
  const Levels& levels;
  index_t* offset;  // of as many as there are levels, from `rows`
  index_t near;
  index_t t;       // the next token,
  index_t newest;  // its entry,
  index_t active;  // and the levels that it reads

  ring_walk(const row_system<S>& s, const Levels& of_levels, index_t* memory, index_t most,
            index_t first) noexcept
      : of(s),
        levels(of_levels),
        offset(memory),
        near(most),
        t(first),
        newest((s.first + first) % s.entries),
        active(std::min(near, levels.levels(s.first + first))) {
    for (index_t k = 0; k < active; ++k) find(k);
  }
  void advance() noexcept {
    ++t;
    newest = newest + 1 == of.entries ? 0 : newest + 1;
    const index_t step = of.row_stride, end = of.entries * step;
    for (index_t k = 0; k < active; ++k) {
      const index_t next = offset[k] + step;
      offset[k] = next == end ? 0 : next;
    }
    if (active < near && levels.distance(active) <= of.first + t) find(active++);
  }

 private:
  void find(index_t k) noexcept {
    const index_t entry = newest - levels[k].distance;
    offset[k] = (entry < 0 ? entry + of.entries : entry) * of.row_stride;
  }
};

/// Levels low .. high - 1, added to alpha x or, once that has `begun`, to the sums in y.
struct level_range {
  index_t low, high;
  bool begun;
};

/// A piece of the channels of token t; the row of level k lies at offset[k] from `rows`.
template <class V, std::size_t C, class N, class S>
inline void add_levels(V (&sum)[C], const row_system<S>& s, level_range some, index_t t, index_t e,
                       const S* rows, const index_t* offset, N n) noexcept {
  using L = lane<V>;
  if (some.begun) {
    load_piece(sum, s.y + t * s.y_time + e, n);
  } else {
    load_piece(sum, s.input + t * s.input_time + e, n);
    const V alpha = L::broadcast(s.self[t * s.self_time]);
    each<C>([&](std::size_t c) { sum[c] = alpha * sum[c]; });
  }
  const S* const b = s.past + t * s.past_time;
  for (index_t k = some.high; k-- > some.low;) {
    const V weight = L::broadcast(b[k]);
    V x[C];
    load_piece(x, rows + offset[k], n);
    each<C>([&](std::size_t c) { sum[c] = L::fma(weight, x[c], sum[c]); });
  }
}

/// Adds `some` levels for tokens begin .. end - 1, which none of their rows belongs to:
/// runs of tokens in which every level reads one row after the other.
template <class V, class S, class Levels>
void gather_levels(const row_system<S>& s, const Levels& levels, index_t* offset, level_range some,
                   index_t begin, index_t end, index_t e, index_t count) noexcept {
  constexpr index_t ahead = 4;
  for (index_t t = begin; t < end;) {
    const index_t first = t;
    level_range active = some;
    active.high = std::clamp(levels.levels(s.first + t), some.low, some.high);
    index_t stop = end;
    if (active.high < some.high) stop = std::min(stop, levels.distance(active.high) - s.first);
    for (index_t k = active.low; k < active.high; ++k) {
      const index_t entry = (s.first + t - levels[k].distance) % s.entries;
      offset[k] = entry * s.row_stride;
      stop = std::min(stop, t + s.entries - entry);
    }
    for (; t < stop; ++t) {
      // Coefficients of a few levels lie a token apart, where nothing else fetches them.
      __builtin_prefetch(s.past + std::min(t + ahead, stop - 1) * s.past_time + active.low);
      for_each_piece<V, 8, 4, 1>(
          count, [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
            V sum[static_cast<std::size_t>(C)];
            add_levels(sum, s, active, t, e + c, s.rows + e + c + (t - first) * s.row_stride,
                       offset, n);
            store_piece(s.y + t * s.y_time + e + c, sum, n);
          });
    }
  }
}

/// Tokens begin .. end - 1 one after the other, of the levels below `near`.
template <class V, class S, class Levels>
void walk_ring(const row_system<S>& s, const Levels& levels, index_t* offset, index_t near,
               bool begun, index_t begin, index_t end, index_t e, index_t count) noexcept {
  ring_walk<S, Levels> w(s, levels, offset, near, begin);
  for (;;) {
    for_each_piece<V, 8, 4, 2, 1>(
        count, [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
          V sum[static_cast<std::size_t>(C)];
          add_levels(sum, s, {0, w.active, begun}, w.t, e + c, s.rows + e + c, offset, n);
          store_piece(s.rows + e + c + w.newest * s.row_stride, sum, n);
          store_piece(s.y + w.t * s.y_time + e + c, sum, n);
        });
    if (w.t + 1 == end) return;
    w.advance();
  }
}

}  // namespace detail

/// Solves `length` tokens of channels e .. e + count - 1, each reading the rows at the distances of
/// `levels`, a pattern::table; `offsets` is memory for as many numbers as there are levels.
template <class V, class S, class Levels>
void solve_ring(const row_system<S>& s, const Levels& levels, index_t* offsets, index_t length,
                index_t e, index_t count) noexcept {
  // A block's sums stay in a second-level cache, as all rows of a short ring do; of rings that outgrow
  // the third level they may be more, since far rows then come from memory once a block. Taking sums
  // up again does not pay for narrow rows, short blocks and few levels.
  constexpr index_t least_held = 256 << 10, most_held = 1 << 20, ring_to_held = 64;
  constexpr index_t narrow = 128, shortest = 64, fewest = 6, together = 12;
  const index_t bytes = count * static_cast<index_t>(sizeof(S));
  const index_t held = std::clamp(s.entries / ring_to_held * bytes, least_held, most_held);
  const bool blocked = bytes >= narrow && s.entries > held / bytes;
  const index_t block = blocked ? std::max(shortest, held / bytes) : length;
  for (index_t begin = 0; begin < length; begin += block) {
    const index_t end = std::min(begin + block, length), all = levels.levels(s.first + end - 1);
    index_t near = levels.levels(end - begin - 1);
    if (!blocked || end - begin < shortest || all - near < fewest) near = all;
    for (index_t high = all; high > near; high = std::max(near, high - together))
      detail::gather_levels<V>(s, levels, offsets,
                               {std::max(near, high - together), high, high < all}, begin, end, e,
                               count);
    detail::walk_ring<V>(s, levels, offsets, near, near < all, begin, end, e, count);
  }
}

}  // namespace maslin::inline MASLIN_ABI::scan
