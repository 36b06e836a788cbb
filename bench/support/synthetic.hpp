// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Gates and inputs of the linear recurrences that are made up, at any size: for benches of policies,
/// where the numbers hardly matter.

#include "buffer.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/bdlru.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/hlru.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>

namespace bench {

/// What the tokens of a mixer look like, `diagonal` being of order 1.
template <class Mixer>
struct shape_of {
  static constexpr int order = 1, parts = Mixer::parts;
  static constexpr bool blocks = false, companions = false, grouped = false;
};
template <class S, int M, maslin::normalise N, maslin::gates Order>
struct shape_of<maslin::hlru<S, M, N, Order>> {
  static constexpr int order = M, parts = 1;
  static constexpr bool blocks = false, companions = true;
  static constexpr bool grouped = Order == maslin::gates::grouped;
};
template <class S, int M, maslin::normalise N, maslin::gates Order>
struct shape_of<maslin::bdlru<S, M, N, Order>> {
  static constexpr int order = M, parts = 1;
  static constexpr bool blocks = true, companions = false;
  static constexpr bool grouped = Order == maslin::gates::grouped;
};

/// Gates and inputs of T tokens of one sequence of D channels or blocks, and where the outputs go.
template <class Mixer>
struct synthetic {
  using shape = shape_of<Mixer>;
  static constexpr int order = shape::order;
  static constexpr index_t parts = shape::parts, group = maslin::default_group;
  static constexpr index_t values = shape::blocks ? order : parts;  ///< of a channel and token
  static constexpr index_t gates = shape::blocks       ? order * (order + 1)
                                   : shape::companions ? order + 1
                                                       : parts;
  static constexpr bool is_log = std::is_same_v<Mixer, maslin::diagonal<float, maslin::decay::log>>;

  synthetic(index_t tokens_of_it, index_t channels)
      : T(tokens_of_it),
        D(channels),
        y(T * D * values),
        numbers_read(whole_lines(T * padded(D) * gates) + y.size()),
        gate(numbers_read.data()),
        input(gate + whole_lines(T * padded(D) * gates)) {
    // Positive numbers below 1 / (M + 1): gates that forget, logits of all sizes.
    constexpr index_t period = 9973;
    for (index_t i = 0; i < T * padded(D) * gates; ++i)
      gate[i] = (0.9f + 0.09f * wave[0][static_cast<std::size_t>(i % period)]) /
                static_cast<float>(shape::blocks || shape::companions ? order + 1 : parts) *
                (is_log ? -1 : 1);
    for (index_t i = 0; i < y.size(); ++i) input[i] = wave[1][static_cast<std::size_t>(i % period)];
  }

  [[nodiscard]] auto tokens() const {
    using maslin::row_major;
    const index_t G = padded(D) / group;
    if constexpr (shape::blocks && shape::grouped)
      return typename Mixer::tokens{.gate = row_major(read(gate), 1, T, G, order, order + 1, group),
                                    .input = row_major(read(input), 1, T, D, order)};
    else if constexpr (shape::blocks)
      return typename Mixer::tokens{.gate = row_major(read(gate), 1, T, D, order, order + 1),
                                    .input = row_major(read(input), 1, T, D, order)};
    else if constexpr (shape::grouped)
      return typename Mixer::tokens{.gate = row_major(read(gate), 1, T, G, order + 1, group),
                                    .input = row_major(read(input), 1, T, D)};
    else if constexpr (shape::companions)
      return typename Mixer::tokens{.gate = row_major(read(gate), 1, T, D, order + 1),
                                    .input = row_major(read(input), 1, T, D)};
    else
      return typename Mixer::tokens{.gate = row_major(numbers(read(gate)), 1, T, D),
                                    .input = row_major(numbers(read(input)), 1, T, D)};
  }
  [[nodiscard]] auto out() {
    if constexpr (shape::blocks)
      return maslin::row_major(y.data(), 1, T, D, order);
    else
      return maslin::row_major(numbers(y.data()), 1, T, D);
  }
  [[nodiscard]] Mixer mixer() const {
    Mixer m{};
    if constexpr (shape::blocks)
      m.blocks = D;
    else
      m.channels = D;
    return m;
  }

