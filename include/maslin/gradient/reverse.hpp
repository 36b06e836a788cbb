// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Walking the tokens of a recurrence from the last to the first, channels in lanes: the schedule of
/// the adjoints. Channels are taken from the last to the first too: memory is then walked downwards
/// without a jump between tokens, and fetched from below. Time is counted from the end, so that the
/// schedules of scan/run.hpp serve as they are: its token r is token T - 1 - r of the call, and
/// nothing is flipped in memory.
///
/// A kernel derives from `reverse_kernel` and has
///   order, recurrence<V>, token<V>(r, c, n)   the adjoint (recurrence/adjoint.hpp), for exec::chunked
///   outputs                                   how many gradients have a time axis
///   per_channel[outputs]                      numbers that a channel has in each of them
///   back<V, Early, How>(t, c, n, carry, to)   one token of the n channels from c on; `to` says where
///                                             its gradients go, and How whether past the cache.
///                                             Early: some of the `order` tokens before it are in the
///                                             initial state
///   streams_registers<V>                      true if gradients that begin cache lines can be
///                                             written past the cache from registers of V
/// and, where it is not false as in `reverse_kernel`,
///   twins                                     true if two registers are best walked side by side
///                                             (simd/twin.hpp)
///   may_scatter, scattered()                  true if channels of rows that are read may have gaps between
///                                             them, and if they do: they are then walked like the channels
///                                             that do not fill a register, with a count n of lanes

#include <maslin/core/lane.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/call.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/scan/sequential.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/stream.hpp>
#include <maslin/simd/twin.hpp>

#include <array>
#include <concepts>
#include <span>
#include <string>
#include <utility>

namespace maslin::inline MASLIN_ABI::gradient {

/// The schedule of a call whose gradients are summed over time: in order, on as many threads.
template <class Policy>
[[nodiscard]] Policy in_order(const Policy& policy) noexcept {
  return policy;
}
[[nodiscard]] inline exec::sequential in_order(const exec::chunked& policy) noexcept {
  return {.threads = policy.threads};
}
[[nodiscard]] inline exec::sequential in_order(const exec::automatic& policy) noexcept {
  return {.threads = policy.threads};
}
template <class Executor, class Policy>
[[nodiscard]] auto in_order(const exec::bound_policy<Executor, Policy>& bound) noexcept {
  return exec::on(*bound.where, in_order(bound.policy));
}

/// Runs a checked adjoint of gate rows. Rows with gaps, and gradients that are added to, go through the
/// cache.
template <class Policy, class Source, class State>
void run_back(const Policy& policy, Source source, bool accumulate, State& dstate) {
  source.first.streaming = !accumulate && source.may_stream && streams(policy, source.moved_bytes);
  scan::run(policy, source, dstate);
}

/// Refuses offsets that do not fit, and initial states or their gradients of another shape.
/// throws    shape_error
template <class State>
void check_states(const check::caller& who, std::span<const index_t> offsets, index_t B, index_t T,
                  index_t channels, index_t order, const State& initial, const State& dstate,
                  memory_of_call& memory) {
  if (!offsets.empty()) check::packed(who, offsets, B, T);
  const index_t sequences = offsets.empty() ? B : static_cast<index_t>(offsets.size()) - 1;
  for (const auto& [name, h] :
       {std::pair{"saved.initial", &initial}, std::pair{"dstate", &dstate}}) {
    scan::check_order(who, name, *h, order);
    if (h->batch() != sequences || h->channels() != channels)
      who.refuse(std::string(name) + " must be of B sequences and D channels = " +
                 check::list(std::array{sequences, channels}) + ", got " +
                 check::list(std::array{h->batch(), h->channels()}));
    memory.reads(name, h->memory());
  }
  if (&initial == &dstate || check::overlap(initial.memory(), dstate.memory()))
    who.refuse("dstate must not be saved.initial, got the same state");
}

/// Where the channels of one token of a gradient go: from channel `origin` on, the first of a group,
/// each channel (grouped gates: each group) `step` numbers after the one before.
template <class S>
struct gradient_row {
  S* first = nullptr;  // null: not wanted
  index_t step = 0, origin = 0;

