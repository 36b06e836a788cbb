// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Forward substitution where tokens read at fixed distances: rows lie in a ring, position p in entry
/// p mod entries, so that from token to token every read goes on by one entry.
///
/// Long calls go by blocks of tokens. Rows from before a block are gathered first, for all of its
/// tokens a few levels at a time, the sums waiting in y: that many streams are what prefetchers
/// follow, no token waits for another, and where levels lie close together each finds in the cache
/// what the one before it has brought there. Then the tokens read each other, one after the other, or
/// where rows are narrow a few side by side as far as they read earlier ones.

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

/// What the sums of a piece of the channels of R tokens begin with.
template <class V, std::size_t R, std::size_t C, class N, class S>
inline void begin_sums(V (&sum)[R][C], const row_system<S>& s, bool begun, index_t t, index_t e,
                       N n) noexcept {
  each<R>([&](std::size_t r) {
    const index_t of = t + static_cast<index_t>(r);
    if (begun) {
      load_piece(sum[r], s.y + of * s.y_time + e, n);
    } else {
      load_piece(sum[r], s.input + of * s.input_time + e, n);
      const V alpha = lane<V>::broadcast(s.self[of * s.self_time]);
      each<C>([&](std::size_t c) { sum[r][c] = alpha * sum[r][c]; });
    }
  });
}

/// Adds levels low .. high - 1 to the sums of tokens t + First .. t + First + R - 1 of a piece. The row
/// of level k and token t lies at offset[k] from `rows`, that of the next token after it.
template <int First, int R, class V, std::size_t All, std::size_t C, class N, class S>
inline void add_levels(V (&sum)[All][C], const row_system<S>& s, index_t low, index_t high,
                       index_t t, const S* rows, const index_t* offset, N n) noexcept {
  const index_t token = s.past_time, step = s.row_stride;
  const S* const b = s.past + (t + First) * token;
  for (index_t k = high; k-- > low;)
    each<R>([&](int r) {
      const V weight = lane<V>::broadcast(b[k + r * token]);
      V x[C];
      load_piece(x, rows + offset[k] + (First + r) * step, n);
      each<C>([&](std::size_t c) {
        sum[First + r][c] = lane<V>::fma(weight, x[c], sum[First + r][c]);
      });
    });
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
            V sum[1][static_cast<std::size_t>(C)];
            begin_sums(sum, s, active.begun, t, e + c, n);
            add_levels<0, 1>(sum, s, active.low, active.high, t,
                             s.rows + e + c + (t - first) * s.row_stride, offset, n);
            store_piece(s.y + t * s.y_time + e + c, sum[0], n);
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
          V sum[1][static_cast<std::size_t>(C)];
          begin_sums(sum, s, begun, w.t, e + c, n);
          add_levels<0, 1>(sum, s, 0, w.active, w.t, s.rows + e + c, offset, n);
          store_piece(s.rows + e + c + w.newest * s.row_stride, sum[0], n);
          store_piece(s.y + w.t * s.y_time + e + c, sum[0], n);
        });
    if (w.t + 1 == end) return;
    w.advance();
  }
}

/// R tokens side by side, a piece of their channels: rows from before them together, then each token's
/// rows among them. `near` levels reach no farther than R - 1; the first row to be written lies at
/// `newest` from `rows`.
template <class V, int R, int C, class N, class S>
void walk_tile(const row_system<S>& s, level_range some, index_t near, index_t t, index_t e,
               S* rows, const index_t* offset, index_t newest, N n) noexcept {
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(C)];
  begin_sums(sum, s, some.begun, t, e, n);
  add_levels<0, R>(sum, s, near, some.high, t, rows, offset, n);
  unrolled<R>([&](auto r) {
    constexpr int token = static_cast<int>(r());
    add_levels<token, 1>(sum, s, 0, std::min(near, some.high), t, rows, offset, n);
    store_piece(rows + newest + token * s.row_stride, sum[r()], n);
    store_piece(s.y + (t + token) * s.y_time + e, sum[r()], n);
  });
}

/// The same as walk_ring for narrow rows: R tokens side by side have the chains of fma that one row's
/// few registers lack. It goes by runs of tokens in which every level reads one row after the other.
template <class V, int R, int... Sizes, class S, class Levels>
void walk_narrow(const row_system<S>& s, const Levels& levels, index_t* offset, index_t near,
                 bool begun, index_t begin, index_t end, index_t e, index_t count) noexcept {
  const index_t among = levels.levels(R - 1), step = s.row_stride;
  index_t newest = (s.first + begin) % s.entries;
  for (index_t t = begin; t < end;) {
    const index_t first = t, high = std::min(near, levels.levels(s.first + t));
    index_t run = std::min(end - t, s.entries - newest);
    if (high < near) run = std::min(run, levels.distance(high) - s.first - t);
    for (index_t k = 0; k < high; ++k) {
      index_t entry = newest - levels[k].distance;
      if (entry < 0) {
        entry += s.entries;
        run = std::min(run, s.entries - entry);
      }
      offset[k] = entry * step;
    }
    const auto tiles = [&]<int Tokens>(std::integral_constant<int, Tokens>) {
      for (; t + Tokens <= first + run; t += Tokens)
        for_each_piece<V, Sizes...>(count, [&]<int C>(std::integral_constant<int, C>, index_t c,
                                                      auto n) {
          walk_tile<V, Tokens, C>(s, {0, high, begun}, Tokens == 1 ? 0 : among, t, e + c,
                                  s.rows + e + c + (t - first) * step, offset, newest * step, n);
        });
    };
    tiles(std::integral_constant<int, R>{});
    tiles(std::integral_constant<int, 1>{});
    newest = newest + run == s.entries ? 0 : newest + run;
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
  // up again does not pay for narrow rows, short blocks and few levels, the fewer the wider rows are.
  constexpr index_t least_held = 256 << 10, most_held = 1 << 20, ring_to_held = 64;
  constexpr index_t narrow = 128, shortest = 64, together = 12, runs_of = 8;
  const index_t bytes = count * static_cast<index_t>(sizeof(S));
  const index_t fewest = std::clamp(bytes / 128, index_t{3}, index_t{6});
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
    // Narrow rows go by runs, which end where a level goes on at the ring's other end, each once in about
    // as many tokens as the farthest is far: too often where levels are many.
    const bool steady =
        end - begin >= runs_of && near > 0 && levels.distance(near - 1) >= runs_of * near;
    if (steady && count <= 2 * lane<V>::width)
      detail::walk_narrow<V, 4, 2, 1>(s, levels, offsets, near, near < all, begin, end, e, count);
    else if (steady && count < 8 * lane<V>::width)
      detail::walk_narrow<V, 2, 4, 2, 1>(s, levels, offsets, near, near < all, begin, end, e,
                                         count);
    else
      detail::walk_ring<V>(s, levels, offsets, near, near < all, begin, end, e, count);
  }
}

}  // namespace maslin::inline MASLIN_ABI::scan
