// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Words that every room uses: the index type and the choices that are template arguments of
/// mixers.

#include <maslin/core/config.hpp>

#include <cstddef>

namespace maslin::inline MASLIN_ABI {

/// Extents, strides and positions: signed, so that differences and loops downwards are plain.
using index_t = std::ptrdiff_t;

/// How a row of M + 1 gate logits z (the last one belongs to the input) becomes coefficients p.
///   p_k = w_k / n,  w_k = phi(z_k)                      (arXiv 2602.12021 and its published code)
enum class normalise {
  none,        ///< p = z: the gates are given; no bound on the state
  softmax,     ///< w = exp(z - max z),  n = sum w;                 p >= 0, sum p = 1
  sigmoid_l1,  ///< w = 1 / (1 + exp(-z)),  n = sum w;              p >= 0, sum p = 1
  relu_l1,     ///< w = max(z, 0),  n = sum w + 0.001 (M + 1);      p >= 0, sum p < 1
  tanh_l1,     ///< w = tanh z,  n = sum |w|;                       sum |p| = 1
  lin_l1,      ///< w = z,  n = sum |w|;                            sum |p| = 1
};

/// How the mixers of earlier rows make the coefficients of a token: its own, and one for each row that
/// it reads. As `normalise`, over all of them together, but for the last.
enum class weights {
  given,       ///< the logits are the coefficients; no bound on y
  softmax,     ///< >= 0, sum 1
  sigmoid_l1,  ///< >= 0, sum 1
  relu_l1,     ///< >= 0, sum < 1
  tanh_l1,     ///< sum of absolute values 1
  lin_l1,      ///< sum of absolute values 1
  sigmoid,     ///< each 1 / (1 + exp(-z)) by itself; no bound on y
};

/// What a mixer of earlier rows reads directly: the A of Y = (I - B)^-1 A X.
enum class direct {
  self,  ///< the token's own input: A is diagonal
  rows,  ///< its own and the inputs of the positions whose outputs it reads
};

/// Order of gates in memory.
enum class gates {
  natural,  ///< as in the papers: rows of M + 1 gates, the input gate last
  grouped,  ///< L channels (or blocks) side by side for each gate: the fastest to read
};

/// How the gate of a first-order recurrence gives its decay a.
enum class decay {
  value,       ///< a = gate
  log,         ///< a = exp(gate)
  complement,  ///< a = 1 - gate: keeps the full precision of decays close to one
};

/// How a state-space model in continuous time, h' = A h + B u, becomes a recurrence over steps of
/// length Delta.
enum class discretisation {
  euler,            ///< h = exp(Delta A) h + Delta B u, as Mamba's published scan has it
  zero_order_hold,  ///< h = exp(Delta A) h + Delta phi1(Delta A) B u, phi1(x) = (exp(x) - 1) / x
};

/// How the two gates of a gated linear recurrent unit are given.
enum class gate_form {
  probability,  ///< in [0, 1]
  logit,        ///< their logits: the sigmoid is taken in the kernel
};

/// Whether the coefficients of an order-M recurrence are chosen by the token that reads the lag or
/// by the token that wrote it.
enum class gate_side {
  read,   ///< h[t] = sum_k a[t,k] h[t-1-k] + ...: the companion matrix; |h| is bounded
  write,  ///< h[t] = sum_k a[t-k,k] h[t-1-k] + ...: its transpose; no bound
};

/// What a decay of a matrix state [K, E] belongs to; decays are given by their logarithms.
enum class decay_axis {
  none,  ///< nothing is forgotten
  head,  ///< one decay for all numbers of a head
  key,   ///< one for each of the K rows of a head
};

/// What linear attention makes of its queries and keys.
enum class feature {
  given,         ///< they are features as they are
  elu_plus_one,  ///< x + 1 for x > 0, exp(x) otherwise: positive
};

/// How many keys a token of the delta rule writes to, one after another.
enum class updates {
  one,      ///< key [B, T, H, K]
  several,  ///< key [B, T, R, H, K]: R micro-steps, a product of R Householder-like factors
};

}  // namespace maslin::inline MASLIN_ABI
