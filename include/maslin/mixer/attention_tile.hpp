// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How attention walks the keys of a few rows: blocks of 64 keys fold left to right in segments of
/// 1024, segments merge left to right, both anchored at key 0. One row gives the same bits in any
/// tile, which is why decode equals prefill.

#include <maslin/mixer/attention_kernel.hpp>
#include <maslin/mixer/attention_rows.hpp>
#include <maslin/recurrence/online_softmax.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace maslin::inline MASLIN_ABI::detail {

/// Keys of a segment: the unit of a split decode.
inline constexpr index_t key_segment = 1024;

/// Virtual lanes of a row's sum: as many for every register.
inline constexpr index_t sum_lanes = 16;

/// op over 16 numbers by halves.
template <class S, class Op>
[[nodiscard]] inline S fold_by_halves(const S* x, const Op& op) noexcept {
  using quarter = typename simd::sized<S, 4>::type;
  using Q = lane<quarter>;
  S four[4];
  for (index_t i = 0; i < 4; i += Q::width)
    Q::store(four + i, op(op(Q::load(x + i), Q::load(x + i + 8)),
                          op(Q::load(x + i + 4), Q::load(x + i + 12))));
  return op(op(four[0], four[2]), op(four[1], four[3]));
}

/// Up to 24 rows that read the same keys, and what they have added up: everything that a task needs
/// beside the cache, on its stack (60 KiB in float).
template <class S, class C>
class attention_tile {
 public:
  static constexpr index_t most_rows = 24;
  /// Columns of the values that are taken at a time; wider ones take the scores again.
  static constexpr index_t most_columns = 256;
  /// Rows of a tile for values of E numbers: the accumulators have room for 24 rows of 128 columns.
  [[nodiscard]] static constexpr index_t rows_for(index_t E) noexcept {
    return E <= accumulators / most_rows ? most_rows : accumulators / most_columns;
  }

  attention_tile(const attention_rule<S>& rule, const attention_keys<S, C>& keys) noexcept
      : rule_(rule), keys_(keys), K_(keys.cache->shape().key_dim) {}

  /// Begins with the next row; all rows are added before the first segment.
  void add(const attention_row<S>& row) noexcept {
    rows_[count_] = row;
    const index_t begin = rule_.first_key(row.position), end = row.position + 1;
    first_ = count_ == 0 ? begin : std::min(first_, begin);
    newest_begin_ = std::max(newest_begin_, begin);
    oldest_end_ = count_ == 0 ? end : std::min(oldest_end_, end);
    last_ = std::max(last_, row.position);
    ++count_;
  }
  [[nodiscard]] index_t rows() const noexcept { return count_; }
  [[nodiscard]] index_t first_segment() const noexcept { return first_ / key_segment; }
  [[nodiscard]] index_t last_segment() const noexcept { return last_ / key_segment; }

  /// Says how far before their own the queries of the next tile lie, so that they are fetched while
  /// this one goes on; 0 if that is not known.
  void expect(index_t before) noexcept { next_query_ = before; }

  /// Takes columns begin .. end - 1 of the values, with nothing added up yet.
  void open(index_t begin, index_t end) noexcept {
    column_ = begin;
    columns_ = end - begin;
    monoid_.width = (columns_ + 15) / 16 * 16;
    fetched_ = 0;
    part_acc_ = sums_[0];
    total_acc_ = sums_[1];
    clear(total_, total_acc_);
    merged_ = false;
    if (column_ == 0 && K_ <= query_width) pack(0, K_);
  }

  /// Adds up one segment: the part of row r is then `part(r)`.
  template <class V>
  void walk(index_t segment) noexcept {
    clear(part_, part_acc_);
    std::fill_n(max_, padded_rows, -std::numeric_limits<S>::infinity());
    std::fill_n(&lanes_[0][0], count_ * sum_lanes, S(0));
    const index_t begin = std::max(segment * key_segment, first_ / key_block * key_block);
    const index_t end = std::min((segment + 1) * key_segment, last_ + 1);
    for (index_t j = begin; j < end; j += key_block) {
      fetch_rows(fetch_blocks - (last_ - j) / key_block);
      add_block<V>(j);
    }
    for (index_t r = 0; r < count_; ++r) {
      part_[r].max = max_[r];
      part_[r].sum = fold_by_halves(lanes_[r], []<class W>(W p, W q) { return p + q; });
    }
  }
  /// Merges the parts of the segment into what came before it.
  template <class V>
  void merge() noexcept {
    if (merged_) {
      for (index_t r = 0; r < count_; ++r) monoid_.template merge<V>(total_[r], part_[r]);
      return;
    }
    // What is merged into the identity.
    merged_ = true;
    std::swap_ranges(part_, part_ + count_, total_);
    std::swap(part_acc_, total_acc_);
  }
  /// Writes the part of row r to memory of 2 + [all columns] numbers, and merges it from there.
  void keep(index_t r, S* memory) const noexcept {
    memory[0] = part_[r].max;
    memory[1] = part_[r].sum;
    std::copy_n(part_[r].acc, monoid_.width, memory + 2 + column_);
  }
  template <class V>
  void merge_kept(index_t r, S* memory) noexcept {
    monoid_.template merge<V>(total_[r], {memory[0], memory[1], memory + 2 + column_});
  }
  /// Writes the outputs of the columns, and the log-sum-exp with the first of them.
  template <class V>
  void close() noexcept {
    recurrence::online_softmax<S> monoid = monoid_;
    for (index_t r = 0; r < count_; ++r) {
      const attention_row<S>& row = rows_[r];
      if (rule_.sinks != nullptr) monoid_.add(total_[r], rule_.sinks[row.head], nullptr);
      monoid.width = columns_;
      monoid.template mean<V>(total_[r], row.y + column_);
      if (row.log_sum != nullptr && column_ == 0) *row.log_sum = monoid.log_sum(total_[r]);
    }
  }

