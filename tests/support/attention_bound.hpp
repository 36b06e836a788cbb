// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The error that attention may have, in double.

#include <maslin/reference/attention.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace maslin::test {

/// Exact outputs and how far from them a kernel of round-off u may be:
///   |err| <= (n + 8) u sum_j P_j |v_j| + u (K + 2) scale max_j <|q|, |k_j|> 2 sum_j P_j |v_j|
/// n the blocks of 64 keys that the row reads. In sums of one sign whose roundings all go one way a
/// chain of c keys loses up to c u: `chain` is added to n + 8. A soft cap, a slope and a mask add what their logits
/// lose: 4 u of each of their terms. The bound of a log-sum-exp is that of P = 1, |v| = 1.
struct attention_bounds {
  std::vector<double> y, allowed;        // [B, T, H, E]
  std::vector<double> lse, lse_allowed;  // [B, T, H]
};

/// What the logit of one key may be off by, in u.
[[nodiscard]] inline double logit_units(const reference::attention_arrays& x, index_t b, index_t t,
                                        index_t h, index_t j) {
  const index_t K = x.query.extent(3), g = h * x.key.extent(2) / x.query.extent(2);
  double size = 0;
  for (index_t k = 0; k < K; ++k) size += std::abs(x.query(b, t, h, k) * x.key(b, j, g, k));
  size *= x.scale != 0 ? x.scale : 1 / std::sqrt(static_cast<double>(K));
  double units = static_cast<double>(K + 2) * size;
  const auto add = [&](double term) { units += std::isfinite(term) ? 4 * std::abs(term) : 0; };
  if (x.cap != 0) add(std::min(size, x.cap));
  const index_t position = t + x.key.extent(1) - x.query.extent(1);
  if (x.slopes.data_handle() != nullptr) add(x.slopes(h) * static_cast<double>(j - position));
  if (x.mask.data_handle() != nullptr) add(x.mask(b, t, x.mask.extent(2) == 1 ? 0 : h, j));
  return units;
}

[[nodiscard]] inline attention_bounds bounds_of(const reference::attention_arrays& x, double u,
                                                double chain = 0) {
  const index_t B = x.query.extent(0), T = x.query.extent(1), H = x.query.extent(2),
                N = x.key.extent(1), E = x.value.extent(3), groups = x.key.extent(2);
  attention_bounds r;
  r.y.resize(static_cast<std::size_t>(B * T * H * E));
  r.lse.resize(static_cast<std::size_t>(B * T * H));
  const auto lse = row_major(r.lse.data(), B, T, H);
  reference::attention(x, row_major(r.y.data(), B, T, H, E), lse);
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        std::vector<double> size(static_cast<std::size_t>(E));
        double worst = 0, first = -1, last = 0;
        for (index_t j = 0; j < N; ++j) {
          const auto s = reference::logit_of(x, b, t, h, j);
          if (!s.seen) continue;
          worst = std::max(worst, logit_units(x, b, t, h, j));
          if (first < 0) first = static_cast<double>(j / 64);
          last = static_cast<double>(j / 64) + 1;
          for (index_t e = 0; e < E; ++e)
            size[static_cast<std::size_t>(e)] +=
                std::exp(s.value - lse(b, t, h)) * std::abs(x.value(b, j, h * groups / H, e));
        }
        const double units = (last - std::max(first, 0.0) + 8 + chain) + 2 * worst;
        for (const double s : size) r.allowed.push_back(units * u * s);
        r.lse_allowed.push_back(units * u + 4 * u * std::abs(lse(b, t, h)));
      }
  return r;
}

}  // namespace maslin::test
