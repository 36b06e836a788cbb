// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/functions.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `selective_ssm`, or their gradients; views without data are absent.
template <class Number>
struct selective_parts {
  view<Number, 3> dt{};           // [B, T, D]
  view<Number, 3> input{};        // [B, T, D]
  view<Number, 4> write{};        // [B, T, groups, N]
  view<Number, 4> read{};         // [B, T, groups, N]
  view<Number, 3> output_gate{};  // [B, T, D], optional
  view<Number, 2> decay{};        // [D, N]
  view<Number, 1> skip{};         // [D], optional
  view<Number, 1> dt_bias{};      // [D], optional
};
using selective_arrays = selective_parts<const double>;

/// S6, the selective scan of Mamba, term by term.
///   Delta      = log(1 + exp(dt[t,d] + dt_bias[d]))
///   h[t,d,n]   = exp(Delta A[d,n]) h[t-1,d,n] + Delta w B[t,g,n] u[t,d]
///   y[t,d]     = (sum_n C[t,g,n] h[t,d,n] + D[d] u[t,d]) z[t,d] / (1 + exp(-z[t,d]))
///   w          = 1 (Euler) or (exp(Delta A) - 1) / (Delta A), 1 at 0 (zero-order hold)
///   (arXiv 2312.00752, algorithm 2 and equation 4; there A, B, C, D, u, z are decay, write, read,
///   skip, input, output_gate)
/// shapes    dt, input, output_gate, y [B, T, D]   write, read [B, T, groups, N], g = d groups / D
///           decay [D, N]   skip, dt_bias [D]   state [B, D, N]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double, terms added in the order of the formula
/// cost      B*T*D*N exp and three times as many multiply-adds; no allocation
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write
inline void selective_ssm(discretisation rule, const selective_arrays& x, view<double, 3> state,
                          view<double, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), N = state.extent(2);
  const index_t write_groups = x.write.extent(2), read_groups = x.read.extent(2);
  MASLIN_EXPECT(x.dt.extents() == y.extents() && x.input.extents() == y.extents() &&
                    state.extent(0) == B && state.extent(1) == D && x.decay.extent(0) == D &&
                    x.decay.extent(1) == N && x.write.extent(3) == N && x.read.extent(3) == N,
                shape_error,
                "reference::selective_ssm: dt, input and y must be [B, T, D], write and read "
                "[B, T, groups, N], decay [D, N], state [B, D, N]");
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        const index_t w = d * write_groups / D, r = d * read_groups / D;
        const double bias = x.dt_bias.data_handle() == nullptr ? 0 : x.dt_bias(d);
        const double raw = x.dt(b, t, d) + bias, u = x.input(b, t, d);
        const double delta = (raw > 0 ? raw : 0) + std::log1p(std::exp(-std::abs(raw)));
        double sum = 0;
        for (index_t n = 0; n < N; ++n) {
          const double rate = delta * x.decay(d, n);
          double weight = 1;
          if (rule == discretisation::zero_order_hold && rate != 0)
            weight = std::expm1(rate) / rate;
          double& h = state(b, d, n);
          h = std::exp(rate) * h + delta * weight * x.write(b, t, w, n) * u;
          sum += x.read(b, t, r, n) * h;
        }
        if (x.skip.data_handle() != nullptr) sum += x.skip(d) * u;
        if (x.output_gate.data_handle() != nullptr) {
          const double z = x.output_gate(b, t, d);
          sum *= z * (1 / (1 + std::exp(-z)));
        }
        y(b, t, d) = sum;
      }
}

namespace detail {

/// One channel of one sequence: its tokens forward, then backward.
template <class Number>
struct selective_channel {
  discretisation rule;
  const selective_parts<const Number>& x;
  const selective_parts<Number>& d;
  index_t b, c, N, w, r;  // w and r: the groups of write and read

  [[nodiscard]] Number raw(index_t t) const {
    return x.dt_bias.data_handle() == nullptr ? x.dt(b, t, c) : x.dt(b, t, c) + x.dt_bias(c);
  }
  [[nodiscard]] bool hold() const { return rule == discretisation::zero_order_hold; }

  /// h becomes that of token t; what is returned is y before its gate.
  [[nodiscard]] Number forward(index_t t, const Number* before, Number* h) const {
    const Number delta = softplus(raw(t)), u = x.input(b, t, c);
    Number sum = 0;
    for (index_t n = 0; n < N; ++n) {
      const Number rate = delta * x.decay(c, n);
      Number drive = delta * u * x.write(b, t, w, n);
      if (hold()) drive *= phi1(rate);
      h[n] = decay_over(rate) * before[n] + drive;
      sum += x.read(b, t, r, n) * h[n];
    }
    if (x.skip.data_handle() != nullptr) sum += x.skip(c) * u;
    return sum;
  }

