// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What an operator says about its mixer: causality, stability, memory, and the size of the state
/// that it needs.

#include <maslin/analysis/operator.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI::analysis {

/// True if no output depends on a later input: every entry above the diagonal is exactly 0.
[[nodiscard]] inline bool is_causal(const token_operator& op) {
  for (index_t b = 0; b < op.batch(); ++b)
    for (index_t g = 0; g < op.groups(); ++g)
      for (index_t t = 0; t < op.length(); ++t)
        for (index_t s = t + 1; s < op.length(); ++s)
          for (index_t i = 0; i < op.width(); ++i)
            for (index_t j = 0; j < op.width(); ++j)
              if (op(b, g, t, s, i, j) != 0) return false;
  return true;
}

/// The sum of a row and the sum of its magnitudes.
///   softmax attention and softmax generalized mixers   sum = 1
///   a recurrence with normalised gates                 magnitude <= 1; with positive gates 1 - sum
///                                                      is the weight of the initial state
struct row_sum {
  double sum = 0, magnitude = 0;
};

/// Row (t, i) of one operator.
[[nodiscard]] inline row_sum sum_of_row(const token_operator& op, index_t b, index_t g, index_t t,
                                        index_t i = 0) {
  row_sum r;
  for (index_t s = 0; s < op.length(); ++s)
    for (index_t j = 0; j < op.width(); ++j) {
      r.sum += op(b, g, t, s, i, j);
      r.magnitude += std::abs(op(b, g, t, s, i, j));
    }
  return r;
}

/// The induced maximum norm over all rows, max |y| / max |x| at worst: at most 1 for normalised
/// gates, and the growth where a mixer has none.
[[nodiscard]] inline double growth(const token_operator& op) {
  double largest = 0;
  for (index_t b = 0; b < op.batch(); ++b)
    for (index_t g = 0; g < op.groups(); ++g)
      for (index_t t = 0; t < op.length(); ++t)
        for (index_t i = 0; i < op.width(); ++i)
          largest = std::max(largest, sum_of_row(op, b, g, t, i).magnitude);
  return largest;
}

/// How far back token t looks on average: sum_s (t - s) |op[t, s]| / sum_s |op[t, s]|, or 0 for a
/// row of zeros.
[[nodiscard]] inline double effective_memory(const token_operator& op, index_t b, index_t g,
                                             index_t t, index_t i = 0) {
  double weighted = 0, total = 0;
  for (index_t s = 0; s <= t; ++s)
    for (index_t j = 0; j < op.width(); ++j) {
      const double weight = std::abs(op(b, g, t, s, i, j));
      weighted += static_cast<double>(t - s) * weight;
      total += weight;
    }
  return total == 0 ? 0 : weighted / total;
}

/// Numerical rank of op[r:, :r], what the past before token r can say to the tokens from r on: at
/// most the number of state scalars that a decoder must keep there for each value channel.
///   diagonal 1, hlru and bdlru M, a state of N (or K) numbers N (K), generalized what S_r holds
/// Pivots below `tolerance` times the largest entry count as 0.
/// cost      rank (T M)^2 multiply-adds, a copy of the block
[[nodiscard]] inline index_t past_rank(const token_operator& op, index_t b, index_t g, index_t r,
                                       double tolerance = 1e-12) {
  const index_t M = op.width(), rows = (op.length() - r) * M, columns = r * M;
  std::vector<double> a;
  a.reserve(static_cast<std::size_t>(rows * columns));
  for (index_t t = r * M; t < op.length() * M; ++t)
    for (index_t s = 0; s < columns; ++s) a.push_back(op(b, g, t / M, s / M, t % M, s % M));
  const auto at = [&](index_t i, index_t j) -> double& {
    return a[static_cast<std::size_t>(i * columns + j)];
  };
  // Elimination with complete pivoting.
  double scale = 0;
  for (index_t rank = 0; rank < std::min(rows, columns); ++rank) {
    std::pair<index_t, index_t> pivot{rank, rank};
    for (index_t i = rank; i < rows; ++i)
      for (index_t j = rank; j < columns; ++j)
        if (std::abs(at(i, j)) > std::abs(at(pivot.first, pivot.second))) pivot = {i, j};
    const double largest = std::abs(at(pivot.first, pivot.second));
    if (rank == 0) scale = largest;
    if (largest <= tolerance * scale) return rank;
    for (index_t j = 0; j < columns; ++j) std::swap(at(rank, j), at(pivot.first, j));
    for (index_t i = 0; i < rows; ++i) std::swap(at(i, rank), at(i, pivot.second));
    for (index_t i = rank + 1; i < rows; ++i) {
      const double factor = at(i, rank) / at(rank, rank);
      for (index_t j = rank; j < columns; ++j) at(i, j) -= factor * at(rank, j);
    }
  }
  return std::min(rows, columns);
}

}  // namespace maslin::inline MASLIN_ABI::analysis
