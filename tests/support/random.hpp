// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cstdint>
#include <random>
#include <span>

namespace maslin::test {

/// Seeded numbers that are the same on every platform. The standard fixes the engine but not its
/// distributions, so the mappings are ours and use exact or basic operations only.
class random {
 public:
  explicit random(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t bits() { return engine_(); }
  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Close to the normal distribution N(0, 1), within +-6: twelve uniform numbers added. Unlike the
  /// exact mappings it needs no logarithm, whose last bit differs between libraries.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }
  /// Uniform in 0 .. count - 1, for count far below 2^64.
  index_t below(index_t count) {
    return static_cast<index_t>(engine_() % static_cast<std::uint64_t>(count));
  }
  index_t between(index_t first, index_t last) { return first + below(last - first + 1); }

  template <class S>
  void fill_uniform(std::span<S> out, double low, double high) {
    for (S& x : out) x = static_cast<S>(uniform(low, high));
  }
  template <class S>
  void fill_normal(std::span<S> out, double deviation = 1) {
    for (S& x : out) x = static_cast<S>(deviation * normal());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace maslin::test
