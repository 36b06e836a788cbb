// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `linear_attention`; at most one of the decays has data.
struct linear_arrays {
  view<const double, 4> query{};       // [B, T, H', K]
  view<const double, 4> key{};         // [B, T, H', K]
  view<const double, 4> value{};       // [B, T, H', E]
  view<const double, 3> log_decay{};   // [B, T, H], optional
  view<const double, 4> log_decays{};  // [B, T, H, K], optional
};

/// What linear attention may be told beside its arrays.
struct linear_options {
  feature map = feature::given;
  double scale = 1;
  bool normalised = false;
};

/// Linear attention, term by term.
///   S[t] = Diag(exp g[t]) S[t-1] + phi(k[t]) v[t]^T,   y[t] = scale S[t]^T phi(q[t])
///   z[t] = exp g[t] z[t-1] + phi(k[t]),   y[t] <- y[t] / (scale <phi(q[t]), z[t]> + 1e-10)
///   phi(x) = x, or x + 1 for x > 0 and exp(x) otherwise
///   (arXiv 2006.16236, equations 18 to 20; with decays 2312.06635, equation 3)
/// shapes    as `linear_arrays`, head h of fewer than H being floor(h H' / H)   y [B, T, H, E]
///           state [B, H, K, E]   sums (the z, if normalised) [B, H, K]
/// layout    any strides
/// aliasing  none
/// numerics  double, terms added in the order of the formula
/// cost      B*T*H*K*E multiply-adds twice, B*T*H*K exp; no allocation
/// effects   state and sums hold S[-1], z[-1] on entry and S[T-1], z[T-1] on return
/// throws    shape_error before any write
inline void linear_attention(const linear_arrays& x, const linear_options& options,
                             view<double, 4> state, view<double, 3> sums, view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  const index_t K = state.extent(2);
  const index_t queries = x.query.extent(2), keys = x.key.extent(2), values = x.value.extent(2);
  MASLIN_EXPECT(x.query.extent(1) == T && x.key.extent(1) == T && x.value.extent(1) == T &&
                    x.query.extent(3) == K && x.key.extent(3) == K && x.value.extent(3) == E &&
                    state.extent(0) == B && state.extent(1) == H && state.extent(3) == E,
                shape_error,
                "reference::linear_attention: query and key must be [B, T, H', K], value "
                "[B, T, H', E], state [B, H, K, E], y [B, T, H, E]");
  const auto phi = [&](double v) {
    return options.map == feature::given ? v : v > 0 ? v + 1 : std::exp(v);
  };
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        double divisor = 1e-10;
        for (index_t e = 0; e < E; ++e) y(b, t, h, e) = 0;
        for (index_t i = 0; i < K; ++i) {
          double a = 1;
          if (x.log_decay.data_handle() != nullptr) a = std::exp(x.log_decay(b, t, h));
          if (x.log_decays.data_handle() != nullptr) a = std::exp(x.log_decays(b, t, h, i));
          const double q = phi(x.query(b, t, h * queries / H, i));
          const double k = phi(x.key(b, t, h * keys / H, i));
          for (index_t e = 0; e < E; ++e) {
            double& s = state(b, h, i, e);
            s = a * s + k * x.value(b, t, h * values / H, e);
            y(b, t, h, e) += options.scale * q * s;
          }
          if (options.normalised) {
            sums(b, h, i) = a * sums(b, h, i) + k;
            divisor += options.scale * q * sums(b, h, i);
          }
        }
        if (options.normalised)
          for (index_t e = 0; e < E; ++e) y(b, t, h, e) /= divisor;
      }
}

}  // namespace maslin::inline MASLIN_ABI::reference