  /// Numbers read for each number written.
  static constexpr int rows_read = static_cast<int>(gates / values) + 1;
  [[nodiscard]] double bytes() const {
    return static_cast<double>(T * D * (gates + 2 * values)) * sizeof(float);
  }

  /// The worst error of channel c of y, of coefficients that are given, as a fraction of what
  /// exec::chunked may have: 3 (M + 1) u W.
  [[nodiscard]] double error(index_t c) const {
    static_assert(parts == 1 && !is_log);
    std::array<double, static_cast<std::size_t>(order)> h{}, size{}, bound{};
    double worst = 0;
    for (index_t t = 0; t < T; ++t) {
      auto next = h, next_size = size, next_bound = bound;
      for (index_t i = 0; i < values; ++i) {
        const double x = input[(t * D + c) * values + i], last = input_gate(t, c, i);
        double sum = last * x, sizes = std::abs(sum), bounds = 0;
        for (std::size_t k = 0; k < h.size(); ++k) {
          const double a = coefficient(t, c, i, static_cast<index_t>(k));
          sum += a * h[k];
          sizes += std::abs(a) * size[k];
          bounds += std::abs(a) * bound[k];
        }
        const auto at = static_cast<std::size_t>(i);
        next[at] = sum, next_size[at] = sizes, next_bound[at] = bounds + sizes;
        const double allowed = 3 * (order + 1) * 0x1p-24 * next_bound[at];
        const double off = std::abs(y[(t * D + c) * values + i] - sum);
        if (!(off <= worst * allowed)) worst = off / allowed;  // also for what is no number
        if (std::isnan(off)) return std::numeric_limits<double>::infinity();
      }
      for (std::size_t k = 1; shape::companions && k < h.size(); ++k)
        next[k] = h[k - 1], next_size[k] = size[k - 1], next_bound[k] = bound[k - 1];
      h = next, size = next_size, bound = next_bound;
    }
    return worst;
  }

  index_t T, D;
  bench::buffer y, numbers_read;  ///< gates, then inputs: a limit can read both as one stream
  float *gate, *input;

 private:
  [[nodiscard]] static index_t whole_lines(index_t numbers) { return (numbers + 15) / 16 * 16; }
  [[nodiscard]] static index_t padded(index_t channels) {
    return shape::grouped ? (channels + group - 1) / group * group : channels;
  }
  [[nodiscard]] double coefficient(index_t t, index_t c, index_t i, index_t k) const {
    if constexpr (!shape::blocks && !shape::companions) return gate[t * D + c];
    const index_t rows = shape::blocks ? order : 1;
    if constexpr (shape::grouped)
      return gate[(((t * padded(D) / group + c / group) * rows + i) * (order + 1) + k) * group +
                  c % group];
    else
      return gate[((t * D + c) * rows + i) * (order + 1) + k];
  }
  [[nodiscard]] double input_gate(index_t t, index_t c, index_t i) const {
    if constexpr (shape::blocks || shape::companions)
      return coefficient(t, c, i, order);
    else
      return 1;
  }
  [[nodiscard]] static const float* read(const float* p) { return p; }
  template <class T_>
  [[nodiscard]] static auto numbers(T_* p) {
    if constexpr (parts == 2)
      return reinterpret_cast<
          std::conditional_t<std::is_const_v<T_>, const std::complex<float>, std::complex<float>>*>(
          p);
    else
      return p;
  }

  using waves = std::array<std::array<float, 9973>, 2>;
  inline static const waves wave = [] {
    waves made;
    for (std::size_t i = 0; i < made[0].size(); ++i) {
      made[0][i] = std::sin(0.37f * static_cast<float>(i));
      made[1][i] = std::cos(0.11f * static_cast<float>(i));
    }
    return made;
  }();
};

}  // namespace bench
