// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From an order known at run time to one known to the compiler.

#include <maslin/core/expect.hpp>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace maslin::inline MASLIN_ABI {

/// Calls `f(std::integral_constant<int, M>{})` for the M of `Orders` that equals `order`, and
/// returns what it returns. Any other order is refused: nothing is rounded up or padded.
/// throws    shape_error
template <int... Orders, class F>
  requires(sizeof...(Orders) > 0)
decltype(auto) with_order(int order, F&& f) {
  constexpr int first = std::get<0>(std::array{Orders...});
  using result = decltype(f(std::integral_constant<int, first>{}));
  const bool known = ((order == Orders) || ...);
  if (!known) {
    std::string allowed;
    ((allowed += (allowed.empty() ? "" : ", ") + std::to_string(Orders)), ...);
    raise<shape_error>("with_order: order must be one of {" + allowed + "}, got " +
                       std::to_string(order));
  }
  if constexpr (std::is_void_v<result>) {
    static_cast<void>(
        ((order == Orders && (f(std::integral_constant<int, Orders>{}), true)) || ...));
  } else {
    // One call among many: the fold stops at the first match, so `answer` is set exactly once.
    std::optional<result> answer;
    static_cast<void>(
        ((order == Orders && (answer.emplace(f(std::integral_constant<int, Orders>{})), true)) ||
         ...));
    return result(std::move(*answer));
  }
}

}  // namespace maslin::inline MASLIN_ABI
