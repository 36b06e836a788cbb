// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of BD-LRU: maslin::bdlru::backward.

#include <maslin/gradient/gate_kernel.hpp>
#include <maslin/gradient/gate_rows.hpp>
#include <maslin/gradient/hlru_kernel.hpp>
#include <maslin/mixer/bdlru.hpp>
#include <maslin/recurrence/adjoint.hpp>
#include <maslin/recurrence/gate_gradient.hpp>

namespace maslin::inline MASLIN_ABI::gradient {

template <class S, int M, normalise N, gates Order>
struct bdlru<maslin::bdlru<S, M, N, Order>> {
  using mixer = maslin::bdlru<S, M, N, Order>;

  /// maslin::bdlru::backward, which documents it.
  template <class Policy>
  static void run(const mixer& m, const Policy& policy, const typename mixer::tokens& u,
                  const typename mixer::saved& keep, view<const S, 4> dy,
                  const typename mixer::gradients& d, typename mixer::state& dstate) {
    const check::caller who{"bdlru", "backward"};
    scan::check_policy(who, policy);
    run_back(policy, checked(who, m, u, keep, dy, d, dstate), d.accumulate, dstate);
  }

 private:
  static constexpr auto count = static_cast<std::size_t>(M);
  template <class V>
  using algebra = recurrence::adjoint_block<V, M>;

  /// Blocks of several numbers.
  struct block_kernel : gate_kernel<block_kernel, S, Order, typename mixer::kernel> {
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = M;
    static constexpr std::array<index_t, 2> per_channel{M * (M + 1), M};  // gate, input
    // Natural blocks are written a row at a time, which leaves lines half written.
    template <class V>
    static constexpr bool streams_registers =
        Order == gates::grouped&& streams_gates<Order, V, M + 1>&& simd::streams_columns<V, M>;

    using base = gate_kernel<block_kernel, S, Order, typename mixer::kernel>;
    using base::dy_step, base::forward, base::group, base::input_step, base::y_step;

    template <class V, class N_>
    [[nodiscard]] typename algebra<V>::token token(index_t r, index_t c, N_ n) const noexcept {
      const index_t t = this->time_of(r);
      const auto gates_of = forward.template token<V>(t, c, n);
      typename algebra<V>::token u;
      for (int i = 0; i < M; ++i) u.rows[i] = gates_of.row(i);
      simd::load_columns<V, M>(this->dy.at(t) + c * dy_step, dy_step, n, u.dy);
      return u;
    }
    /// h[t]
    template <class V, bool Early, class N_>
    void values(index_t t, index_t c, N_ n, V (&h)[count]) const noexcept {
      if (!Early || t >= 0)
        return simd::load_columns<V, M>(this->y.at(t) + c * y_step, y_step, n, h);
      const S* const from = scan::state_of(this->before, c, M);
      each<M>([&](int k) { h[k] = lane<V>::load(from + k * scan::state_lanes); });
    }
    template <class V, bool Early, scan::leave How, class N_>
    void back(index_t t, index_t c, N_ n, S* carry,
              const typename block_kernel::row_set& to) const noexcept {
      using L = lane<V>;
      V h[count], earlier[count], s[count], sum[count], own[count], dinput[count];
      if constexpr (L::width > 1)
        if (this->fetch) fetch_earlier<V>(t, c);
      const auto u = forward.template token<V>(t, c, n);
      values<V, Early>(t, c, n, h);
      values<V, Early>(t - 1, c, n, earlier);
      simd::load_columns<V, M>(this->dy.at(t) + c * dy_step, dy_step, n, s);
      each<M>([&](int k) {
        s[k] = s[k] + L::load(carry + k * scan::state_lanes);
        sum[k] = L::broadcast(S(0));
      });
      const auto row = [&](int i) {
        V z[count + 1], p[count + 1], slope[count + 1], gate[count], dz[count + 1];
        // Measured with M = 4: asked for all at once instead of row by row, a pass that streams takes
        // two and a half times as long.
        if constexpr (L::width > 1)
          if (this->fetch) fetch_gates<Order, V, M + 1>(forward, t, c, i);
        u.logits(i, z);
        maslin::recurrence::gate_gradient_of<N>(z, p, slope);
        each<M + 1>([&](int k) {
          const V read = k < M ? earlier[k] : u.input[i];
          dz[k] = s[i] * slope[k] * (read - maslin::recurrence::denominator_share<N>(z[k], h[i]));
        });
        if (to[0])
          store_gates<Order, How, V, M + 1>(to[0], group, i * (M + 1), c, n, dz, this->accumulate);
        dinput[i] = s[i] * p[M];
        own[i] = p[i];
        each<M>([&](int k) { gate[k] = p[k]; });
        algebra<V>::add_row(i, gate, s[i], sum);
      };
      // Measured: unrolled takes 0.65 to 0.9 of the time of the loop; natural rows of 8 and normalised
      // ones 1.05 to 1.3 times as long.
      if constexpr (M <= 4 || (M <= 8 && N == normalise::none && Order == gates::grouped))
        each<M>(row);
      else
        for (int i = 0; i < M; ++i) row(i);
      each<M>(
          [&](int k) { L::store(carry + k * scan::state_lanes, L::fma(own[k], s[k], sum[k])); });
      if (to[1])
        store_gates<gates::natural, How, V, M>(to[1], 1, 0, c, n, dinput, this->accumulate);
    }
    template <class V>
    void fetch_earlier(index_t t, index_t c) const noexcept {
      constexpr index_t bytes = M * lane<V>::width * static_cast<index_t>(sizeof(S));
      simd::prefetch_behind<bytes>(forward.input + t * forward.input_time + c * input_step);
      if (t > 0) simd::prefetch_behind<bytes>(this->y.at(t - 1) + c * y_step);
      simd::prefetch_behind<bytes>(this->dy.at(t) + c * dy_step);
    }
  };

