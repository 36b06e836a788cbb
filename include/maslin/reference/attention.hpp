// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>
#include <limits>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `attention`; views without data are absent.
struct attention_arrays {
  view<const double, 4> query{};   // [B, T, H, K]
  view<const double, 4> key{};     // [B, N, H', K]
  view<const double, 4> value{};   // [B, N, H', E]
  view<const double, 4> mask{};    // [B, T, H or 1, N], optional
  view<const double, 1> slopes{};  // [H], optional
  view<const double, 1> sinks{};   // [H], optional
  double scale = 0;                // 0: 1 / sqrt(K)
  double cap = 0;                  // 0: none
  index_t window = 0;              // 0: none
};

/// The logit of query t of head h and key j, and whether the query sees the key.
struct attention_logit {
  double value;
  bool seen;
};
[[nodiscard]] inline attention_logit logit_of(const attention_arrays& x, index_t b, index_t t,
                                              index_t h, index_t j) {
  const index_t K = x.query.extent(3), position = t + x.key.extent(1) - x.query.extent(1);
  if (j > position || (x.window > 0 && j <= position - x.window)) return {0, false};
  const bool masked = x.mask.data_handle() != nullptr;
  const double mask = masked ? x.mask(b, t, x.mask.extent(2) == 1 ? 0 : h, j) : 0;
  if (mask == -std::numeric_limits<double>::infinity()) return {0, false};
  const index_t g = h * x.key.extent(2) / x.query.extent(2);
  double s = 0;
  for (index_t k = 0; k < K; ++k) s += x.query(b, t, h, k) * x.key(b, j, g, k);
  s *= x.scale != 0 ? x.scale : 1 / std::sqrt(static_cast<double>(K));
  if (x.cap != 0) s = x.cap * std::tanh(s / x.cap);
  if (x.slopes.data_handle() != nullptr) s += x.slopes(h) * static_cast<double>(j - position);
  return {s + mask, true};
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
  MASLIN_EXPECT(x.query.extent(0) == B && x.query.extent(1) == T && x.query.extent(2) == H &&
                    x.key.extent(0) == B && x.value.extent(0) == B && x.value.extent(1) == N &&
                    x.value.extent(2) == groups && x.value.extent(3) == E && N >= T && groups > 0 &&
                    H % groups == 0 && x.key.extent(3) == x.query.extent(3),
                shape_error,
                "reference::attention: query must be [B, T, H, K], key [B, N, H', K], value "
                "[B, N, H', E], y [B, T, H, E], with N >= T and H' dividing H");
  std::vector<attention_logit> row(static_cast<std::size_t>(N));
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        double largest = x.sinks.data_handle() != nullptr ? x.sinks(h) : -infinity;
        for (index_t j = 0; j < N; ++j) {
          attention_logit& s = row[static_cast<std::size_t>(j)];
          s = logit_of(x, b, t, h, j);
          // A NaN stays the largest.
          if (s.seen && !(s.value <= largest) && !std::isnan(largest)) largest = s.value;
        }
        double sum = x.sinks.data_handle() != nullptr ? std::exp(x.sinks(h) - largest) : 0;
        for (index_t e = 0; e < E; ++e) y(b, t, h, e) = 0;
        for (index_t j = 0; j < N; ++j) {
          const attention_logit& s = row[static_cast<std::size_t>(j)];
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

}  // namespace maslin::inline MASLIN_ABI::reference
