// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Walking time in order, channels in lanes, whole contiguous rows: the default schedule.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/scan/kernel.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>
#include <maslin/simd/twin.hpp>

#include <type_traits>

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

/// How outputs leave: from registers, or as copies of the state past the cache; or that they stay there.
enum class leave { to_cache, past_cache, copied, stay };

/// f(c) for whole registers of channels from `begin`, a multiple of their lanes, to `end`. Registers are
/// counted, so that a compiler sees c as a multiple of the lanes and moves pointers to groups of them.
template <class V, class F>
inline void for_each_register(index_t begin, index_t end, const F& f) noexcept {
  constexpr index_t width = lane<V>::width;
  for (index_t k = begin / width; k < end / width; ++k) f(k * width);
}

/// Numbers of state in memory move on from step to step, ...
inline constexpr int moving = -1;

/// ... or stay where they are, the newest in the place of the oldest: where age k lies, in a state of M
/// numbers that was in order `Steps` ago. M steps later it is in order again. Measured: one store a step
/// instead of M takes 0.9 to 1.0 of the time.
template <int M, int Steps>
[[nodiscard]] constexpr int place_of(int age) noexcept {
  return (age - Steps + M) % M;
}
/// Where a step leaves the newest.
template <int M, int Steps>
inline constexpr int newest_place = Steps == moving ? 0 : place_of<M, Steps>(M - 1);

/// One step of the n channels from c on, state in memory, output to `to`.
template <class V, leave How, int Steps = moving, class Kernel, class N, class Token>
inline void advance(const Kernel& kernel, typename Kernel::scalar_type* state, index_t c, N n,
                    const Token& u, typename Kernel::scalar_type* to, index_t stride) noexcept {
  // Before the state is loaded, which registers would hold, or the stack, while rows are normalised.
  if constexpr (requires { u.made(); })
    return advance<V, How, Steps>(kernel, state, c, n, u.made(), to, stride);
  using R = typename Kernel::template recurrence<V>;
  constexpr int M = Kernel::order;
  auto* row = state_of(state, c, M);
  typename R::state h;
  if constexpr (Steps == moving) {
    load_state(h, row);
    R::step(u, h);
    store_state(h, row);
  } else {
    unrolled<M>([&](auto k) {
      h.h[k] = lane<V>::load(row + place_of<M, Steps>(static_cast<int>(k.value)) * state_lanes);
    });
    h.h[0] = R::next(u, h);
    lane<V>::store(row + newest_place<M, Steps> * state_lanes, h.h[0]);
  }
  if constexpr (How == leave::stay) return;
  if constexpr (How == leave::past_cache && std::is_same_v<N, all_lanes<V>>)
    kernel.template stream<V>(to, h);
  else
    kernel.template emit<V>(to, stride, n, h);
}

/// Where the rows of a walk are written: row `first`, the distance from row to row, and how far apart
/// channels are.
template <class S>
struct rows_out {
  S* first;
  index_t apart, stride;
};

/// The rows of tokens from `first` on, from channel `begin` on.
template <class Kernel>
[[nodiscard]] rows_out<typename Kernel::scalar_type> rows_of(const Kernel& kernel, index_t first,
                                                             index_t last, index_t begin) noexcept {
  auto* row = kernel.y(first, begin);
  return {row, last - first > 1 ? kernel.y(first + 1, begin) - row : 0, kernel.y_stride()};
}

/// Whether the state of a register of channels is worth keeping in registers, so that a step costs the
/// latency of its arithmetic and not a round trip through memory. Measured: blocks of six or more numbers are
/// slower so, and blocks and single numbers whose gates take an exp.
template <class Kernel, class V>
inline constexpr bool keeps_state =
    making_one<Kernel, V> ? Kernel::order <= 8 : Kernel::order <= 4 && !weighing<Kernel>;

/// Tokens [first, last) of the n channels from c on, which fit in one register; outputs to `out`.
template <class V, class Kernel, class N>
[[gnu::noinline, gnu::flatten]] void walk_register(
    const Kernel kernel, typename Kernel::scalar_type* state, index_t first, index_t last,
    index_t c, N n, rows_out<typename Kernel::scalar_type> out) noexcept {
  using R = typename Kernel::template recurrence<V>;
  if constexpr (keeps_state<Kernel, V>) {
    auto* row = state_of(state, c, Kernel::order);
    typename R::state h;
    load_state(h, row);
    for (; first < last; ++first, out.first += out.apart) {
      R::step(kernel.template token<V>(first, c, n), h);
      kernel.template emit<V>(out.first, out.stride, n, h);
    }
    store_state(h, row);
  } else {
    for (; first < last; ++first, out.first += out.apart)
      advance<V, leave::to_cache>(kernel, state, c, n, kernel.template token<V>(first, c, n),
                                  out.first, out.stride);
  }
}

