// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The checks that every recurrent mixer makes of a call, before anything is written.

#include <maslin/core/check.hpp>
#include <maslin/core/view.hpp>

#include <array>
#include <span>
#include <string>
#include <utility>

namespace maslin::inline MASLIN_ABI::scan {

/// Where the rows of one array of tokens [B, T, ...] are; null for an array that is absent.
template <class T>
struct token_rows {
  T* first = nullptr;
  index_t batch = 0, time = 0;

  template <int Rank>
  [[nodiscard]] static token_rows of(const view<T, Rank>& v) noexcept {
    return {v.data_handle(), v.stride(0), v.stride(1)};
  }
  explicit operator bool() const noexcept { return first != nullptr; }
  void shift(index_t b, index_t t) noexcept {
    if (first != nullptr) first += b * batch + t * time;
  }
  [[nodiscard]] T* at(index_t t) const noexcept { return first + t * time; }
};

/// What `backward` needs of a scan beside its tokens, for mixers of which outputs and the state before
/// the first token are enough. `y` is the caller's memory, which must still hold what the scan wrote; it
/// must not have been the input's.
template <class Output, class State>
struct saved_outputs {
  Output y{};
  State initial;  // before the first token

  /// Bytes beyond y.
  [[nodiscard]] index_t bytes() const noexcept { return initial.bytes(); }
};

/// Refuses a call in place, whose inputs would be lost to the gradients.
/// throws    shape_error
template <class In, class Out, int Rank>
void expect_apart(const check::caller& who, const char* name, const view<In, Rank>& input,
                  const view<Out, Rank>& y) {
  if (!y.empty() && check::same(input, y))
    who.refuse(std::string(name) +
               " must not be input where gradients are wanted, got the same memory");
}

/// Refuses packed tokens where only a batch makes sense.
inline void expect_unpacked(const check::caller& who, std::span<const index_t> offsets) {
  if (!offsets.empty())
    who.refuse("tokens must not be packed, got " + std::to_string(offsets.size()) + " offsets");
}

/// Where sequence b of packed tokens begins and ends.
[[nodiscard]] inline std::pair<index_t, index_t> packed_range(const check::caller& who,
                                                              std::span<const index_t> offsets,
                                                              index_t b) {
  const auto count = offsets.empty() ? index_t{0} : static_cast<index_t>(offsets.size()) - 1;
  if (b < 0 || b >= count)
    who.refuse("b must be one of " + std::to_string(count) + " packed sequences, got " +
               std::to_string(b));
  const auto at = static_cast<std::size_t>(b);
  return {offsets[at], offsets[at + 1]};
}

/// Refuses a state that holds another number of values a channel: kernels would leave its memory.
template <class State>
void check_order(const check::caller& who, const char* name, const State& h, index_t order) {
  if (h.order() != order)
    who.refuse(std::string(name) + " must be of order M = " + std::to_string(order) + ", got " +
               std::to_string(h.order()));
}

/// Checks input, y, offsets and state of a call against each other; the gates have been checked.
/// Returns true for a call in place (y is exactly input).
/// throws    shape_error
template <class S, int Rank, class State>
bool check_values(const check::caller& who, const char* axes, const view<const S, Rank>& input,
                  const view<S, Rank>& y,
                  const std::array<index_t, static_cast<std::size_t>(Rank)>& wanted,
                  const char* gate_name, const check::footprint& gate,
                  std::span<const index_t> offsets, const char* state_axes, const State& h) {
  const auto in = check::layout<const S, Rank>(who, "input", axes, input, wanted, 2);
  const auto out = check::layout<S, Rank>(who, "y", axes, y, wanted, 2);
  if (!offsets.empty()) check::packed(who, offsets, wanted[0], wanted[1]);
  const index_t sequences = offsets.empty() ? wanted[0] : static_cast<index_t>(offsets.size()) - 1;
  if (h.batch() != sequences || h.channels() != wanted[2])
    who.refuse(std::string("state must be ") + state_axes + " = " +
               check::list(std::array{sequences, wanted[2]}) + ", got " +
               check::list(std::array{h.batch(), h.channels()}));
  const bool in_place = check::same(input, y);
  check::writable(who, "y", out);
  if (!in_place) check::disjoint(who, "y", out, "input", in);
  check::disjoint(who, "y", out, gate_name, gate);
  check::disjoint(who, "y", out, "state", h.memory());
  return in_place;
}

}  // namespace maslin::inline MASLIN_ABI::scan
