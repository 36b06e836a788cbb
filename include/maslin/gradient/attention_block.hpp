// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One block of 64 keys in attention's backward pass: what rows of queries owe to it and it to them.

#include <maslin/gradient/attention_rows.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <limits>

namespace maslin::inline MASLIN_ABI::gradient::detail {

/// A block of keys of one key-value head, packed, with the sums of its gradients, in memory of the
/// caller's.
///   P_ij = e^(s_ij - lse_i)     dv_j += P_ij dy_i     dlogit_ij = P_ij (<dy_i, v_j> - D_i)
///   ds_ij = scale (1 - tanh^2) dlogit_ij     dk_j += ds_ij q_i     dq_i += sum_j ds_ij k_j
/// Sums of a key are chains over its rows from the newest token back, which a later call has begun;
/// those of a query are added block by block, the newest first.
template <class S>
class attention_block {
 public:
  using rows_type = attention_rows<S>;

  /// Numbers of scratch that a block needs, and of the sums of its gradients.
  [[nodiscard]] static index_t scratch_for(index_t K, index_t E) noexcept {
    return key_block * (2 * whole_columns(K) + whole_columns(E));
  }
  [[nodiscard]] static index_t sums_for(index_t K, index_t E) noexcept {
    return key_block * (whole_columns(K) + whole_columns(E));
  }

  attention_block(const attention_terms<S>& terms, S* scratch) noexcept
      : x_(terms),
        K_(terms.key_dim),
        E_(terms.value_dim),
        key_row_(whole_columns(terms.key_dim)),
        value_row_(whole_columns(terms.value_dim)),
        keys_across_(scratch),
        keys_(keys_across_ + key_block * key_row_),
        values_across_(keys_ + key_block * key_row_) {}

  /// Takes the block that begins at key `first`, whose sums are in memory of their own; `begun` if
  /// rows have been added to them before.
  void open(index_t sequence, index_t head, index_t first, S* sums, bool begun) noexcept {
    dkeys_ = sums;
    dvalues_ = sums + key_block * key_row_;
    sequence_ = sequence;
    head_ = head;
    first_ = first;
    position_ = x_.position(sequence);
    end_ = position_ + x_.tokens(sequence);
    wants_keys_ = x_.dkey.first != nullptr || first < position_;
    wants_values_ = x_.dvalue.first != nullptr || first < position_;
    wants_scores_ = wants_keys_ || x_.dquery.first != nullptr || x_.dmask.first != nullptr;
    std::fill_n(keys_across_, key_block * K_, S(0));
    std::fill_n(keys_, key_block * key_row_, S(0));
    std::fill_n(values_across_, key_block * E_, S(0));
    S lost = 0;
    for (index_t c = 0; c < std::min(key_block, end_ - first_); ++c) pack_key(c, lost);
    keys_finite_ = lost == 0;
    if (!begun) begin_sums();
  }

  /// The rows of the head that see a key of the block.
  [[nodiscard]] key_range rows() const noexcept {
    const index_t newest = std::min(first_ + key_block, end_) - 1;
    key_range seen{0, x_.group() * std::min(end_ - position_, end_ - first_)};
    if (x_.rule.window > 0)
      seen.begin = std::clamp(x_.group() * (end_ - newest - x_.rule.window), index_t{0}, seen.end);
    return seen;
  }

  /// Adds rows, some of which see the block.
  template <class V>
  [[gnu::noinline]] void add(const rows_type& rows) noexcept {
    find_ranges(rows);
    find_products<V>(rows);
    for (index_t r = 0; r < rows.count; ++r) weigh<V>(rows, r);
    add_to_keys<V>(rows);
    add_to_queries<V>(rows);
  }

  /// Hands the gradients of the keys and values to where they belong.
  template <class V>
  void close() noexcept {
    for (index_t c = 0; c < std::min(key_block, end_ - first_); ++c) {
      const index_t j = first_ + c;
      const S* const dkey = dkeys_ + c * key_row_;
      const S* const dvalue = dvalues_ + c * value_row_;
      if (j < position_) {
        S* const block = x_.dstate->block_of(sequence_, head_, j);
        for (index_t k = 0; k < K_; ++k) block[k * key_block + c] = dkey[k];
        std::copy_n(dvalue, E_, block + key_block * K_ + c * x_.dstate->value_row());
        continue;
      }
      const auto [b, t] = x_.token(sequence_, j - position_);
      if (S* const to = x_.dkey.at(b, t, head_); to != nullptr)
        write_row<V>(to, dkey, K_, x_.accumulate);
      if (S* const to = x_.dvalue.at(b, t, head_); to != nullptr)
        write_row<V>(to, dvalue, E_, x_.accumulate);
    }
  }

