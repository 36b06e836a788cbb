// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
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

/// One call of `rglru_backward`, in any number type.
template <class Number>
struct rglru_call {
  gate_form form;
  view<const Number, 1> decay;                               // [D]
  view<const Number, 3> recurrence_gate, input_gate, input;  // [B, T, D]
  view<const Number, 2> initial;                             // [B, D]
  std::vector<bool> begun;                                   // of each sequence
  view<const Number, 3> dy;                                  // [B, T, D]
  view<const Number, 2> dfinal;                              // [B, D], of the final state
};

/// What it answers: the outputs, and the gradients of all that it was given.
template <class Number>
struct rglru_answer {
  view<Number, 3> y;                                      // [B, T, D]
  view<Number, 2> final;                                  // [B, D]
  view<Number, 1> ddecay;                                 // [D]
  view<Number, 3> drecurrence_gate, dinput_gate, dinput;  // [B, T, D]
  view<Number, 2> dinitial;                               // [B, D]
};

/// The forward pass of `rglru` and its adjoint, t descending:
///   s = dy[t] + a[t+1] s[t+1],   dinput = s mu i,   di = s mu input
///   dlog a = s (a h[t-1] - a^2 i input / mu), the last term only where mu is not the first token's 1
///   dr = -8 softplus(decay) dlog a,   ddecay = -8 sigmoid(decay) sum r dlog a
///   of logits: times r (1 - r) and i (1 - i)
/// 1 / mu is bounded by 1000 (ours): mu has no derivative at r = 0.
/// shapes    those of `rglru`
/// layout    any strides
/// numerics  that of Number
/// cost      as `rglru`, twice; no allocation
/// effects   every element of the answer is written
template <class Number>
void rglru_backward(const rglru_call<Number>& u, const rglru_answer<Number>& out) {
  using std::abs, std::exp, std::expm1, std::log1p, std::min, std::sqrt;
  const index_t B = u.dy.extent(0), T = u.dy.extent(1), D = u.dy.extent(2);
  const Number zero(0), one(1);
  const bool logits = u.form == gate_form::logit;
  const auto gate = [&](const Number& z) { return logits ? one / (one + exp(-z)) : z; };
  const auto slope = [&](const Number& g) { return logits ? g * (one - g) : one; };
  for (index_t d = 0; d < D; ++d) {
    const Number z = u.decay(d), e = exp(-abs(z));
    const Number rate = Number(-8) * ((z > zero ? z : zero) + log1p(e));
    Number sum = zero;
    for (index_t b = 0; b < B; ++b) {
      const bool begun = u.begun[static_cast<std::size_t>(b)];
      const auto mu_of = [&](index_t t, const Number& log_a) {
        return t == 0 && !begun ? one : sqrt(-expm1(Number(2) * log_a));
      };
      Number h = u.initial(b, d);
      for (index_t t = 0; t < T; ++t) {
        const Number log_a = rate * gate(u.recurrence_gate(b, t, d));
        const Number x = gate(u.input_gate(b, t, d)) * u.input(b, t, d);
        h = exp(log_a) * h + mu_of(t, log_a) * x;
        out.y(b, t, d) = h;
      }
      out.final(b, d) = h;

      Number carried = u.dfinal(b, d);
      for (index_t t = T; t-- > 0;) {
        const Number r = gate(u.recurrence_gate(b, t, d)), i = gate(u.input_gate(b, t, d));
        const Number x = u.input(b, t, d), s = u.dy(b, t, d) + carried;
        const Number log_a = rate * r, a = exp(log_a), mu = mu_of(t, log_a);
        out.dinput(b, t, d) = s * mu * i;
        out.dinput_gate(b, t, d) = s * mu * x * slope(i);
        Number dlog = s * (a * (t > 0 ? out.y(b, t - 1, d) : u.initial(b, d)));
        if (t > 0 || begun) dlog = dlog - s * (a * a * min(one / mu, Number(1000)) * i * x);
        out.drecurrence_gate(b, t, d) = rate * dlog * slope(r);
        sum = sum + r * dlog;
        carried = a * s;
      }
      out.dinitial(b, d) = carried;
    }
    out.ddecay(d) = Number(-8) / (one + exp(-z)) * sum;
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
