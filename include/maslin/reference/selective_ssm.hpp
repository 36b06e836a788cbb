// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `selective_ssm`; views without data are absent.
struct selective_arrays {
  view<const double, 3> dt{};           // [B, T, D]
  view<const double, 3> input{};        // [B, T, D]
  view<const double, 4> write{};        // [B, T, groups, N]
  view<const double, 4> read{};         // [B, T, groups, N]
  view<const double, 3> output_gate{};  // [B, T, D], optional
  view<const double, 2> decay{};        // [D, N]
  view<const double, 1> skip{};         // [D], optional
  view<const double, 1> dt_bias{};      // [D], optional
};

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

}  // namespace maslin::inline MASLIN_ABI::reference