 private:
  static constexpr S infinity = std::numeric_limits<S>::infinity();

  /// Key c of the block and its value, from the state before the call or from the call. `lost` is 0
  /// while all numbers of keys are finite.
  void pack_key(index_t c, S& lost) noexcept {
    const index_t j = first_ + c;
    const auto put = [&](index_t k, S x) {
      keys_across_[k * key_block + c] = keys_[c * key_row_ + k] = x;
      lost = lane<S>::fma(x, S(0), lost);
    };
    if (j < position_) {
      const S* const block = x_.initial->block_of(sequence_, head_, j);
      const S* const value = block + key_block * K_ + c * x_.initial->value_row();
      for (index_t k = 0; k < K_; ++k) put(k, block[k * key_block + c]);
      for (index_t e = 0; e < E_; ++e) values_across_[e * key_block + c] = value[e];
    } else {
      const auto [b, t] = x_.token(sequence_, j - position_);
      const S* const key = x_.key.at(b, t, head_);
      const S* const value = x_.value.at(b, t, head_);
      for (index_t k = 0; k < K_; ++k) put(k, key[k]);
      for (index_t e = 0; e < E_; ++e) values_across_[e * key_block + c] = value[e];
    }
  }

  /// The sums begin with what later calls have added, kept in the state's gradient.
  void begin_sums() noexcept {
    std::fill_n(dkeys_, key_block * key_row_, S(0));
    std::fill_n(dvalues_, key_block * value_row_, S(0));
    const index_t seen = x_.dstate->position(sequence_);
    const index_t begin = std::max(first_, x_.dstate->first_needed(seen));
    for (index_t j = begin; j < std::min(first_ + key_block, seen); ++j) {
      const index_t c = j - first_;
      const S* const block = x_.dstate->block_of(sequence_, head_, j);
      const S* const value = block + key_block * K_ + c * x_.dstate->value_row();
      // A zero is added so that none of the sums is -0, to which adding nothing would not be the
      // same as adding 0.
      for (index_t k = 0; k < K_; ++k) dkeys_[c * key_row_ + k] = block[k * key_block + c] + S(0);
      for (index_t e = 0; e < E_; ++e) dvalues_[c * value_row_ + e] = value[e] + S(0);
    }
  }

  /// Which keys each row sees, and which rows each key.
  void find_ranges(const rows_type& rows) noexcept {
    whole_ = true;
    for (index_t r = 0; r < rows.count; ++r) {
      key_range& range = keys_of_[r];
      const index_t at = rows.row[r].position;
      range.end = std::clamp(at + 1 - first_, index_t{0}, key_block);
      range.begin = std::min(std::max(x_.rule.first_key(at) - first_, index_t{0}), range.end);
      if (rows.row[r].is_dead()) range = {};
      whole_ = whole_ && range.begin == 0 && range.end == key_block;
    }
    for (index_t c = 0; c < key_block; ++c) {
      const index_t end = x_.group() * (end_ - first_ - c) - rows.first;
      const index_t begin = x_.rule.window == 0 ? 0 : end - x_.group() * x_.rule.window;
      rows_of_[c].end = std::clamp(end, index_t{0}, rows.count);
      rows_of_[c].begin = std::clamp(begin, index_t{0}, rows_of_[c].end);
    }
  }

  /// <q_i, k_j> and <dy_i, v_j>, of the columns that rows see.
  template <class V>
  void find_products(const rows_type& rows) noexcept {
    const auto columns = [&](index_t i, index_t R) { return columns_of(span_of(keys_of_, i, R)); };
    const auto product_of = [&](const S* a, index_t a_row, const S* b, S* c, index_t depth) {
      multiply<V>(
          product<S, index_t, fixed<1>>{a, a_row, {}, b, key_block, c, key_block, onto::nothing},
          rows.count, columns, [&](index_t, index_t) {
            return key_range{0, depth};
          });
    };
    product_of(rows.query, key_row_, keys_across_, rows.weight, K_);
    if (wants_scores_) product_of(rows.dy, value_row_, values_across_, rows.dscore, E_);
  }

