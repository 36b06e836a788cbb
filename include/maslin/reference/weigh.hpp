// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Rows of logits, their coefficients, and the way back from the gradients of one to those of the
/// other, in any number type.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// p_k = w_k / n, w_k = phi(z_k), n = sum of e_k w_k and what a kind adds to it; `slope` is phi'(z_k).
template <class Number>
struct weighed_row {
  std::vector<Number> w, slope, sign, p;
  Number norm{};
  bool vanishes = false;  ///< then p = 0, and so are all gradients
};

/// The coefficients of finite logits, or of some that are -inf, as core/types.hpp defines them for each
/// `weights`.
/// numerics  that of Number; `smallest_normal` is that of the type the kernel under test computes in
template <class Number>
[[nodiscard]] weighed_row<Number> weigh(weights kind, std::span<const Number> z,
                                        double smallest_normal) {
  using std::abs, std::exp, std::tanh;
  const Number zero(0), one(1);
  const std::size_t n = z.size();
  const auto fill = [n](const Number& x) { return std::vector<Number>(n, x); };
  weighed_row<Number> row{fill(one), fill(one), fill(one), fill(zero)};
  const bool by_itself = kind == weights::given || kind == weights::sigmoid;
  const bool by_exp = kind == weights::softmax || kind == weights::sigmoid_l1;
  Number top = z[0];
  for (const Number& x : z) top = x > top ? x : top;
  if (by_exp && !(top > Number(-std::numeric_limits<double>::infinity())))
    return row.vanishes = true, row;

  if (kind == weights::relu_l1) row.norm = Number(0.001 * static_cast<double>(n));
  for (std::size_t k = 0; k < n; ++k) {
    Number &w = row.w[k], &slope = row.slope[k];
    switch (kind) {
      case weights::given:
      case weights::lin_l1: w = z[k]; break;
      case weights::softmax: slope = w = exp(z[k] - top); break;
      case weights::sigmoid: {
        const Number e = exp(-abs(z[k]));
        w = (z[k] > zero ? one : e) / (one + e);
        slope = w * ((z[k] > zero ? e : one) / (one + e));
        break;
      }
      case weights::sigmoid_l1: {
        // Of rows below 0 the weights are divided by exp(top), so that none of them underflows.
        const Number shift = top < zero ? top : zero, e = exp(-abs(z[k]));
        const Number scaled = exp((z[k] > zero ? -z[k] : z[k]) - shift);
        w = (z[k] > zero ? one : scaled) / (one + e);
        slope = w * ((z[k] > zero ? e : one) / (one + e));
        break;
      }
      case weights::relu_l1:
        w = z[k] > zero ? z[k] : zero;
        slope = z[k] > zero ? one : zero;
        break;
      case weights::tanh_l1:
        w = tanh(z[k]);
        slope = one - w * w;
        break;
    }
    row.sign[k] = w > zero ? one : w < zero ? -one : zero;
    row.norm = row.norm + abs(w);
  }
  if (by_itself) row.norm = one;
  row.vanishes = row.norm < Number(smallest_normal);
  for (std::size_t k = 0; k < n && !row.vanishes; ++k) row.p[k] = row.w[k] / row.norm;
  return row;
}

/// The gradients of the logits from those of the coefficients:
///   dz_k = phi'(z_k) / n (dp_k - e_k sum_l p_l dp_l),  e_k = the sign of w_k; 0 where nothing is divided
template <class Number>
[[nodiscard]] std::vector<Number> weigh_backward(weights kind, const weighed_row<Number>& row,
                                                 std::span<const Number> dp) {
  const Number zero(0);
  const bool by_itself = kind == weights::given || kind == weights::sigmoid;
  std::vector<Number> dz(dp.size(), zero);
  if (row.vanishes) return dz;
  Number sum = zero;
  for (std::size_t k = 0; k < dp.size() && !by_itself; ++k) sum = sum + row.p[k] * dp[k];
  for (std::size_t k = 0; k < dp.size(); ++k) {
    if (row.slope[k] == zero) continue;
    const Number share = by_itself ? dp[k] : dp[k] - row.sign[k] * sum;
    dz[k] = row.slope[k] / row.norm * share;
  }
  return dz;
}

}  // namespace maslin::inline MASLIN_ABI::reference
