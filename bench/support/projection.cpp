// SPDX-License-Identifier: Apache-2.0

#include "projection.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace bench {
namespace {

/// A seeded matrix of uniform numbers with mean 0 and deviation 1. The raw generator is used
/// because the distributions of the standard library differ between implementations.
[[nodiscard]] inline row_matrix seeded(index_t rows, index_t columns, std::uint32_t seed) {
  std::mt19937 generator(seed);
  const float scale = 2.0f * std::sqrt(3.0f) / 4294967296.0f;
  row_matrix out(rows, columns);
  for (index_t i = 0; i < out.size(); ++i)
    out.data()[i] = scale * static_cast<float>(generator()) - std::sqrt(3.0f);
  return out;
}

}  // namespace

embedding::embedding(std::string_view text, index_t count) : tokens_(count, width) {
  constexpr std::uint32_t seed = 20260212;
  const row_matrix table = seeded(256, width, seed);
  const auto byte = [&](index_t t) {
    const auto size = static_cast<index_t>(text.size());
    return static_cast<unsigned char>(text[static_cast<std::size_t>((t + size) % size)]);
  };
  const float unit = 1.0f / std::sqrt(1.25f);
  for (index_t t = 0; t < count; ++t)
    tokens_.row(t) = unit * (table.row(byte(t)) + 0.5f * table.row(byte(t - 1)));
}

void embedding::project(float* out, index_t count, index_t columns, std::uint32_t seed,
                        float spread, float bias) const {
  const row_matrix weight =
      seeded(width, columns, seed) * (spread / std::sqrt(static_cast<float>(width)));
  // Few rows at a time, which the bias then finds in cache.
  constexpr index_t at_once = 256;
  for (index_t t = 0; t < count; t += at_once) {
    const index_t n = std::min(at_once, count - t);
    Eigen::Map<row_matrix> rows(out + t * columns, n, columns);
    rows.noalias() = tokens_.middleRows(t, n) * weight;
    rows.array() += bias;
  }
}

}  // namespace bench
