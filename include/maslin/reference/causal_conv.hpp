// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// A short causal convolution of each channel with weights of its own, term by term.
///   s[t,d] = bias[d] + sum_{k<W} weight[d,k] input[t-W+1+k,d]
///   y[t,d] = s, or s / (1 + exp(-s))                (the convolution of Mamba, arXiv 2312.00752)
/// shapes    input, y [B, T, D]   weight [D, W]   bias [D] or empty
///           state [B, D, W-1], newest first
/// layout    any strides
/// aliasing  y must not overlap input
/// numerics  double, bias first, then terms from the oldest to the newest input
/// cost      B*T*D*W multiply-adds, one exp with `silu`; no allocation
/// effects   state holds the last W-1 inputs on return
/// throws    shape_error before any write
inline void causal_conv(view<const double, 2> weight, view<const double, 1> bias, bool silu,
                        view<const double, 3> input, view<double, 3> state, view<double, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), W = weight.extent(1);
  MASLIN_EXPECT(input.extents() == y.extents() && weight.extent(0) == D && state.extent(0) == B &&
                    state.extent(1) == D && state.extent(2) == W - 1,
                shape_error,
                "reference::causal_conv: input and y must be [B, T, D], weight [D, W], state "
                "[B, D, W-1]");
  for (index_t b = 0; b < B; ++b)
    for (index_t d = 0; d < D; ++d)
      for (index_t t = 0; t < T; ++t) {
        const double x = input(b, t, d);
        double sum = bias.data_handle() == nullptr ? 0 : bias(d);
        for (index_t k = 0; k + 1 < W; ++k) sum += weight(d, k) * state(b, d, W - 2 - k);
        sum += weight(d, W - 1) * x;
        for (index_t k = W - 2; k > 0; --k) state(b, d, k) = state(b, d, k - 1);
        state(b, d, 0) = x;
        y(b, t, d) = silu ? sum * (1 / (1 + std::exp(-sum))) : sum;
      }
}

}  // namespace maslin::inline MASLIN_ABI::reference
