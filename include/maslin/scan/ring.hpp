// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Forward substitution where tokens read at fixed distances: rows lie in a ring, position p in entry
/// p mod entries, so that from token to token every read goes on by one entry.

#include <maslin/scan/rows.hpp>

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

/// Where the rows lie that one token after the other reads, by level.
template <class S, class Levels>
struct ring_walk {
  const row_system<S>& of;
  const Levels& levels;
  index_t* offset;  // of as many as there are levels, from `rows`
  index_t t = 0;    // the next token,
  index_t newest;   // its entry,
  index_t active;   // and the levels that it reads

  ring_walk(const row_system<S>& s, const Levels& of_levels, index_t* memory) noexcept
      : of(s),
        levels(of_levels),
        offset(memory),
        newest(s.first % s.entries),
        active(levels.levels(s.first)) {
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
    if (levels.distance(active) <= of.first + t) find(active++);
  }

 private:
  void find(index_t k) noexcept {
    const index_t entry = newest - levels[k].distance;
    offset[k] = (entry < 0 ? entry + of.entries : entry) * of.row_stride;
  }
};

/// A piece of the channels of one token.
template <class V, int C, class N, class S, class Levels>
void ring_piece(const ring_walk<S, Levels>& w, index_t e, N n) noexcept {
  using L = lane<V>;
  const row_system<S>& s = w.of;
  S* const rows = s.rows + e;
  const S* const b = s.past + w.t * s.past_time;
  V sum[static_cast<std::size_t>(C)];
  load_piece(sum, s.input + w.t * s.input_time + e, n);
  const V alpha = L::broadcast(s.self[w.t * s.self_time]);
  each<C>([&](int c) { sum[c] = alpha * sum[c]; });
  for (index_t k = w.active; k-- > 0;) {
    const V weight = L::broadcast(b[k]);
    V x[static_cast<std::size_t>(C)];
    load_piece(x, rows + w.offset[k], n);
    each<C>([&](int c) { sum[c] = L::fma(weight, x[c], sum[c]); });
  }
  store_piece(rows + w.newest * s.row_stride, sum, n);
  store_piece(s.y + w.t * s.y_time + e, sum, n);
}

}  // namespace detail

/// Solves `length` tokens of channels e .. e + count - 1, each reading the rows at the distances of
/// `levels`, a pattern::table; `offsets` is memory for as many numbers as there are levels.
template <class V, class S, class Levels>
void solve_ring(const row_system<S>& s, const Levels& levels, index_t* offsets, index_t length,
                index_t e, index_t count) noexcept {
  if (length == 0) return;
  detail::ring_walk<S, Levels> w(s, levels, offsets);
  for (;;) {
    for_each_piece<V, 8, 4, 1>(count,
                               [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
                                 detail::ring_piece<V, C>(w, e + c, n);
                               });
    if (w.t + 1 == length) return;
    w.advance();
  }
}

}  // namespace maslin::inline MASLIN_ABI::scan