  explicit operator bool() const noexcept { return first != nullptr; }
  /// Channel c of a gradient without groups.
  [[nodiscard]] S* at(index_t c) const noexcept { return first + (c - origin) * step; }
};

/// A gradient with a time axis: its rows, and how its channels lie in them.
template <class S>
struct gradient_out {
  scan::token_rows<S> rows{};
  index_t step = 0;   // from channel to channel, or from group to group
  index_t group = 1;  // channels of a group
};

/// What the adjoint kernels share. `Kernel` is the class that derives from this.
template <class Kernel, class S, std::size_t Outputs>
struct reverse_kernel {
  using scalar_type = S;
  static constexpr index_t outputs = static_cast<index_t>(Outputs);
  static constexpr bool may_scatter = false, twins = false;
  using row_set = std::array<gradient_row<S>, Outputs>;

  std::array<gradient_out<S>, Outputs> out{};
  scan::token_rows<const S> y{}, dy{};
  const S* before = nullptr;           // the state before the first token of this sequence
  index_t before_step = 0;             // from sequence to sequence
  index_t length = 0;                  // tokens of this sequence
  std::span<const index_t> offsets{};  // packed sequences, if any
  bool accumulate = false;
  bool streaming = false;  // gradients are written past the cache
  bool fetch = false;      // the call streams from memory

  /// Tokens [first, last), counted from the end, of channels [begin, end).
  template <class V>
  void walk(S* carry, index_t first, index_t last, index_t begin, index_t end) const noexcept {
    // A copy whose address nobody has: see scan::walk_rows.
    const Kernel kernel = static_cast<const Kernel&>(*this);
    for (index_t r = first; r < last; ++r) {
      const index_t t = kernel.length - 1 - r;
      if (streaming)
        walk_streaming<V>(kernel, carry, t, begin, end);
      else
        walk_row<V>(kernel, carry, t, begin, end, kernel.places(t, begin));
    }
    if (streaming) simd::stream_fence();
  }

  template <class State>
  void begin_at(const State& initial) noexcept {
    before = initial.row(0);
    before_step = initial.sequence_size();
  }
  void enter(index_t b) noexcept {
    before += b * before_step;
    if (offsets.empty()) return;
    const auto at = static_cast<std::size_t>(b);
    length = offsets[at + 1] - offsets[at];
  }

 protected:
  void shift(index_t b, index_t t) noexcept {
    for (auto& o : out) o.rows.shift(b, t);
    y.shift(b, t);
    dy.shift(b, t);
  }
  [[nodiscard]] index_t time_of(index_t r) const noexcept { return length - 1 - r; }

 private:
  [[nodiscard]] row_set places(index_t t, index_t begin) const noexcept {
    row_set to;
    for (std::size_t k = 0; k < Outputs; ++k) {
      const index_t group = begin / out[k].group;
      if (out[k].rows)
        to[k] = {out[k].rows.at(t) + group * out[k].step, out[k].step, group * out[k].group};
    }
    return to;
  }

  /// True if registers are best walked two side by side.
  template <class V>
  static constexpr bool pairing = lane<V>::width > 1 && Kernel::twins;

