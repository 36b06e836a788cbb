// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From a checked backward call of attention to tasks: a task takes one key-value head of one
/// sequence, its blocks of keys from the newest back, and for each the rows that see it.

#include <maslin/gradient/attention_block.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>

namespace maslin::inline MASLIN_ABI::gradient::detail {

template <class S>
class attention_walk {
 public:
  explicit attention_walk(const attention_terms<S>& terms) noexcept : x_(terms) {}

  /// throws    std::bad_alloc before any write
  template <class V, class Executor>
  void run(Executor& where, index_t threads) const {
    const index_t units = x_.sequences() * (shares_mask() ? 1 : x_.key_heads);
    const index_t slots = std::clamp(threads, index_t{1}, std::max(units, index_t{1}));
    const index_t sums = x_.sequences() * x_.heads;
    S* const scratch =
        x_.dstate->workspace().reserve(static_cast<std::size_t>(slots * slot_size() + sums));
    S* const sinks = scratch + slots * slot_size();
    std::fill_n(sinks, sums, S(0));
    std::atomic<index_t> next{0};
    where.run(slots, [&](index_t slot) {
      for (index_t i = next++; i < units; i = next++)
        walk_unit<V>(i, scratch + slot * slot_size(), sinks);
    });
    for (index_t b = 0; b < x_.sequences(); ++b)
      if (x_.tokens(b) > 0) x_.dstate->stand_at(b, x_.position(b));
    add_sinks(sinks);
  }

 private:
  using block_type = attention_block<S>;
  using rows_type = attention_rows<S>;
  static constexpr index_t most_blocks = 4;
  /// Bytes of blocks that rows are held against: what a second-level cache has beside them.
  static constexpr index_t block_bytes = 320 << 10;

  /// Blocks that rows meet at a time; each row is then read from its tensor that much less often.
  [[nodiscard]] index_t blocks() const noexcept {
    const index_t each =
        block_type::scratch_for(x_.key_dim, x_.value_dim) * static_cast<index_t>(sizeof(S));
    return std::clamp(block_bytes / std::max(each, index_t{1}), index_t{1}, most_blocks);
  }

  /// One row of a mask's gradient is the sum over all heads: they are taken one after another.
  [[nodiscard]] bool shares_mask() const noexcept {
    return x_.dmask.first != nullptr && x_.dmask.head == 0;
  }
  [[nodiscard]] index_t sums_size() const noexcept {
    return whole_columns(x_.longest() * x_.group());
  }
  [[nodiscard]] index_t slot_size() const noexcept {
    return blocks() * block_type::scratch_for(x_.key_dim, x_.value_dim) +
           rows_type::scratch_for(x_.key_dim, x_.value_dim) + 2 * sums_size();
  }

  template <class V>
  void walk_unit(index_t i, S* scratch, S* sinks) const noexcept {
    if (!shares_mask()) return walk_head<V>(i / x_.key_heads, i % x_.key_heads, scratch, sinks);
    for (index_t head = 0; head < x_.key_heads; ++head) walk_head<V>(i, head, scratch, sinks);
  }

  template <class V>
  void walk_head(index_t sequence, index_t head, S* scratch, S* sinks) const noexcept {
    if (x_.tokens(sequence) == 0) return;
    const row_sums<S> sums{scratch, scratch + sums_size()};
    if (!x_.accumulate) clear(sequence, head);
    find_sums<V>(sequence, head, sums, sinks + sequence * x_.heads);
    rows_type rows(x_, scratch + 2 * sums_size());
    S* const memory = scratch + 2 * sums_size() + rows_type::scratch_for(x_.key_dim, x_.value_dim);
    const index_t end = x_.position(sequence) + x_.tokens(sequence);
    index_t i = (end - 1) / key_block;
    const index_t last = oldest_key(sequence) / key_block;
    while (i >= last) {
      const index_t count = std::min(blocks(), i - last + 1);
      walk_blocks<V>(sequence, head, i, count, sums, rows, memory);
      i -= count;
    }
  }
  /// Blocks newest, newest - 1, ..., `count` in all, and the rows that see them.
  template <class V>
  void walk_blocks(index_t sequence, index_t head, index_t newest, index_t count,
                   const row_sums<S>& sums, rows_type& rows, S* memory) const noexcept {
    const auto at = [&](index_t k) {
      return memory + std::min(k, blocks() - 1) * block_type::scratch_for(x_.key_dim, x_.value_dim);
    };
    std::array<block_type, most_blocks> block{{{x_, at(0)}, {x_, at(1)}, {x_, at(2)}, {x_, at(3)}}};
    key_range seen{};
    const auto for_each_block = [&](const auto& f) {
      for (index_t k = 0; k < count; ++k) f(block[static_cast<std::size_t>(k)], k);
    };
    for_each_block([&](block_type& b, index_t k) {
      b.open(sequence, head, (newest - k) * key_block);
      const key_range own = b.rows();
      seen.begin = k == 0 ? own.begin : std::min(seen.begin, own.begin);
      seen.end = std::max(seen.end, own.end);
    });
    for (index_t n = seen.begin; n < seen.end; n += rows_type::most) {
      const index_t stop = std::min(n + rows_type::most, seen.end);
      rows.template open<V>(sequence, head, sums, n, stop - n);
      for_each_block([&](block_type& b, index_t) {
        const key_range own = b.rows();
        if (own.begin < stop && n < own.end) b.template add<V>(rows);
      });
      rows.template close<V>();
    }
    for_each_block([](block_type& b, index_t) { b.template close<V>(); });
  }

