// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `attention` and its adjoint; views without data are absent.
template <class Number>
struct attention_arrays_of {
  view<const Number, 4> query{};   // [B, T, H, K]
  view<const Number, 4> key{};     // [B, N, H', K]
  view<const Number, 4> value{};   // [B, N, H', E]
  view<const Number, 4> mask{};    // [B, T, H or 1, N], optional
  view<const Number, 1> slopes{};  // [H], optional
  view<const Number, 1> sinks{};   // [H], optional
  double scale = 0;                // 0: 1 / sqrt(K)
  double cap = 0;                  // 0: none
  index_t window = 0;              // 0: none
};
using attention_arrays = attention_arrays_of<double>;

/// The logit of query t of head h and key j, its derivative by their product, and whether the query
/// sees the key.
template <class Number>
struct attention_logit {
  Number value = 0, slope = 0;
  bool seen = false;
};
template <class Number>
[[nodiscard]] attention_logit<Number> logit_of(const attention_arrays_of<Number>& x, index_t b,
                                               index_t t, index_t h, index_t j) {
  using std::tanh;
  const index_t K = x.query.extent(3), position = t + x.key.extent(1) - x.query.extent(1);
  if (j > position || (x.window > 0 && j <= position - x.window)) return {};
  const bool masked = x.mask.data_handle() != nullptr;
  const Number mask = masked ? x.mask(b, t, x.mask.extent(2) == 1 ? 0 : h, j) : Number(0);
  if (mask == Number(-std::numeric_limits<double>::infinity())) return {};
  const index_t g = h * x.key.extent(2) / x.query.extent(2);
  const Number scale = x.scale != 0 ? x.scale : 1 / std::sqrt(static_cast<double>(K));
  Number s = 0, slope = scale;
  for (index_t k = 0; k < K; ++k) s += x.query(b, t, h, k) * x.key(b, j, g, k);
  s *= scale;
  if (x.cap != 0) {
    const Number cap = x.cap, u = tanh(s / cap);
    s = cap * u;
    slope *= (Number(1) - u) * (Number(1) + u);
  }
  if (x.slopes.data_handle() != nullptr)
    s += x.slopes(h) * Number(static_cast<double>(j - position));
  return {masked ? s + mask : s, slope, true};
}

template <class Number>
void expect_fitting(const attention_arrays_of<Number>& x,
                    const typename view<Number, 4>::shape& y) {
  const auto [B, T, H, E] = y;
  const index_t N = x.key.extent(1), groups = x.key.extent(2);
  MASLIN_EXPECT(x.query.extent(0) == B && x.query.extent(1) == T && x.query.extent(2) == H &&
                    x.key.extent(0) == B && x.value.extent(0) == B && x.value.extent(1) == N &&
                    x.value.extent(2) == groups && x.value.extent(3) == E && N >= T && groups > 0 &&
                    H % groups == 0 && x.key.extent(3) == x.query.extent(3),
                shape_error,
                "reference::attention: query must be [B, T, H, K], key [B, N, H', K], value "
                "[B, N, H', E], y [B, T, H, E], with N >= T and H' dividing H");
}

