// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "paths.hpp"

#include <maslin/core/order.hpp>
#include <maslin/core/types.hpp>

#include <string>
#include <type_traits>

#if !defined(MASLIN_GOLDEN_ORDERS)
#define MASLIN_GOLDEN_ORDERS 1, 2, 3, 4, 5, 6, 7, 8, 16
#endif

namespace golden {

/// Refuses an order that this build of the runner has no kernels for.
/// throws    skipped_case
inline void require_order(int order) {
  std::string known;
  for (const int m : {MASLIN_GOLDEN_ORDERS}) {
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
  maslin::with_order<MASLIN_GOLDEN_ORDERS>(order, [&](auto m) {
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

}  // namespace golden
