// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "paths.hpp"

#include <maslin/core/order.hpp>
#include <maslin/core/types.hpp>
#include <maslin/mixer/layout.hpp>

#include <string>
#include <type_traits>
#include <vector>

#if !defined(MASLIN_TEST_ORDERS)
#define MASLIN_TEST_ORDERS 1, 2, 3, 4, 5, 6, 7, 8, 16
#endif

namespace golden {

/// Refuses an order that this build of the runner has no kernels for.
/// throws    skipped_case
inline void require_order(int order) {
  std::string known;
  for (const int m : {MASLIN_TEST_ORDERS}) {
    if (m == order) return;
    known += (known.empty() ? "" : ", ") + std::to_string(m);
  }
  throw skipped_case("order " + std::to_string(order) + " is not one of this build's orders, " +
                     known);
}

/// Calls f(order, normalisation) with both as std::integral_constant.
template <class F>
void with_order_and_normalisation(int order, maslin::normalise kind, F&& f) {
  using maslin::normalise;
  maslin::with_order<MASLIN_TEST_ORDERS>(order, [&](auto m) {
    const auto call = [&]<normalise N>(std::integral_constant<normalise, N> n) { f(m, n); };
    switch (kind) {
      case normalise::none: return call(std::integral_constant<normalise, normalise::none>{});
      case normalise::softmax: return call(std::integral_constant<normalise, normalise::softmax>{});
      case normalise::sigmoid_l1:
        return call(std::integral_constant<normalise, normalise::sigmoid_l1>{});
      case normalise::relu_l1: return call(std::integral_constant<normalise, normalise::relu_l1>{});
      case normalise::tanh_l1: return call(std::integral_constant<normalise, normalise::tanh_l1>{});
      case normalise::lin_l1: return call(std::integral_constant<normalise, normalise::lin_l1>{});
    }
  });
}

/// Gate gradients of `rows` tokens of `channels` channels with `count` gates each, in natural order,
/// from how the run called `name` left them. Padding of groups must not have been written.
template <class S>
[[nodiscard]] std::vector<double> natural_gates(const std::vector<S>& from, index_t rows,
                                                index_t channels, index_t count,
                                                const std::string& name) {
  if (name != "grouped") return {from.begin(), from.end()};
  constexpr index_t L = maslin::default_group;
  const index_t groups = (channels + L - 1) / L;
  std::vector<double> to;
  for (index_t r = 0; r < rows; ++r)
    for (index_t c = 0; c < channels; ++c)
      for (index_t k = 0; k < count; ++k)
        to.push_back(
            double(from[static_cast<std::size_t>(((r * groups + c / L) * count + k) * L + c % L)]));
  return to;
}

}  // namespace golden
