// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Time in chunks: summarise each chunk as one affine map, carry the state from chunk to chunk by
/// those maps, replay every chunk from its carry. Summaries and replays of several chunks are
/// independent tasks.
///
/// numerics  maps and carries are kept in double, so that gates close to one lose nothing however
///           long a chunk is; a carry is rounded once where its chunk begins. The grid begins at
///           the call's first token and every carry is a map applied to the carry before, so that
///           the number of threads decides nothing.
/// cost      append + step for each token (M^3 + M^2 for blocks), where `sequential` pays step
///
/// A kernel may bring summaries of its own, which are then as many doubles as a state has numbers,
/// in its layout:
///   summarise<V>(summary, state, first, last)   of tokens [first, last); `state`, zeros of one
///                                               sequence, is kept for `relay`
///   relay(summary, state, before, after)        the carry after the chunk from the one before it

#include <maslin/scan/policy.hpp>
#include <maslin/scan/sequential.hpp>

#include <algorithm>
#include <new>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// Tokens of a chunk where the policy leaves the choice to us.
inline constexpr index_t default_chunk = 256;

/// The scratch of one call: for each chunk in flight a map for each channel, the carry that enters
/// it and the state of its replay.
template <class Kernel>
class chunk_scratch {
 public:
  using S = typename Kernel::scalar_type;
  using wide = typename Kernel::template recurrence<double>;
  using map = typename wide::map;

  /// Doubles that `slots` chunks in flight need.
  [[nodiscard]] static std::size_t size(index_t slots, index_t channels, index_t state_size) {
    const auto maps = slots * channels * map_doubles;
    const auto carries = (slots + 1) * channels * order;
    const auto states = slots * state_doubles(state_size);
    return static_cast<std::size_t>(maps + carries + states);
  }

  chunk_scratch(double* memory, index_t slots, index_t channels, index_t state_size)
      : maps_(memory),
        carries_(memory + slots * channels * map_doubles),
        states_(carries_ + (slots + 1) * channels * order),
        channels_(channels),
        state_size_(state_size) {}

  /// The map of channel c over the chunk in `slot`, made the identity.
  map* fresh_map(index_t slot, index_t c) const {
    return new (maps_ + (slot * channels_ + c) * map_doubles) map(wide::identity());
  }
  [[nodiscard]] map* map_at(index_t slot, index_t c) const {
    return std::launder(reinterpret_cast<map*>(maps_ + (slot * channels_ + c) * map_doubles));
  }
  /// The carry into the chunk of `slot` (slot `slots` is the carry out of the last).
  [[nodiscard]] double* carry(index_t slot, index_t c) const {
    return carries_ + (slot * channels_ + c) * order;
  }
  [[nodiscard]] index_t state_size() const { return state_size_; }
  /// State memory for the replay of `slot`.
  [[nodiscard]] S* state(index_t slot) const {
    return reinterpret_cast<S*>(states_ + slot * state_doubles(state_size_));
  }

 private:
  static constexpr index_t order = Kernel::order;
  static constexpr index_t map_doubles = sizeof(map) / sizeof(double);
  static_assert(sizeof(map) % sizeof(double) == 0 && alignof(map) <= alignof(double));
  [[nodiscard]] static index_t state_doubles(index_t state_size) {
    return (state_size * static_cast<index_t>(sizeof(S)) + 7) / 8;
  }

  double* maps_;
  double* carries_;
  double* states_;
  index_t channels_, state_size_;
};

/// A kernel that summarises chunks its own way.
template <class Kernel>
concept brings_summaries = requires(const Kernel& kernel, typename Kernel::scalar_type* state,
                                    double* numbers) {
  kernel.relay(numbers, state, numbers, numbers);
};

/// The same scratch for kernels that bring summaries: these and carries have the layout of a state.
template <class Kernel>
class own_scratch {
 public:
  using S = typename Kernel::scalar_type;

  [[nodiscard]] static std::size_t size(index_t slots, index_t, index_t state_size) {
    return static_cast<std::size_t>((2 * slots + 1) * state_size +
                                    (slots * state_size * static_cast<index_t>(sizeof(S)) + 7) / 8);
  }

  own_scratch(double* memory, index_t slots, index_t, index_t state_size)
      : summaries_(memory),
        carries_(memory + slots * state_size),
        states_(reinterpret_cast<S*>(carries_ + (slots + 1) * state_size)),
        state_size_(state_size) {}

  [[nodiscard]] index_t state_size() const { return state_size_; }
  [[nodiscard]] double* summary(index_t slot) const { return summaries_ + slot * state_size_; }
  [[nodiscard]] double* carry(index_t slot) const { return carries_ + slot * state_size_; }
  [[nodiscard]] S* state(index_t slot) const { return states_ + slot * state_size_; }

 private:
  double* summaries_;
  double* carries_;
  S* states_;
  index_t state_size_;
};

template <class Kernel>
using scratch_of =
    std::conditional_t<brings_summaries<Kernel>, own_scratch<Kernel>, chunk_scratch<Kernel>>;

