// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The error that a kernel may have, derived and not observed. With one rounding a term,
///   S[t] = |A[t]| S[t-1] + |b[t]|,   W[t] = |A[t]| W[t-1] + S[t],   |error[t]| <= k u W[t]
/// to first order, u = 2^-24. The factor k is the row's: 1 a fma, 2 a product and a sum, 3 in
/// chunks, times M + 1 where M + 1 terms make one value, plus M + 8 where the kernel normalises the
/// gates.

#include "naive.hpp"

#include <cmath>
#include <vector>

namespace bench {

using maslin::index_t;

inline constexpr double unit_roundoff = 0x1p-24;

/// W of a diagonal recurrence with decays a [T, D]; out [T, D].
inline void bound_diagonal(index_t T, index_t D, const float* a, const float* x, float* out) {
  std::vector<float> S(static_cast<std::size_t>(D)), W = S;
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      const auto c = static_cast<std::size_t>(d);
      const float decay = std::abs(a[t * D + d]);
      S[c] = decay * S[c] + std::abs(x[t * D + d]);
      W[c] = decay * W[c] + S[c];
      out[t * D + d] = W[c];
    }
}

/// W of an order-M recurrence with gates [T, D, M+1], normalised by N; out [T, D].
template <int M, maslin::normalise N>
void bound_hlru(index_t T, index_t D, const float* gate, const float* x, float* out) {
  std::vector<float> S(static_cast<std::size_t>(D * M)), W = S;  // [D, M] newest first
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      naive::numbers<M + 1> p;
      naive::normalise_row<M, N>(gate + (t * D + d) * (M + 1), p);
      float* s = S.data() + d * M;
      float* w = W.data() + d * M;
      float size = std::abs(p[M] * x[t * D + d]), error = 0;
      for (int k = 0; k < M; ++k) {
        size += std::abs(p[k]) * s[k];
        error += std::abs(p[k]) * w[k];
      }
      for (int k = M - 1; k > 0; --k) {
        s[k] = s[k - 1];
        w[k] = w[k - 1];
      }
      s[0] = size;
      w[0] = out[t * D + d] = error + size;
    }
}

/// W of a block recurrence with gates [T, G, M, M+1], normalised by N; out [T, G, M].
template <int M, maslin::normalise N>
void bound_bdlru(index_t T, index_t G, const float* gate, const float* x, float* out) {
  std::vector<float> S(static_cast<std::size_t>(G * M)), W = S;  // [G, M]
  for (index_t t = 0; t < T; ++t)
    for (index_t g = 0; g < G; ++g) {
      const index_t block = (t * G + g) * M;
      float* s = S.data() + g * M;
      float* w = W.data() + g * M;
      naive::numbers<M> size, error;
      for (int i = 0; i < M; ++i) {
        naive::numbers<M + 1> p;
        naive::normalise_row<M, N>(gate + (block + i) * (M + 1), p);
        size[i] = std::abs(p[M] * x[block + i]);
        error[i] = 0;
        for (int j = 0; j < M; ++j) {
          size[i] += std::abs(p[j]) * s[j];
          error[i] += std::abs(p[j]) * w[j];
        }
      }
      for (int i = 0; i < M; ++i) {
        s[i] = size[i];
        w[i] = out[block + i] = error[i] + size[i];
      }
    }
}

}  // namespace bench
