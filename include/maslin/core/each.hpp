// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Loops over the few registers of one step.

#include <maslin/core/config.hpp>

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

}  // namespace maslin::inline MASLIN_ABI
