// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What attention asks of one row: its query, the rule that all rows of a call share, and the keys
/// that it may see.

#include <maslin/mixer/attention_state.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::detail {

/// What all rows of a call share.
template <class S>
struct attention_rule {
  S scale = 1;
  S cap = 0;                  // of the logits; 0: none
  const S* slopes = nullptr;  // [H]; may be null
  const S* sinks = nullptr;   // [H]; may be null
  index_t window = 0;         // 0: none
  [[nodiscard]] index_t first_key(index_t position) const noexcept {
    return window == 0 ? 0 : std::max(index_t{0}, position - window + 1);
  }
};

/// One row: a query, where it stands and where its output goes.
template <class S>
struct attention_row {
  const S* query;
  const S* mask;  // [keys]; may be null
  S* y;
  S* log_sum;  // may be null
  index_t position, head;
};

/// One key-value head of one sequence.
template <class S, class C>
struct attention_keys {
  const attention_state<S, C>* cache;
  index_t sequence, head;
  [[nodiscard]] const C* block_of(index_t j) const noexcept {
    return cache->block_of(sequence, head, j);
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
