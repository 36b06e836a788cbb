// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The oracles of the mixers with a matrix state, with the bound of bound.hpp for every number of
/// state. Beside one rounding a fma they count, in units of u:
///
///   a decay                      2, its exp
///   a feature of elu + 1         2
///   a product beside a decay     1: a S + (k v) rounds k v
///   a sum of K products          K a term
///   the scale of K^-1/2          2, and 1 where it is applied

#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>
#include <vector>

namespace maslin::test {

/// The arrays of one call of linear attention or the delta rule, exact in S; empty views are absent.
/// Micro-steps of the delta rule follow their token in `key`, `value` and `beta`.
template <class S>
struct matrix_call {
  view<const S, 4> query, key, value;  // [B, T, H', K], [B, T R, H', K], [B, T R, H', E]
  view<const S, 3> beta;               // [B, T R, H]
  view<const S, 3> log_decay;          // [B, T, H]
  view<const S, 4> log_decays;         // [B, T, H, K]
  index_t heads = 1;
  feature map = feature::given;
  bool normalised = false;
};

/// A matrix [K, E] and a vector [K] for each head of each sequence, row-major.
template <class Real>
struct matrix_numbers {
  std::vector<bounded<Real>> matrix, vector;
};

namespace detail {

/// A number of which the kernel knows all but e u of it.
template <class Real>
[[nodiscard]] bounded<Real> rounded(Real x, Real e) {
  return {x, magnitude(x), e * magnitude(x), 1};
}
template <class Real>
[[nodiscard]] bounded<Real> product(const bounded<Real>& a, const bounded<Real>& b) {
  return {a.value * b.value, a.s * b.s, a.w * b.s + a.s * b.w, a.lost * b.s + a.s * b.lost + 1};
}
template <class Real>
[[nodiscard]] bounded<Real> sum(const bounded<Real>& a, const bounded<Real>& b) {
  return {a.value + b.value, a.s + b.s, a.w + b.w, a.lost + b.lost};
}
template <class Real>
[[nodiscard]] bounded<Real> round(bounded<Real> a, Real times = 1) {
  a.w += times * a.s;
  a.lost += times;
  return a;
}

template <class Real, class S>
[[nodiscard]] bounded<Real> feature_of(feature map, S raw) {
  const Real x = raw;
  if (map == feature::given) return bounded<Real>::exact(x);
  return rounded<Real>(x > 0 ? x + 1 : exponential(x), 2);
}
template <class Real, class S>
[[nodiscard]] bounded<Real> decay_of(const matrix_call<S>& c, index_t b, index_t t, index_t h,
                                     index_t i) {
  if (c.log_decay.data_handle() != nullptr)
    return rounded<Real>(exponential(static_cast<Real>(c.log_decay(b, t, h))), 2);
  if (c.log_decays.data_handle() != nullptr)
    return rounded<Real>(exponential(static_cast<Real>(c.log_decays(b, t, h, i))), 2);
  return bounded<Real>::exact(1);
}

/// scale sum_i q_i x_i.
template <class Real, class Q, class X>
[[nodiscard]] bounded<Real> read_out(index_t K, const Q& q, const X& x) {
  bounded<Real> y;
  for (index_t i = 0; i < K; ++i) y = sum(y, product(q(i), x(i)));
  const Real scale = 1 / square_root(static_cast<Real>(K));
  y = round(y, static_cast<Real>(K + 3));
  return {scale * y.value, scale * y.s, scale * y.w, scale * y.lost + 1};
}

}  // namespace detail

/// y of every token [B, T, H, E] of linear attention, scale K^-1/2; `state` is updated.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> linear_bounds(const matrix_call<S>& c, index_t E,
                                                       matrix_numbers<Real>& state) {
  using namespace detail;
  const index_t B = c.query.extent(0), T = c.query.extent(1), K = c.query.extent(3), H = c.heads;
  const bool decays = c.log_decay.data_handle() != nullptr || c.log_decays.data_handle() != nullptr;
  std::vector<bounded<Real>> out;
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        bounded<Real>* matrix = state.matrix.data() + (b * H + h) * K * E;
        bounded<Real>* vector = state.vector.data() + (b * H + h) * K;
        const index_t hq = h * c.query.extent(2) / H, hk = h * c.key.extent(2) / H,
                      hv = h * c.value.extent(2) / H;
        const auto q = [&](index_t i) { return feature_of<Real>(c.map, c.query(b, t, hq, i)); };
        for (index_t i = 0; i < K; ++i) {
          const auto a = decay_of<Real>(c, b, t, h, i);
          const auto k = feature_of<Real>(c.map, c.key(b, t, hk, i));
          for (index_t e = 0; e < E; ++e) {
            bounded<Real>& s = matrix[i * E + e];
            auto added = product(k, bounded<Real>::exact(c.value(b, t, hv, e)));
            if (decays) added = round(added);
            s = round(sum(product(a, s), added));
          }
          if (c.normalised) vector[i] = round(sum(product(a, vector[i]), k));
        }
        bounded<Real> n = bounded<Real>::exact(1);
        if (c.normalised) {
          n = read_out<Real>(K, q, [&](index_t i) { return vector[i]; });
          n = sum(n, rounded<Real>(Real(1e-10), 1));
          n = round(n);
        }
        for (index_t e = 0; e < E; ++e) {
          auto y = read_out<Real>(K, q, [&](index_t i) { return matrix[i * E + e]; });
          if (c.normalised) {
            const Real d = magnitude(n.value);
            y = round(bounded<Real>{y.value / n.value, y.s / d, y.w / d + y.s / d * n.w / d,
                                    y.lost / d + y.s / d * n.lost / d});
          }
          out.push_back(y);
        }
      }
  return out;
}

