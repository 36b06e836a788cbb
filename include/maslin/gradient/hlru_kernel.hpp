// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One sequence of H-LRU as a walk backwards sees it (gradient/reverse.hpp); blocks of one number are
/// walked as the same.

#include <maslin/gradient/gate_kernel.hpp>
#include <maslin/gradient/gate_rows.hpp>
#include <maslin/mixer/hlru_kernel.hpp>
#include <maslin/recurrence/adjoint.hpp>
#include <maslin/recurrence/gate_gradient.hpp>

#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// The gradients of M + 1 gates a channel, normalised by N, and of its input.
template <class S, int M, normalise N, gates Order, gate_side Side>
struct hlru_back
    : gate_kernel<hlru_back<S, M, N, Order, Side>, S, Order, hlru_kernel<S, M, N, Order, Side>> {
  static constexpr auto count = static_cast<std::size_t>(M);
  template <class V>
  using algebra =
      std::conditional_t<Side == gate_side::read, maslin::recurrence::adjoint_companion<V, M>,
                         maslin::recurrence::adjoint_write_side<V, M>>;
  using base = gate_kernel<hlru_back, S, Order, hlru_kernel<S, M, N, Order, Side>>;
  using row_set = typename base::row_set;
  using base::dy_step, base::forward, base::group, base::input_step, base::y_step;

  template <class V>
  using recurrence = algebra<V>;
  static constexpr int order = M;
  static constexpr bool may_scatter = M == 1 && Side == gate_side::read;  // blocks of one number
  static constexpr bool twins = hlru_kernel<S, M, N, Order, Side>::twins;
  static constexpr std::array<index_t, 2> per_channel{M + 1, 1};  // gate, input
  template <class V>
  static constexpr bool streams_registers = streams_gates<Order, V, M + 1>;

  template <class V, class N_>
  [[nodiscard]] typename algebra<V>::token token(index_t r, index_t c, N_ n) const noexcept {
    const index_t t = this->time_of(r);
    V z[count + 1], p[count + 1];
    forward.template gates_at<V>(t, c, n, z);
    maslin::recurrence::normalise_row<N>(z, p);
    typename algebra<V>::token u;
    each<M>([&](int k) { u.rows[0].gate[k] = p[k]; });
    u.rows[0].input = lane<V>::broadcast(S(0));
    each<M>([&](int k) { u.dy[k] = lane<V>::broadcast(S(0)); });
    if constexpr (may_scatter)
      u.dy[0] = gather<V>(this->dy.at(t), dy_step, c, n);
    else
      u.dy[0] = load<V>(this->dy.at(t), 1, c, n);
    return u;
  }
  [[nodiscard]] bool scattered() const noexcept {
    return input_step != 1 || y_step != 1 || dy_step != 1;
  }
  /// The n channels from c on of a row. Whole registers lie side by side: see `scattered`.
  template <class V, class N_>
  [[nodiscard]] static V load(const S* row, index_t step, index_t c, N_ n) noexcept {
    constexpr bool whole = lane<V>::width > 1 && std::is_same_v<N_, all_lanes<V>>;
    if constexpr (!may_scatter || whole)
      return lane<V>::load(row + c, n);
    else
      return gather<V>(row, step, c, n);
  }
  template <class V, class N_>
  [[nodiscard]] static V gather(const S* row, index_t step, index_t c, N_ n) noexcept {
    V x[1];
    if (n == lane<V>::width)
      simd::load_columns<V, 1>(row + c * step, step, all_lanes<V>{}, x);
    else
      simd::load_columns<V, 1>(row + c * step, step, n, x);
    return x[0];
  }
  /// h[t]
  template <class V, bool Early, class N_>
  [[nodiscard]] V value(index_t t, index_t c, N_ n) const noexcept {
    if (!Early || t >= 0) return load<V>(this->y.at(t), y_step, c, n);
    return lane<V>::load(scan::state_of(this->before, c, M) - (t + 1) * scan::state_lanes);
  }
  template <class V, bool Early, scan::leave How, class N_>
  void back(index_t t, index_t c, N_ n, S* carry, const row_set& to) const noexcept {
    using L = lane<V>;
    V z[count + 1], p[count + 1], slope[count + 1], s[count], dz[count + 1];
    forward.template gates_at<V>(t, c, n, z);
    maslin::recurrence::gate_gradient_of<N>(z, p, slope);
    each<M>([&](int k) { s[k] = L::load(carry + k * scan::state_lanes); });
    s[0] = s[0] + load<V>(this->dy.at(t), dy_step, c, n);
    const V input = load<V>(forward.input + t * forward.input_time, input_step, c, n);
    V dinput = s[0] * p[M];
    if constexpr (Side == gate_side::read)
      by_reader<V, Early>(t, c, n, z, slope, s[0], input, dz);
    else
      by_writer<V, Early>(t, c, n, z, p, slope, s, input, dz);

    typename algebra<V>::token u;
    each<M>([&](int k) { u.rows[0].gate[k] = p[k]; });
    algebra<V>::carry(u.rows, s);
    each<M>([&](int k) { L::store(carry + k * scan::state_lanes, s[k]); });
    if (to[0]) store_gates<Order, How, V, M + 1>(to[0], group, 0, c, n, dz, this->accumulate);
    V dinputs[1] = {dinput};
    if (to[1]) store_gates<gates::natural, How, V, 1>(to[1], 1, 0, c, n, dinputs, this->accumulate);
  }
  /// dz_k = s slope_k (u_k - e_k h[t]): coefficient k multiplies u_k, all of them in one row.
  template <class V, bool Early, class N_>
  void by_reader(index_t t, index_t c, N_ n, const V (&z)[count + 1], const V (&slope)[count + 1],
                 V s, V input, V (&dz)[count + 1]) const noexcept {
    const V h = value<V, Early>(t, c, n);
    each<M + 1>([&](int k) {
      const V read = k < M ? value<V, Early>(t - 1 - k, c, n) : input;
      dz[k] = s * slope[k] * (read - maslin::recurrence::denominator_share<N>(z[k], h));
    });
  }
  /// dp_k = s_k h[t-1], dp_M = s_0 input: every coefficient belongs to a row of its own.
  template <class V, bool Early, class N_>
  void by_writer(index_t t, index_t c, N_ n, const V (&z)[count + 1], const V (&p)[count + 1],
                 const V (&slope)[count + 1], const V (&s)[count], V input,
                 V (&dz)[count + 1]) const noexcept {
    const V h = value<V, Early>(t - 1, c, n);
    V sum = lane<V>::broadcast(S(0));
    each<M + 1>([&](int k) {
      dz[k] = k < M ? s[k] * h : s[0] * input;
      sum = lane<V>::fma(p[k], dz[k], sum);
    });
    each<M + 1>([&](int k) {
      dz[k] = slope[k] * (dz[k] - maslin::recurrence::denominator_share<N>(z[k], sum));
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
