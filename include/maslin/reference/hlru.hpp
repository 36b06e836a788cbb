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

/// Higher-order recurrence of independent channels: each reads its own last M values.
///   h[t,d] = sum_{k=1..M} p[t,d,k-1] h[t-k,d] + p[t,d,M] input[t,d],   p = normalise(gate)
///   y[t,d] = h[t,d]
///   (H-LRU, arXiv 2602.12021; there a_{k,t} = p[t,k-1], a_{0,t} = p[t,M], v_t = input, m = M)
/// As one matrix a token, acting on (h[t-1], ..., h[t-M]), this is the companion matrix: the
/// coefficients in the first row, ones on the first sub-diagonal. The token that reads chooses all
/// coefficients of its step.
/// shapes    gate [B, T, D, M+1] input gate last  input, y [B, T, D]  state [B, D, M] newest first
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; for every normalisation but none, max|h| <= max(|h[-1]|..|h[-M]|, |input|)
/// cost      B*T*D*(M+1) multiply-adds and one normalised row each; one row of scratch
/// effects   state holds h[-1], ..., h[-M] on entry and h[T-1], ..., h[T-M] on return
/// throws    shape_error before any write
inline void hlru(normalise kind, view<const double, 4> gate, view<const double, 3> input,
                 view<double, 3> state, view<double, 3> y,
                 double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = state.extent(2);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, D, M + 1}) && input.extents() == y.extents() &&
                    state.extents() == (std::array{B, D, M}) && M >= 1,
                shape_error,
                "reference::hlru: gate must be [B, T, D, M+1], input and y [B, T, D], "
                "state [B, D, M]");
  std::vector<double> row(static_cast<std::size_t>(M + 1));
  const auto p = [&row](index_t k) { return row[static_cast<std::size_t>(k)]; };
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        for (index_t k = 0; k <= M; ++k) row[static_cast<std::size_t>(k)] = gate(b, t, d, k);
        normalise_row(kind, row, smallest_normal);

        double h = p(M) * input(b, t, d);
        for (index_t k = 1; k <= M; ++k) h += p(k - 1) * state(b, d, k - 1);

        for (index_t k = M - 1; k >= 1; --k) state(b, d, k) = state(b, d, k - 1);
        state(b, d, 0) = h;
        y(b, t, d) = h;
      }
    }
  }
}

/// The transposed companion matrix: the coefficient at lag k is chosen by the token that wrote it.
///   w[t,j] = p[t,j] w[t-1,0] + w[t-1,j+1] + (j = 0) p[t,M] input[t],   w[t-1,M] = 0
///   y[t]   = w[t,0] = sum_{k=1..M} p[t-k+1,k-1] y[t-k] + p[t,M] input[t]
/// Some published code computes this form. It is another operator: rows of normalised coefficients
/// do not bound it (M = 4 and |input| <= 1 reach 3), and w is not a list of past values. It is kept
/// as the counter-example of `hlru`.
/// shapes    gate [B, T, D, M+1] input gate last  input, y [B, T, D]  state [B, D, M] w, by j
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; no bound
/// cost      B*T*D*(M+1) multiply-adds and one normalised row each; one row of scratch
/// effects   state holds w[-1] on entry and w[T-1] on return
/// throws    shape_error before any write
inline void hlru_write_side(normalise kind, view<const double, 4> gate, view<const double, 3> input,
                            view<double, 3> state, view<double, 3> y,
                            double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = state.extent(2);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, D, M + 1}) && input.extents() == y.extents() &&
                    state.extents() == (std::array{B, D, M}) && M >= 1,
                shape_error,
                "reference::hlru_write_side: gate must be [B, T, D, M+1], input and y [B, T, D], "
                "state [B, D, M]");
  std::vector<double> row(static_cast<std::size_t>(M + 1));
  const auto p = [&row](index_t k) { return row[static_cast<std::size_t>(k)]; };
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        for (index_t k = 0; k <= M; ++k) row[static_cast<std::size_t>(k)] = gate(b, t, d, k);
        normalise_row(kind, row, smallest_normal);

        const double newest = state(b, d, 0);
        for (index_t j = 0; j < M; ++j) {
          const double next = j + 1 < M ? state(b, d, j + 1) : 0.0;
          const double written = j == 0 ? p(M) * input(b, t, d) : 0.0;
          state(b, d, j) = p(j) * newest + next + written;
        }
        y(b, t, d) = state(b, d, 0);
      }
    }
  }
}

/// All M lags of every step, as the papers' layer reads them.
///   out[t,d,j] = h[t-j,d], where h[-1], ..., h[-M] is the initial state
/// shapes    y [B, T, D]   initial [B, D, M] newest first   out [B, T, D, M] lag 0 first
/// layout    any strides
/// aliasing  out overlaps neither y nor initial
/// numerics  copies
/// cost      B*T*D*M copies; no allocation
/// throws    shape_error before any write
inline void hlru_lags(view<const double, 3> y, view<const double, 3> initial, view<double, 4> out) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = out.extent(3);
  MASLIN_EXPECT(
      out.extents() == (std::array{B, T, D, M}) && initial.extents() == (std::array{B, D, M}),
      shape_error,
      "reference::hlru_lags: y must be [B, T, D], initial [B, D, M], out [B, T, D, M]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        for (index_t j = 0; j < M; ++j) {
          out(b, t, d, j) = t >= j ? y(b, t - j, d) : initial(b, d, j - t - 1);
        }
      }
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
