// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The oracle of the accuracy tests: evaluates each recurrence in a wider type and carries along
/// how far a kernel may be from it. Written apart from the kernels and from maslin::reference.
///
/// One step forms h = sum_k c_k u_k. With S the sum of magnitudes and u the unit round-off,
///
///   S(h) = sum_k |c_k| S(u_k)              what the result would be without cancellation
///   W(h) = sum_k |c_k| W(u_k) + S(h)       one rounding of size u S(h) a step, carried on
///
/// so that a chain of one fma a step errs by at most u W, to first order. A row of M + 1 terms
/// takes M + 1 of them: |err| <= k (M + 1) u W, with k = 1 for the sequential policies with fma, 2
/// without, 3 for the chunked policy. An error e u of each coefficient adds e u S(h) a step, which
/// is e u W in all; e = M + 8 stands for coefficients normalised in the kernel. That leaves out one
/// term: the argument z - max of a softmax rounds too, by |z - max| u relative to its coefficient
/// exp(z - max). Against the row's largest coefficient it is below u, so it shows only where what
/// the large coefficients multiply is zero: tests of far-apart logits keep inputs and states away
/// from that. Below the smallest normal number lambda no relative bound holds: a product or a
/// coefficient may lose up to lambda (an exp that flushes does), which `lost` counts in units of
/// lambda.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cfloat>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace maslin::test {

/// The oracle's type for double kernels.
#if defined(__SIZEOF_FLOAT128__)
__extension__ typedef __float128 binary128;
#else
static_assert(LDBL_MANT_DIG == 113, "no type of 113 bits for the oracle");
using binary128 = long double;
#endif

/// The oracle's type for kernels that compute in S.
template <class S>
struct wider;
template <>
struct wider<float> {
  using type = double;
};
template <>
struct wider<double> {
  using type = binary128;
};
template <class S>
using wider_t = typename wider<S>::type;

/// Half a unit in the last place of 1.
template <std::floating_point S>
inline constexpr double unit_roundoff = static_cast<double>(std::numeric_limits<S>::epsilon()) / 2;

// ---- functions of the oracle's type ----

template <class Real>
[[nodiscard]] Real magnitude(Real x) {
  return x < 0 ? -x : x;
}

template <class Real>
[[nodiscard]] bool is_finite(Real x) {
  return x - x == 0;
}

/// exp(x) - 1 for |x| <= ln 2, by its series at x / 256 and eight doublings (1 + e)^2 - 1.
[[nodiscard]] inline binary128 expm1_small(binary128 x) {
  constexpr int doublings = 8, terms = 12;
  const binary128 r = x / (1 << doublings);
  binary128 e = 0;
  for (int n = terms; n >= 1; --n) e = r / n * (1 + e);
  for (int i = 0; i < doublings; ++i) e = e * (2 + e);
  return e;
}

[[nodiscard]] inline double exponential(double x) { return std::exp(x); }
[[nodiscard]] inline binary128 exponential(binary128 x) {
  if (!(x < 11000)) return x < 11000 || x != x ? x : std::numeric_limits<double>::infinity();
  if (x < -11000) return 0;
  // ln 2 as a sum of three doubles: n times the first is exact.
  constexpr double ln2[] = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56, 0x1.7b57a079a1934p-111};
  const int n = static_cast<int>(std::lround(static_cast<double>(x) / ln2[0]));
  binary128 r = x;
  for (const double part : ln2) r -= static_cast<binary128>(part) * n;
  binary128 result = 1 + expm1_small(r);
  for (int i = 0; i < (n < 0 ? -n : n); ++i) result *= n < 0 ? 0.5 : 2.0;
  return result;
}

[[nodiscard]] inline double expm1_of(double x) { return std::expm1(x); }
[[nodiscard]] inline binary128 expm1_of(binary128 x) {
  return magnitude(x) < 0.5 ? expm1_small(x) : exponential(x) - 1;
}

/// log(1 + x) for x > -1, by Newton's method for expm1(y) = x from that of double.
[[nodiscard]] inline double log1p_of(double x) { return std::log1p(x); }
[[nodiscard]] inline binary128 log1p_of(binary128 x) {
  const binary128 y = std::log1p(static_cast<double>(x));
  return y - (expm1_of(y) - x) / (1 + x);
}

[[nodiscard]] inline double hyperbolic_tangent(double x) { return std::tanh(x); }
[[nodiscard]] inline binary128 hyperbolic_tangent(binary128 x) {
  if (x < 0) return -hyperbolic_tangent(-x);
  if (x > 50) return 1;
  const binary128 e = x < 0.25 ? expm1_small(2 * x) : exponential(2 * x) - 1;
  return e / (e + 2);
}

