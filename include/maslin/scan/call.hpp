// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The checks that every recurrent mixer makes of a call, before anything is written.

#include <maslin/core/check.hpp>

#include <array>
#include <span>

namespace maslin::inline MASLIN_ABI::scan {

/// Checks input, y, offsets and state of a call against each other; the gates have been checked.
/// Returns true for a call in place (y is exactly input).
/// throws    shape_error
template <class S, int Rank, class State>
bool check_values(const check::caller& who, const char* axes, const view<const S, Rank>& input,
                  const view<S, Rank>& y,
                  const std::array<index_t, static_cast<std::size_t>(Rank)>& wanted,
                  const char* gate_name, const check::footprint& gate,
                  std::span<const index_t> offsets, const State& h) {
  const auto in = check::layout<const S, Rank>(who, "input", axes, input, wanted, 2);
  const auto out = check::layout<S, Rank>(who, "y", axes, y, wanted, 2);
  if (!offsets.empty()) check::packed(who, offsets, wanted[0], wanted[1]);
  const index_t sequences = offsets.empty() ? wanted[0] : static_cast<index_t>(offsets.size()) - 1;
  if (h.batch() != sequences || h.channels() != wanted[2])
    who.refuse("state must be [B, D] = " + check::list(std::array{sequences, wanted[2]}) +
               ", got " + check::list(std::array{h.batch(), h.channels()}));
  const bool in_place = check::same(input, y);
  check::writable(who, "y", out);
  if (!in_place) check::disjoint(who, "y", out, "input", in);
  check::disjoint(who, "y", out, gate_name, gate);
  check::disjoint(who, "y", out, "state", h.memory());
  return in_place;
}

}  // namespace maslin::inline MASLIN_ABI::scan
