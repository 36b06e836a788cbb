// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Decays of complex diagonal recurrences from the parameters that models train: the polar form of
/// the LRU, and a step of a system in continuous time (S4D). Once a channel, before any scan, and
/// so by the C library: the promise of equal bytes begins with the decays, not with these.

#include <maslin/core/config.hpp>

#include <cmath>
#include <complex>
#include <concepts>

namespace maslin::inline MASLIN_ABI {

/// One channel of a complex LRU (arXiv 2303.06349).
///   decay       = exp(-exp(nu) + i exp(theta)): of modulus below one, whatever is trained
///   input scale = exp(gamma_log)
template <std::floating_point S>
struct lru_parameters {
  S nu = 0, theta = 0, gamma_log = 0;
};

/// The decay of a channel, for `diagonal<std::complex<S>>`.
///   exp(-exp(nu)) (cos exp(theta) + i sin exp(theta))
/// numerics  each part within a few u of the modulus; the modulus rounds to 1 for nu below -17
///           (double: -37)
template <std::floating_point S>
[[nodiscard]] std::complex<S> lru_decay(const lru_parameters<S>& p) {
  return std::polar(std::exp(-std::exp(p.nu)), std::exp(p.theta));
}

/// What the input of a channel is multiplied by, so that the state keeps the input's variance.
///   exp(gamma_log)
template <std::floating_point S>
[[nodiscard]] S lru_input_scale(const lru_parameters<S>& p) {
  return std::exp(p.gamma_log);
}

/// Parameters whose decays are uniform in area on the ring r_min <= |decay| <= r_max, with phases
/// below max_phase, from two numbers u1, u2 uniform in [0, 1).
///   nu        = log(-log(u1 (r_max^2 - r_min^2) + r_min^2) / 2)
///   theta     = log(max_phase u2)
///   gamma_log = log(1 - |decay|^2) / 2,  where 1 - |decay|^2 = -expm1(-2 exp(nu)) does not cancel
/// numerics  0 <= r_min <= r_max <= 1 is asked for, not checked; r_max = 1 is legal, as u1 < 1
template <std::floating_point S>
[[nodiscard]] lru_parameters<S> lru_ring(S r_min, S r_max, S max_phase, S u1, S u2) {
  const S area = u1 * (r_max * r_max - r_min * r_min) + r_min * r_min;
  const S rate = -std::log(area) / 2;  // exp(nu)
  return {std::log(rate), std::log(max_phase * u2), std::log(-std::expm1(-2 * rate)) / 2};
}

/// The decay of one step of length `step` of h' = A h (S4D, arXiv 2206.11893, zero-order hold).
///   exp(step A)
/// numerics  real parts of A are negative in stable systems; nothing is checked
template <std::floating_point S>
[[nodiscard]] std::complex<S> continuous_decay(std::complex<S> A, S step) {
  return std::exp(step * A);
}

/// What the input of that step is multiplied by: the zero-order hold (exp(step A) - 1) / A of B =
/// 1.
/// numerics  each part within a few u of the modulus, for small steps too: exp(z) - 1 is formed as
///           expm1(re) cos(im) - 2 sin(im / 2)^2 + i exp(re) sin(im); `step` for A = 0
template <std::floating_point S>
[[nodiscard]] std::complex<S> continuous_input_scale(std::complex<S> A, S step) {
  if (A == std::complex<S>()) return step;
  const std::complex<S> z = step * A;
  const S half = std::sin(z.imag() / 2);
  const std::complex<S> difference(std::expm1(z.real()) * std::cos(z.imag()) - 2 * half * half,
                                   std::exp(z.real()) * std::sin(z.imag()));
  return difference / A;
}

}  // namespace maslin::inline MASLIN_ABI
