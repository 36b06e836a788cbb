// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A number that carries the error bound of whatever a kernel computes in its place. The references
/// of gradients are templates of their number: in `double` they are the plain truth, in
/// `tracked<Real>` they say besides how far from it a kernel that rounds may be.
///
///   value   the result, in a type wider than the kernel's
///   s       the sum of magnitudes: what the result would be without cancellation
///   w       roundings so far, in units of u
///   depth   additions of the sum that is still open; each rounds by at most u s, in whatever order
///           the kernel adds, so the bound is u (w + depth s)
///   lost    underflows so far, in units of the smallest normal number
///
/// A product rounds once and closes the sums of its factors; an exponential or another function
/// adds its own units and the error of its argument times its derivative.

#include "support/bound.hpp"

#include <cmath>
#include <limits>
#include <type_traits>

namespace maslin::test {

template <class Real>
struct tracked {
  Real value = 0, s = 0, w = 0, depth = 0, lost = 0;

  tracked() = default;
  /// A number that the kernel knows exactly.
  template <class X>
    requires(std::is_arithmetic_v<X> || std::is_same_v<X, Real>)
  tracked(X x) : value(static_cast<Real>(x)), s(magnitude(static_cast<Real>(x))) {}
  tracked(Real v, Real s_, Real w_, Real depth_, Real lost_)
      : value(v), s(s_), w(w_), depth(depth_), lost(lost_) {}

  /// Roundings in all, in units of u.
  [[nodiscard]] Real roundings() const { return w + depth * s; }

  friend tracked operator+(const tracked& a, const tracked& b) {
    return {a.value + b.value, a.s + b.s, a.w + b.w, a.depth + b.depth + 1, a.lost + b.lost};
  }
  friend tracked operator-(const tracked& a) { return {-a.value, a.s, a.w, a.depth, a.lost}; }
  friend tracked operator-(const tracked& a, const tracked& b) { return a + -b; }
  friend tracked operator*(const tracked& a, const tracked& b) {
    const Real size = a.s * b.s;
    return {a.value * b.value, size, a.roundings() * b.s + a.s * b.roundings() + size, 0,
            a.lost * b.s + a.s * b.lost + 1};
  }
  friend tracked operator/(const tracked& a, const tracked& b) {
    const Real d = magnitude(b.value), v = a.value / b.value, size = a.s / d;
    return {v, size, (a.roundings() + magnitude(v) * b.roundings()) / d + size, 0,
            (a.lost + magnitude(v) * b.lost) / d + 1};
  }
  tracked& operator+=(const tracked& o) { return *this = *this + o; }
  tracked& operator-=(const tracked& o) { return *this = *this - o; }
  tracked& operator*=(const tracked& o) { return *this = *this * o; }
  tracked& operator/=(const tracked& o) { return *this = *this / o; }