/// y of every token [B, T, H, E] of the delta rule with R micro-steps, scale K^-1/2; `state` is
/// updated.
template <class Real, class S>
[[nodiscard]] std::vector<bounded<Real>> delta_bounds(const matrix_call<S>& c, index_t R, index_t E,
                                                      matrix_numbers<Real>& state) {
  using namespace detail;
  const index_t B = c.query.extent(0), T = c.query.extent(1), K = c.query.extent(3), H = c.heads;
  std::vector<bounded<Real>> out;
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        bounded<Real>* matrix = state.matrix.data() + (b * H + h) * K * E;
        const index_t hq = h * c.query.extent(2) / H, hk = h * c.key.extent(2) / H,
                      hv = h * c.value.extent(2) / H;
        for (index_t m = t * R; m < (t + 1) * R; ++m)
          for (index_t e = 0; e < E; ++e) {
            const auto a = m == t * R ? decay_of<Real>(c, b, t, h, 0) : bounded<Real>::exact(1);
            const auto k = [&](index_t i) { return bounded<Real>::exact(c.key(b, m, hk, i)); };
            bounded<Real> p;
            for (index_t i = 0; i < K; ++i) p = sum(p, product(k(i), matrix[i * E + e]));
            p = product(a, round(p, static_cast<Real>(K)));
            p.value = -p.value;
            const auto beta = bounded<Real>::exact(c.beta(b, m, h));
            const auto v = bounded<Real>::exact(c.value(b, m, hv, e));
            const auto u = round(product(beta, round(sum(v, p))));
            for (index_t i = 0; i < K; ++i) {
              bounded<Real>& s = matrix[i * E + e];
              s = round(sum(product(a, s), round(product(k(i), u))));
            }
          }
        for (index_t e = 0; e < E; ++e)
          out.push_back(read_out<Real>(
              K, [&](index_t i) { return bounded<Real>::exact(c.query(b, t, hq, i)); },
              [&](index_t i) { return matrix[i * E + e]; }));
      }
  return out;
}

}  // namespace maslin::test