/// The carry into the first chunk: the state itself.
template <class Kernel>
void take_state(const chunk_scratch<Kernel>& scratch, const typename Kernel::scalar_type* state,
                index_t channels) noexcept {
  for (index_t c = 0; c < channels; ++c)
    for (int k = 0; k < Kernel::order; ++k)
      scratch.carry(0, c)[k] =
          static_cast<double>(state_of(state, c, Kernel::order)[k * state_lanes]);
}
template <class Kernel>
void take_state(const own_scratch<Kernel>& scratch, const typename Kernel::scalar_type* state,
                index_t) noexcept {
  std::copy_n(state, scratch.state_size(), scratch.carry(0));
}

/// The carry out of the last of `now` chunks enters the first of those that follow.
template <class Kernel>
void pass_on(const chunk_scratch<Kernel>& scratch, index_t now, index_t channels) noexcept {
  std::copy_n(scratch.carry(now, 0), channels * Kernel::order, scratch.carry(0, 0));
}
template <class Kernel>
void pass_on(const own_scratch<Kernel>& scratch, index_t now, index_t) noexcept {
  std::copy_n(scratch.carry(now), scratch.state_size(), scratch.carry(0));
}

/// The maps of tokens [first, last), one a channel.
template <class V, class Kernel>
void summarise(const Kernel& kernel, const own_scratch<Kernel>& scratch, index_t slot,
               index_t first, index_t last, index_t) noexcept {
  std::fill_n(scratch.state(slot), scratch.state_size(), typename Kernel::scalar_type(0));
  kernel.template summarise<V>(scratch.summary(slot), scratch.state(slot), first, last);
}
template <class V, class Kernel>
void summarise(const Kernel& kernel, const chunk_scratch<Kernel>& scratch, index_t slot,
               index_t first, index_t last, index_t channels) noexcept {
  using S = typename Kernel::scalar_type;
  using wide = typename Kernel::template recurrence<double>;
  for (index_t c = 0; c < channels; ++c) scratch.fresh_map(slot, c);
  for (index_t t = first; t < last; ++t)
    for (index_t c = 0; c < channels; ++c)
      wide::append(*scratch.map_at(slot, c),
                   wide::convert(kernel.template token<S>(t, c, all_lanes<S>{})));
}

/// carry[slot + 1] = map[slot](carry[slot])
template <class Kernel>
void relay(const Kernel& kernel, const own_scratch<Kernel>& scratch, index_t slot,
           index_t) noexcept {
  kernel.relay(scratch.summary(slot), scratch.state(slot), scratch.carry(slot),
               scratch.carry(slot + 1));
}
template <class Kernel>
void relay(const Kernel&, const chunk_scratch<Kernel>& scratch, index_t slot,
           index_t channels) noexcept {
  typename Kernel::template recurrence<double>::state h;
  for (index_t c = 0; c < channels; ++c) {
    std::copy_n(scratch.carry(slot, c), Kernel::order, h.h);
    Kernel::template recurrence<double>::apply(*scratch.map_at(slot, c), h);
    std::copy_n(h.h, Kernel::order, scratch.carry(slot + 1, c));
  }
}

/// The carry into `slot`, rounded to a state.
template <class Kernel>
void seed(const own_scratch<Kernel>& scratch, index_t slot, index_t) noexcept {
  using S = typename Kernel::scalar_type;
  std::transform(scratch.carry(slot), scratch.carry(slot) + scratch.state_size(),
                 scratch.state(slot), [](double h) { return static_cast<S>(h); });
}
template <class Kernel>
void seed(const chunk_scratch<Kernel>& scratch, index_t slot, index_t channels) noexcept {
  using S = typename Kernel::scalar_type;
  std::fill_n(scratch.state(slot), scratch.state_size(), S(0));
  for (index_t c = 0; c < channels; ++c)
    for (int k = 0; k < Kernel::order; ++k)
      state_of(scratch.state(slot), c, Kernel::order)[k * state_lanes] =
          static_cast<S>(scratch.carry(slot, c)[k]);
}

/// One sequence of `tokens` tokens, `slots` chunks at a time. Tasks run on `where`.
template <class V, class Kernel, class Executor>
void walk_chunked(const Kernel& kernel, typename Kernel::scalar_type* state, index_t state_size,
                  index_t tokens, index_t channels, index_t chunk, index_t slots, double* memory,
                  Executor& where) {
  const scratch_of<Kernel> scratch(memory, slots, channels, state_size);
  const index_t chunks = (tokens + chunk - 1) / chunk;
  take_state(scratch, state, channels);

  for (index_t done = 0; done < chunks; done += slots) {
    const index_t now = std::min(slots, chunks - done);
    const auto begin_of = [&](index_t slot) { return (done + slot) * chunk; };
    const auto end_of = [&](index_t slot) { return std::min(begin_of(slot) + chunk, tokens); };
    // Nobody waits for the summary of the call's last chunk.
    where.run(done + now == chunks ? now - 1 : now, [&](index_t slot) {
      summarise<V>(kernel, scratch, slot, begin_of(slot), end_of(slot), channels);
    });
    for (index_t slot = 0; slot < now; ++slot)
      if (done + slot + 1 < chunks) relay(kernel, scratch, slot, channels);
    where.run(now, [&](index_t slot) {
      seed(scratch, slot, channels);
      walk<V>(kernel, scratch.state(slot), begin_of(slot), end_of(slot), 0, channels, false);
    });
    if (done + now == chunks)
      std::copy_n(scratch.state(now - 1), state_size, state);
    else
      pass_on(scratch, now, channels);
  }
}

}  // namespace maslin::inline MASLIN_ABI::scan