  friend bool operator<(const tracked& a, const tracked& b) { return a.value < b.value; }
  friend bool operator>(const tracked& a, const tracked& b) { return a.value > b.value; }
  friend bool operator<=(const tracked& a, const tracked& b) { return a.value <= b.value; }
  friend bool operator>=(const tracked& a, const tracked& b) { return a.value >= b.value; }
  friend bool operator==(const tracked& a, const tracked& b) { return a.value == b.value; }
};

/// f(x), whose value and derivative are given and which itself errs by `units` u of its value.
template <class Real>
[[nodiscard]] tracked<Real> function_of(const tracked<Real>& x, Real value, Real derivative,
                                        Real units) {
  const Real s = magnitude(value), d = magnitude(derivative);
  return {value, s, d * x.roundings() + units * s, 0, d * x.lost + 1};
}

template <class Real>
[[nodiscard]] tracked<Real> exp(const tracked<Real>& x) {
  const Real e = exponential(x.value);
  return function_of<Real>(x, e, e, 2);
}
/// exp as the power of two that selective models take.
template <class Real>
[[nodiscard]] tracked<Real> decay_over(const tracked<Real>& x) {
  const Real e = exponential(x.value);
  return function_of<Real>(x, e, e, 3);
}
template <class Real>
[[nodiscard]] tracked<Real> expm1(const tracked<Real>& x) {
  const Real e = expm1_of(x.value);
  return function_of<Real>(x, e, e + 1, 4);
}
template <class Real>
[[nodiscard]] tracked<Real> log1p(const tracked<Real>& x) {
  return function_of<Real>(x, log1p_of(x.value), 1 / (1 + x.value), 6);
}
template <class Real>
[[nodiscard]] tracked<Real> tanh(const tracked<Real>& x) {
  const Real t = hyperbolic_tangent(x.value);
  return function_of<Real>(x, t, 1 - t * t, 6);
}
/// The natural logarithm, by one step of Newton's method for exp(y) = x from that of double.
[[nodiscard]] inline double logarithm(double x) { return std::log(x); }
[[nodiscard]] inline binary128 logarithm(binary128 x) {
  const binary128 y = std::log(static_cast<double>(x));
  const binary128 rest = x * exponential(-y) - 1;
  return y + (rest - rest * rest / 2);
}
template <class Real>
[[nodiscard]] tracked<Real> log(const tracked<Real>& x) {
  return function_of<Real>(x, logarithm(x.value), 1 / x.value, 6);
}
template <class Real>
[[nodiscard]] tracked<Real> sigmoid(const tracked<Real>& x) {
  const Real s = 1 / (1 + exponential(-x.value));
  return function_of<Real>(x, s, s * (1 - s), fused_family ? 4 : 6);
}
template <class Real>
[[nodiscard]] tracked<Real> softplus(const tracked<Real>& x) {
  return function_of<Real>(x, softplus(x.value), 1 / (1 + exponential(-x.value)), 6);
}
/// (exp(x) - 1) / x and its derivative, which bounds its own derivative.
template <class Real>
[[nodiscard]] tracked<Real> phi1(const tracked<Real>& x) {
  return function_of<Real>(x, exact_phi1(x.value), exact_phi1_slope(x.value), 12);
}
template <class Real>
[[nodiscard]] tracked<Real> phi1_slope(const tracked<Real>& x) {
  const Real slope = exact_phi1_slope(x.value);
  return function_of<Real>(x, slope, slope, 20);
}
template <class Real>
[[nodiscard]] tracked<Real> sqrt(const tracked<Real>& x) {
  const Real r = square_root(x.value);
  return function_of<Real>(x, r, 1 / (2 * r), 1);
}
template <class Real>
[[nodiscard]] tracked<Real> abs(const tracked<Real>& x) {
  return x.value < 0 ? -x : x;
}
template <class Real>
[[nodiscard]] tracked<Real> copysign(const tracked<Real>& x, const tracked<Real>& y) {
  return (x.value < 0) == (y.value < 0) ? x : -x;
}
/// The smaller one; where that is a limit, the kernel may be at either side of it.
template <class Real>
[[nodiscard]] tracked<Real> min(const tracked<Real>& x, const tracked<Real>& limit) {
  if (!(x.value > limit.value)) return x;
  const Real share = is_finite(x.value) ? x.roundings() * (limit.value / x.value) : 0;
  return {limit.value, magnitude(limit.value), share, 0, limit.lost};
}
template <class Real>
[[nodiscard]] bool isnan(const tracked<Real>& x) {
  return x.value != x.value;
}
template <class Real>
[[nodiscard]] bool isfinite(const tracked<Real>& x) {
  return is_finite(x.value);
}

/// |actual - want| over what the bound allows: at most 1 for a correct kernel. A result that is not
/// finite must be so in both; where the magnitudes leave the range of S nothing is promised.
template <class S, class Real>
[[nodiscard]] double error_ratio(S actual, const tracked<Real>& want, double factor = 1) {
  return error_ratio(actual, bounded<Real>{want.value, want.s, want.roundings(), want.lost},
                     factor);
}

}  // namespace maslin::test
