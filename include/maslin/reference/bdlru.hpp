// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/normalise.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// Block-diagonal recurrence: G independent blocks, each with a full M x M transition.
///   h[t,g,i] = sum_{j<M} p[t,g,i,j] h[t-1,g,j] + p[t,g,i,M] input[t,g,i]
///   p[t,g,i,:] = normalise(gate[t,g,i,:])
///   y[t,g,i] = h[t,g,i]
///   (BD-LRU, arXiv 2602.12021; there A_t = p[t,:,:M] per block, a_{0,t} = p[t,:,M], v_t = input,
///   m = M; the paper puts the input gate in column 0, its code and this function in the last.)
/// Row i holds the weights with which the new component i reads the old components.
/// shapes    gate [B, T, G, M, M+1] input gate last   input, y [B, T, G, M]   state [B, G, M]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; for every normalisation but none, max|h| <= max(|h[-1]|, |input|) by block
/// cost      B*T*G*M*(M+1) multiply-adds and M normalised rows a block; two rows of scratch
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write
inline void bdlru(normalise kind, view<const double, 5> gate, view<const double, 4> input,
                  view<double, 3> state, view<double, 4> y,
                  double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t B = y.extent(0), T = y.extent(1), G = y.extent(2), M = y.extent(3);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, G, M, M + 1}) &&
                    input.extents() == y.extents() && state.extents() == (std::array{B, G, M}) &&
                    M >= 1,
                shape_error,
                "reference::bdlru: gate must be [B, T, G, M, M+1], input and y [B, T, G, M], "
                "state [B, G, M]");
  std::vector<double> row(static_cast<std::size_t>(M + 1)), old(static_cast<std::size_t>(M));
  const auto p = [&row](index_t k) { return row[static_cast<std::size_t>(k)]; };
  const auto previous = [&old](index_t j) { return old[static_cast<std::size_t>(j)]; };
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t g = 0; g < G; ++g) {
        for (index_t j = 0; j < M; ++j) old[static_cast<std::size_t>(j)] = state(b, g, j);
        for (index_t i = 0; i < M; ++i) {
          for (index_t k = 0; k <= M; ++k) row[static_cast<std::size_t>(k)] = gate(b, t, g, i, k);
          normalise_row(kind, row, smallest_normal);

          double h = p(M) * input(b, t, g, i);
          for (index_t j = 0; j < M; ++j) h += p(j) * previous(j);

          state(b, g, i) = h;
          y(b, t, g, i) = h;
        }
      }
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