/// Channels [begin, end) of one token, whole registers of them, `to` being the output of channel
/// `begin`.
template <class V, leave How, int Steps = moving, class Kernel>
inline void advance_row(const Kernel& kernel, typename Kernel::scalar_type* state, index_t t,
                        index_t begin, index_t end, typename Kernel::scalar_type* to,
                        index_t stride) noexcept {
  constexpr index_t width = lane<V>::width;
  constexpr all_lanes<V> all{};
  if constexpr (weighing<Kernel>) {
    using S = typename Kernel::scalar_type;
    // Measured: a few rows of exp are enough to overlap, and state, weights and gates share L1.
    constexpr index_t bundle_bytes = 2048;
    constexpr index_t weights_bytes = width * Kernel::weights * index_t{sizeof(S)};
    constexpr index_t bundle =
        width * (bundle_bytes > weights_bytes ? bundle_bytes / weights_bytes : 1);
    alignas(64) S weights[static_cast<std::size_t>(bundle * Kernel::weights)];
    for (index_t first = begin; first < end; first += bundle) {
      const index_t stop = first + bundle < end ? first + bundle : end;
      for_each_register<V>(first, stop, [&](index_t c) {
        kernel.template weigh<V>(t, c, all, weights + (c - first) * Kernel::weights);
      });
      kernel.template raise<V>(t, first, (stop - first) / width, weights);
      for_each_register<V>(first, stop, [&](index_t c) {
        advance<V, How>(
            kernel, state, c, all,
            kernel.template weighed_token<V>(t, c, all, weights + (c - first) * Kernel::weights),
            to + (c - begin) * stride, stride);
      });
    }
  } else {
    index_t k = begin / width;
    if constexpr (width > 1 && requires { requires Kernel::twins; }) {
      static_assert(Kernel::order == 1, "only then is the state of a twin contiguous");
      using W = simd::twin<V>;
      constexpr all_lanes<W> both{};
      // Counted in registers, as `for_each_register` does; a pair may begin at any of them.
      for (; k + 2 <= end / width; k += 2) {
        const index_t c = k * width;
        advance<W, How>(kernel, state, c, both, kernel.template token<W>(t, c, both),
                        to + (c - begin) * stride, stride);
      }
    }
    for_each_register<V>(k * width, end, [&](index_t i) {
      advance<V, How, Steps>(kernel, state, i, all, kernel.template token<V>(t, i, all),
                             to + (i - begin) * stride, stride);
    });
  }
}

/// The same, outputs leaving past the cache as copies of the state, whose registers of y lie in one line each:
/// two lines of channels step, then leave. Measured: steps wait less for stores past the cache if these come
/// together, and what lies ahead is best asked for meanwhile; one line is as good where M steps are written
/// out.
template <class V, int Steps, class Kernel>
inline void copy_row(const Kernel& kernel, typename Kernel::scalar_type* state, index_t t,
                     index_t begin, index_t end, typename Kernel::scalar_type* to) noexcept {
  using S = typename Kernel::scalar_type;
  constexpr int M = Kernel::order;
  constexpr index_t width = lane<V>::width, line = simd::cache_line / index_t{sizeof(S)};
  static_assert(line % width == 0);
  S* const y = to - begin;
  const auto through_cache = [&](index_t c, index_t stop) {
    advance_row<V, leave::to_cache, Steps>(kernel, state, t, c, stop, y + c, 1);
  };
  const auto lines = [&]<index_t N>(std::integral_constant<index_t, N>, index_t c) {
    each<N * line / width>([&](index_t k) {
      constexpr all_lanes<V> all{};
      const index_t at = c + k * width;
      advance<V, leave::stay, Steps>(kernel, state, at, all, kernel.template token<V>(t, at, all),
                                     y, 1);
    });
    each<N>([&](index_t k) {
      if constexpr (fetching_lines<Kernel>) kernel.fetch_line(t, c + k * line);
      simd::stream_line(y + c + k * line,
                        state_of(state, c + k * line, M) + newest_place<M, Steps> * state_lanes);
    });
  };
  index_t c = begin;
  if constexpr (M == 1) {
    c += simd::to_line(to);
    if (c > end) c = end;
    through_cache(begin, c);
    for (; c + 2 * line <= end; c += 2 * line) lines(std::integral_constant<index_t, 2>{}, c);
    if (c + line <= end) {
      lines(std::integral_constant<index_t, 1>{}, c);
      c += line;
    }
  } else {
    // Counted, as `for_each_register` does.
    for (index_t k = begin / line; k < end / line; ++k)
      lines(std::integral_constant<index_t, 1>{}, k * line);
    c = end / line * line;
  }
  through_cache(c, end);
}