/// Causal softmax attention in two passes: the largest logit, then the weights.
///   s_j = cap tanh(scale <query[t], key[j]> / cap) + slope[h] (j - p) + mask[t,j],  p = t + N - T
///   y[t] = sum_j e^(s_j - m) value[j] / l,   m = max_j s_j,   l = sum_j e^(s_j - m) + e^(sink[h] - m)
///   lse[t] = m + log l;  j from max(0, p - window + 1) to p without those whose mask is -inf
///   (arXiv 1706.03762; grouped heads arXiv 2305.13245, slopes arXiv 2108.12409)
/// shapes    query [B, T, H, K]   key [B, N, H', K]   value [B, N, H', E]   y [B, T, H, E]
///           mask [B, T, H or 1, N]   slopes, sinks [H]   lse [B, T, H], optional
/// layout    any strides
/// aliasing  y and lse must not overlap anything else
/// numerics  double; a row that sees nothing is 0 with an lse of -inf
/// cost      B*T*H*N times K + E multiply-adds; one row of logits is allocated
/// effects   none
/// throws    shape_error before any write, std::bad_alloc
inline void attention(const attention_arrays& x, view<double, 4> y, view<double, 3> lse = {}) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  const index_t N = x.key.extent(1), groups = x.key.extent(2);
  expect_fitting(x, y.extents());
  std::vector<attention_logit<double>> row(static_cast<std::size_t>(N));
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        double largest = x.sinks.data_handle() != nullptr ? x.sinks(h) : -infinity;
        for (index_t j = 0; j < N; ++j) {
          attention_logit<double>& s = row[static_cast<std::size_t>(j)];
          s = logit_of(x, b, t, h, j);
          // A NaN stays the largest.
          if (s.seen && !(s.value <= largest) && !std::isnan(largest)) largest = s.value;
        }
        double sum = x.sinks.data_handle() != nullptr ? std::exp(x.sinks(h) - largest) : 0;
        for (index_t e = 0; e < E; ++e) y(b, t, h, e) = 0;
        for (index_t j = 0; j < N; ++j) {
          const attention_logit<double>& s = row[static_cast<std::size_t>(j)];
          if (!s.seen || s.value == -infinity) continue;
          const double weight = std::exp(s.value - largest);
          sum += weight;
          for (index_t e = 0; e < E; ++e)
            y(b, t, h, e) += weight * x.value(b, j, h * groups / H, e);
        }
        for (index_t e = 0; e < E && sum != 0; ++e) y(b, t, h, e) /= sum;
        if (lse.data_handle() != nullptr)
          lse(b, t, h) = sum == 0 ? -infinity : largest + std::log(sum);
      }
}

/// What the adjoint of `attention` is given and what it makes; views without data are absent.
template <class Number>
struct attention_adjoint {
  view<const Number, 4> dy{};                        // [B, T, H, E]
  view<const Number, 3> dlse{};                      // [B, T, H], optional
  view<const Number, 4> final_key{}, final_value{};  // as key and value, optional: of later calls
  view<Number, 4> y{}, query{}, key{}, value{};      // [B, T, H, E], and as the arrays
  view<Number, 4> mask{};                            // as the mask, if there is one
  view<Number, 1> sinks{};                           // as the sinks, if there are any
  view<Number, 3> lse{};                             // [B, T, H], optional
};

namespace detail {

template <class Number>
[[nodiscard]] bool is_minus_infinity(const Number& x) {
  return x == Number(-std::numeric_limits<double>::infinity());
}

/// The log-sum-exp of a row and its output.
template <class Number>
[[nodiscard]] Number attention_row(const attention_arrays_of<Number>& x,
                                   const std::vector<attention_logit<Number>>& row, index_t b,
                                   index_t t, index_t h, const view<Number, 4>& y) {
  using std::exp;
  using std::log;
  const bool has_sink = x.sinks.data_handle() != nullptr;
  const index_t g = h * x.key.extent(2) / x.query.extent(2);
  Number largest = has_sink ? x.sinks(h) : Number(-std::numeric_limits<double>::infinity());
  for (const auto& s : row)
    if (s.seen && s.value > largest) largest = s.value;
  for (index_t e = 0; e < y.extent(3); ++e) y(b, t, h, e) = 0;
  if (is_minus_infinity(largest)) return largest;
  Number sum = 0;
  if (has_sink && !is_minus_infinity(x.sinks(h))) sum += exp(x.sinks(h) - largest);
  for (index_t j = 0; j < x.key.extent(1); ++j) {
    if (!row[static_cast<std::size_t>(j)].seen) continue;
    const Number weight = exp(row[static_cast<std::size_t>(j)].value - largest);
    sum += weight;
    for (index_t e = 0; e < y.extent(3); ++e) y(b, t, h, e) += weight * x.value(b, j, g, e);
  }
  for (index_t e = 0; e < y.extent(3); ++e) y(b, t, h, e) /= sum;
  return largest + log(sum);
}

/// Adds what one row gives to the gradients.
template <class Number>
void add_attention_row(const attention_arrays_of<Number>& x, const attention_adjoint<Number>& d,
                       const std::vector<attention_logit<Number>>& row, index_t b, index_t t,
                       index_t h, const Number& lse) {
  using std::exp;
  const index_t g = h * x.key.extent(2) / x.query.extent(2);
  Number delta = 0;
  for (index_t e = 0; e < x.value.extent(3); ++e) delta += d.dy(b, t, h, e) * d.y(b, t, h, e);
  if (d.dlse.data_handle() != nullptr) delta -= d.dlse(b, t, h);
  if (x.sinks.data_handle() != nullptr && !is_minus_infinity(x.sinks(h)))
    d.sinks(h) -= exp(x.sinks(h) - lse) * delta;
  for (index_t j = 0; j < x.key.extent(1); ++j) {
    const auto& s = row[static_cast<std::size_t>(j)];
    if (!s.seen) continue;
    const Number p = exp(s.value - lse);
    Number dp = 0;
    for (index_t e = 0; e < x.value.extent(3); ++e) {
      d.value(b, j, g, e) += p * d.dy(b, t, h, e);
      dp += d.dy(b, t, h, e) * x.value(b, j, g, e);
    }
    const Number dlogit = p * (dp - delta), dscore = dlogit * s.slope;
    if (d.mask.data_handle() != nullptr) d.mask(b, t, d.mask.extent(2) == 1 ? 0 : h, j) += dlogit;
    for (index_t k = 0; k < x.key.extent(3); ++k) {
      d.query(b, t, h, k) += dscore * x.key(b, j, g, k);
      d.key(b, j, g, k) += dscore * x.query(b, t, h, k);
    }
  }
}

/// f(element) for each element of a view, in no order.
template <class Number, class F>
void for_each_element(const view<Number, 4>& v, const F& f) {
  if (v.data_handle() == nullptr) return;
  for (index_t b = 0; b < v.extent(0); ++b)
    for (index_t t = 0; t < v.extent(1); ++t)
      for (index_t h = 0; h < v.extent(2); ++h)
        for (index_t e = 0; e < v.extent(3); ++e) f(v(b, t, h, e), b, t, h, e);
}

}  // namespace detail