 private:
  using part_type = typename recurrence::online_softmax<S>::part;
  static constexpr index_t accumulators = 24 * 128;
  // A whole number of registers.
  static constexpr index_t padded_rows = 32;
  /// Rows that take less time than their keys and values take to arrive.
  static constexpr index_t few_rows = 4;

  void clear(part_type* parts, S* acc) noexcept {
    std::fill_n(acc, count_ * monoid_.width, S(0));
    for (index_t r = 0; r < count_; ++r) {
      parts[r] = {};
      parts[r].acc = acc + r * monoid_.width;
    }
  }

  /// Copies columns of the queries beside each other: in their tensor rows of all heads may lie a
  /// power of two apart, which few of them share a cache set with.
  void pack(index_t begin, index_t end) noexcept {
    for (index_t r = 0; r < count_; ++r)
      std::copy(rows_[r].query + begin, rows_[r].query + end, query_ + r * query_row);
  }

  // One copy of each kernel a register type, not one for each executor.
  template <class V>
  [[gnu::noinline]] void add_block(index_t first) noexcept {
    whole_ = newest_begin_ <= first && first + key_block <= oldest_end_;
    if (!whole_) find_ranges(first);
    const C* keys = keys_.block_of(first);
    const C* values = keys + key_block * K_ + column_;
    find_scores<V>(keys);
    S factor = rule_.scale;
    hides_ = false;
    if (rows_[0].mask != nullptr || rule_.slopes != nullptr || rule_.cap != 0) {
      factor = 1;
      for (index_t r = 0; r < count_; ++r) find_logits<V>(r, first);
    }
    if (!whole_)
      for (index_t r = 0; r < count_; ++r) hide_unseen(r);
    const index_t row = keys_.cache->value_row();
    if (count_ <= few_rows) fetch(values, row);
    weigh<V>(factor);
    if (hides_ && !all_finite(values, row))
      mix_seen(values, row);
    else
      mix_block<V>(count_, mix_rows<S>{&weight_[0][0], ranges(), decay_, part_acc_, monoid_.width},
                   values, row, monoid_.width);
  }

  /// Starts fetching the first values of a block: few rows wait for memory, which would be idle
  /// while their weights are found. 2 KiB keep it busy for that time, and 1 more what their products ask
  /// for ahead.
  static void fetch(const C* values, index_t row) noexcept {
    constexpr index_t bytes = 2048 + (half_storage<C> ? halves_ahead : 0);
    constexpr index_t line = 64 / index_t{sizeof(C)}, most = bytes / index_t{sizeof(C)};
    for (index_t i = 0; i < std::min(key_block * row, most); i += line)
      __builtin_prefetch(values + i);
  }

  /// Blocks, the last of a tile, during which the rows that come next are fetched.
  static constexpr index_t fetch_blocks = 8;

  /// Starts fetching where outputs go and the next queries: rows of a token lie too far apart for
  /// hardware to run ahead of them. A part of them at a time, `parts` of them by now: all at once would
  /// wait for room in the queue of a cache.
  [[gnu::always_inline]] void fetch_rows(index_t parts) noexcept {
    constexpr index_t line = 64 / index_t{sizeof(S)};
    for (; fetched_ * fetch_blocks < count_ * parts; ++fetched_) {
      const attention_row<S>& row = rows_[fetched_];
      for (index_t e = 0; e < columns_; e += line) __builtin_prefetch(row.y + column_ + e, 1);
      if (next_query_ != 0)
        for (index_t k = 0; k < K_; k += line) __builtin_prefetch(row.query - next_query_ + k);
    }
  }

