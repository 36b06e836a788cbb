// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Writing the gradients of gate rows in the two orders of mixer/layout.hpp.

#include <maslin/gradient/reverse.hpp>
#include <maslin/mixer/layout.hpp>

#include <cstring>

namespace maslin::inline MASLIN_ABI::gradient {

/// True if the channels of a row of gradients follow each other without gaps, whole groups of at most
/// a state's lanes: such rows can be copied as one run. Gradients that are not wanted are no matter.
template <gates Order, class S, int Rank>
[[nodiscard]] bool rows_are_dense(const view<S, Rank>& gate, index_t numbers,
                                  index_t group) noexcept {
  return gate.data_handle() == nullptr ||
         ((gate.extent(2) <= 1 || gate.stride(2) == numbers) && scan::state_lanes % group == 0);
}

/// True if whole registers of rows of `Count` gates can be written past the cache.
template <gates Order, class V, int Count>
inline constexpr bool streams_gates =
    Order == gates::natural ? simd::streams_columns<V, Count> : lane<V>::width <= default_group;

/// Asks for gates that earlier tokens will read: as far from them as row i, of `Count` gates, of the
/// channels from c on.
template <gates Order, class V, int Count, class Forward>
inline void fetch_gates(const Forward& forward, index_t t, index_t c, int i = 0) noexcept {
  using S = typename lane<V>::scalar;
  constexpr index_t row_size = Count * lane<V>::width;
  const S* at = forward.gate + t * forward.gate_time;
  if constexpr (Order == gates::natural)
    at += c * forward.gate_step;
  else
    at = layout::grouped_gates<S>{at, forward.gate_step, forward.group_shift}.template place<V>(c);
  simd::prefetch_behind<row_size* static_cast<index_t>(sizeof(S))>(at + i * row_size);
}

/// Gates first .. first + Count - 1 of the n channels from c on, one register a gate. Past the cache
/// nothing is added and the registers are whole.
template <gates Order, scan::leave How, class V, int Count, class S, class N>
inline void store_gates(const gradient_row<S>& to, index_t group, index_t first, index_t c, N n,
                        V (&x)[static_cast<std::size_t>(Count)], bool accumulate) noexcept {
  using L = lane<V>;
  constexpr int width = L::width;
  constexpr bool past = How == scan::leave::past_cache;
  if constexpr (simd::is_twin<V>) {
    using half = decltype(V::first);
    half one[static_cast<std::size_t>(Count)], two[static_cast<std::size_t>(Count)];
    each<Count>([&](int k) { one[k] = x[k].first, two[k] = x[k].second; });
    constexpr all_lanes<half> all{};
    store_gates<Order, How, half, Count>(to, group, first, c, all, one, accumulate);
    store_gates<Order, How, half, Count>(to, group, first, c + width / 2, all, two, accumulate);
  } else if constexpr (Order == gates::natural) {
    if constexpr (past) {
      simd::store_columns<V, Count, true>(to.first + (c - to.origin) * Count, Count, n, x);
    } else {
      S* const at = to.at(c) + first;
      if (accumulate) {
        V old[static_cast<std::size_t>(Count)];
        simd::load_columns<V, Count>(at, to.step, n, old);
        each<Count>([&](int k) { x[k] = old[k] + x[k]; });
      }
      simd::store_columns<V, Count>(at, to.step, n, x);
    }
  } else {
    // Registers meet groups of the usual size alone, which makes the divisions shifts.
    const auto of_group = static_cast<std::size_t>(width > 1 ? default_group : group);
    const auto from_origin = static_cast<std::size_t>(c - to.origin);
    S* const at = to.first + static_cast<index_t>(from_origin / of_group) * to.step +
                  first * static_cast<index_t>(of_group) +
                  static_cast<index_t>(from_origin % of_group);
    each<Count>([&](int k) {
      S* const gate = at + k * static_cast<index_t>(of_group);
      if constexpr (past) {
        simd::stream_register(gate, x[k]);
      } else if constexpr (width <= default_group) {
        store(gate, x[k], n, accumulate);
      } else {
        // A register wider than a group goes to two of them.
        constexpr int half = static_cast<int>(default_group);
        S both[static_cast<std::size_t>(width)];
        L::store(both, x[k]);
        for (int i = 0; i < n; ++i) {
          S& one = i < half ? gate[i] : gate[to.step + i - half];
          one = accumulate ? one + both[i] : both[i];
        }
      }
    });
  }
}

}  // namespace maslin::inline MASLIN_ABI::gradient
