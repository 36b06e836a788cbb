// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From a checked call of attention to tasks: keys are appended, then rows are walked. Threads take
/// sequences, key-value heads and tiles of rows; where one row is left to several threads, segments
/// of its keys.

#include <maslin/mixer/attention_append.hpp>
#include <maslin/mixer/attention_tile.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/scan/solve.hpp>

#include <algorithm>
#include <span>

namespace maslin::inline MASLIN_ABI::detail {

/// Rows of an array [B, T, H, ...] of which one is taken.
template <class T>
struct head_rows {
  T* first = nullptr;
  index_t batch = 0, time = 0, head = 0;

  template <int Rank>
  [[nodiscard]] static head_rows of(const view<T, Rank>& v) noexcept {
    // A single head serves all of them.
    return {v.data_handle(), v.stride(0), v.stride(1), v.extent(2) == 1 ? 0 : v.stride(2)};
  }
  [[nodiscard]] T* at(index_t b, index_t t, index_t h) const noexcept {
    return first == nullptr ? first : first + b * batch + t * time + h * head;
  }
};

/// A call whose arguments have been checked.
template <class S, class C>
class attention_call {
 public:
  attention_rule<S> rule;
  head_rows<const S> query, key, value, mask;  // query is null where keys alone are appended
  head_rows<S> y, log_sum;
  std::span<const index_t> offsets;
  index_t batch = 0, length = 0, heads = 0;
  attention_state<S, C>* cache = nullptr;