/// Channels [begin, end) of one token, whole registers of them, outputs leaving in either way.
template <class V, leave How, int Steps = moving, class Kernel>
inline void walk_row(const Kernel& kernel, typename Kernel::scalar_type* state, index_t t,
                     index_t begin, index_t end, typename Kernel::scalar_type* to,
                     index_t stride) noexcept {
  if constexpr (How == leave::copied)
    copy_row<V, Steps>(kernel, state, t, begin, end, to);
  else
    advance_row<V, How, Steps>(kernel, state, t, begin, end, to, stride);
}

/// Tokens [first, last) of channels [begin, end), whole registers of them, outputs to `out`. Everything
/// below is inlined here: a function left out of line would keep its arrays in memory. The kernel is a copy
/// whose address nobody has: stores of registers may alias anything else, and its pointers and strides
/// would be read again after each of them.
template <class V, leave How, class Kernel>
[[gnu::noinline, gnu::flatten]] void walk_registers(
    Kernel kernel, typename Kernel::scalar_type* state, index_t first, index_t last, index_t begin,
    index_t end, rows_out<typename Kernel::scalar_type> out) noexcept {
  // What streams out of the cache streams into it: no twin need ask. Measured: others are no faster for it.
  if constexpr (How == leave::past_cache && requires {
                  requires Kernel::twins;
                  kernel.fetch;
                })
    kernel.fetch = true;
  if constexpr (How == leave::copied && fetching_lines<Kernel>) kernel.fetch = false;
  if constexpr (ageing<Kernel, V>)
    for (; first + Kernel::order <= last; first += Kernel::order)
      unrolled<Kernel::order>([&](auto steps) {
        walk_row<V, How, static_cast<int>(steps.value)>(kernel, state,
                                                        first + static_cast<index_t>(steps.value),
                                                        begin, end, out.first, out.stride);
        out.first += out.apart;
      });
  for (; first < last; ++first, out.first += out.apart)
    walk_row<V, How>(kernel, state, first, begin, end, out.first, out.stride);
}

/// Tokens [first, last) of channels [begin, end), outputs to `out`. Channels that do not fill a register
/// follow the others some tokens at a time, while these are in the cache. Measured: calls between steps
/// would keep g++ from holding in registers what steps share.
template <class V, leave How = leave::to_cache, class Kernel>
void walk_rows(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
               index_t last, index_t begin, index_t end,
               rows_out<typename Kernel::scalar_type> out) noexcept {
  const index_t whole = end - (end - begin) % lane<V>::width;
  if constexpr (lane<V>::width > 1)
    if (whole < end) {
      constexpr index_t some = Kernel::order * (Kernel::order < 16 ? 16 / Kernel::order : 1);
      while (first < last) {
        const index_t stop = first + some < last ? first + some : last;
        walk_registers<V, How>(kernel, state, first, stop, begin, whole, out);
        auto rest = out;
        rest.first += (whole - begin) * out.stride;
        walk_register<V>(general_form(kernel), state, first, stop, whole,
                         static_cast<int>(end - whole), rest);
        out.first += (stop - first) * out.apart;
        first = stop;
      }
      return;
    }
  walk_registers<V, How>(kernel, state, first, last, begin, end, out);
}

/// Outputs past the cache, as copies of the state or from registers, if every row begins a cache line: else
/// false, and nothing is done.
template <class V, class Kernel>
[[nodiscard]] bool walk_past_cache(const Kernel& kernel, typename Kernel::scalar_type* state,
                                   index_t first, index_t last, index_t begin,
                                   index_t end) noexcept {
  using S = typename Kernel::scalar_type;
  const auto rows = rows_of(kernel, first, last, begin);
  if constexpr (showing_state<Kernel> && lane<V>::width > 1) {
    // A line of y must lie in one group of the state, or in all of them if they are dense.
    const auto fits = [](const S* row) {
      return Kernel::order == 1 ? simd::begins_register<V>(row) : simd::begins_line(row);
    };
    if (fits(rows.first) && fits(rows.first + rows.apart)) {
      walk_rows<V, leave::copied>(kernel, state, first, last, begin, end, rows);
      simd::stream_fence();
      return true;
    }
  }
  if constexpr (streaming<Kernel, V>)
    if (simd::begins_line(rows.first) && simd::begins_line(rows.first + rows.apart)) {
      walk_rows<V, leave::past_cache>(kernel, state, first, last, begin, end, rows);
      simd::stream_fence();
      return true;
    }
  return false;
}