  /// Scores of row r to weights, and <dy, v> to gradients of the scores; 0 where nothing is seen.
  template <class V>
  void weigh(const rows_type& rows, index_t r) noexcept {
    const key_range range = keys_of_[r];
    S* const weight = rows.weight + r * key_block;
    S* const dscore = rows.dscore + r * key_block;
    if (is_plain())
      weigh_plain<V>(rows, r, range);
    else
      weigh_logits<V>(rows, r, range);
    for (S* const x : {weight, dscore}) {
      std::fill_n(x, range.begin, S(0));
      std::fill_n(x + range.end, key_block - range.end, S(0));
    }
  }
  /// True where logits are scores times the scale.
  [[nodiscard]] bool is_plain() const noexcept {
    return x_.mask.first == nullptr && x_.rule.slopes == nullptr && x_.rule.cap == 0;
  }
  template <class V>
  void weigh_plain(const rows_type& rows, index_t r, const key_range& range) noexcept {
    using L = lane<V>;
    const V scale = L::broadcast(x_.rule.scale), minus = L::broadcast(rows.row[r].minus_log_sum);
    const V delta = L::broadcast(rows.row[r].delta);
    for (index_t c = range.begin / L::width * L::width; c < range.end; c += L::width) {
      S* const weight = rows.weight + r * key_block + c;
      S* const dscore = rows.dscore + r * key_block + c;
      const V p = simd::exp_weight(L::fma(L::load(weight), scale, minus));
      L::store(weight, p);
      L::store(dscore, (L::load(dscore) - delta) * p * scale);
    }
  }
  /// The same with a soft cap, a slope and a mask. What a mask hides gets no part of a gradient, be
  /// its score NaN.
  template <class V>
  void weigh_logits(const rows_type& rows, index_t r, const key_range& range) noexcept {
    using L = lane<V>;
    const auto& row = rows.row[r];
    const S* const mask = x_.mask.at(row.batch, row.time, row.head);
    S* const dmask = x_.dmask.at(row.batch, row.time, row.head);
    const V scale = L::broadcast(x_.rule.scale), cap = L::broadcast(x_.rule.cap);
    const V slope = L::broadcast(x_.rule.slopes == nullptr ? S(0) : x_.rule.slopes[row.head]);
    const V minus = L::broadcast(row.minus_log_sum), delta = L::broadcast(row.delta);
    const V zero = L::broadcast(S(0)), one = L::broadcast(S(1)), nothing = L::broadcast(-infinity);
    for (index_t c = range.begin / L::width * L::width; c < range.end; c += L::width) {
      S* const weight = rows.weight + r * key_block + c;
      S* const dscore = rows.dscore + r * key_block + c;
      const int n = static_cast<int>(std::min<index_t>(L::width, range.end - c));
      const V bias = mask == nullptr ? zero : L::load(mask + first_ + c, n);
      const V distance =
          L::broadcast(static_cast<S>(first_ + c - row.position)) + L::load(counting);
      const V raw = L::load(weight), more = L::fma(slope, distance, bias);
      const V t = x_.rule.cap == 0 ? zero : simd::tanh(L::div(raw * scale, cap));
      const V logit = x_.rule.cap == 0 ? L::fma(raw, scale, more) : L::fma(cap, t, more);
      const auto hidden = bias == nothing;
      const V p = L::select(hidden, zero, simd::exp_weight(logit + minus));
      L::store(weight, p);
      const V dlogit = L::select(hidden, zero, (L::load(dscore) - delta) * p);
      if (dmask != nullptr) add_to_mask<V>(dmask + first_ + c, dlogit, range.begin - c, n);
      // 1 - t^2, of which little is left where t is near 1.
      L::store(dscore, L::select(hidden, zero, dlogit * ((one - t) * (one + t)) * scale));
    }
  }
  /// Lanes begin .. end - 1, of which the first may be negative.
  template <class V>
  static void add_to_mask(S* dmask, V dlogit, index_t begin, index_t end) noexcept {
    S x[static_cast<std::size_t>(lane<V>::width)];
    lane<V>::store(x, dlogit);
    for (index_t i = std::max(begin, index_t{0}); i < end; ++i) dmask[i] += x[i];
  }

