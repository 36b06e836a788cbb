// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Long rows, one for each lane, turned into registers and back: number j of every row side by side.

#include <maslin/simd/columns.hpp>

namespace maslin::inline MASLIN_ABI::simd {

namespace detail {

/// f(columns, j) for runs of columns from 0 to `count`, `columns` being known to the compiler.
template <class V, class F>
inline void for_each_run(index_t count, const F& f) noexcept {
  index_t j = 0;
  if constexpr (lane<V>::width > 1) {
    constexpr int K = piece<typename lane<V>::scalar>;
    for (; j + 2 * K <= count; j += 2 * K) f(std::integral_constant<int, 2 * K>{}, j);
    if (j + K <= count) {
      f(std::integral_constant<int, K>{}, j);
      j += K;
    }
  }
  for (; j < count; ++j) f(std::integral_constant<int, 1>{}, j);
}

}  // namespace detail

/// to[j W + l] = from[l apart + j] for j < count, W being the lanes of V. Lanes from n on repeat the
/// last row, or hold nothing of use. `n` is an int, or `all_lanes<V>`.
template <class V, class N>
inline void turn_rows(typename lane<V>::scalar* to, const typename lane<V>::scalar* from,
                      index_t apart, index_t count, N n) noexcept {
  constexpr index_t W = lane<V>::width;
  detail::for_each_run<V>(count, [&]<int C>(std::integral_constant<int, C>, index_t j) {
    if constexpr (C == 1) {
      for (int l = 0; l < static_cast<int>(n); ++l) to[j * W + l] = from[l * apart + j];
    } else {
      V x[static_cast<std::size_t>(C)];
      load_columns<V, C>(from + j, apart, n, x);
      each<C>([&](int k) { lane<V>::store(to + (j + k) * W, x[k]); });
    }
  });
}

/// The inverse: to[l apart + j] = from[j W + l] for l < n.
template <class V, class N>
inline void turn_back(typename lane<V>::scalar* to, index_t apart,
                      const typename lane<V>::scalar* from, index_t count, N n) noexcept {
  constexpr index_t W = lane<V>::width;
  detail::for_each_run<V>(count, [&]<int C>(std::integral_constant<int, C>, index_t j) {
    if constexpr (C == 1) {
      for (int l = 0; l < static_cast<int>(n); ++l) to[l * apart + j] = from[j * W + l];
    } else {
      V x[static_cast<std::size_t>(C)];
      each<C>([&](int k) { x[k] = lane<V>::load(from + (j + k) * W); });
      store_columns<V, C>(to + j, apart, n, x);
    }
  });
}

}  // namespace maslin::inline MASLIN_ABI::simd
