// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/functions.hpp>

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

/// The gradients of `causal_conv`, and its outputs, which they need. With g the gradient of s, which
/// is dy, or dy sigmoid(s) (1 + s (1 - sigmoid(s))) with `silu`, and input[-1-k] the numbers of the
/// initial state:
///   dinput[t]  = sum_{k<W} weight[k] g[t+W-1-k],  and dstate[k] at t = T-1-k
///   dweight[k] = sum_t g[t] input[t-W+1+k],   dbias = sum_t g[t]
/// Number is double, or a type that carries more than a value.
/// shapes    as above; gradients as what they belong to, dbias only with a bias
/// layout    any strides
/// aliasing  nothing may overlap
/// numerics  those of Number
/// cost      twice that of the forward pass, and again that of its sums; no allocation
/// effects   state as above; dstate enters as the gradient of the final state and leaves as that of
///           the initial one; the other gradients are overwritten
template <class Number>
void causal_conv_backward(view<const Number, 2> weight, view<const Number, 1> bias, bool silu,
                          view<const Number, 3> input, view<Number, 3> state, view<Number, 3> y,
                          view<const Number, 3> dy, view<Number, 2> dweight, view<Number, 1> dbias,
                          view<Number, 3> dinput, view<Number, 3> dstate) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), W = weight.extent(1);
  const bool biased = bias.data_handle() != nullptr;
  for (index_t d = 0; d < D; ++d) {
    for (index_t k = 0; k < W; ++k) dweight(d, k) = 0;
    if (biased) dbias(d) = 0;
  }
  const auto at = [&](index_t b, index_t t, index_t d) {
    return t < 0 ? state(b, d, -1 - t) : input(b, t, d);
  };
  for (index_t b = 0; b < B; ++b)
    for (index_t d = 0; d < D; ++d) {
      for (index_t t = T; t-- > 0;) {
        Number s = biased ? bias(d) : Number(0);
        for (index_t k = 0; k < W; ++k) s += weight(d, k) * at(b, t - W + 1 + k, d);
        const Number gate = sigmoid(s);
        Number g = dy(b, t, d);
        if (silu) g *= gate * (Number(1) + s * (Number(1) - gate));
        y(b, t, d) = silu ? s * gate : s;
        // dstate[k] is by now the gradient of input[t-k] by the tokens after t.
        dinput(b, t, d) = dstate(b, d, 0) + weight(d, W - 1) * g;
        for (index_t k = 0; k < W - 1; ++k) {
          const Number after = k + 1 < W - 1 ? dstate(b, d, k + 1) : Number(0);
          dstate(b, d, k) = after + weight(d, W - 2 - k) * g;
        }
        for (index_t k = 0; k < W; ++k) dweight(d, k) += g * at(b, t - W + 1 + k, d);
        if (biased) dbias(d) += g;
      }
      // From the oldest on: each takes the place of one that has moved already.
      for (index_t k = W - 2; k >= 0; --k)
        if (k >= T) state(b, d, k) = state(b, d, k - T);
      for (index_t k = 0; k < W - 1 && k < T; ++k) state(b, d, k) = input(b, T - 1 - k, d);
    }
}

}  // namespace maslin::inline MASLIN_ABI::reference
