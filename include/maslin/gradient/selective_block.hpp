// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a block of channels of the S6 adjoint works on: its scratch, where its sums go, and sums over
/// lanes.

#include <maslin/mixer/selective_kernel.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient::detail {

/// A number of channels, or of numbers, with those that pad it.
[[nodiscard]] constexpr index_t rounded_up(index_t n) noexcept {
  return (n + scan::state_lanes - 1) / scan::state_lanes * scan::state_lanes;
}

/// Hands out consecutive parts of a piece of memory, each from a cache line on; without memory it
/// only counts.
template <class S>
class parts_of {
 public:
  explicit parts_of(S* memory = nullptr) : memory_(memory) {}

  [[nodiscard]] S* take(index_t numbers) noexcept {
    const index_t begin = used_;
    used_ += rounded_up(numbers);
    return memory_ == nullptr ? nullptr : memory_ + begin;
  }
  [[nodiscard]] index_t used() const noexcept { return used_; }

 private:
  S* memory_;
  index_t used_ = 0;
};

/// Channels of a block: enough that adding up the lanes of their sums costs little, few enough that a
/// tile of it, `tile_states` numbers of state of each channel over the tokens between two kept states,
/// stays in L2. The grid of blocks is that of sums over channels.
inline constexpr index_t block_channels = 64, tile_states = 8;

/// Scratch of one task: a block of channels over the tokens between two kept states.
template <class S>
struct selective_block {
  S *rate, *reach;           // [block / 16][N][16]: A; [block]: the largest |A log2(e)|
  S *delta, *drive, *slope;  // [every], of a block each: Delta, Delta u, dDelta/d dt
  S *g, *gate_slope;         // the gradient of y before its gate, the gate's derivative
  S *sum, *into_input, *into_delta, *driven;  // sums over n
  S *into_skip, *into_bias;                   // [block], sums over tokens
  S* normal;  // [every]: 1 where no exponential leaves the range of normal numbers, or 0

  // Of a tile: [block / 16][tile_states][16], or [tile_states][16].
  S *tile_rate, *tile_decay, *tile_carry, *tile_into_decay;
  S *h, *kept;                // [every + 1], states before a token; [every], its decays
  S *into_write, *into_read;  // [every], sums over channels but for their lanes
  S *write, *read;            // [every], of channels that have their own

  /// Numbers from one token to the next. Not a power of two: rows of tokens are written side by side.
  static constexpr index_t row = block_channels + scan::state_lanes;
  static constexpr index_t lanes = tile_states * scan::state_lanes;

  [[nodiscard]] static selective_block of(parts_of<S>& from, index_t N, index_t every) noexcept {
    constexpr index_t tile = block_channels * tile_states;
    selective_block w{};
    w.rate = from.take(block_channels * N);
    for (S** p : {&w.reach, &w.into_skip, &w.into_bias}) *p = from.take(row);
    for (S** p : {&w.delta, &w.drive, &w.slope, &w.g, &w.gate_slope, &w.sum, &w.into_input,
                  &w.into_delta, &w.driven})
      *p = from.take(every * row);
    w.normal = from.take(every);
    for (S** p : {&w.tile_rate, &w.tile_decay, &w.tile_carry, &w.tile_into_decay})
      *p = from.take(tile);
    w.h = from.take((every + 1) * tile), w.kept = from.take(every * tile);
    for (S** p : {&w.into_write, &w.into_read, &w.write, &w.read}) *p = from.take(every * lanes);
    return w;
  }
};

/// Where a block leaves its sums. Those over channels are of tokens `first` on, groups in the order
/// in which the block meets them; those over tokens are added to.
template <class S>
struct selective_sums {
  S *write, *read;         // [groups of the block][tokens][N]; null: not wanted
  index_t first, apart;    // numbers from a group to the next
  S *decay, *skip, *bias;  // [block / 16][N][16], [block], [block]
};

/// Stores a sum, or adds it to what is there.
template <class V, class S, class N>
inline void put_sum(S* to, V x, N n, bool fresh) noexcept {
  lane<V>::store(to, fresh ? x : lane<V>::load(to, n) + x, n);
}

/// x[0] becomes the sum of all, by halves.
template <int Count, class V>
[[gnu::always_inline]] inline void add_by_halves(V* x) noexcept {
  if constexpr (Count > 1) {
    unrolled<Count / 2>([&](auto i) { x[i] = x[i] + x[i + Count / 2]; });
    add_by_halves<Count / 2>(x);
  }
}

/// Sums over the lanes of 16, by halves, of `count` rows, which are emptied.
template <class V, class S>
inline void take_lane_sums(S* rows, index_t count, S* to, bool fresh) noexcept {
  constexpr int lanes = static_cast<int>(scan::state_lanes), width = lane<V>::width;
  maslin::detail::registers_of<V>(0, count, [&](index_t k, auto n) {
    S* const first = rows + k * lanes;
    // Registers of a row are added before rows are turned into lanes.
    alignas(64) S added[static_cast<std::size_t>(width * width)];
    for (index_t i = 0; i < width; ++i) {
      V x[static_cast<std::size_t>(lanes / width)];
      if (i >= n) {
        lane<V>::store(added + i * width, lane<V>::broadcast(S(0)));
        continue;
      }
      each<lanes / width>([&](int j) {
        x[j] = lane<V>::load(first + i * lanes + j * width);
        lane<V>::store(first + i * lanes + j * width, lane<V>::broadcast(S(0)));
      });
      add_by_halves<lanes / width>(x);
      lane<V>::store(added + i * width, x[0]);
    }
    V x[static_cast<std::size_t>(width)];
    simd::load_columns<V, width>(added, width, all_lanes<V>{}, x);
    add_by_halves<width>(x);
    put_sum(to + k, x[0], n, fresh);
  });
}

/// Channels [begin, end), no more than 16 and of one 16, and the group of the first of them.
struct lane_range {
  index_t begin, end, group, width;  // channels of a group
};
/// Sums over the lanes of each group, ascending, of `count` rows, which are emptied. Those of the first
/// group go to `to`, of each other one `apart` numbers further on; the first are `fresh` or not.
template <class V, class S>
inline void take_group_sums(S* rows, index_t count, const lane_range& at, S* to, index_t apart,
                            bool fresh) noexcept {
  constexpr int lanes = static_cast<int>(scan::state_lanes);
  const index_t channels = at.end - at.begin;
  maslin::detail::registers_of<V>(0, count, [&](index_t k, auto n) {
    V x[static_cast<std::size_t>(lanes)];
    simd::load_columns<V, lanes>(rows + k * lanes, lanes, n, x);
    if (at.width == 1) {
      each<lanes>([&](int l) {
        if (l < channels) lane<V>::store(to + l * apart + k, x[l], n);
      });
      return;
    }
    index_t group = at.group;
    for (index_t c = at.begin; c < at.end; ++group) {
      const index_t stop = std::min(at.end, (group + 1) * at.width);
      V sum = x[c % lanes];
      for (++c; c < stop; ++c) sum = sum + x[c % lanes];
      put_sum(to + (group - at.group) * apart + k, sum, n, fresh || group > at.group);
    }
  });
  std::fill_n(rows, count * lanes, S(0));
}

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
