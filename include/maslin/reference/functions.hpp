// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Functions of the references' backward passes, for any type of number that has exp, expm1, log1p
/// and abs. A type that knows better brings functions of these names with it.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>

#include <cmath>

namespace maslin::inline MASLIN_ABI::reference {

/// log(1 + exp(x))
template <class Number>
[[nodiscard]] Number softplus(const Number& x) {
  using std::abs, std::exp, std::log1p;
  return (x > Number(0) ? x : Number(0)) + log1p(exp(-abs(x)));
}

/// 1 / (1 + exp(-x))
template <class Number>
[[nodiscard]] Number sigmoid(const Number& x) {
  using std::exp;
  return Number(1) / (Number(1) + exp(-x));
}

/// exp(x) as the decay over a step, x = Delta A: a name of its own, since kernels may take it another
/// way than other exponentials.
template <class Number>
[[nodiscard]] Number decay_over(const Number& x) {
  using std::exp;
  return exp(x);
}

/// (exp(x) - 1) / x, and 1 at 0.
template <class Number>
[[nodiscard]] Number phi1(const Number& x) {
  using std::expm1;
  return x == Number(0) ? Number(1) : expm1(x) / x;
}

/// The derivative of phi1: (exp(x) - phi1(x)) / x, near 0 by its series sum_k (k + 1) x^k / (k + 2)!
template <class Number>
[[nodiscard]] Number phi1_slope(const Number& x) {
  using std::abs, std::exp;
  if (abs(x) > Number(1)) return (exp(x) - phi1(x)) / x;
  constexpr int terms = 24;
  Number sum = 0;
  // Horner's rule, from c[k] = (k + 1) / (k + 2)! and c[k + 1] = c[k] (k + 2) / (k + 1) / (k + 3).
  for (int k = terms; k > 0; --k)
    sum = Number(k + 1) / (Number(k) * Number(k + 2)) * x * (Number(1) + sum);
  return (Number(1) + sum) / Number(2);
}

}  // namespace maslin::inline MASLIN_ABI::reference
