// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The plain loops that maslin is compared with: what one writes from the equations, with the order
/// known to the compiler, restrict pointers, the same flags, and expf of the C library. In both
/// loop orders: time outside (`tokens_outer`) and channels outside (`channels_outer`).

#include <maslin/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace bench::naive {

using maslin::decay;
using maslin::index_t;
using maslin::normalise;

/// An array of N floats.
template <int N>
using numbers = float[static_cast<std::size_t>(N)];

/// The loop outside; the other one runs inside it.
enum class order { tokens_outer, channels_outer };

/// p [M+1] from logits z [M+1]; copies given gates.
template <int M, normalise N>
inline void normalise_row(const float* z, float* p) {
  static_assert(N == normalise::none || N == normalise::softmax || N == normalise::relu_l1,
                "the forms that the benchmarks time");
  if constexpr (N == normalise::none) {
    for (int k = 0; k <= M; ++k) p[k] = z[k];
  } else {
    float sum = 0;
    if constexpr (N == normalise::softmax) {
      float largest = z[0];
      for (int k = 1; k <= M; ++k) largest = std::max(largest, z[k]);
      for (int k = 0; k <= M; ++k) sum += p[k] = std::exp(z[k] - largest);
    } else {
      sum = 0.001f * (M + 1);
      for (int k = 0; k <= M; ++k) sum += p[k] = std::max(z[k], 0.0f);
    }
    const float scale = 1 / sum;
    for (int k = 0; k <= M; ++k) p[k] *= scale;
  }
}

template <decay Form>
inline float diagonal_step(float gate, float h, float x) {
  if constexpr (Form == decay::value) return gate * h + x;
  if constexpr (Form == decay::log) return std::exp(gate) * h + x;
  if constexpr (Form == decay::complement) return (1 - gate) * h + x;
}

/// gate, x, y [T, D], h [D].
template <decay Form, order Order>
[[gnu::noinline]] void diagonal(index_t T, index_t D, const float* __restrict gate,
                                const float* __restrict x, float* __restrict h,
                                float* __restrict y) {
  if constexpr (Order == order::tokens_outer) {
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        const index_t i = t * D + d;
        y[i] = h[d] = diagonal_step<Form>(gate[i], h[d], x[i]);
      }
  } else {
    for (index_t d = 0; d < D; ++d) {
      float state = h[d];
      for (index_t t = 0; t < T; ++t) {
        const index_t i = t * D + d;
        y[i] = state = diagonal_step<Form>(gate[i], state, x[i]);
      }
      h[d] = state;
    }
  }
}

/// One channel and token: h [M] newest first.
template <int M, normalise N>
inline float hlru_step(const float* __restrict gate, float x, float* __restrict h) {
  numbers<M + 1> p;
  normalise_row<M, N>(gate, p);
  float sum = p[M] * x;
  for (int k = 0; k < M; ++k) sum += p[k] * h[k];
  for (int k = M - 1; k > 0; --k) h[k] = h[k - 1];
  return h[0] = sum;
}

/// gate [T, D, M+1], x, y [T, D], h [D, M].
template <int M, normalise N, order Order>
[[gnu::noinline]] void hlru(index_t T, index_t D, const float* __restrict gate,
                            const float* __restrict x, float* __restrict h, float* __restrict y) {
  const auto step = [&](index_t t, index_t d, float* state) {
    const index_t i = t * D + d;
    y[i] = hlru_step<M, N>(gate + i * (M + 1), x[i], state);
  };
  if constexpr (Order == order::tokens_outer) {
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) step(t, d, h + d * M);
  } else {
    for (index_t d = 0; d < D; ++d) {
      numbers<M> state;
      std::copy_n(h + d * M, M, state);
      for (index_t t = 0; t < T; ++t) step(t, d, state);
      std::copy_n(state, M, h + d * M);
    }
  }
}

/// One block and token: gate [M, M+1], x [M], h [M].
template <int M, normalise N>
inline void bdlru_step(const float* __restrict gate, const float* __restrict x, float* __restrict h,
                       float* __restrict y) {
  for (int i = 0; i < M; ++i) {
    numbers<M + 1> p;
    normalise_row<M, N>(gate + i * (M + 1), p);
    float sum = p[M] * x[i];
    for (int j = 0; j < M; ++j) sum += p[j] * h[j];
    y[i] = sum;
  }
  for (int i = 0; i < M; ++i) h[i] = y[i];
}

