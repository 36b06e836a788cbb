// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <array>
#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// First-order recurrence of independent channels, term by term.
///   h[t,d] = a[t,d] h[t-1,d] + input[t,d]
///   y[t,d] = h[t,d]
///   decay::value       a = gate
///   decay::log         a = exp(gate)
///   decay::complement  a = 1 - gate, written h[t] = h[t-1] + (input - gate h[t-1]): the
///                      difference keeps every digit of a gate near 0
///   (the gated recurrence of HGRN, arXiv 2311.04823; there f_t = a, (1 - f_t) i_t = input)
/// shapes    gate, input, y [B, T, D]   state [B, D]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double, terms added in the order of the formula
/// cost      B*T*D multiply-adds, one exp each for decay::log; no allocation
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write
inline void diagonal(decay form, view<const double, 3> gate, view<const double, 3> input,
                     view<double, 2> state, view<double, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
  MASLIN_EXPECT(gate.extents() == y.extents() && input.extents() == y.extents() &&
                    state.extent(0) == B && state.extent(1) == D,
                shape_error,
                "reference::diagonal: gate, input and y must be [B, T, D], state [B, D]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        const double x = input(b, t, d), g = gate(b, t, d);
        double& h = state(b, d);
        switch (form) {
          case decay::value: h = g * h + x; break;
          case decay::log: h = std::exp(g) * h + x; break;
          case decay::complement: h = h + (x - g * h); break;
        }
        y(b, t, d) = h;
      }
    }
  }
}

/// The same recurrence with a decay that does not depend on time.
///   h[t,d] = a[d] h[t-1,d] + input[t,d],  a from `gate[d]` as above
/// shapes    gate [D]   input, y [B, T, D]   state [B, D]
/// throws    shape_error before any write
inline void diagonal(decay form, view<const double, 1> gate, view<const double, 3> input,
                     view<double, 2> state, view<double, 3> y) {
  // Strides of 0 repeat the row for every sequence and token.
  diagonal(form,
           view<const double, 3>(gate.data_handle(), {y.extent(0), y.extent(1), gate.extent(0)},
                                 {0, 0, gate.stride(0)}),
           input, state, y);
}

/// The adjoint of `diagonal`, term by term.
///   s[t] = dy[t] + a[t+1] s[t+1],   dinput[t] = s[t],   dstate = a[0] s[0]
///   dgate[t] = s[t] h[t-1]  (value),  s[t] a[t] h[t-1]  (log),  -s[t] h[t-1]  (complement)
/// shapes    gate, input, dy, y, dgate, dinput [B, T, D]   initial, dstate [B, D]
/// numerics  Number's, terms added in the order of the formula
/// effects   y holds the outputs; dstate holds the gradient of the final state on entry, of the
///           initial state on return
/// throws    shape_error before any write
template <class Number>
void diagonal_backward(decay form, view<const Number, 3> gate, view<const Number, 3> input,
                       view<const Number, 2> initial, view<const Number, 3> dy, view<Number, 3> y,
                       view<Number, 3> dgate, view<Number, 3> dinput, view<Number, 2> dstate) {
  using std::exp;
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
  MASLIN_EXPECT(gate.extents() == y.extents() && input.extents() == y.extents() &&
                    dy.extents() == y.extents() && dgate.extents() == y.extents() &&
                    dinput.extents() == y.extents() && initial.extents() == (std::array{B, D}) &&
                    dstate.extents() == (std::array{B, D}),
                shape_error,
                "reference::diagonal_backward: gate, input, dy, y, dgate and dinput must be "
                "[B, T, D], initial and dstate [B, D]");
  const auto decay_of = [&](index_t b, index_t t, index_t d) -> Number {
    const Number g = gate(b, t, d);
    return form == decay::value ? g : form == decay::log ? Number(exp(g)) : Number(1) - g;
  };
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) {
      Number h = initial(b, d);
      for (index_t t = 0; t < T; ++t) {
        h = form == decay::complement ? h + (input(b, t, d) - gate(b, t, d) * h)
                                      : decay_of(b, t, d) * h + input(b, t, d);
        y(b, t, d) = h;
      }
      Number carry = dstate(b, d);
      for (index_t t = T - 1; t >= 0; --t) {
        const Number s = dy(b, t, d) + carry, before = t > 0 ? y(b, t - 1, d) : initial(b, d);
        carry = form == decay::complement ? s - gate(b, t, d) * s : decay_of(b, t, d) * s;
        dinput(b, t, d) = s;
        dgate(b, t, d) = form == decay::value ? s * before
                         : form == decay::log ? carry * before
                                              : -(s * before);
      }
      dstate(b, d) = carry;
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