/// The coefficients of a row of logits. `smallest_normal` is that of the kernel's type.
template <class Real>
[[nodiscard]] std::vector<Real> coefficients(normalise kind, std::vector<Real> z,
                                             double smallest_normal) {
  if (kind == normalise::none || z.empty()) return z;
  const bool is_signed = kind == normalise::tanh_l1 || kind == normalise::lin_l1;
  const bool has_limit_at_infinity = kind == normalise::sigmoid_l1 || kind == normalise::tanh_l1;
  const Real inf = std::numeric_limits<double>::infinity();
  Real top = -inf, reach = 0;
  for (const Real x : z) {
    if (x != x) return std::vector<Real>(z.size(), x);
    if (x > top) top = x;
    if (magnitude(x) > reach) reach = magnitude(x);
  }
  const bool split = !has_limit_at_infinity && (is_signed ? reach : top) == inf;
  const bool dead = !is_signed && kind != normalise::relu_l1 && top == -inf;

  Real sum = 0;
  for (Real& x : z) {
    if (dead) {
      x = 0;
    } else if (split) {
      const bool counts = is_signed ? magnitude(x) == inf : x == inf;
      x = !counts ? 0 : x < 0 ? -1 : 1;
    } else if (kind == normalise::softmax) {
      x = exponential(x - top);
    } else if (kind == normalise::sigmoid_l1) {
      // Divided by exp(top) where that is small, as it is in every entry of the row.
      x = top < 0 ? exponential(x - top) / (1 + exponential(x)) : 1 / (1 + exponential(-x));
    } else if (kind == normalise::relu_l1) {
      x = x > 0 ? x : 0;
    } else if (kind == normalise::tanh_l1) {
      x = hyperbolic_tangent(x);
    }
    sum += magnitude(x);
  }
  if (kind == normalise::relu_l1 && !split) {
    sum += static_cast<Real>(0.001) * static_cast<int>(z.size());
  }
  const bool vanishes = is_signed && sum < smallest_normal;
  for (Real& x : z) x = vanishes || dead ? 0 : x / sum;
  return z;
}

// ---- values with their bounds ----

/// A number and what the error bound needs to know of it.
template <class Real>
struct bounded {
  Real value = 0;
  Real s = 0;     ///< S: the sum of magnitudes
  Real w = 0;     ///< W: the roundings so far, in units of u
  Real lost = 0;  ///< the underflows so far, in units of the smallest normal number

  /// A number that the kernel knows exactly.
  static bounded exact(Real x) { return {x, magnitude(x), 0, 0}; }
};

/// A state that the kernel knows exactly: `h` in row-major order.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> exact_state(std::span<const S> h) {
  std::vector<bounded<Real>> state;
  for (const S x : h) state.push_back(bounded<Real>::exact(static_cast<Real>(x)));
  return state;
}

/// sum_k c[k] u[k], by one rounding of each partial sum.
template <class Real>
[[nodiscard]] bounded<Real> combine(std::span<const Real> c, std::span<const bounded<Real>> u) {
  bounded<Real> h;
  for (std::size_t k = 0; k < c.size(); ++k) {
    const Real a = magnitude(c[k]);
    h.value += c[k] * u[k].value;
    h.s += a * u[k].s;
    h.w += a * u[k].w;
    h.lost += a * u[k].lost + u[k].s + 1;
  }
  h.w += h.s;
  return h;
}

/// h[t] = a[t] h[t-1] + x[t]. `gate`, `input` are [B, T, D]; `state` [B, D] is updated; the result
/// is [B, T, D], all row-major.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> diagonal_bounds(decay form, view<const S, 3> gate,
                                                         view<const S, 3> input,
                                                         std::vector<bounded<Real>>& state) {
  using term = bounded<Real>;
  const index_t B = input.extent(0), T = input.extent(1), D = input.extent(2);
  std::vector<term> out;
  out.reserve(static_cast<std::size_t>(B * T * D));
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        const Real g = gate(b, t, d);
        const Real a = form == decay::value ? g : form == decay::log ? exponential(g) : 1 - g;
        term& h = state[static_cast<std::size_t>(b * D + d)];
        const Real c[] = {a, 1};
        const term u[] = {h, term::exact(input(b, t, d))};
        h = combine<Real>(c, u);
        if (form == decay::complement) {
          // h + (x - g h) rounds the difference too, which is larger than S where g is not small.
          const Real difference = magnitude(g) * u[0].s + u[1].s;
          if (difference > h.s) h.w += difference - h.s;
        }
        out.push_back(h);
      }
    }
  }
  return out;
}

