// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From a checked backward call of attention to tasks. Threads take key-value heads of sequences;
/// where there are fewer of those than threads, cells of a head: some rows and some blocks of keys.
/// A cell waits for the one with the newer rows, whose sums over rows it goes on with, and for the one
/// with the newer keys, whose sums over keys it goes on with: cells of one diagonal run side by side,
/// and give the bytes that one thread would.

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
    const plan cut = plan_for(threads);
    const index_t sums = x_.sequences() * x_.heads;
    S* const scratch = x_.dstate->workspace().reserve(static_cast<std::size_t>(
        cut.slots * slot_size() + cut.heads_at_once * head_size(cut) + sums));
    S* const heads = scratch + cut.slots * slot_size();
    S* const sinks = heads + cut.heads_at_once * head_size(cut);
    std::fill_n(sinks, sums, S(0));
    if (cut.diagonals)
      run_diagonals<V>(where, cut, scratch, heads, sinks);
    else
      run_heads<V>(where, cut, scratch, heads, sinks);
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

  /// How the work is cut.
  struct plan {
    index_t units;          // key-value heads of sequences, or sequences
    index_t slots;          // tasks at a time
    index_t heads_at_once;  // of which sums are kept
    bool diagonals = false;
    index_t rows = 0, blocks = 0;  // of a cell
    index_t kept = 0;              // blocks whose sums are kept at a time
  };
  /// One key-value head of one sequence, and its memory.
  struct head_type {
    index_t sequence, head;
    row_sums<S> rows;
    S* sums;  // of the blocks that are kept
  };

  [[nodiscard]] plan plan_for(index_t threads) const noexcept {
    plan cut;
    cut.units = x_.sequences() * (shares_mask() ? 1 : x_.key_heads);
    cut.slots = std::clamp(threads, index_t{1}, std::max(cut.units, index_t{1}));
    cut.heads_at_once = cut.slots;
    cut.blocks = cut.kept = blocks();
    const index_t rows = x_.longest() * x_.group(), keys = most_keys();
    if (threads <= cut.units || shares_mask() || cut.units == 0 || rows < 2 * rows_type::most ||
        keys <= key_block)
      return cut;
    // Twice as many cells along a side as threads have to share it.
    const index_t side = 2 * ((threads + cut.units - 1) / cut.units);
    const auto part = [side](index_t n, index_t unit, index_t most) {
      return std::clamp((n / side + unit - 1) / unit, index_t{1}, most);
    };
    cut.diagonals = true;
    cut.slots = threads;
    cut.heads_at_once = cut.units;
    cut.rows = part(rows, rows_type::most, 8) * rows_type::most;
    cut.blocks = part(keys, key_block, blocks());
    cut.kept = (keys + key_block - 1) / key_block + 1;
    return cut;
  }
  /// Keys whose gradients change, of the sequence that has the most.
  [[nodiscard]] index_t most_keys() const noexcept {
    index_t n = 0;
    for (index_t b = 0; b < x_.sequences(); ++b)
      n = std::max(n, x_.position(b) + x_.tokens(b) - oldest_key(b));
    return n;
  }

  /// Blocks that rows meet at a time; each row is then read from its tensor that much less often.
  [[nodiscard]] index_t blocks() const noexcept {
    const index_t each = (block_type::scratch_for(x_.key_dim, x_.value_dim) +
                          block_type::sums_for(x_.key_dim, x_.value_dim)) *
                         static_cast<index_t>(sizeof(S));
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
           rows_type::scratch_for(x_.key_dim, x_.value_dim);
  }
  [[nodiscard]] index_t head_size(const plan& cut) const noexcept {
    return 2 * sums_size() + cut.kept * block_type::sums_for(x_.key_dim, x_.value_dim);
  }
  [[nodiscard]] head_type head_of(index_t sequence, index_t head, S* memory) const noexcept {
    return {sequence, head, {memory, memory + sums_size()}, memory + 2 * sums_size()};
  }
  [[nodiscard]] index_t rows_of(const head_type& h) const noexcept {
    return x_.group() * x_.tokens(h.sequence);
  }

  /// Tasks take whole heads.
  template <class V, class Executor>
  void run_heads(Executor& where, const plan& cut, S* scratch, S* heads, S* sinks) const {
    const index_t per_unit = shares_mask() ? x_.key_heads : 1;
    std::atomic<index_t> next{0};
    where.run(cut.slots, [&](index_t slot) {
      for (index_t i = next++; i < cut.units; i = next++)
        for (index_t k = i * per_unit; k < (i + 1) * per_unit; ++k) {
          const head_type h =
              head_of(k / x_.key_heads, k % x_.key_heads, heads + slot * head_size(cut));
          if (rows_of(h) == 0) continue;
          begin<V>(h, sinks);
          for (index_t c = 0; c < block_cells(h, cut); ++c)
            walk_cell<V>(h, cut, {0, rows_of(h)}, c, h.sums, scratch + slot * slot_size());
        }
    });
  }

  /// Tasks take cells, one diagonal after another.
  template <class V, class Executor>
  void run_diagonals(Executor& where, const plan& cut, S* scratch, S* heads, S* sinks) const {
    const auto head = [&](index_t i) {
      return head_of(i / x_.key_heads, i % x_.key_heads, heads + i * head_size(cut));
    };
    index_t across = 0, down = 0;
    for (index_t i = 0; i < cut.units; ++i) {
      across = std::max(across, (rows_of(head(i)) + cut.rows - 1) / cut.rows);
      down = std::max(down, rows_of(head(i)) == 0 ? 0 : block_cells(head(i), cut));
    }
    where.run(cut.units, [&](index_t i) {
      if (rows_of(head(i)) > 0) begin<V>(head(i), sinks);
    });
    for (index_t d = 0; d < across + down - 1; ++d) {
      const index_t first = std::max(index_t{0}, d - down + 1);
      const index_t count = std::min(d + 1, across) - first;
      std::atomic<index_t> next{0};
      where.run(std::min(cut.slots, count * cut.units), [&](index_t slot) {
        for (index_t i = next++; i < count * cut.units; i = next++) {
          const head_type h = head(i % cut.units);
          const index_t a = first + i / cut.units, c = d - a, rows = rows_of(h);
          if (a * cut.rows >= rows || c >= block_cells(h, cut)) continue;
          S* const sums = h.sums + c * cut.blocks * block_type::sums_for(x_.key_dim, x_.value_dim);
          walk_cell<V>(h, cut, {a * cut.rows, std::min((a + 1) * cut.rows, rows)}, c, sums,
                       scratch + slot * slot_size());
        }
      });
    }
  }

  /// Block cells of a head, the newest keys first.
  [[nodiscard]] index_t block_cells(const head_type& h, const plan& cut) const noexcept {
    const index_t end = x_.position(h.sequence) + x_.tokens(h.sequence);
    const index_t count = (end - 1) / key_block - oldest_key(h.sequence) / key_block + 1;
    return (count + cut.blocks - 1) / cut.blocks;
  }

  /// Rows `part` of a head and its block cell c.
  template <class V>
  void walk_cell(const head_type& h, const plan& cut, const key_range& part, index_t c, S* sums,
                 S* scratch) const noexcept {
    const index_t end = x_.position(h.sequence) + x_.tokens(h.sequence);
    const index_t newest = (end - 1) / key_block - c * cut.blocks;
    const index_t count = std::min(cut.blocks, newest - oldest_key(h.sequence) / key_block + 1);
    rows_type rows(x_, scratch);
    S* const memory = scratch + rows_type::scratch_for(x_.key_dim, x_.value_dim);
    const auto at = [&](index_t k) {
      return memory + std::min(k, blocks() - 1) * block_type::scratch_for(x_.key_dim, x_.value_dim);
    };
    std::array<block_type, most_blocks> block{{{x_, at(0)}, {x_, at(1)}, {x_, at(2)}, {x_, at(3)}}};
    key_range seen{part.end, part.begin};
    const auto for_each_block = [&](const auto& f) {
      for (index_t k = 0; k < count; ++k) f(block[static_cast<std::size_t>(k)], k);
    };
    for_each_block([&](block_type& b, index_t k) {
      b.open(h.sequence, h.head, (newest - k) * key_block,
             sums + k * block_type::sums_for(x_.key_dim, x_.value_dim), part.begin > 0);
      seen.begin = std::min(seen.begin, std::max(b.rows().begin, part.begin));
      seen.end = std::max(seen.end, std::min(b.rows().end, part.end));
    });
    for (index_t n = seen.begin; n < seen.end; n += rows_type::most) {
      const index_t stop = std::min(n + rows_type::most, seen.end);
      rows.template open<V>(h.sequence, h.head, h.rows, n, stop - n);
      for_each_block([&](block_type& b, index_t) {
        if (b.rows().begin < stop && n < b.rows().end) b.template add<V>(rows);
      });
      rows.template close<V>();
    }
    if (part.end == rows_of(h))
      for_each_block([](block_type& b, index_t) { b.template close<V>(); });
  }

  /// The oldest key whose gradient changes or has to be written into the state's gradient.
  [[nodiscard]] index_t oldest_key(index_t sequence) const noexcept {
    const index_t position = x_.position(sequence);
    if (x_.dstate->is_ring()) return x_.dstate->first_needed(position);
    return std::min({x_.rule.first_key(position), x_.dstate->position(sequence), position});
  }
  /// Makes the sums of a head's rows, and zeros the gradients that they add to.
  template <class V>
  void begin(const head_type& h, S* sinks) const noexcept {
    if (!x_.accumulate) clear(h.sequence, h.head);
    find_sums<V>(h.sequence, h.head, h.rows, sinks + h.sequence * x_.heads);
  }
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
