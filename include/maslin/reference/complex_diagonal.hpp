// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <array>
#include <complex>

namespace maslin::inline MASLIN_ABI::reference {

/// First-order recurrence of independent complex channels.
///   h[t,d] = gate[t,d] h[t-1,d] + input[t,d],  y = h       (LRU, arXiv 2303.06349: gate = lambda)
/// shapes    gate, input, y [B, T, D]   state [B, D]
/// layout    any strides; a gate that does not depend on time has stride 0
/// aliasing  y may be input
/// numerics  double; products of complex numbers from their four products of parts
/// cost      B*T*D complex multiply-adds; no allocation
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write
inline void complex_diagonal(view<const std::complex<double>, 3> gate,
                             view<const std::complex<double>, 3> input,
                             view<std::complex<double>, 2> state, view<std::complex<double>, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
  MASLIN_EXPECT(gate.extents() == y.extents() && input.extents() == y.extents() &&
                    state.extent(0) == B && state.extent(1) == D,
                shape_error,
                "reference::complex_diagonal: gate, input and y must be [B, T, D], state [B, D]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        const std::complex<double> a = gate(b, t, d), x = input(b, t, d), h = state(b, d);
        state(b, d) = {a.real() * h.real() - a.imag() * h.imag() + x.real(),
                       a.real() * h.imag() + a.imag() * h.real() + x.imag()};
        y(b, t, d) = state(b, d);
      }
    }
  }
}

/// The adjoint of `complex_diagonal`, in the two parts of each number; dx = dRe + i dIm.
///   s[t] = dy[t] + conj(gate[t+1]) s[t+1],   dgate[t] = s[t] conj(h[t-1]),   dinput[t] = s[t]
/// shapes    gate, input, dy, y, dgate, dinput [B, T, D, 2]   initial, dstate [B, D, 2]
/// numerics  Number's
/// effects   y holds the outputs; dstate holds the gradient of the final state on entry, of the
///           initial state on return
/// throws    shape_error before any write
template <class Number>
void complex_diagonal_backward(view<const Number, 4> gate, view<const Number, 4> input,
                               view<const Number, 3> initial, view<const Number, 4> dy,
                               view<Number, 4> y, view<Number, 4> dgate, view<Number, 4> dinput,
                               view<Number, 3> dstate) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
  MASLIN_EXPECT(gate.extents() == y.extents() && input.extents() == y.extents() &&
                    dy.extents() == y.extents() && dgate.extents() == y.extents() &&
                    dinput.extents() == y.extents() && y.extent(3) == 2 &&
                    initial.extents() == (std::array{B, D, index_t{2}}) &&
                    dstate.extents() == initial.extents(),
                shape_error,
                "reference::complex_diagonal_backward: gate, input, dy, y, dgate and dinput must "
                "be [B, T, D, 2], initial and dstate [B, D, 2]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) {
      Number re = initial(b, d, 0), im = initial(b, d, 1);
      for (index_t t = 0; t < T; ++t) {
        const Number a = gate(b, t, d, 0), c = gate(b, t, d, 1);
        const Number next = a * re - c * im + input(b, t, d, 0);
        im = a * im + c * re + input(b, t, d, 1);
        re = next;
        y(b, t, d, 0) = re;
        y(b, t, d, 1) = im;
      }
      Number carry_re = dstate(b, d, 0), carry_im = dstate(b, d, 1);
      for (index_t t = T - 1; t >= 0; --t) {
        const Number s = dy(b, t, d, 0) + carry_re, r = dy(b, t, d, 1) + carry_im;
        const Number a = gate(b, t, d, 0), c = gate(b, t, d, 1);
        const Number h = t > 0 ? y(b, t - 1, d, 0) : initial(b, d, 0);
        const Number g = t > 0 ? y(b, t - 1, d, 1) : initial(b, d, 1);
        dinput(b, t, d, 0) = s;
        dinput(b, t, d, 1) = r;
        dgate(b, t, d, 0) = s * h + r * g;
        dgate(b, t, d, 1) = r * h - s * g;
        carry_re = a * s + c * r;
        carry_im = a * r - c * s;
      }
      dstate(b, d, 0) = carry_re;
      dstate(b, d, 1) = carry_im;
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
