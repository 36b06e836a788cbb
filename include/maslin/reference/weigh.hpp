// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Rows of logits, their coefficients by any kind of `weights`, and the way back from the gradients of
/// the one to those of the other, in any number type.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>
#include <maslin/reference/normalise.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// The coefficients p of a row, and what leads back from them: slope_k = phi'(z_k) / n and the share e_k
/// of each in n, as `normalise_row_slopes` has them. A row that vanishes is all zeros.
template <class Number>
struct weighed_row {
  std::vector<Number> p, slope, share;
};

/// The normalisation of which a kind of weights is one over all rows that are read.
[[nodiscard]] constexpr normalise normalise_of(weights kind) {
  switch (kind) {
    case weights::softmax: return normalise::softmax;
    case weights::sigmoid_l1: return normalise::sigmoid_l1;
    case weights::relu_l1: return normalise::relu_l1;
    case weights::tanh_l1: return normalise::tanh_l1;
    case weights::lin_l1: return normalise::lin_l1;
    case weights::given:
    case weights::sigmoid: break;
  }
  return normalise::none;
}

/// Coefficients of finite logits, or of some that are -inf, as core/types.hpp defines them for each
/// `weights`.
/// numerics  that of Number; `smallest_normal` is that of the type the kernel under test computes in
template <class Number>
[[nodiscard]] weighed_row<Number> weigh(weights kind, std::span<const Number> z,
                                        double smallest_normal) {
  using std::abs, std::exp, std::tanh;
  const Number zero(0), one(1);
  const std::vector<Number> zeros(z.size(), zero);
  weighed_row<Number> row{zeros, zeros, zeros};
  if (kind == weights::sigmoid) {
    for (std::size_t k = 0; k < z.size(); ++k) {
      const Number e = exp(-abs(z[k]));
      row.p[k] = (z[k] > zero ? one : e) / (one + e);
      row.slope[k] = row.p[k] * ((z[k] > zero ? e : one) / (one + e));
    }
    return row;
  }
  Number top = z[0], reach = zero;
  for (const Number& x : z) {
    top = x > top ? x : top;
    reach = reach + abs(kind == weights::tanh_l1 ? tanh(x) : x);
  }
  const bool is_signed = kind == weights::tanh_l1 || kind == weights::lin_l1;
  const bool by_exp = kind == weights::softmax || kind == weights::sigmoid_l1;
  if (is_signed && reach < Number(smallest_normal)) return row;
  if (by_exp && !(top > Number(-std::numeric_limits<double>::infinity()))) return row;
  normalise_row_slopes<Number>(normalise_of(kind), z, row.p, row.slope, row.share);
  return row;
}

/// dz_k = slope_k (dp_k - share_k sum_l p_l dp_l)
template <class Number>
[[nodiscard]] std::vector<Number> weigh_backward(const weighed_row<Number>& row,
                                                 std::span<const Number> dp) {
  const Number zero(0);
  std::vector<Number> dz(dp.size(), zero);
  Number sum = zero;
  for (std::size_t k = 0; k < dp.size(); ++k) sum = sum + row.p[k] * dp[k];
  for (std::size_t k = 0; k < dp.size(); ++k) {
    if (row.slope[k] == zero) continue;
    dz[k] = row.slope[k] * (row.share[k] == zero ? dp[k] : dp[k] - row.share[k] * sum);
  }
  return dz;
}

}  // namespace maslin::inline MASLIN_ABI::reference