  /// Blocks of one number are channels of H-LRU of order 1.
  using kernel =
      std::conditional_t<M == 1, hlru_back<S, 1, N, Order, gate_side::read>, block_kernel>;

  static scan::source<kernel> checked(const check::caller& who, const mixer& m,
                                      const typename mixer::tokens& u,
                                      const typename mixer::saved& keep, const view<const S, 4>& dy,
                                      const typename mixer::gradients& d,
                                      const typename mixer::state& dstate) {
    const index_t B = u.input.extent(0), T = u.input.extent(1), G = m.blocks;
    const std::array<index_t, 4> wanted{B, T, G, M};
    check::count(who, "blocks", G);
    memory_of_call memory(who);
    memory.reads("input", "[B, T, G, M]", u.input, wanted);
    memory.reads("dy", "[B, T, G, M]", dy, wanted);
    memory.reads("saved.y", "[B, T, G, M]", keep.y, wanted);
    scan::expect_apart(who, "saved.y", u.input, keep.y);
    check_states(who, u.offsets, B, T, G, M, keep.initial, dstate, memory);
    // What the forward call checks of gates; y is not written here.
    const view<S, 4> y(const_cast<S*>(keep.y.data_handle()), keep.y.extents(), keep.y.strides());
    const auto forward = m.checked(who, u.gate, u.input, y, u.offsets, keep.initial);
    memory.reads("gate", mixer::gate_axes, u.gate, u.gate.extents());
    const bool input = memory.writes("gradients.input", "[B, T, G, M]", d.input, wanted);
    const bool gate = memory.writes("gradients.gate", mixer::gate_axes, d.gate, u.gate.extents());
    if (gate && !d.gate.empty()) expect_block_layout(who, d.gate);

    const index_t moved_bytes = B * T * G * M * (2 * M + 6) * static_cast<index_t>(sizeof(S));
    kernel k;
    if constexpr (M == 1) {
      k.take(forward.first.channels(), u, keep, dy, d);
    } else {
      k.take(forward.first, u, keep, dy, d);
      k.fetch = moved_bytes >= exec::streaming_bytes;
      k.forward.fetch = false;  // it would fetch what is behind a walk backwards
    }
    return {.first = k,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = G,
            .lane_multiple = forward.lane_multiple,
            .moved_bytes = moved_bytes,
            .may_stream = rows_are_dense<Order>(d.gate, k.group * M * (M + 1), k.group) &&
                          (!input || d.input.stride(2) == M || G == 1)};
  }
  /// Rows of a block follow each other, groups are dense: as the gates themselves.
  static void expect_block_layout(const check::caller& who, const view<S, mixer::gate_rank>& gate) {
    if constexpr (Order == gates::grouped) {
      layout::expect_dense_groups(who, gate, 3);
    } else {
      if (M > 1 && gate.stride(3) != M + 1)
        who.refuse("gradients.gate must have rows of a block M+1 = " + std::to_string(M + 1) +
                   " apart, got strides " + check::list(gate.strides()));
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
