// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Rows of tokens to blocks of a key-value cache: keys transposed, values as they are.

#include <maslin/core/each.hpp>
#include <maslin/core/types.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/lane.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::detail {

/// Tokens that are appended at a time: their rows are read in the order in which they lie.
inline constexpr index_t tokens_together = 8;

/// A register of no more lanes than tokens are appended at a time.
template <class S>
using append_lanes = typename std::conditional_t<(simd::native_width<S> > tokens_together),
                                                 simd::sized<S, static_cast<int>(tokens_together)>,
                                                 std::type_identity<simd::native<S>>>::type;

/// to[k][i] = from[i][k] for n <= 8 keys of K numbers, `apart` from one to the next; rows of `to` are
/// `row` apart.
template <class S, class C>
void append_keys(const S* from, index_t apart, index_t n, index_t K, C* to, index_t row) noexcept {
  index_t i = 0;
  if constexpr (std::is_same_v<S, C>) {
    using V = append_lanes<S>;
    using L = lane<V>;
    for (; i + L::width <= n; i += L::width) {
      index_t k = 0;
      for (; k + L::width <= K; k += L::width) {
        V x[static_cast<std::size_t>(L::width)];
        simd::load_columns<V, L::width>(from + i * apart + k, apart, all_lanes<V>{}, x);
        each<L::width>([&](int c) { L::store(to + (k + c) * row + i, x[c]); });
      }
      for (; k < K; ++k)
        for (index_t j = i; j < i + L::width; ++j) to[k * row + j] = from[j * apart + k];
    }
  }
  for (; i < n; ++i)
    for (index_t k = 0; k < K; ++k) to[k * row + i] = static_cast<C>(from[i * apart + k]);
}

/// to[i][e] = from[i][e] for n values of E numbers.
template <class S, class C>
void append_values(const S* from, index_t apart, index_t n, index_t E, C* to,
                   index_t row) noexcept {
  for (index_t i = 0; i < n; ++i)
    std::transform(from + i * apart, from + i * apart + E, to + i * row,
                   [](S x) { return static_cast<C>(x); });
}

}  // namespace maslin::inline MASLIN_ABI::detail