  /// What each row sees of the block that begins at key `first`.
  void find_ranges(index_t first) noexcept {
    for (index_t r = 0; r < count_; ++r) {
      key_range& range = range_[r];
      range.end = std::clamp(rows_[r].position + 1 - first, index_t{0}, key_block);
      range.begin =
          std::min(std::max(rule_.first_key(rows_[r].position) - first, index_t{0}), range.end);
    }
  }
  [[nodiscard]] const key_range* ranges() const noexcept { return whole_ ? nullptr : range_; }
  [[nodiscard]] key_range range(index_t r) const noexcept {
    return whole_ ? key_range{0, key_block} : range_[r];
  }

  template <class V>
  void find_scores(const C* keys) noexcept {
    for (index_t k = 0; k < K_; k += query_width) {
      const index_t width = std::min(query_width, K_ - k);
      if (K_ > query_width) pack(k, k + width);
      score_block<V>(count_, query_, width, keys + k * key_block, ranges(), &weight_[0][0], k == 0);
    }
  }

  /// Products to logits: scale, soft cap, slope and mask. A masked key is hidden whatever its score.
  template <class V>
  void find_logits(index_t r, index_t first) noexcept {
    using L = lane<V>;
    constexpr S infinity = std::numeric_limits<S>::infinity();
    const attention_row<S>& row = rows_[r];
    const V scale = L::broadcast(rule_.scale), cap = L::broadcast(rule_.cap);
    const V slope = L::broadcast(rule_.slopes == nullptr ? S(0) : rule_.slopes[row.head]);
    const V nothing = L::broadcast(-infinity);
    hidden_[r] = 0;
    const key_range seen = range(r);
    for (index_t c = seen.begin / L::width * L::width; c < seen.end; c += L::width) {
      S* at = weight_[r] + c;
      const int n = static_cast<int>(std::min<index_t>(L::width, seen.end - c));
      const V mask = row.mask == nullptr ? L::broadcast(S(0)) : L::load(row.mask + first + c, n);
      const V distance =
          L::broadcast(static_cast<S>(first + c - row.position)) + L::load(counting<S>);
      const V bias = L::fma(slope, distance, mask);
      const V raw = L::load(at);
      const V logit = rule_.cap == 0 ? L::fma(raw, scale, bias)
                                     : L::fma(cap, simd::tanh(L::div(raw * scale, cap)), bias);
      L::store(at, L::select(mask == nothing, nothing, logit));
    }
    if (row.mask == nullptr) return;
    for (index_t c = seen.begin; c < seen.end; ++c)
      if (row.mask[first + c] == -infinity) hidden_[r] |= std::uint64_t{1} << c;
    hides_ = hides_ || hidden_[r] != 0;
  }

  /// Groups of columns up to the last that a row sees.
  [[nodiscard]] index_t groups(index_t r) const noexcept {
    return whole_ ? key_block / sum_lanes : (range_[r].end + sum_lanes - 1) / sum_lanes;
  }

  /// What a row does not see of its groups has the weight 0.
  void hide_unseen(index_t r) noexcept {
    constexpr S infinity = std::numeric_limits<S>::infinity();
    std::fill_n(weight_[r], range_[r].begin, -infinity);
    std::fill(weight_[r] + range_[r].end, weight_[r] + groups(r) * sum_lanes, -infinity);
  }

