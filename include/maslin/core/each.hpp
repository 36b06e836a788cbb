// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Loops over the few registers of one step.

#include <maslin/core/config.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace maslin::inline MASLIN_ABI {

/// f(0), ..., f(N - 1) with indices of N's type, unrolled at every optimisation level, so that
/// arrays indexed by them stay in registers. For small N known to the compiler.
template <auto N, class F>
constexpr void each(F&& f) {
  if constexpr (N == 1) {
    f(decltype(N){0});
  } else if constexpr (N > 1) {
    MASLIN_UNROLL
    for (decltype(N) i = 0; i < N; ++i) f(i);
  }
}

/// f(0), ..., f(N - 1) with indices that are types, std::integral_constant: arrays that nothing
/// else indexes become registers before any loop is unrolled, even where a compiler unrolls late.
template <int N, class F>
[[gnu::always_inline]] constexpr void unrolled(F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<std::size_t, I>{}), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(N)>{});
}

}  // namespace maslin::inline MASLIN_ABI
