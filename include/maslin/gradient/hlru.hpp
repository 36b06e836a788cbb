// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of H-LRU: maslin::hlru::backward.

#include <maslin/gradient/gate_rows.hpp>
#include <maslin/mixer/hlru.hpp>
#include <maslin/recurrence/adjoint.hpp>
#include <maslin/recurrence/gate_gradient.hpp>

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
  static constexpr auto count = static_cast<std::size_t>(M);
  template <class V>
  using algebra = std::conditional_t<Side == gate_side::read, recurrence::adjoint_companion<V, M>,
                                     recurrence::adjoint_write_side<V, M>>;

  struct kernel : reverse_kernel<kernel, S, 2> {
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = M;
    static constexpr std::array<index_t, 2> per_channel{M + 1, 1};  // gate, input
    template <class V>
    static constexpr bool streams_registers = streams_gates<Order, V, M + 1>;

    typename mixer::kernel forward{};
    const typename mixer::state* initial = nullptr;
    const S* before = nullptr;  // h[-1], ..., h[-M] of this sequence
    index_t group = 1;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.shift(b, t);
      k.forward = forward.shifted(b, t);
      return k;
    }
    void enter(index_t b) noexcept {
      this->enter_sequence(b);
      before = initial->row(b);
    }
    template <class V, class N_>
    [[nodiscard]] typename algebra<V>::token token(index_t r, index_t c, N_ n) const noexcept {
      const index_t t = this->time_of(r);
      V z[count + 1], p[count + 1];
      forward.template logits<V>(t, c, n, z);
      maslin::recurrence::normalise_row<N>(z, p);
      typename algebra<V>::token u;
      each<M>([&](int k) { u.rows[0].gate[k] = p[k]; });
      u.rows[0].input = lane<V>::broadcast(S(0));
      each<M>([&](int k) { u.dy[k] = lane<V>::broadcast(S(0)); });
      u.dy[0] = lane<V>::load(this->dy.at(t) + c, n);
      return u;
    }
    /// h[t]
    template <class V, bool Early, class N_>
    [[nodiscard]] V value(index_t t, index_t c, N_ n) const noexcept {
      if (!Early || t >= 0) return lane<V>::load(this->y.at(t) + c, n);
      return lane<V>::load(scan::state_of(before, c, M) - (t + 1) * scan::state_lanes);
    }
    template <class V, bool Early, scan::leave How, class N_>
    void back(index_t t, index_t c, N_ n, S* carry,
              const typename kernel::row_set& to) const noexcept {
      using L = lane<V>;
      V z[count + 1], s[count], dz[count + 1];
      if constexpr (L::width > 1)
        if (this->fetch) fetch_earlier<V>(t, c);
      forward.template logits<V>(t, c, n, z);
      const auto g = maslin::recurrence::gate_gradient_of<N>(z);
      each<M>([&](int k) { s[k] = L::load(carry + k * scan::state_lanes); });
      s[0] = s[0] + L::load(this->dy.at(t) + c, n);
      const V input = forward.template values<V>(t, c, n);
      V dinput = s[0] * g.p[M];
      if constexpr (Side == gate_side::read)
        by_reader<V, Early>(t, c, n, z, g, s[0], input, dz);
      else
        by_writer<V, Early>(t, c, n, z, g, s, input, dz);

      typename algebra<V>::token u;
      each<M>([&](int k) { u.rows[0].gate[k] = g.p[k]; });
      algebra<V>::carry(u.rows, s);
      each<M>([&](int k) { L::store(carry + k * scan::state_lanes, s[k]); });
      if (to[0]) store_gates<Order, How, V, M + 1>(to[0], group, 0, c, n, dz, this->accumulate);
      V dinputs[1] = {dinput};
      if (to[1])
        store_gates<gates::natural, How, V, 1>(to[1], 1, 0, c, n, dinputs, this->accumulate);
    }
    /// dz_k = s slope_k (u_k - e_k h[t]): coefficient k multiplies u_k, all of them in one row.
    template <class V, bool Early, class N_>
    void by_reader(index_t t, index_t c, N_ n, const V (&z)[count + 1],
                   const maslin::recurrence::gate_gradient<V, count + 1>& g, V s, V input,
                   V (&dz)[count + 1]) const noexcept {
      const V h = value<V, Early>(t, c, n);
      each<M + 1>([&](int k) {
        const V read = k < M ? value<V, Early>(t - 1 - k, c, n) : input;
        dz[k] = s * g.slope[k] * (read - maslin::recurrence::denominator_share<N>(z[k], h));
      });
    }
    /// dp_k = s_k h[t-1], dp_M = s_0 input: every coefficient belongs to a row of its own.
    template <class V, bool Early, class N_>
    void by_writer(index_t t, index_t c, N_ n, const V (&z)[count + 1],
                   const maslin::recurrence::gate_gradient<V, count + 1>& g, const V (&s)[count],
                   V input, V (&dz)[count + 1]) const noexcept {
      const V h = value<V, Early>(t - 1, c, n);
      V sum = lane<V>::broadcast(S(0));
      each<M + 1>([&](int k) {
        dz[k] = k < M ? s[k] * h : s[0] * input;
        sum = lane<V>::fma(g.p[k], dz[k], sum);
      });
      each<M + 1>([&](int k) {
        dz[k] = g.slope[k] * (dz[k] - maslin::recurrence::denominator_share<N>(z[k], sum));
      });
    }
    template <class V>
    void fetch_earlier(index_t t, index_t c) const noexcept {
      constexpr index_t bytes = lane<V>::width * static_cast<index_t>(sizeof(S));
      simd::prefetch_behind<bytes>(forward.input + t * forward.input_time + c);
      if (t >= M) simd::prefetch_behind<bytes>(this->y.at(t - M) + c);
      simd::prefetch_behind<bytes>(this->dy.at(t) + c);
    }
  };

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
    const bool input = memory.writes("gradients.input", "[B, T, D]", d.input, {B, T, D});
    const bool gate = memory.writes("gradients.gate", mixer::gate_axes, d.gate, u.gate.extents());
    if constexpr (Order == gates::grouped)
      if (gate && !d.gate.empty()) layout::expect_dense_groups(who, d.gate, 3);

    kernel k;
    k.group = index_t{1} << forward.first.group_shift;
    if constexpr (Order == gates::natural) k.group = 1;
    if (gate) k.out[0] = {scan::token_rows<S>::of(d.gate), d.gate.stride(2), k.group};
    if (input) k.out[1] = {scan::token_rows<S>::of(d.input), 1, 1};
    k.y = scan::token_rows<const S>::of(keep.y);
    k.dy = scan::token_rows<const S>::of(dy);
    k.forward = forward.first;
    k.initial = &keep.initial;
    k.length = T;
    k.offsets = u.offsets;
    k.accumulate = d.accumulate;
    const index_t moved_bytes = B * T * D * (2 * M + 6) * static_cast<index_t>(sizeof(S));
    k.fetch = moved_bytes >= exec::streaming_bytes;
    k.forward.fetch = false;  // it would fetch what is behind a walk backwards
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
