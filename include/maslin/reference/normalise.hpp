// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

namespace maslin::inline MASLIN_ABI::reference {

namespace detail {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// w[k] / sum_l w[l]; the caller has made the sum positive.
inline void divide_by_sum(std::span<double> row) {
  double n = 0;
  for (const double w : row) n += w;
  for (double& w : row) w /= n;
}

/// w[k] / sum_l |w[l]|; zeros where the sum is not a normal number.
inline void divide_by_l1(std::span<double> row, double smallest_normal) {
  double largest = 0;
  for (const double w : row) largest = std::max(largest, std::abs(w));
  // Entries are divided by the largest first: the sum of two finite numbers may overflow.
  double n = 0;
  for (const double w : row) n += largest > 0 ? std::abs(w / largest) : 0;
  const bool vanishes = largest * n < smallest_normal;
  for (double& w : row) w = vanishes ? 0 : w / largest / n;
}

inline void softmax(std::span<double> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  if (largest == -infinity) return std::fill(row.begin(), row.end(), 0.0);
  for (double& z : row) {
    z = largest == infinity ? (z == infinity ? 1.0 : 0.0) : std::exp(z - largest);
  }
  divide_by_sum(row);
}

inline void sigmoid_l1(std::span<double> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  if (largest == -infinity) return std::fill(row.begin(), row.end(), 0.0);
  for (double& z : row) {
    // sigmoid(z) e^-largest for a negative row: the same ratios, and the largest cannot underflow.
    z = largest < 0 ? std::exp(z - largest) / (1 + std::exp(z)) : 1 / (1 + std::exp(-z));
  }
  divide_by_sum(row);
}

inline void relu_l1(std::span<double> row) {
  constexpr double floor_per_entry = 0.001;
  double largest = 0;
  for (double& z : row) {
    z = std::max(z, 0.0);
    largest = std::max(largest, z);
  }
  if (largest == infinity) {
    for (double& w : row) w = w == infinity ? 1.0 : 0.0;
    return divide_by_sum(row);
  }
  // Only rows that could overflow the sum are scaled; for all others the scale is 1.
  const double scale = std::max(largest, 1.0);
  double n = floor_per_entry * static_cast<double>(row.size()) / scale;
  for (const double w : row) n += w / scale;
  for (double& w : row) w = w / scale / n;
}

inline void tanh_l1(std::span<double> row, double smallest_normal) {
  for (double& z : row) z = std::tanh(z);
  divide_by_l1(row, smallest_normal);
}

inline void lin_l1(std::span<double> row, double smallest_normal) {
  const auto infinite = [](double z) { return std::abs(z) == infinity; };
  if (std::ranges::any_of(row, infinite)) {
    for (double& z : row) z = infinite(z) ? std::copysign(1.0, z) : 0.0;
  }
  divide_by_l1(row, smallest_normal);
}

}  // namespace detail

/// Turns one row of M + 1 gate logits into the coefficients of a recurrence, in place.
///   p[k] = w[k] / n
///   softmax     w = exp(z - max z)   n = sum w                      p >= 0, sum p = 1
///   sigmoid_l1  w = sigmoid(z)       n = sum w                      p >= 0, sum p = 1
///   relu_l1     w = max(z, 0)        n = sum w + 0.001 (M + 1)      p >= 0, sum p < 1
///   tanh_l1     w = tanh(z)          n = sum |w|                    sum |p| = 1
///   lin_l1      w = z                n = sum |w|                    sum |p| = 1
///   none        w = z                n = 1                          no bound
///   (the normalisations of arXiv 2602.12021 and of its published code, IgorDn8/mad-lab)
/// shapes    row [M+1]; the order of its entries does not matter here
/// numerics  double. The published code leaves four cases open; they are decided thus:
///           a NaN logit makes the whole row NaN;
///           +inf (softmax, relu_l1) or +-inf (lin_l1) at c entries: 1/c each, with its sign, and 0
///           elsewhere;
///           sigmoid_l1 and tanh_l1 take the limits of their functions, 1 and +-1;
///           all -inf (softmax, sigmoid_l1), or n below `smallest_normal` (tanh_l1, lin_l1): zeros.
///           `smallest_normal` is that of the type the kernel under test computes in.
/// cost      M + 1 exponentials and one division for softmax, sigmoid_l1 and tanh_l1; no allocation
inline void normalise_row(normalise kind, std::span<double> row,
                          double smallest_normal = std::numeric_limits<double>::min()) {
  if (row.empty()) return;
  if (kind != normalise::none && std::ranges::any_of(row, [](double z) { return std::isnan(z); })) {
    // Said first, because a maximum may drop a NaN.
    return std::fill(row.begin(), row.end(), std::numeric_limits<double>::quiet_NaN());
  }
  switch (kind) {
    case normalise::none: return;
    case normalise::softmax: return detail::softmax(row);
    case normalise::sigmoid_l1: return detail::sigmoid_l1(row);
    case normalise::relu_l1: return detail::relu_l1(row);
    case normalise::tanh_l1: return detail::tanh_l1(row, smallest_normal);
    case normalise::lin_l1: return detail::lin_l1(row, smallest_normal);
  }
}

/// The way back through a normalised row of ordinary numbers.
///   p_k = w_k / n,   dz_k = phi'(z_k) / n (dp_k - e_k sum_l p_l dp_l),   e_k = dn / dw_k
///   softmax     w = exp(z - max z)   phi' = w            e = 1
///   sigmoid_l1  w = sigmoid(z)       phi' = w (1 - w)    e = 1
///   relu_l1     w = max(z, 0)        phi' = 1 for z > 0  e = 1
///   tanh_l1     w = tanh(z)          phi' = 1 - w^2      e = sign w
///   lin_l1      w = z                phi' = 1            e = sign z
///   none        w = z                phi' = 1            e = 0, n = 1
/// shapes    z, p, slope, share [M+1]: p, phi' / n and e of each logit
/// numerics  Number's; a row of finite logits with n > 0
template <class Number>
void normalise_row_slopes(normalise kind, std::span<const Number> z, std::span<Number> p,
                          std::span<Number> slope, std::span<Number> share) {
  using std::abs, std::exp, std::tanh;
  const std::size_t K = z.size();
  const Number one = 1;
  Number top = z[0], n = kind == normalise::relu_l1 ? 0.001 * static_cast<double>(K) : 0.0;
  for (const Number& x : z) top = top < x ? x : top;
  for (std::size_t k = 0; k < K; ++k) {
    Number w = z[k], derivative = 1;
    if (kind == normalise::softmax) {
      derivative = w = exp(z[k] - top);
    } else if (kind == normalise::sigmoid_l1) {
      // Divided by exp(top) where that is small, as all weights of the row are.
      w = top < 0 ? exp(z[k] - top) / (one + exp(z[k])) : one / (one + exp(-z[k]));
      derivative = w / (one + exp(z[k]));
    } else if (kind == normalise::relu_l1) {
      const bool on = z[k] > 0;
      w = on ? z[k] : Number(0);
      derivative = on ? 1 : 0;
    } else if (kind == normalise::tanh_l1) {
      w = tanh(z[k]);
      derivative = one - w * w;
    }
    const bool is_signed = kind == normalise::tanh_l1 || kind == normalise::lin_l1;
    p[k] = w;
    slope[k] = derivative;
    share[k] = kind == normalise::none ? 0 : !is_signed || z[k] > 0 ? 1 : z[k] < 0 ? -1 : 0;
    n += abs(w);
  }
  if (kind == normalise::none) return;
  for (std::size_t k = 0; k < K; ++k) {
    p[k] = p[k] / n;
    slope[k] = slope[k] / n;
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
