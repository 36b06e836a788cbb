// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a backward call of attention reads and writes, once it has been checked.

#include <maslin/mixer/attention_walk.hpp>

#include <algorithm>
#include <span>

namespace maslin::inline MASLIN_ABI::gradient::detail {

/// Arrays of one call; gradients that are not wanted are null. Rows of a key-value head are counted
/// from the newest token back: row n is token T - 1 - n / group, head n % group of its queries.
template <class S>
struct attention_terms {
  using state_type = attention_state<S, S>;
  template <class T>
  using rows_of = maslin::detail::head_rows<T>;

  maslin::detail::attention_rule<S> rule{};
  rows_of<const S> query{}, key{}, value{}, mask{}, y{}, log_sum{}, dy{}, dlog_sum{};
  rows_of<S> dquery{}, dkey{}, dvalue{}, dmask{};
  S* dsinks = nullptr;
  bool accumulate = false;
  std::span<const index_t> offsets{};
  index_t batch = 0, length = 0, heads = 0, key_heads = 0, key_dim = 0, value_dim = 0, keys = 0;
  const state_type* initial = nullptr;
  state_type* dstate = nullptr;

  [[nodiscard]] index_t sequences() const noexcept {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] index_t group() const noexcept { return heads / key_heads; }
  [[nodiscard]] index_t tokens(index_t b) const noexcept {
    if (offsets.empty()) return length;
    return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)];
  }
  /// Keys of sequence b before the call.
  [[nodiscard]] index_t position(index_t b) const noexcept {
    return initial->batch() == 0 ? 0 : initial->position(b);
  }
  /// Token t of sequence b in the arrays of the call.
  struct place {
    index_t batch, time;
  };
  [[nodiscard]] place token(index_t b, index_t t) const noexcept {
    return offsets.empty() ? place{b, t} : place{0, offsets[static_cast<std::size_t>(b)] + t};
  }
  [[nodiscard]] index_t longest() const noexcept {
    index_t n = 0;
    for (index_t b = 0; b < sequences(); ++b) n = std::max(n, tokens(b));
    return n;
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
