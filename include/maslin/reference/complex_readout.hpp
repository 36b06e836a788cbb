// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <complex>

namespace maslin::inline MASLIN_ABI::reference {

/// Real outputs of complex states.
///   y[t,g,e] = factor Re(sum_n read[g,e,n] h[t,g,n]) + skip[g,e] input[t,g,e]
///                                     (S4D, arXiv 2206.11893: factor 2; LRU, arXiv 2303.06349: 1)
/// shapes    read [G, E, N]   skip [G E]   h [B, T, G N]   input, y [B, T, G E]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double
/// cost      B*T*G*E*N complex multiply-adds; no allocation
/// throws    shape_error before any write
inline void complex_readout(view<const std::complex<double>, 3> read, view<const double, 1> skip,
                            double factor, view<const std::complex<double>, 3> h,
                            view<const double, 3> input, view<double, 3> y) {
  const index_t B = y.extent(0), T = y.extent(1), G = read.extent(0), E = read.extent(1),
                N = read.extent(2);
  MASLIN_EXPECT(y.extent(2) == G * E && input.extents() == y.extents() && skip.extent(0) == G * E &&
                    h.extent(0) == B && h.extent(1) == T && h.extent(2) == G * N,
                shape_error,
                "reference::complex_readout: read must be [G, E, N], skip [G E], h [B, T, G N], "
                "input and y [B, T, G E]");
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t g = 0; g < G; ++g)
        for (index_t e = 0; e < E; ++e) {
          std::complex<double> sum = 0;
          for (index_t n = 0; n < N; ++n) sum += read(g, e, n) * h(b, t, g * N + n);
          y(b, t, g * E + e) = factor * sum.real() + skip(g * E + e) * input(b, t, g * E + e);
        }
}

}  // namespace maslin::inline MASLIN_ABI::reference