  /// The oldest key whose gradient changes or has to be written into the state's gradient.
  [[nodiscard]] index_t oldest_key(index_t sequence) const noexcept {
    const index_t position = x_.position(sequence);
    if (x_.dstate->is_ring()) return x_.dstate->first_needed(position);
    return std::min({x_.rule.first_key(position), x_.dstate->position(sequence), position});
  }
  /// Zeros the gradients that rows add to.
  void clear(index_t sequence, index_t head) const noexcept {
    for (index_t t = 0; t < x_.tokens(sequence); ++t) {
      const auto [b, at] = x_.token(sequence, t);
      for (index_t h = head * x_.group(); h < (head + 1) * x_.group(); ++h) {
        if (x_.dquery.first != nullptr) std::fill_n(x_.dquery.at(b, at, h), x_.key_dim, S(0));
        if (x_.dmask.first != nullptr && (h == 0 || !shares_mask()))
          std::fill_n(x_.dmask.at(b, at, h), x_.keys, S(0));
      }
    }
  }

  /// The sums of all rows of a head, and what its sinks get of them: -sum_i e^(sink - lse_i) D_i.
  template <class V>
  void find_sums(index_t sequence, index_t head, const row_sums<S>& sums, S* sinks) const noexcept {
    constexpr S infinity = std::numeric_limits<S>::infinity();
    const index_t rows = x_.group() * x_.tokens(sequence);
    for (index_t n = 0; n < rows; ++n) {
      const index_t h = head * x_.group() + n % x_.group();
      const auto [b, t] = x_.token(sequence, x_.tokens(sequence) - 1 - n / x_.group());
      const S log_sum = *x_.log_sum.at(b, t, h);
      S delta = dot<V>(x_.dy.at(b, t, h), x_.y.at(b, t, h), x_.value_dim);
      if (x_.dlog_sum.first != nullptr) delta = delta - *x_.dlog_sum.at(b, t, h);
      sums.minus_log_sum[n] = -log_sum;
      sums.delta[n] = delta;
      if (x_.dsinks == nullptr || log_sum == -infinity) continue;
      sinks[h] = lane<S>::fma(-simd::exp_weight(x_.rule.sinks[h] - log_sum), delta, sinks[h]);
    }
  }
  /// <a, b> in 16 lanes, added by halves.
  template <class V>
  [[nodiscard]] static S dot(const S* a, const S* b, index_t n) noexcept {
    using L = lane<V>;
    constexpr index_t lanes = maslin::detail::sum_lanes;
    alignas(64) S x[lanes];
    for (index_t i = 0; i < lanes; i += L::width) {
      V sum = L::broadcast(S(0));
      index_t e = i;
      for (; e + L::width <= n; e += lanes) sum = L::fma(L::load(a + e), L::load(b + e), sum);
      if (e < n) {
        const int rest = static_cast<int>(n - e);
        sum = L::fma(L::load(a + e, rest), L::load(b + e, rest), sum);
      }
      L::store(x + i, sum);
    }
    return maslin::detail::fold_by_halves(x, []<class W>(W p, W q) { return p + q; });
  }

  /// Sequences are added in their order.
  void add_sinks(const S* sums) const noexcept {
    if (x_.dsinks == nullptr) return;
    for (index_t h = 0; h < x_.heads; ++h) {
      S sum = 0;
      for (index_t b = 0; b < x_.sequences(); ++b) sum += sums[b * x_.heads + h];
      store(x_.dsinks + h, sum, 1, x_.accumulate);
    }
  }

  const attention_terms<S>& x_;
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