  /// The largest of a row's logits in some groups, lane by lane; a NaN among them does not count.
  template <class V>
  [[nodiscard]] static V largest_of(const S* row, index_t groups) noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(sum_lanes) / L::width;
    V largest[static_cast<std::size_t>(registers)];
    unrolled<registers>(
        [&](auto i) { largest[i] = L::broadcast(-std::numeric_limits<S>::infinity()); });
    for (const S* end = row + groups * sum_lanes; row < end; row += sum_lanes)
      unrolled<registers>([&](auto i) {
        largest[i] = L::max(L::load(row + static_cast<index_t>(i) * L::width), largest[i]);
      });
    unrolled<registers>([&](auto i) { largest[0] = L::max(largest[i], largest[0]); });
    return largest[0];
  }
  /// The largest logit of each row, times `factor`: rows by as many as there are lanes.
  template <class V>
  void find_largest(S factor, S* to) const noexcept {
    using L = lane<V>;
    constexpr int width = L::width;
    for (index_t r = 0; r < count_; r += width) {
      alignas(64) S lanes[static_cast<std::size_t>(width * width)] = {};
      for (index_t i = 0; i < std::min<index_t>(width, count_ - r); ++i)
        L::store(lanes + i * width, largest_of<V>(weight_[r + i], groups(r + i)));
      V column[static_cast<std::size_t>(width)];
      simd::load_columns<V, width>(lanes, width, all_lanes<V>{}, column);
      each<width>([&](int i) { column[0] = L::max(column[i], column[0]); });
      L::store(to + r, column[0] * L::broadcast(factor));
    }
  }

  /// Logits (or scores that `factor` scales) to weights less the row's maximum, which may rise:
  /// `decay_` is then what earlier weights shrink by.
  template <class V>
  void weigh(S factor) noexcept {
    using L = lane<V>;
    const V nothing = L::broadcast(-std::numeric_limits<S>::infinity());
    alignas(64) S reference[padded_rows];
    find_largest<V>(factor, reference);
    for (index_t r = 0; r < count_; r += L::width) {
      const V before = L::load(max_ + r), max = L::max(L::load(reference + r), before);
      // A row that has seen nothing is weighed against 0, not -inf, which it would meet in itself.
      const V against = L::select(max == nothing, L::broadcast(S(0)), max);
      L::store(max_ + r, max);
      L::store(decay_ + r, simd::exp_weight(before - against));
      L::store(reference + r, against);
    }
    for (index_t r = 0; r < count_; ++r) weigh_row<V>(r, factor, -reference[r]);
  }

  /// Weights of a row, and their sum: in each lane one chain over its columns.
  template <class V>
  void weigh_row(index_t r, S factor, S less) noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(sum_lanes) / L::width;
    const V scale = L::broadcast(factor), minus = L::broadcast(less),
            decay = L::broadcast(decay_[r]);
    V sum[static_cast<std::size_t>(registers)], w[static_cast<std::size_t>(registers)];
    unrolled<registers>([&](auto i) { sum[i] = L::broadcast(S(0)); });
    S* at = weight_[r];
    for (const S* end = at + groups(r) * sum_lanes; at < end; at += sum_lanes) {
      unrolled<registers>([&](auto i) {
        w[i] = L::fma(L::load(at + static_cast<index_t>(i) * L::width), scale, minus);
      });
      simd::exp_weights<registers>(w);
      unrolled<registers>([&](auto i) {
        L::store(at + static_cast<index_t>(i) * L::width, w[i]);
        sum[i] = sum[i] + w[i];
      });
    }
    unrolled<registers>([&](auto i) {
      S* const to = lanes_[r] + static_cast<index_t>(i) * L::width;
      L::store(to, L::fma(decay, L::load(to), sum[i]));
    });
  }

  [[nodiscard]] bool all_finite(const C* values, index_t row) const noexcept {
    key_range seen = range(0);
    for (index_t r = 1; r < count_; ++r)
      seen = {std::min(seen.begin, range(r).begin), std::max(seen.end, range(r).end)};
    S sum = 0;
    for (index_t j = seen.begin; j < seen.end; ++j)
      for (index_t e = 0; e < monoid_.width; ++e)
        sum = lane<S>::fma(static_cast<S>(values[j * row + e]), S(0), sum);
    return sum == 0;
  }
  /// `mix_block` where masked keys have values that are not finite: they are left out.
  void mix_seen(const C* values, index_t value_row) noexcept {
    for (index_t r = 0; r < count_; ++r)
      for (index_t e = 0; e < monoid_.width; ++e) {
        S sum = 0;
        for (index_t j = range(r).begin; j < range(r).end; ++j)
          if ((hidden_[r] >> j & 1) == 0)
            sum = lane<S>::fma(weight_[r][j], static_cast<S>(values[j * value_row + e]), sum);
        S& acc = part_[r].acc[e];
        acc = lane<S>::fma(decay_[r], acc, sum);
      }
  }

  template <class T>
  static constexpr T counting[64] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

  attention_rule<S> rule_;
  attention_keys<S, C> keys_;
  index_t K_, count_ = 0, column_ = 0, columns_ = 0, next_query_ = 0, fetched_ = 0;
  // Keys that any row sees, first and last; those that all do lie between the other two.
  index_t first_ = 0, last_ = 0, newest_begin_ = 0, oldest_end_ = 0;
  bool merged_ = false, whole_ = false, hides_ = false;
  recurrence::online_softmax<S> monoid_;
  attention_row<S> rows_[most_rows];
  key_range range_[most_rows];
  std::uint64_t hidden_[most_rows];
  part_type part_[most_rows], total_[most_rows];
  S *part_acc_ = nullptr, *total_acc_ = nullptr;  // of `open`
  alignas(64) S max_[padded_rows], decay_[padded_rows];
  alignas(64) S lanes_[most_rows][sum_lanes];
  alignas(64) S weight_[most_rows][key_block];
  alignas(64) S query_[most_rows * query_row];
  alignas(64) S sums_[2][accumulators];
};

}  // namespace maslin::inline MASLIN_ABI::detail