/// h[t] = a[t] h[t-1] + x[t] over complex numbers, each part a row of three terms: two roundings.
/// `gate` is dense, [B, T, D, 2], as `input` is; `state` [B, D, 2] is updated; the result is [B, T,
/// D, 2].
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> complex_bounds(const S* gate, view<const S, 4> input,
                                                        std::vector<bounded<Real>>& state) {
  using term = bounded<Real>;
  const index_t B = input.extent(0), T = input.extent(1), D = input.extent(2);
  std::vector<term> out;
  out.reserve(static_cast<std::size_t>(B * T * D * 2));
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        const S* const a = gate + ((b * T + t) * D + d) * 2;
        term* const h = state.data() + (b * D + d) * 2;
        const Real re[] = {Real(a[0]), -Real(a[1]), 1}, im[] = {Real(a[1]), Real(a[0]), 1};
        const term u[] = {h[0], h[1], term::exact(input(b, t, d, 0))};
        const term v[] = {h[0], h[1], term::exact(input(b, t, d, 1))};
        h[0] = combine<Real>(re, u);
        h[1] = combine<Real>(im, v);
        out.push_back(h[0]);
        out.push_back(h[1]);
      }
    }
  }
  return out;
}

/// sqrt(x), by Newton's method from that of double.
[[nodiscard]] inline double square_root(double x) { return std::sqrt(x); }
[[nodiscard]] inline binary128 square_root(binary128 x) {
  const binary128 s = std::sqrt(static_cast<double>(x));
  return s > 0 ? (s + x / s) / 2 : s;
}

/// softplus(x) from log1p, or by Newton's method for exp(y) = 1 + exp(x) from that.
[[nodiscard]] inline double softplus(double x) {
  return (x > 0 ? x : 0) + std::log1p(std::exp(-magnitude(x)));
}
[[nodiscard]] inline binary128 softplus(binary128 x) {
  const binary128 y = softplus(static_cast<double>(x));
  return y - 1 + (1 + exponential(x)) * exponential(-y);
}

/// (exp(x) - 1) / x.
template <class Real>
[[nodiscard]] Real exact_phi1(Real x) {
  if (magnitude(x) > Real(0.5)) return (exponential(x) - 1) / x;
  Real sum = 1;
  for (int n = 24; n >= 2; --n) sum = 1 + x * sum / n;
  return sum;
}

/// Its derivative, sum_k (k + 1) x^k / (k + 2)! near 0.
template <class Real>
[[nodiscard]] Real exact_phi1_slope(Real x) {
  if (magnitude(x) > Real(1)) return (exponential(x) - exact_phi1(x)) / x;
  Real sum = 0, term = Real(1) / 2;
  for (int k = 0; k < 32; ++k) {
    sum += term;
    term = term * x * (k + 2) / ((k + 1) * (k + 3));
  }
  return sum;
}

/// h[t] = a[t] h[t-1] + mu[t] i[t] x[t], log a = -8 r softplus(decay), mu = sqrt(1 - a^2) but 1 at
/// the first token. The gates and `input` are [B, T, D], `decay` [D]; `state` [B, D], before the
/// first token, is updated; the result is [B, T, D], row-major. W holds the errors of the
/// coefficients too: 2 ulp of 2^x and 3 of 1 - 2^x, 9 u |log a| from the exponent, 13 where r is
/// the sigmoid of a logit.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> rglru_bounds(gate_form form, view<const S, 1> decay,
                                                      view<const S, 3> recurrence_gate,
                                                      view<const S, 3> input_gate,
                                                      view<const S, 3> input,
                                                      std::vector<bounded<Real>>& state) {
  using term = bounded<Real>;
  const index_t B = input.extent(0), T = input.extent(1), D = input.extent(2);
  const bool logits = form == gate_form::logit;
  const auto gate = [logits](Real z) -> Real { return logits ? 1 / (1 + exponential(-z)) : z; };
  const Real family = fused_family ? 0 : 2;
  std::vector<term> out;
  out.reserve(static_cast<std::size_t>(B * T * D));
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        const Real log_a = -8 * gate(recurrence_gate(b, t, d)) * softplus(Real(decay(d)));
        const Real a = exponential(log_a);
        const Real lost = -expm1_of(log_a);
        const Real mu = t == 0 ? 1 : square_root(lost * (1 + a));
        term& h = state[static_cast<std::size_t>(b * D + d)];
        const Real c[] = {a, mu * gate(input_gate(b, t, d))};
        const term u[] = {h, term::exact(input(b, t, d))};
        h = combine<Real>(c, u);
        const Real of_a = 4 + family + (logits ? 13 : 9) * magnitude(log_a);
        h.w += of_a * a * u[0].s + (family + (logits ? 18 : 12)) * magnitude(c[1]) * u[1].s;
        out.push_back(h);
      }
    }
  }
  return out;
}

