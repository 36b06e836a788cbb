// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Some rows of queries in attention's backward pass, packed while blocks of keys are added to them.

#include <maslin/gradient/attention_product.hpp>
#include <maslin/gradient/attention_terms.hpp>
#include <maslin/gradient/call.hpp>

#include <algorithm>
#include <limits>

namespace maslin::inline MASLIN_ABI::gradient::detail {

/// What backward knows of the rows of a head before they meet a key: -lse and D = <dy, y> - dlse.
template <class S>
struct row_sums {
  S* minus_log_sum;
  S* delta;
};

/// to <- from, n numbers, or to + from.
template <class V, class S>
void write_row(S* to, const S* from, index_t n, bool accumulate) noexcept {
  using L = lane<V>;
  index_t i = 0;
  for (; i + L::width <= n; i += L::width)
    store(to + i, L::load(from + i), all_lanes<V>{}, accumulate);
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store(to + i, L::load(from + i, rest), rest, accumulate);
  }
}

/// Up to 96 rows of a head: queries, gradients of outputs and of queries, side by side in memory of
/// the caller's. In their tensors rows lie a page apart, and each is read once for several blocks.
template <class S>
class attention_rows {
 public:
  static constexpr index_t most = 96;

  /// Numbers of scratch that rows need.
  [[nodiscard]] static index_t scratch_for(index_t K, index_t E) noexcept {
    return most * (2 * whole_columns(K) + whole_columns(E) + 2 * key_block);
  }

  attention_rows(const attention_terms<S>& terms, S* scratch) noexcept
      : query_row(whole_columns(terms.key_dim)),
        dy_row(whole_columns(terms.value_dim)),
        query(scratch),
        dquery(query + most * query_row),
        dy(dquery + most * query_row),
        weight(dy + most * dy_row),
        dscore(weight + most * key_block),
        x_(terms) {}

  /// Takes rows n .. n + rows - 1; those that see no key at all as zeros.
  template <class V>
  void open(index_t sequence, index_t head, const row_sums<S>& sums, index_t n,
            index_t rows) noexcept {
    first = n;
    count = rows;
    finite = true;
    const index_t group = x_.group(), newest = x_.tokens(sequence) - 1;
    for (index_t r = 0; r < rows; ++r) {
      const index_t t = newest - (n + r) / group, h = head * group + (n + r) % group;
      const auto [b, at] = x_.token(sequence, t);
      row[r] = {b, at, h, x_.position(sequence) + t, sums.minus_log_sum[n + r], sums.delta[n + r]};
      const bool dead = row[r].is_dead();
      finite = pack<V>(query + r * query_row, x_.query.at(b, at, h), x_.key_dim, dead) && finite;
      finite = pack<V>(dy + r * dy_row, x_.dy.at(b, at, h), x_.value_dim, dead) && finite;
      if (S* const to = x_.dquery.at(b, at, h); to != nullptr)
        static_cast<void>(pack<V>(dquery + r * query_row, to, x_.key_dim, false));
    }
  }
  /// Writes the gradients of the queries.
  template <class V>
  void close() const noexcept {
    if (x_.dquery.first == nullptr) return;
    for (index_t r = 0; r < count; ++r)
      if (!row[r].is_dead())
        write_row<V>(x_.dquery.at(row[r].batch, row[r].time, row[r].head), dquery + r * query_row,
                     x_.key_dim, false);
  }

  /// One row: where it is in the arrays, where it stands, and its sums.
  struct row_type {
    index_t batch, time, head, position;
    S minus_log_sum, delta;
    /// True if the row sees no key.
    [[nodiscard]] bool is_dead() const noexcept {
      return minus_log_sum == std::numeric_limits<S>::infinity();
    }
  };

  index_t query_row, dy_row;
  S *query, *dquery, *dy;  // [rows][K], [rows][K], [rows][E], in whole groups of columns
  S *weight, *dscore;      // [rows][64], of the block that is being added
  index_t first = 0, count = 0;
  bool finite = true;  // all numbers of queries and gradients of outputs
  row_type row[most];

 private:
  /// Copies n numbers and zeros up to a whole group; true if all are finite.
  template <class V>
  [[nodiscard]] static bool pack(S* to, const S* from, index_t n, bool dead) noexcept {
    using L = lane<V>;
    const V zero = L::broadcast(S(0));
    V lost = zero;
    for (index_t i = 0; i < whole_columns(n); i += L::width) {
      const int rest = static_cast<int>(std::clamp<index_t>(n - i, 0, L::width));
      V x = zero;
      if (!dead && rest > 0) x = rest == L::width ? L::load(from + i) : L::load(from + i, rest);
      L::store(to + i, x);
      lost = L::fma(x, zero, lost);
    }
    return L::all(lost == zero);
  }

  const attention_terms<S>& x_;
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