  [[nodiscard]] index_t tokens(index_t b) const noexcept {
    if (offsets.empty()) return length;
    return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)];
  }

  /// throws    std::bad_alloc before any write, for more threads than tiles alone
  template <class V, class Executor>
  void run(Executor& where, index_t threads) const {
    const index_t n = longest(), pairs = cache->batch() * cache->shape().heads;
    if (n > 0 && pairs > 0) {
      const bool answers = query.first != nullptr;
      if (cache->is_ring() && n > 1)
        where.run(pairs, [&](index_t i) { walk_ring<V>(pair(i), answers); });
      else
        walk_cache<V>(where, tiles_of(n, threads), answers);
    }
    for (index_t b = 0; b < cache->batch(); ++b) cache->advance(b, tokens(b));
  }

 private:
  using tile = attention_tile<S, C>;
  struct place {
    index_t sequence, head;
  };
  /// Rows begin .. end - 1 of one key-value head: token r / group, head r % group of its queries.
  struct row_range {
    place of;
    index_t begin, end;
  };

  [[nodiscard]] place pair(index_t i) const noexcept {
    return {i / cache->shape().heads, i % cache->shape().heads};
  }
  [[nodiscard]] index_t group() const noexcept { return heads / cache->shape().heads; }
  [[nodiscard]] index_t longest() const noexcept {
    index_t n = 0;
    for (index_t b = 0; b < cache->batch(); ++b) n = std::max(n, tokens(b));
    return n;
  }
  /// Token t of sequence b in the arrays of the call.
  [[nodiscard]] place token(index_t b, index_t t) const noexcept {
    return offsets.empty() ? place{b, t} : place{0, offsets[static_cast<std::size_t>(b)] + t};
  }
  /// Writes the keys and values of tokens begin .. end - 1, of some heads; all of them lie within one
  /// block. Keys of all heads come first: two arrays read in turn are read more slowly.
  void append(index_t sequence, key_range heads_of, index_t begin, index_t end) const noexcept {
    const index_t K = cache->shape().key_dim, E = cache->shape().value_dim;
    for (index_t t = begin; t < end; t += tokens_together) {
      const index_t j = cache->position(sequence) + t, n = std::min(tokens_together, end - t);
      const auto [b, first] = token(sequence, t);
      for (index_t h = heads_of.begin; h < heads_of.end; ++h)
        append_keys(key.at(b, first, h), key.time, n, K,
                    cache->block_of(sequence, h, j) + j % key_block, key_block);
      for (index_t h = heads_of.begin; h < heads_of.end; ++h)
        append_values(
            value.at(b, first, h), value.time, n, E,
            cache->block_of(sequence, h, j) + key_block * K + j % key_block * cache->value_row(),
            cache->value_row());
    }
  }
  /// Task i of `append_tasks`: one block of one sequence.
  void append_block(index_t i) const noexcept {
    const index_t b = i % cache->batch(), position = cache->position(b);
    const index_t block = position / key_block + i / cache->batch();
    append(b, {0, cache->shape().heads}, std::max(block * key_block - position, index_t{0}),
           std::min((block + 1) * key_block - position, tokens(b)));
  }
  [[nodiscard]] index_t append_tasks(index_t longest) const noexcept {
    return cache->batch() * ((longest + key_block - 1) / key_block + 1);
  }

  /// A ring overwrites what it appends to: block by block, append and then walk.
  template <class V>
  void walk_ring(const place& p, bool answers) const noexcept {
    const index_t position = cache->position(p.sequence), n = tokens(p.sequence);
    const index_t step = tile::rows_for(cache->shape().value_dim);
    for (index_t begin = 0, end; begin < n; begin = end) {
      end = std::min(n, begin + key_block - (position + begin) % key_block);
      append(p.sequence, {p.head, p.head + 1}, begin, end);
      if (!answers) continue;
      for (index_t r = begin * group(); r < end * group(); r += step)
        walk_tile<V>({p, r, std::min(r + step, end * group())});
    }
  }

  /// All tiles of a call; `segments` above 1 cuts the keys of each as well.
  struct tiling {
    index_t step, each, count, segments;
  };
  [[nodiscard]] tiling tiles_of(index_t longest, index_t threads) const noexcept {
    const index_t step = tile::rows_for(cache->shape().value_dim);
    const index_t each = (longest * group() + step - 1) / step;
    const index_t count = cache->batch() * cache->shape().heads * each;
    index_t keys = 0;
    for (index_t b = 0; b < cache->batch(); ++b)
      keys = std::max(keys, cache->position(b) + tokens(b));
    const index_t segments = (keys + key_segment - 1) / key_segment;
    return {step, each, count, threads > count ? segments : 1};
  }
  [[nodiscard]] row_range rows_of(const tiling& tiles, index_t i) const noexcept {
    const place p = pair(i / tiles.each);
    // The last tiles of a sequence read the most keys: they begin first.
    const index_t begin = (tiles.each - 1 - i % tiles.each) * tiles.step;
    return {p, begin, std::min(begin + tiles.step, tokens(p.sequence) * group())};
  }
  /// Numbers of a part: maximum, sum and accumulators.
  [[nodiscard]] index_t part_size() const noexcept { return 2 + cache->value_row(); }
  [[nodiscard]] std::size_t parts_size(const tiling& tiles) const noexcept {
    return static_cast<std::size_t>(tiles.count * tiles.segments * tiles.step * part_size());
  }

  [[nodiscard]] attention_row<S> row_of(const place& p, index_t r) const noexcept {
    const index_t t = r / group(), h = p.head * group() + r % group();
    const auto [b, at] = token(p.sequence, t);
    return {query.at(b, at, h),
            mask.at(b, at, h),
            y.at(b, at, h),
            log_sum.at(b, at, h),
            cache->position(p.sequence) + t,
            h};
  }
  [[nodiscard]] tile tile_of(const row_range& range) const noexcept {
    tile w(rule, {cache, range.of.sequence, range.of.head});
    for (index_t r = range.begin; r < range.end; ++r) w.add(row_of(range.of, r));
    return w;
  }

  template <class V, class Executor>
  void walk_cache(Executor& where, const tiling& tiles, bool answers) const {
    S* const parts = tiles.segments > 1 ? cache->workspace().reserve(parts_size(tiles)) : nullptr;
    const index_t blocks = append_tasks(longest());
    // A few tokens cost less than to wake a thread.
    if (longest() < key_block)
      for (index_t i = 0; i < blocks; ++i) append_block(i);
    else
      where.run(blocks, [&](index_t i) { append_block(i); });
    if (!answers) return;
    if (parts == nullptr)
      where.run(tiles.count, [&](index_t i) { walk_tile<V>(rows_of(tiles, i)); });
    else
      walk_split<V>(where, tiles, parts);
  }

  /// f() for each span of columns that fits in a tile, which is open then.
  template <class F>
  void for_each_span(tile& w, const F& f) const noexcept {
    const index_t E = cache->shape().value_dim;
    // Without columns too, since there may be log-sum-exps.
    index_t e = 0;
    do {
      w.open(e, std::min(e + tile::most_columns, E));
      f();
      e += tile::most_columns;
    } while (e < E);
  }

  template <class V>
  void walk_tile(const row_range& range) const noexcept {
    if (range.begin >= range.end) return;
    tile w = tile_of(range);
    // Tiles go backwards.
    const index_t step = tile::rows_for(cache->shape().value_dim);
    if (range.begin >= step && step % group() == 0) w.expect(step / group() * query.time);
    for_each_span(w, [&] {
      for (index_t s = w.first_segment(); s <= w.last_segment(); ++s) {
        w.template walk<V>(s);
        w.template merge<V>();
      }
      w.template close<V>();
    });
  }

  /// Threads take segments and leave their parts; then each tile merges its own, in the order in
  /// which one thread would.
  template <class V, class Executor>
  void walk_split(Executor& where, const tiling& tiles, S* parts) const {
    const auto place_of = [&, row = part_size()](index_t i, index_t s, index_t r) {
      return parts + ((i * tiles.segments + s) * tiles.step + r) * row;
    };
    where.run(tiles.count * tiles.segments, [&](index_t task) {
      const index_t i = task / tiles.segments, s = task % tiles.segments;
      if (rows_of(tiles, i).begin >= rows_of(tiles, i).end) return;
      tile w = tile_of(rows_of(tiles, i));
      if (s < w.first_segment() || s > w.last_segment()) return;
      for_each_span(w, [&] {
        w.template walk<V>(s);
        for (index_t r = 0; r < w.rows(); ++r) w.keep(r, place_of(i, s, r));
      });
    });
    where.run(tiles.count, [&](index_t i) {
      if (rows_of(tiles, i).begin >= rows_of(tiles, i).end) return;
      tile w = tile_of(rows_of(tiles, i));
      for_each_span(w, [&] {
        for (index_t s = w.first_segment(); s <= w.last_segment(); ++s)
          for (index_t r = 0; r < w.rows(); ++r) w.template merge_kept<V>(r, place_of(i, s, r));
        w.template close<V>();
      });
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