  /// Channels [begin, end) of one token; `begin` is a multiple of 16.
  template <class V>
  static void walk_row(const Kernel& kernel, S* carry, index_t t, index_t begin, index_t end,
                       const row_set& to) noexcept {
    if (t < Kernel::order)
      walk_row_of<V, true>(kernel, carry, t, begin, end, to);
    else
      walk_row_of<V, false>(kernel, carry, t, begin, end, to);
  }
  template <class V, bool Early, scan::leave How = scan::leave::to_cache>
  static void walk_row_of(const Kernel& kernel, S* carry, index_t t, index_t begin, index_t end,
                          const row_set& to) noexcept {
    constexpr index_t width = lane<V>::width;
    index_t whole = end - (end - begin) % width;
    if constexpr (width > 1 && Kernel::may_scatter)
      if (kernel.scattered()) whole = begin;
    if constexpr (width > 1)
      if (whole < end) last_channels<V, Early>(kernel, carry, t, whole, end, to);
    if constexpr (pairing<V> && !Early) {
      // Measured: pairs begin late, short rows are faster without.
      constexpr index_t pair = 2 * width, long_row = 8 * width;
      const bool pairs = How == scan::leave::past_cache || whole - begin >= long_row;
      const index_t paired = pairs ? whole - (whole - begin) % pair : begin;
      if (paired < whole)
        whole_registers<V, false, scan::leave::to_cache>(kernel, carry, t, paired, whole, to);
      if (begin < paired)
        whole_registers<simd::twin<V>, false, How>(kernel, carry, t, begin, paired, to);
    } else {
      whole_registers<V, Early, How>(kernel, carry, t, begin, whole, to);
    }
  }
  template <class V, bool Early, scan::leave How>
  [[gnu::noinline, gnu::flatten]] static void whole_registers(const Kernel kernel, S* carry,
                                                              index_t t, index_t begin, index_t end,
                                                              const row_set to) noexcept {
    for (index_t c = end - lane<V>::width; c >= begin; c -= lane<V>::width)
      kernel.template back<V, Early, How>(t, c, all_lanes<V>{},
                                          scan::state_of(carry, c, Kernel::order), to);
  }
  template <class V, bool Early>
  [[gnu::noinline, gnu::flatten]] static void last_channels(const Kernel kernel, S* carry,
                                                            index_t t, index_t begin, index_t end,
                                                            const row_set to) noexcept {
    constexpr index_t width = lane<V>::width;
    const auto back = [&](index_t c, index_t n) {
      kernel.template back<V, Early, scan::leave::to_cache>(
          t, c, static_cast<int>(n), scan::state_of(carry, c, Kernel::order), to);
    };
    if constexpr (Kernel::may_scatter)
      for (index_t c = begin + (end - begin - 1) / width * width; c >= begin; c -= width)
        back(c, end - c < width ? end - c : width);
    else
      back(begin, end - begin);
  }

  /// Past the cache: from registers where every row begins a cache line.
  template <class V>
  static void walk_streaming(const Kernel& kernel, S* carry, index_t t, index_t begin,
                             index_t end) noexcept {
    if constexpr (lane<V>::width > 1 && Kernel::template streams_registers<V>)
      if (t >= Kernel::order) {
        const row_set to = kernel.places(t, begin);
        bool lines = true;
        if constexpr (Kernel::may_scatter) lines = !kernel.scattered();
        for (const auto& row : to) lines = lines && simd::begins_line(row.first);
        if (lines)
          return walk_row_of<V, false, scan::leave::past_cache>(kernel, carry, t, begin, end, to);
      }
    walk_past_cache<V>(kernel, carry, t, begin, end);
  }
  /// Gradients are made in L1, a piece of the row at a time, and copied out in whole lines.
  template <class V>
  [[gnu::noinline]] static void walk_past_cache(const Kernel& kernel, S* carry, index_t t,
                                                index_t begin, index_t end) noexcept {
    constexpr index_t piece = piece_channels();
    alignas(64) S staged[static_cast<std::size_t>(piece * numbers())];
    for (index_t c = begin + (end - begin - 1) / piece * piece; c >= begin; c -= piece) {
      const index_t stop = c + piece < end ? c + piece : end;
      const row_set memory = kernel.places(t, c);
      row_set to = memory;
      S* room = staged;
      bool whole = true;  // the padding of a last group is not ours to write
      for (std::size_t k = 0; k < Outputs; ++k) {
        whole = whole && (stop - c) % kernel.out[k].group == 0;
        to[k] = {memory[k] ? room : nullptr, Kernel::per_channel[k] * kernel.out[k].group, c};
        room += piece * Kernel::per_channel[k];
      }
      walk_row<V>(kernel, carry, t, c, stop, whole ? to : memory);
      for (std::size_t k = 0; whole && k < Outputs; ++k)
        if (to[k])
          simd::stream_copy(memory[k].first, to[k].first, (stop - c) * Kernel::per_channel[k]);
    }
  }
  /// Numbers that a channel has in all gradients together.
  [[nodiscard]] static constexpr index_t numbers() noexcept {
    index_t n = 0;
    for (const index_t k : Kernel::per_channel) n += k;
    return n;
  }
  [[nodiscard]] static constexpr index_t piece_channels() noexcept {
    // Measured: twice as much shares its 4 KiB offsets with rows that are read, and takes a third longer.
    constexpr index_t staged_bytes = 4096;
    const index_t fit = staged_bytes / static_cast<index_t>(sizeof(S)) / numbers();
    return fit < scan::state_lanes ? scan::state_lanes
                                   : fit / scan::state_lanes * scan::state_lanes;
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