  /// True if row r has a share in key c.
  [[nodiscard]] bool sees(const rows_type& rows, index_t r, index_t c) const noexcept {
    if (c < keys_of_[r].begin || c >= keys_of_[r].end) return false;
    const S* const mask = x_.mask.at(rows.row[r].batch, rows.row[r].time, rows.row[r].head);
    return mask == nullptr || mask[first_ + c] != -infinity;
  }

  /// True if a number that is not finite may meet the weight of a pair that is not seen.
  [[nodiscard]] bool must_select(bool finite) const noexcept {
    return !finite && (!whole_ || x_.mask.first != nullptr);
  }
  template <class V>
  void add_to_keys(const rows_type& rows) noexcept {
    const auto add = [&](const S* weight, const S* from, S* sums, index_t row) {
      if (must_select(rows.finite)) return add_seen_rows(rows, weight, from, sums, row);
      const product<S, fixed<1>, fixed<key_block>> p{weight, {},   {},  from,
                                                     row,    sums, row, onto::begun};
      multiply<V>(
          p, key_block,
          [&](index_t, index_t) {
            return key_range{0, row};
          },
          [&](index_t i, index_t R) { return span_of(rows_of_, i, R); });
    };
    if (wants_values_) add(rows.weight, rows.dy, dvalues_, value_row_);
    if (wants_keys_) add(rows.dscore, rows.query, dkeys_, key_row_);
  }
  /// The same where keys leave out the rows that do not see them.
  void add_seen_rows(const rows_type& rows, const S* weight, const S* from, S* sums,
                     index_t row) const noexcept {
    for (index_t c = 0; c < key_block; ++c)
      for (index_t r = 0; r < rows.count; ++r) {
        if (!sees(rows, r, c)) continue;
        for (index_t e = 0; e < row; ++e)
          sums[c * row + e] =
              lane<S>::fma(weight[r * key_block + c], from[r * row + e], sums[c * row + e]);
      }
  }

  template <class V>
  void add_to_queries(const rows_type& rows) const noexcept {
    if (x_.dquery.first == nullptr) return;
    if (must_select(keys_finite_)) return add_seen_keys(rows);
    const product<S, fixed<key_block>, fixed<1>> p{rows.dscore, {},          {},       keys_,
                                                   key_row_,    rows.dquery, key_row_, onto::total};
    multiply<V>(
        p, rows.count,
        [&](index_t, index_t) {
          return key_range{0, key_row_};
        },
        [&](index_t i, index_t R) { return span_of(keys_of_, i, R); });
  }
  /// The same where rows leave out the keys that they do not see.
  void add_seen_keys(const rows_type& rows) const noexcept {
    for (index_t r = 0; r < rows.count; ++r)
      for (index_t k = 0; k < key_row_; ++k) {
        S sum = 0;
        for (index_t c = keys_of_[r].begin; c < keys_of_[r].end; ++c)
          if (sees(rows, r, c))
            sum = lane<S>::fma(rows.dscore[r * key_block + c], keys_[c * key_row_ + k], sum);
        rows.dquery[r * key_row_ + k] += sum;
      }
  }

  static constexpr S counting[64] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

  const attention_terms<S>& x_;
  index_t K_, E_, key_row_, value_row_;
  S *keys_across_, *keys_, *values_across_;  // [K][64], [64][K], [E][64]
  S *dkeys_ = nullptr, *dvalues_ = nullptr;  // [64][K], [64][E], in whole groups of columns
  index_t sequence_ = 0, head_ = 0, first_ = 0, position_ = 0, end_ = 0;
  bool wants_keys_ = false, wants_values_ = false, wants_scores_ = false;
  // Numbers of the block's keys are all finite; every row sees the whole block.
  bool keys_finite_ = true, whole_ = true;
  key_range keys_of_[rows_type::most], rows_of_[key_block];
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
