// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The recurrences with given gates as one writes them with Eigen: whole rows as arrays, blocks as
/// matrices of fixed size.

#include <maslin/core/types.hpp>

#include <Eigen/Core>

namespace bench::eigen {

using maslin::index_t;
using row_array = Eigen::Array<float, 1, Eigen::Dynamic>;
using row_map = Eigen::Map<row_array>;
using const_row_map = Eigen::Map<const row_array>;

/// gate, x, y [T, D], h [D].
[[gnu::noinline]] inline void diagonal(index_t T, index_t D, const float* gate, const float* x,
                                       float* h, float* y) {
  row_map state(h, D);
  for (index_t t = 0; t < T; ++t) {
    state = const_row_map(gate + t * D, D) * state + const_row_map(x + t * D, D);
    row_map(y + t * D, D) = state;
  }
}

/// gate [T, D, M+1], x, y [T, D], h [M, D] newest first: lags are whole rows here.
template <int M>
[[gnu::noinline]] void hlru(index_t T, index_t D, const float* gate, const float* x, float* h,
                            float* y) {
  using gate_map = Eigen::Map<const row_array, 0, Eigen::InnerStride<M + 1>>;
  for (index_t t = 0; t < T; ++t) {
    const float* row = gate + t * D * (M + 1);
    row_map out(y + t * D, D);
    out = gate_map(row + M, D) * const_row_map(x + t * D, D);
    for (int k = 0; k < M; ++k) {
      const float* lag = t > k ? y + (t - 1 - k) * D : h + (k - t) * D;
      out += gate_map(row + k, D) * const_row_map(lag, D);
    }
  }
  // Older lags first: a short scan moves them within h.
  for (int k = M - 1; k >= 0; --k) {
    const float* lag = T > k ? y + (T - 1 - k) * D : h + (k - T) * D;
    row_map(h + k * D, D) = const_row_map(lag, D);
  }
}

/// gate [T, G, M, M+1], x, y [T, G, M], h [G, M].
template <int M>
[[gnu::noinline]] void bdlru(index_t T, index_t G, const float* gate, const float* x, float* h,
                             float* y) {
  using block = Eigen::Matrix<float, M, M + 1, Eigen::RowMajor>;
  using column = Eigen::Matrix<float, M, 1>;
  for (index_t t = 0; t < T; ++t)
    for (index_t g = 0; g < G; ++g) {
      const index_t at = (t * G + g) * M;
      const Eigen::Map<const block> p(gate + at * (M + 1));
      const Eigen::Map<const column> v(x + at);
      Eigen::Map<column> state(h + g * M);
      const column next = p.template leftCols<M>() * state + p.col(M).cwiseProduct(v);
      state = next;
      Eigen::Map<column>(y + at) = next;
    }
}

}  // namespace bench::eigen
