// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The oracle of selective state-space models, with the bound of bound.hpp for every number of
/// state. Beside the roundings of the recurrence a step's coefficients err, in units of u:
///
///   Delta   6, and what the rounded sum dt + bias moves it by
///   a       3 (zero-order hold 2), and |Delta A| times the errors of Delta and of A log2(e)
///   b       Delta's and two products (zero-order hold: phi1's 12, the error of its argument, one
///           product more)
///
/// A sum over n and the skip rounds N + 1 times, the gate adds 6.

#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace maslin::test {

/// The arrays of one call, exact in S; empty views are absent.
template <class S>
struct selective_call {
  view<const S, 3> dt, input, output_gate;  // [B, T, D]
  view<const S, 4> write, read;             // [B, T, groups, N]
  view<const S, 2> decay;                   // [D, N]
  view<const S, 1> skip, dt_bias;           // [D]
};

/// log(1 + e) for 0 <= e <= 1: the C library's in double, and one step of Newton's method past it.
[[nodiscard]] inline double log1p_small(double e) { return std::log1p(e); }
[[nodiscard]] inline binary128 log1p_small(binary128 e) {
  const binary128 y = std::log1p(static_cast<double>(e));
  return y - 1 + (1 + e) * exponential(-y);
}

/// One step of a channel: its length, how far off that may be, and its input.
template <class Real>
struct selective_step {
  Real delta, delta_error, drive;
};

template <class Real, class S>
[[nodiscard]] selective_step<Real> step_of(const selective_call<S>& x, index_t b, index_t t,
                                           index_t d) {
  const bool biased = x.dt_bias.data_handle() != nullptr;
  const Real raw =
      static_cast<Real>(x.dt(b, t, d)) + (biased ? static_cast<Real>(x.dt_bias(d)) : 0);
  const Real e = exponential(-magnitude(raw));
  const Real delta = (raw > 0 ? raw : 0) + log1p_small(e);
  const Real slope = raw > 0 ? 1 / (1 + e) : e / (1 + e);
  Real error = 6;
  if (biased && delta > 0) error += slope * magnitude(raw) / delta;
  return {delta, error, delta * static_cast<Real>(x.input(b, t, d))};
}

/// h <- a h + b of one number of state.
template <class Real>
void advance_state(discretisation rule, const selective_step<Real>& s, Real decay, Real write,
                   bounded<Real>& h) {
  const bool hold = rule == discretisation::zero_order_hold;
  const Real rate = s.delta * decay, a = exponential(rate);
  const Real a_error = (hold ? 2 : 3) + (s.delta_error + 1) * magnitude(rate);
  const Real phi = hold ? exact_phi1(rate) : Real(1), b = s.drive * phi * write;
  const Real moved = rate > 1 ? rate : std::min<Real>(magnitude(rate), 1);
  const Real b_error = s.delta_error + (hold ? 15 + (s.delta_error + 1) * moved : Real(2));
  const bounded<Real> before = h;
  h.value = a * before.value + b;
  h.s = a * before.s + magnitude(b);
  h.w = a * before.w + a_error * a * before.s + b_error * magnitude(b) + h.s;
  h.lost = a * before.lost + before.s + magnitude(write) + 1;
}

/// y of every token [B, T, D]; `state` [B, D, N] is updated.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> selective_bounds(discretisation rule,
                                                          const selective_call<S>& x,
                                                          std::vector<bounded<Real>>& state) {
  const index_t B = x.input.extent(0), T = x.input.extent(1), D = x.input.extent(2);
  const index_t N = x.decay.extent(1), writes = x.write.extent(2), reads = x.read.extent(2);
  std::vector<bounded<Real>> out;
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        const auto step = step_of<Real>(x, b, t, d);
        bounded<Real> y;
        const auto add = [&](Real c, const bounded<Real>& h) {
          y.value += c * h.value;
          y.s += magnitude(c) * h.s;
          y.w += magnitude(c) * h.w;
          y.lost += magnitude(c) * h.lost + 1;
        };
        for (index_t n = 0; n < N; ++n) {
          auto& h = state[static_cast<std::size_t>((b * D + d) * N + n)];
          advance_state<Real>(rule, step, x.decay(d, n), x.write(b, t, d * writes / D, n), h);
          add(x.read(b, t, d * reads / D, n), h);
        }
        if (x.skip.data_handle() != nullptr) add(x.skip(d), bounded<Real>::exact(x.input(b, t, d)));
        y.w += static_cast<Real>(N + 1) * y.s;
        if (x.output_gate.data_handle() != nullptr) {
          const Real z = x.output_gate(b, t, d), gate = z / (1 + exponential(-z));
          y = {gate * y.value, magnitude(gate) * y.s, magnitude(gate) * (y.w + 6 * y.s),
               magnitude(gate) * y.lost + (1 + magnitude(z)) * y.s};
        }
        out.push_back(y);
      }
  return out;
}

}  // namespace maslin::test