/// gate [T, G, M, M+1], x, y [T, G, M], h [G, M].
template <int M, normalise N, order Order>
[[gnu::noinline]] void bdlru(index_t T, index_t G, const float* __restrict gate,
                             const float* __restrict x, float* __restrict h, float* __restrict y) {
  const auto step = [&](index_t t, index_t g, float* state) {
    const index_t block = (t * G + g) * M;
    bdlru_step<M, N>(gate + block * (M + 1), x + block, state, y + block);
  };
  if constexpr (Order == order::tokens_outer) {
    for (index_t t = 0; t < T; ++t)
      for (index_t g = 0; g < G; ++g) step(t, g, h + g * M);
  } else {
    for (index_t g = 0; g < G; ++g) {
      numbers<M> state;
      std::copy_n(h + g * M, M, state);
      for (index_t t = 0; t < T; ++t) step(t, g, state);
      std::copy_n(state, M, h + g * M);
    }
  }
}

/// Given gates: gate, y, dy, dgate, dx [T, D]; zero states before and after.
[[gnu::noinline]] inline void diagonal_backward(index_t T, index_t D, const float* __restrict gate,
                                                const float* __restrict y,
                                                const float* __restrict dy, float* __restrict dgate,
                                                float* __restrict dx) {
  std::vector<float> memory(static_cast<std::size_t>(D));
  float* __restrict const carry = memory.data();
  for (index_t t = T; t-- > 0;)
    for (index_t d = 0; d < D; ++d) {
      const index_t i = t * D + d;
      const float s = carry[d] + dy[i];
      dgate[i] = t > 0 ? s * y[i - D] : 0;
      dx[i] = s;
      carry[d] = gate[i] * s;
    }
}

/// dz_k = s p_k (u_k - h) of a softmax row, s u_k of given coefficients.
template <normalise N>
inline float gate_gradient(float s, float p, float u, float h) {
  return N == normalise::none ? s * u : s * p * (u - h);
}

/// gate, dgate [T, D, M+1], x, y, dy, dx [T, D]; zero states before and after.
template <int M, normalise N>
[[gnu::noinline]] void hlru_backward(index_t T, index_t D, const float* __restrict gate,
                                     const float* __restrict x, const float* __restrict y,
                                     const float* __restrict dy, float* __restrict dgate,
                                     float* __restrict dx) {
  static_assert(N == normalise::none || N == normalise::softmax);
  std::vector<float> carry(static_cast<std::size_t>(D * M));
  for (index_t t = T; t-- > 0;)
    for (index_t d = 0; d < D; ++d) {
      const index_t i = t * D + d;
      float* const c = carry.data() + d * M;
      numbers<M + 1> p;
      normalise_row<M, N>(gate + i * (M + 1), p);
      const float s = c[0] + dy[i];
      for (int k = 0; k < M; ++k) {
        const float u = t > k ? y[i - (k + 1) * D] : 0;
        dgate[i * (M + 1) + k] = gate_gradient<N>(s, p[k], u, y[i]);
        c[k] = p[k] * s + (k + 1 < M ? c[k + 1] : 0);
      }
      dgate[i * (M + 1) + M] = gate_gradient<N>(s, p[M], x[i], y[i]);
      dx[i] = s * p[M];
    }
}

/// gate, dgate [T, G, M, M+1], x, y, dy, dx [T, G, M]; zero states before and after.
template <int M, normalise N>
[[gnu::noinline]] void bdlru_backward(index_t T, index_t G, const float* __restrict gate,
                                      const float* __restrict x, const float* __restrict y,
                                      const float* __restrict dy, float* __restrict dgate,
                                      float* __restrict dx) {
  static_assert(N == normalise::none || N == normalise::softmax);
  std::vector<float> carry(static_cast<std::size_t>(G * M));
  for (index_t t = T; t-- > 0;)
    for (index_t g = 0; g < G; ++g) {
      const index_t block = (t * G + g) * M;
      float* const c = carry.data() + g * M;
      numbers<M> sum{};
      for (int i = 0; i < M; ++i) {
        const index_t row = (block + i) * (M + 1);
        numbers<M + 1> p;
        normalise_row<M, N>(gate + row, p);
        const float s = c[i] + dy[block + i];
        for (int k = 0; k < M; ++k) {
          const float u = t > 0 ? y[block - G * M + k] : 0;
          dgate[row + k] = gate_gradient<N>(s, p[k], u, y[block + i]);
          sum[k] += p[k] * s;
        }
        dgate[row + M] = gate_gradient<N>(s, p[M], x[block + i], y[block + i]);
        dx[block + i] = s * p[M];
      }
      std::copy_n(sum, M, c);
    }
}

}  // namespace bench::naive
