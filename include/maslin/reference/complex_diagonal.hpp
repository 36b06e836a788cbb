// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

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

}  // namespace maslin::inline MASLIN_ABI::reference
