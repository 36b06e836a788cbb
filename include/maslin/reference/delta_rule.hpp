// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `delta_rule`; R is 1 but for DeltaProduct.
struct delta_arrays {
  view<const double, 4> query{};      // [B, T, H', K]
  view<const double, 5> key{};        // [B, T, R, H', K]
  view<const double, 5> value{};      // [B, T, R, H', E]
  view<const double, 4> beta{};       // [B, T, R, H]
  view<const double, 3> log_decay{};  // [B, T, H], optional
};

/// The delta rule, term by term.
///   S  <- exp(g[t]) S
///   for r = 0 .. R - 1:  u = beta[t,r] (v[t,r] - S^T k[t,r]),   S <- S + k[t,r] u^T
///   y[t] = scale S^T q[t]
///   (arXiv 2412.06464, equation 10; R micro-steps: 2502.10297, section 3)
/// shapes    as `delta_arrays`, head h of fewer than H being floor(h H' / H)   y [B, T, H, E]
///           state [B, H, K, E]
/// layout    any strides
/// aliasing  none
/// numerics  double, terms added in the order of the formula
/// cost      B*T*H*K*E multiply-adds 2 R + 1 times; no allocation
/// effects   state holds S[-1] on entry and S[T-1] on return
/// throws    shape_error before any write
inline void delta_rule(const delta_arrays& x, double scale, view<double, 4> state,
                       view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  const index_t K = state.extent(2), R = x.key.extent(2);
  const index_t queries = x.query.extent(2), keys = x.key.extent(3), values = x.value.extent(3);
  MASLIN_EXPECT(x.query.extent(1) == T && x.key.extent(1) == T && x.value.extent(1) == T &&
                    x.beta.extent(1) == T && x.value.extent(2) == R && x.beta.extent(2) == R &&
                    x.query.extent(3) == K && x.key.extent(4) == K && x.value.extent(4) == E &&
                    state.extent(0) == B && state.extent(1) == H && state.extent(3) == E,
                shape_error,
                "reference::delta_rule: query must be [B, T, H', K], key [B, T, R, H', K], value "
                "[B, T, R, H', E], beta [B, T, R, H], state [B, H, K, E], y [B, T, H, E]");
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h)
        for (index_t e = 0; e < E; ++e) {
          if (x.log_decay.data_handle() != nullptr)
            for (index_t i = 0; i < K; ++i) state(b, h, i, e) *= std::exp(x.log_decay(b, t, h));
          for (index_t r = 0; r < R; ++r) {
            const auto k = [&](index_t i) { return x.key(b, t, r, h * keys / H, i); };
            double predicted = 0;
            for (index_t i = 0; i < K; ++i) predicted += k(i) * state(b, h, i, e);
            const double u = x.beta(b, t, r, h) * (x.value(b, t, r, h * values / H, e) - predicted);
            for (index_t i = 0; i < K; ++i) state(b, h, i, e) += k(i) * u;
          }
          double sum = 0;
          for (index_t i = 0; i < K; ++i)
            sum += state(b, h, i, e) * x.query(b, t, h * queries / H, i);
          y(b, t, h, e) = scale * sum;
        }
}

}  // namespace maslin::inline MASLIN_ABI::reference