/// h[t] = sum_k p[t,k-1] h[t-k] + p[t,M] v[t]. `gate` [B, T, D, M+1], `input` [B, T, D]; `state`
/// [B, D, M], newest first, is updated; the result is [B, T, D], all row-major. The rows of ones
/// only copy, so they round nothing.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> hlru_bounds(normalise kind, view<const S, 4> gate,
                                                     view<const S, 3> input,
                                                     std::vector<bounded<Real>>& state) {
  using term = bounded<Real>;
  const index_t B = gate.extent(0), T = gate.extent(1), D = gate.extent(2), M = gate.extent(3) - 1;
  std::vector<term> out;
  out.reserve(static_cast<std::size_t>(B * T * D));
  std::vector<Real> logits(static_cast<std::size_t>(M + 1));
  std::vector<term> u(static_cast<std::size_t>(M + 1));
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        term* const lags = state.data() + (b * D + d) * M;
        for (index_t k = 0; k <= M; ++k) logits[static_cast<std::size_t>(k)] = gate(b, t, d, k);
        for (index_t k = 0; k < M; ++k) u[static_cast<std::size_t>(k)] = lags[k];
        u.back() = term::exact(input(b, t, d));
        const auto p = coefficients<Real>(kind, logits, std::numeric_limits<S>::min());
        const term h = combine<Real>(p, u);
        for (index_t k = M - 1; k >= 1; --k) lags[k] = lags[k - 1];
        lags[0] = h;
        out.push_back(h);
      }
    }
  }
  return out;
}

/// h[t,i] = sum_j p[t,i,j] h[t-1,j] + p[t,i,M] v[t,i] in each block. `gate` [B, T, G, M, M+1],
/// `input` [B, T, G, M]; `state` [B, G, M] is updated; the result is [B, T, G, M], all row-major.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> bdlru_bounds(normalise kind, view<const S, 5> gate,
                                                      view<const S, 4> input,
                                                      std::vector<bounded<Real>>& state) {
  using term = bounded<Real>;
  const index_t B = gate.extent(0), T = gate.extent(1), G = gate.extent(2), M = gate.extent(3);
  std::vector<term> out;
  out.reserve(static_cast<std::size_t>(B * T * G * M));
  std::vector<Real> logits(static_cast<std::size_t>(M + 1));
  std::vector<term> u(static_cast<std::size_t>(M + 1));
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t g = 0; g < G; ++g) {
        term* const block = state.data() + (b * G + g) * M;
        for (index_t j = 0; j < M; ++j) u[static_cast<std::size_t>(j)] = block[j];
        for (index_t i = 0; i < M; ++i) {
          for (index_t k = 0; k <= M; ++k) {
            logits[static_cast<std::size_t>(k)] = gate(b, t, g, i, k);
          }
          u.back() = term::exact(input(b, t, g, i));
          const auto p = coefficients<Real>(kind, logits, std::numeric_limits<S>::min());
          block[i] = combine<Real>(p, u);
          out.push_back(block[i]);
        }
      }
    }
  }
  return out;
}

// ---- factors and ratios ----

/// What a kernel does with time: the factor k of one multiply-add.
enum class walk { sequential, chunked };

[[nodiscard]] constexpr double per_term(walk w) {
  return w == walk::chunked ? 3 : fused_family ? 1 : 2;
}

/// k of the diagonal recurrence. decay::log: exp errs by at most one unit in the last place, 2 u.
/// decay::complement: two roundings, of the difference and of the sum, with fma or without a third.
[[nodiscard]] constexpr double error_factor(walk w, decay form) {
  const double rounds = per_term(w);
  switch (form) {
    case decay::log: return rounds + 2;
    case decay::complement: return rounds + 1;
    case decay::value: break;
  }
  return rounds;
}

/// k (M + 1) of a recurrence of order M, plus M + 8 for coefficients computed in the kernel.
[[nodiscard]] constexpr double error_factor(walk w, int order, normalise kind) {
  return per_term(w) * (order + 1) + (kind == normalise::none ? 0 : order + 8);
}

/// |actual - want| over what the bound allows: at most 1 for a correct kernel. A result that is not
/// finite must be so in both; where the magnitudes leave the range of S nothing is promised.
template <class S, class Real>
[[nodiscard]] double error_ratio(S actual, const bounded<Real>& want, double factor) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  if (!is_finite(want.value)) return std::isfinite(actual) ? inf : 0;
  if (want.s > static_cast<Real>(std::numeric_limits<S>::max())) return 0;
  if (!std::isfinite(actual)) return inf;
  const Real error = magnitude(static_cast<Real>(actual) - want.value);
  const Real allowed = factor * unit_roundoff<S> * want.w +
                       static_cast<Real>(std::numeric_limits<S>::min()) * want.lost;
  return error == 0 ? 0 : static_cast<double>(error / allowed);
}

}  // namespace maslin::test
