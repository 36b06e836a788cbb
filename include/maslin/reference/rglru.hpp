// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// Real-gated linear recurrent unit of independent channels (RG-LRU; Griffin, arXiv 2402.19427).
///   log a[t,d] = -8 r[t,d] softplus(decay[d])
///   mu[t,d]    = sqrt(1 - a[t,d]^2), but 1 at the first token of a sequence
///   h[t,d]     = a[t,d] h[t-1,d] + mu[t,d] i[t,d] input[t,d],   y = h
///   gate_form::probability  r = recurrence_gate, i = input_gate
///   gate_form::logit        their sigmoids
/// `decay` is the published weight Lambda of the transformers form; the paper's is its negative.
/// shapes    recurrence_gate, input_gate, input, y [B, T, D]   decay [D]   state [B, D]
///           begun: B flags, true where the first token has passed
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; 1 - a^2 as -expm1(2 log a), which does not cancel
/// cost      B*T*D of three exp and a root; no allocation
/// effects   state holds h[-1] on entry and h[T-1] on return; begun is true where T > 0
/// throws    shape_error before any write
inline void rglru(gate_form form, view<const double, 1> decay,
                  view<const double, 3> recurrence_gate, view<const double, 3> input_gate,
                  view<const double, 3> input, view<double, 2> state, std::vector<bool>& begun,
                  view<double, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
  MASLIN_EXPECT(recurrence_gate.extents() == y.extents() && input_gate.extents() == y.extents() &&
                    input.extents() == y.extents() && decay.extent(0) == D &&
                    state.extent(0) == B && state.extent(1) == D &&
                    static_cast<index_t>(begun.size()) == B,
                shape_error,
                "reference::rglru: gates, input and y must be [B, T, D], decay [D], state [B, D], "
                "begun B flags");
  const auto gate = [form](double z) {
    return form == gate_form::probability ? z : 1 / (1 + std::exp(-z));
  };
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      const bool first = t == 0 && !begun[static_cast<std::size_t>(b)];
      for (index_t d = 0; d < D; ++d) {
        const double softplus = std::max(decay(d), 0.0) + std::log1p(std::exp(-std::abs(decay(d))));
        const double log_a = -8 * gate(recurrence_gate(b, t, d)) * softplus;
        const double mu = first ? 1 : std::sqrt(-std::expm1(2 * log_a));
        const double x = gate(input_gate(b, t, d)) * input(b, t, d);
        state(b, d) = std::exp(log_a) * state(b, d) + mu * x;
        y(b, t, d) = state(b, d);
      }
    }
    if (T > 0) begun[static_cast<std::size_t>(b)] = true;
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