/// The adjoint of `attention`, which is carried out first, row by row.
///   P_tj = e^(s_tj - lse_t)   D_t = <dy_t, y_t> - dlse_t   dlogit_tj = P_tj (<dy_t, v_j> - D_t)
///   dv_j = sum_t P_tj dy_t    dq_t = sum_j s'_tj dlogit_tj k_j    dk_j = sum_t s'_tj dlogit_tj q_t
///   s'_tj = scale (1 - tanh^2) the derivative of the logit by <q_t, k_j>;   dmask = dlogit
///   dsink = -sum_t e^(sink - lse_t) D_t                             (arXiv 2205.14135, appendix B.2)
/// dk and dv begin with final_key and final_value; they cover all N keys, those without queries too.
/// Number is double, or a number that carries more with it; exp, log and tanh are found beside it.
/// shapes    as `attention`
/// layout    any strides
/// aliasing  none
/// numerics  those of Number; a row that sees nothing gives zeros
/// cost      B*T*H*N times 3 K + 2 E multiply-adds; one row of logits is allocated
/// effects   all gradients are overwritten
/// throws    shape_error before any write, std::bad_alloc
template <class Number>
void attention_backward(const attention_arrays_of<Number>& x, const attention_adjoint<Number>& d) {
  expect_fitting(x, d.dy.extents());
  const index_t N = x.key.extent(1);
  const auto zero = [](Number& to, auto...) { to = 0; };
  for (const auto* v : {&d.query, &d.key, &d.value, &d.mask}) detail::for_each_element(*v, zero);
  if (x.sinks.data_handle() != nullptr)
    for (index_t h = 0; h < d.sinks.extent(0); ++h) d.sinks(h) = 0;
  for (const auto& [to, from] : {std::pair{d.key, d.final_key}, std::pair{d.value, d.final_value}})
    if (from.data_handle() != nullptr)
      detail::for_each_element(to,
                               [&, &later = from](Number& sum, auto... i) { sum += later(i...); });
  std::vector<attention_logit<Number>> row(static_cast<std::size_t>(N));
  for (index_t b = 0; b < x.query.extent(0); ++b)
    for (index_t t = 0; t < x.query.extent(1); ++t)
      for (index_t h = 0; h < x.query.extent(2); ++h) {
        for (index_t j = 0; j < N; ++j) row[static_cast<std::size_t>(j)] = logit_of(x, b, t, h, j);
        const Number lse = detail::attention_row(x, row, b, t, h, d.y);
        if (d.lse.data_handle() != nullptr) d.lse(b, t, h) = lse;
        if (!detail::is_minus_infinity(lse)) detail::add_attention_row(x, d, row, b, t, h, lse);
      }
}

}  // namespace maslin::inline MASLIN_ABI::reference