/// Outputs past the cache wherever rows begin: a piece of a row is made in L1, then copied out in whole lines.
template <class V, class Kernel>
void walk_staged(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
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
      walk_rows<V>(kernel, state, t, t + 1, c, stop, {staged, 0, outputs});
      simd::stream_copy(kernel.y(t, c), staged, (stop - c) * outputs);
    }
  simd::stream_fence();
}

/// Rows of outputs of so many bytes are worth staging. Measured: on Zen 3 shorter ones take 1.1 to 7 times as
/// long so, on a Xeon with 64-byte registers 0.5 to 0.9 from 1 KiB on, and twice as long where they are of 96 bytes.
inline constexpr index_t staged_bytes = simd::native_width<float> >= 16 ? 512 : 8192;

/// Few channels, a register of them for some tokens, then the next. Measured: chains of two or three registers
/// then overlap, at 0.5 to 0.9 of the time of whole rows; blocks have arithmetic enough without.
template <class V, class Kernel>
void walk_few(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
              index_t last, index_t begin, index_t end) noexcept {
  constexpr index_t width = lane<V>::width;
  const index_t some = end - begin <= width ? last - first : 32;
  auto rows = rows_of(kernel, first, last, begin);
  while (first < last) {
    const index_t stop = first + some < last ? first + some : last;
    auto out = rows;
    index_t c = begin;
    for (; c + width <= end; c += width, out.first += width * out.stride)
      walk_register<V>(kernel, state, first, stop, c, all_lanes<V>{}, out);
    if (c < end) walk_register<V>(kernel, state, first, stop, c, static_cast<int>(end - c), out);
    rows.first += (stop - first) * rows.apart;
    first = stop;
  }
}

/// `walk` for kernels that leave it to us.
template <class V, class Kernel>
void walk_in_order(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first,
                   index_t last, index_t begin, index_t end, bool streaming) noexcept {
  constexpr index_t width = lane<V>::width;
  const index_t channels = end - begin;
  if constexpr (width > 1 && keeps_state<Kernel, V>)
    if (channels <= width) return walk_few<V>(kernel, state, first, last, begin, end);
  with_form_of<V>(kernel, [&](const auto& form) {
    if (streaming) {
      if (walk_past_cache<V>(form, state, first, last, begin, end)) return;
      constexpr index_t bytes = Kernel::outputs * index_t{sizeof(typename Kernel::scalar_type)};
      if (channels * bytes >= staged_bytes)
        return walk_staged<V>(form, state, first, last, begin, end);
    }
    if constexpr (width > 1 && keeps_state<Kernel, V> &&
                  (making_one<Kernel, V> || Kernel::order == 1))
      if (channels < 3 * width) return walk_few<V>(kernel, state, first, last, begin, end);
    walk_rows<V>(form, state, first, last, begin, end, rows_of(form, first, last, begin));
  });
}

/// Tokens [first, last) of channels [begin, end) of one sequence; `begin` is a multiple of 16.
template <class V, class Kernel>
void walk(const Kernel& kernel, typename Kernel::scalar_type* state, index_t first, index_t last,
          index_t begin, index_t end, bool streaming) noexcept {
  if (begin >= end || first >= last) return;
  if constexpr (walks_itself<Kernel, V>)
    kernel.template walk<V>(state, first, last, begin, end);
  else
    walk_in_order<V>(kernel, state, first, last, begin, end, streaming);
}

/// One token of all channels of a sequence, at time 0.
template <class V, class Kernel>
void step_row(const Kernel& kernel, typename Kernel::scalar_type* state,
              index_t channels) noexcept {
  if constexpr (walks_itself<Kernel, V>)
    walk<V>(kernel, state, 0, 1, 0, channels, false);
  else
    with_form_of<V>(kernel, [&](const auto& form) {
      walk_rows<V>(form, state, 0, 1, 0, channels, rows_of(form, 0, 1, 0));
    });
}

}  // namespace maslin::inline MASLIN_ABI::scan
