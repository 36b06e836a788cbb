// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From text to the inputs of a mixer: bytes are embedded by a seeded table, each with half of the
/// byte before it, and seeded projections make gates and values of them, as a layer would.

#include "buffer.hpp"

#include <Eigen/Core>

#include <cstdint>
#include <string_view>

namespace bench {

using row_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Embedded text.
class embedding {
 public:
  static constexpr index_t width = 32;

  /// Embeds `count` bytes of `text`, which is repeated if it is shorter.
  embedding(std::string_view text, index_t count);

  [[nodiscard]] index_t count() const { return tokens_.rows(); }

  /// out [count, columns] = bias + spread * embedded text * a seeded projection of unit variance.
  void project(float* out, index_t count, index_t columns, std::uint32_t seed, float spread,
               float bias) const;

 private:
  row_matrix tokens_;
};

}  // namespace bench
