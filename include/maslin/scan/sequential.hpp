// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Walking time in order, channels in lanes, whole contiguous rows: the default schedule.
///
/// A *kernel* is one sequence as a schedule sees it (mixers make them):
///   scalar_type, order (numbers of state a channel), outputs (numbers of y a channel)
///   recurrence<V>                      the algebra, for lanes V; in double too for exec::chunked
///   token<V>(t, c, n)                  the token at time t of the n channels from c on
///   emit<V>(to, stride, n, h)          writes the output of those channels, `stride` apart
///   y(t, c), y_stride()                where outputs go, and how far apart channels are there
///   shifted(b, t)                      itself, moved to sequence b of the batch and token t
/// `n` is `all_lanes<V>` or the number of channels left, fewer than the lanes of V.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>

namespace maslin::inline MASLIN_ABI::scan {

/// Where lanes of channel c begin in the state of a sequence, [D / 16][M][16].
template <class S>
[[nodiscard]] inline S* state_of(S* row, index_t c, int order) noexcept {
  const auto u = static_cast<std::size_t>(c);
  constexpr auto lanes = static_cast<std::size_t>(state_lanes);
  return row + u / lanes * lanes * static_cast<std::size_t>(order) + u % lanes;
}

template <class State, class S>
inline void load_state(State& h, const S* from) noexcept {
  using V = std::remove_cvref_t<decltype(h.h[0])>;
  each<std::extent_v<decltype(h.h)>>(
      [&](std::size_t k) { h.h[k] = lane<V>::load(from + static_cast<index_t>(k) * state_lanes); });
}
template <class State, class S>
inline void store_state(const State& h, S* to) noexcept {
  using V = std::remove_cvref_t<decltype(h.h[0])>;
  each<std::extent_v<decltype(h.h)>>(
      [&](std::size_t k) { lane<V>::store(to + static_cast<index_t>(k) * state_lanes, h.h[k]); });
}

/// One token of the n channels from c on, state in memory, output to `to`.
template <class V, class Kernel, class N>
inline void advance(const Kernel& kernel, typename Kernel::scalar_type* state, index_t t, index_t c,
                    N n, typename Kernel::scalar_type* to, index_t stride) noexcept {
  using R = typename Kernel::template recurrence<V>;
  auto* row = state_of(state, c, Kernel::order);
  typename R::state h;
  load_state(h, row);
  R::step(kernel.template token<V>(t, c, n), h);
  store_state(h, row);
  kernel.template emit<V>(to, stride, n, h);
}

/// Channels [begin, end) of one token, `to` being the output of channel `begin`.
template <class V, class Kernel>
inline void advance_row(const Kernel& kernel, typename Kernel::scalar_type* state, index_t t,
                        index_t begin, index_t end, typename Kernel::scalar_type* to,
                        index_t stride) noexcept {
  constexpr index_t width = lane<V>::width;
  index_t c = begin;
  for (; c + width <= end; c += width)
    advance<V>(kernel, state, t, c, all_lanes<V>{}, to + (c - begin) * stride, stride);
  if constexpr (width > 1)
    if (c < end)
      advance<V>(kernel, state, t, c, static_cast<int>(end - c), to + (c - begin) * stride, stride);
}

/// Tokens [first, last) of channels [begin, end), outputs through the cache.
template <class V, class Kernel>
void walk_rows(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
               index_t last, index_t begin, index_t end) noexcept {
  for (index_t t = first; t < last; ++t)
    advance_row<V>(kernel, state, t, begin, end, kernel.y(t, begin), kernel.y_stride());
}

/// The same with outputs past the cache: a piece of the row is made in L1, then copied out in whole
/// lines, so that neither alignment nor width decides whether streaming is possible.
template <class V, class Kernel>
void walk_streaming(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
                    index_t last, index_t begin, index_t end) noexcept {
  using S = typename Kernel::scalar_type;
  constexpr index_t outputs = Kernel::outputs;
  constexpr index_t piece_bytes = 4096;
  constexpr index_t piece =
      piece_bytes / static_cast<index_t>(sizeof(S)) / outputs / state_lanes * state_lanes;
  static_assert(piece > 0);
  alignas(64) S staged[static_cast<std::size_t>(piece * outputs)];
  for (index_t t = first; t < last; ++t)
    for (index_t c = begin; c < end; c += piece) {
      const index_t stop = c + piece < end ? c + piece : end;
      advance_row<V>(kernel, state, t, c, stop, staged, outputs);
      simd::stream_copy(kernel.y(t, c), staged, (stop - c) * outputs);
    }
  simd::stream_fence();
}

/// Channels that fit in one register: their state stays there, so that a step costs the latency of
/// its arithmetic and not a round trip through memory.
template <class V, class Kernel, class N>
void walk_register(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
                   index_t last, index_t c, N n) noexcept {
  using R = typename Kernel::template recurrence<V>;
  auto* row = state_of(state, c, Kernel::order);
  typename R::state h;
  load_state(h, row);
  for (index_t t = first; t < last; ++t) {
    R::step(kernel.template token<V>(t, c, n), h);
    kernel.template emit<V>(kernel.y(t, c), kernel.y_stride(), n, h);
  }
  store_state(h, row);
}

/// Tokens [first, last) of channels [begin, end) of one sequence; `begin` is a multiple of 16.
template <class V, class Kernel>
void walk(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first, index_t last,
          index_t begin, index_t end, bool streaming) noexcept {
  constexpr index_t width = lane<V>::width;
  constexpr int registers_worth_keeping = 4;
  if (begin >= end || first >= last) return;
  if constexpr (width > 1 && Kernel::order <= registers_worth_keeping) {
    if (end - begin == width)
      return walk_register<V>(kernel, state, first, last, begin, all_lanes<V>{});
    if (end - begin < width)
      return walk_register<V>(kernel, state, first, last, begin, static_cast<int>(end - begin));
  }
  if (streaming)
    walk_streaming<V>(kernel, state, first, last, begin, end);
  else
    walk_rows<V>(kernel, state, first, last, begin, end);
}

}  // namespace maslin::inline MASLIN_ABI::scan
