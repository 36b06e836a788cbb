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

/// The gradients of `complex_readout`, and y, each complex number being two real ones, the real part
/// first. With dx = d/d Re x + i d/d Im x:
///   dh[t,g,n]     = factor sum_e dy[t,g,e] conj(read[g,e,n])      dinput[t] = dy[t] skip
///   dread[g,e,n]  = factor sum_t dy[t,g,e] conj(h[t,g,n])         dskip     = sum_t dy[t] input[t]
/// Number is double, or a type that carries more than a value.
/// shapes    read [G, E, N, 2]   skip [G E], or empty, and then input too   h [B, T, G N, 2]
///           input, y, dy [B, T, G E]   gradients as what they belong to
/// layout    any strides
/// aliasing  nothing may overlap
/// numerics  those of Number
/// cost      three times that of the forward pass; no allocation
/// effects   y and gradients are overwritten
template <class Number>
void complex_readout_backward(view<const Number, 4> read, view<const Number, 1> skip,
                              const Number& factor, view<const Number, 4> h,
                              view<const Number, 3> input, view<Number, 3> y,
                              view<const Number, 3> dy, view<Number, 4> dread,
                              view<Number, 1> dskip, view<Number, 4> dh, view<Number, 3> dinput) {
  const index_t B = y.extent(0), T = y.extent(1), G = read.extent(0), E = read.extent(1),
                N = read.extent(2);
  const bool skips = skip.data_handle() != nullptr;
  for (index_t c = 0; c < G * E; ++c) {
    if (skips) dskip(c) = 0;
    for (index_t n = 0; n < N; ++n) dread(c / E, c % E, n, 0) = dread(c / E, c % E, n, 1) = 0;
  }
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t) {
      for (index_t i = 0; i < G * N; ++i) dh(b, t, i, 0) = dh(b, t, i, 1) = 0;
      for (index_t c = 0; c < G * E; ++c) {
        const index_t g = c / E, e = c % E;
        const Number d = factor * dy(b, t, c);
        Number sum = 0;
        for (index_t n = 0; n < N; ++n) {
          const index_t i = g * N + n;
          sum += read(g, e, n, 0) * h(b, t, i, 0) - read(g, e, n, 1) * h(b, t, i, 1);
          dh(b, t, i, 0) += d * read(g, e, n, 0);
          dh(b, t, i, 1) -= d * read(g, e, n, 1);
          dread(g, e, n, 0) += d * h(b, t, i, 0);
          dread(g, e, n, 1) -= d * h(b, t, i, 1);
        }
        y(b, t, c) = factor * sum;
        if (!skips) continue;
        y(b, t, c) += skip(c) * input(b, t, c);
        dinput(b, t, c) = dy(b, t, c) * skip(c);
        dskip(c) += dy(b, t, c) * input(b, t, c);
      }
    }
}

}  // namespace maslin::inline MASLIN_ABI::reference