  /// `s` enters as the gradient of h[t] by all later tokens, and leaves as that of h[t-1].
  void backward(index_t t, const Number* before, const Number* h, const Number& sum,
                const Number& dy, Number* s) const {
    const Number delta = softplus(raw(t)), u = x.input(b, t, c);
    Number dsum = dy;
    if (x.output_gate.data_handle() != nullptr) {
      const Number z = x.output_gate(b, t, c), gate = sigmoid(z);
      d.output_gate(b, t, c) = dy * sum * (gate * (Number(1) + z * (Number(1) - gate)));
      dsum = dy * (z * gate);
    }
    Number into_u = 0, into_delta = 0;
    for (index_t n = 0; n < N; ++n) {
      const Number A = x.decay(c, n), rate = delta * A, a = decay_over(rate);
      const Number weight = hold() ? phi1(rate) : Number(1), B = x.write(b, t, w, n);
      d.read(b, t, r, n) += dsum * h[n];
      s[n] += dsum * x.read(b, t, r, n);
      d.write(b, t, w, n) += s[n] * weight * (delta * u);
      into_u += s[n] * weight * B;
      into_delta += s[n] * (A * a * before[n] + (hold() ? a * B * u : B * u));
      Number of_rate = a * before[n];
      if (hold()) of_rate += phi1_slope(rate) * (delta * u) * B;
      d.decay(c, n) += s[n] * delta * of_rate;
      s[n] = a * s[n];
    }
    d.input(b, t, c) = delta * into_u;
    if (x.skip.data_handle() != nullptr) {
      d.input(b, t, c) += dsum * x.skip(c);
      d.skip(c) += dsum * u;
    }
    d.dt(b, t, c) = into_delta * sigmoid(raw(t));
    if (x.dt_bias.data_handle() != nullptr) d.dt_bias(c) += d.dt(b, t, c);
  }
};

}  // namespace detail

/// The gradients of `selective_ssm`, and its outputs, which they need. With s[t] the gradient of
/// h[t], a = exp(Delta A) and g = dy silu(z), or dy without a gate:
///   s[t,d,n]  = g C[t,n] + a[t+1,d,n] s[t+1,d,n]          dC[t,n] = sum_d g h[t,d,n]
///   dB[t,n]   = sum_d s w Delta u                         du      = g D + Delta sum_n s w B
///   dDelta    = sum_n s (A a h[t-1,d,n] + B u), of B u a fraction a (zero-order hold)
///   dA[d,n]   = sum_t s Delta a h[t-1,d,n], and s Delta^2 phi1'(Delta A) B u (zero-order hold)
///   d dt      = dDelta / (1 + exp(-(dt + dt_bias))), d dt_bias its sum over t, dD = sum_t g u
///   dz        = dy yhat sigmoid(z) (1 + z (1 - sigmoid(z))), yhat being y before its gate
/// Sums over d are those of a group. Number is double, or a type that carries more than a value;
/// its functions are found where it is declared.
/// shapes    as above; dy as y. `dstate` [B, D, N]
/// layout    any strides
/// aliasing  nothing may overlap
/// numerics  those of Number, terms added in the order of the formula
/// cost      twice that of the forward pass; allocates T D N numbers for one channel at a time
/// effects   state as above; dstate enters as the gradient of the final state and leaves as that of
///           the initial one; gradients, all of them there, are overwritten
template <class Number>
void selective_ssm_backward(discretisation rule, const selective_parts<const Number>& x,
                            view<Number, 3> state, view<Number, 3> y, view<const Number, 3> dy,
                            const selective_parts<Number>& d, view<Number, 3> dstate) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), N = state.extent(2);
  const index_t write_groups = x.write.extent(2), read_groups = x.read.extent(2);
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t n = 0; n < N; ++n) {
        for (index_t g = 0; g < write_groups; ++g) d.write(b, t, g, n) = 0;
        for (index_t g = 0; g < read_groups; ++g) d.read(b, t, g, n) = 0;
      }
  for (index_t c = 0; c < D; ++c) {
    for (index_t n = 0; n < N; ++n) d.decay(c, n) = 0;
    if (x.skip.data_handle() != nullptr) d.skip(c) = 0;
    if (x.dt_bias.data_handle() != nullptr) d.dt_bias(c) = 0;
  }
  std::vector<Number> h(static_cast<std::size_t>((T + 1) * N)), sums(static_cast<std::size_t>(T)),
      s(static_cast<std::size_t>(N));
  const auto at = [&](index_t t) { return h.data() + t * N; };
  for (index_t b = 0; b < B; ++b)
    for (index_t c = 0; c < D; ++c) {
      const detail::selective_channel<Number> channel{
          rule, x, d, b, c, N, c * write_groups / D, c * read_groups / D};
      for (index_t n = 0; n < N; ++n) at(0)[n] = state(b, c, n);
      for (index_t t = 0; t < T; ++t) {
        Number& sum = sums[static_cast<std::size_t>(t)];
        sum = channel.forward(t, at(t), at(t + 1));
        y(b, t, c) = sum;
        if (x.output_gate.data_handle() != nullptr) {
          const Number z = x.output_gate(b, t, c);
          y(b, t, c) = sum * (z * sigmoid(z));
        }
      }
      for (index_t n = 0; n < N; ++n) state(b, c, n) = at(T)[n];
      for (index_t n = 0; n < N; ++n) s[static_cast<std::size_t>(n)] = dstate(b, c, n);
      for (index_t t = T; t-- > 0;)
        channel.backward(t, at(t), at(t + 1), sums[static_cast<std::size_t>(t)], dy(b, t, c),
                         s.data());
      for (index_t n = 0; n < N; ++n) dstate(b, c, n) = s[static_cast<std::size_t>(n)];
    }
}

}  // namespace maslin::inline MASLIN_ABI::reference
