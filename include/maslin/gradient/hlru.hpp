// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of H-LRU: maslin::hlru::backward.

#include <maslin/gradient/hlru_kernel.hpp>
#include <maslin/mixer/hlru.hpp>

namespace maslin::inline MASLIN_ABI::gradient {

template <class S, int M, normalise N, gates Order, gate_side Side>
struct hlru<maslin::hlru<S, M, N, Order, Side>> {
  using mixer = maslin::hlru<S, M, N, Order, Side>;

  /// maslin::hlru::backward, which documents it.
  template <class Policy>
  static void run(const mixer& m, const Policy& policy, const typename mixer::tokens& u,
                  const typename mixer::saved& keep, view<const S, 3> dy,
                  const typename mixer::gradients& d, typename mixer::state& dstate) {
    const check::caller who{"hlru", "backward"};
    scan::check_policy(who, policy);
    run_back(policy, checked(who, m, u, keep, dy, d, dstate), d.accumulate, dstate);
  }

 private:
  using kernel = hlru_back<S, M, N, Order, Side>;

  static scan::source<kernel> checked(const check::caller& who, const mixer& m,
                                      const typename mixer::tokens& u,
                                      const typename mixer::saved& keep, const view<const S, 3>& dy,
                                      const typename mixer::gradients& d,
                                      const typename mixer::state& dstate) {
    const index_t B = u.input.extent(0), T = u.input.extent(1), D = m.channels;
    check::count(who, "channels", D);
    memory_of_call memory(who);
    memory.reads("input", "[B, T, D]", u.input, {B, T, D});
    memory.reads("dy", "[B, T, D]", dy, {B, T, D});
    memory.reads("saved.y", "[B, T, D]", keep.y, {B, T, D});
    scan::expect_apart(who, "saved.y", u.input, keep.y);
    check_states(who, u.offsets, B, T, D, M, keep.initial, dstate, memory);
    // What the forward call checks of gates; y is not written here.
    const view<S, 3> y(const_cast<S*>(keep.y.data_handle()), keep.y.extents(), keep.y.strides());
    const auto forward = m.checked(who, u.gate, u.input, y, u.offsets, keep.initial);
    memory.reads("gate", mixer::gate_axes, u.gate, u.gate.extents());
    memory.writes("gradients.input", "[B, T, D]", d.input, {B, T, D});
    const bool gate = memory.writes("gradients.gate", mixer::gate_axes, d.gate, u.gate.extents());
    if constexpr (Order == gates::grouped)
      if (gate && !d.gate.empty()) layout::expect_dense_groups(who, d.gate, 3);

    kernel k;
    k.take(forward.first, u, keep, dy, d);
    const index_t moved_bytes = B * T * D * (2 * M + 6) * static_cast<index_t>(sizeof(S));
    return {.first = k,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = D,
            .lane_multiple = forward.lane_multiple,
            .moved_bytes = moved_bytes,
            .may_stream = rows_are_dense<Order>(d.gate, k.group * (M + 1), k.group)};
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
