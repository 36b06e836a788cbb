// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Comparison of an output with the reference and, past the tokens that the reference was asked
/// for, with the output of another path: the default policy on grouped gates.

#include "bound.hpp"
#include "buffer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace bench {

/// The truth about an output [B, T, D].
struct truth {
  index_t B = 1, T = 0, D = 0;
  index_t known = 0;          ///< tokens of each sequence that `exact` holds
  std::vector<double> exact;  ///< reference [B, known, D]
  buffer bound;               ///< W [B, T, D]
  buffer second;              ///< another path's output [B, T, D], if known < T
  double second_tolerance = 0;

  /// The worst |y - truth| over `tolerance` u W; infinite for a number that is not finite. An error below the
  /// smallest normal number is one of underflow, of which W, which underflows too, says nothing.
  [[nodiscard]] double worst(const float* y, double tolerance) const {
    // The bound is of first order in u; what it drops is far below this.
    constexpr double slack = 1.01;
    double found = 0;
    const auto compare = [&](double error, double allowed) {
      if (!std::isfinite(error)) found = std::numeric_limits<double>::infinity();
      if (error > double{std::numeric_limits<float>::min()})
        found = std::max(found, error / (allowed * slack * unit_roundoff));
    };
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t d = 0; d < D; ++d) {
          const index_t i = (b * T + t) * D + d;
          const double W = bound[i];
          if (t < known)
            compare(std::abs(y[i] - exact[static_cast<std::size_t>((b * known + t) * D + d)]),
                    tolerance * W);
          else
            compare(std::abs(static_cast<double>(y[i]) - second[i]),
                    (tolerance + second_tolerance) * W);
        }
    return found;
  }
};

/// Tokens to ask the reference for: all in a full run, fewer in a quick one, where a second path
/// vouches for the rest (the plain loops, which share no code with it, are held to it as well).
[[nodiscard]] inline index_t tokens_to_verify(bool quick, index_t T, index_t coefficients_a_token) {
  constexpr index_t quick_budget = index_t{1} << 20;
  return quick ? std::clamp(quick_budget / coefficients_a_token, std::min<index_t>(T, 64), T) : T;
}

/// The worst |got(i) - want[i]| in parts of the largest |want[i]|; infinite for a number that is not
/// finite.
template <class Got>
[[nodiscard]] double largest_error(const std::vector<double>& want, const Got& got) {
  double largest = 0, found = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(double{got(static_cast<index_t>(i))} - want[i]);
    largest = std::max(largest, std::abs(want[i]));
    found = std::max(found, std::isfinite(error) ? error : std::numeric_limits<double>::infinity());
  }
  return found / largest;
}

/// `count` floats as doubles.
[[nodiscard]] inline std::vector<double> widened(const float* from, index_t count) {
  return {from, from + count};
}

}  // namespace bench
