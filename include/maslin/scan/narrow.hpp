// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Chunks of few channels: as many chunks as a register has lanes, one a lane, so that neither the
/// latency of a step nor empty lanes decide the time. Tokens are turned tile by tile, so that the
/// same number of all chunks lies in one register.
///
/// numerics  each chunk has the operations of scan/summary.hpp, in their order, hence the same bytes
///
/// A kernel takes part if it offers
///   arrays                    number of arrays that its tokens are read from
///   array(i)                  where array i is (token_array)
///   turned_token<V>(from, c)  the token of channel c, lanes being chunks: number j of channel c of
///                             array i at from[i] + (c numbers + j) lanes
/// whose operations are those of token<V>,
/// and if its outputs are the first numbers of its state.

#include <maslin/scan/summary.hpp>
#include <maslin/simd/turn.hpp>

#include <algorithm>
#include <cstring>

namespace maslin::inline MASLIN_ABI::scan {

/// One array of the tokens of a sequence: dense channels of `numbers` each, `time` from token to
/// token, 0 for one that is fixed in time; `numbers` is 0 where channels do not lie side by side.
template <class S>
struct token_array {
  const S* first;
  index_t time, numbers;
};

/// A kernel whose tokens can be turned.
template <class Kernel>
concept turns = has_wide_lanes<Kernel> && requires(const Kernel& kernel) {
  requires(Kernel::arrays > 0);
  kernel.array(0);
};

/// As many chunks of a sequence of few channels as lanes, all of `chunk` tokens.
template <class V, class Kernel>
class narrow_chunks {
 public:
  using S = typename Kernel::scalar_type;
  using W = simd::wide<V>;
  using R = typename Kernel::template recurrence<W>;
  using map = typename R::map;
  using number = typename lane<W>::scalar;
  using carry = channel_chunk<V, Kernel>;
  static constexpr index_t order = Kernel::order, outputs = Kernel::outputs, width = lane<V>::width;
  static constexpr index_t map_numbers = carry::map_numbers;

  /// True if tokens and outputs of this kernel can be turned.
  [[nodiscard]] static bool suits(const Kernel& kernel, index_t channels) noexcept {
    if (width == 1 || channels >= width) return false;
    for (int i = 0; i < Kernel::arrays; ++i)
      if (kernel.array(i).numbers == 0) return false;
    return channels < 2 || kernel.y(0, 1) - kernel.y(0, 0) == outputs;
  }
  /// Doubles of scratch of one task.
  [[nodiscard]] static index_t size(const Kernel& kernel, index_t channels,
                                    index_t chunk) noexcept {
    return maps_size(channels) + states_size(channels) + out_size(channels) +
           doubles_for<S>(kept_tokens(kernel, channels, chunk) * width *
                          token_numbers(kernel, channels));
  }

  narrow_chunks(double* memory, const Kernel& kernel, index_t channels, index_t chunk)
      : maps_(memory),
        states_(reinterpret_cast<S*>(memory + maps_size(channels))),
        out_(reinterpret_cast<S*>(memory + maps_size(channels) + states_size(channels))),
        turned_(reinterpret_cast<S*>(memory + maps_size(channels) + states_size(channels) +
                                     out_size(channels))),
        channels_(channels),
        chunk_(chunk),
        kept_(kept_tokens(kernel, channels, chunk)) {}

  /// `count` chunks, the first of which begins at token `first`.
  void summarise(const Kernel& kernel, index_t first, int count) const noexcept {
    with_count(count, [&](auto n) { make_maps(kernel, *this, first, n); });
  }
  /// The carry into each chunk, from `before`, which enters the first; `after` leaves the last.
  void relay(const double* before, double* after, int count) const noexcept {
    for (index_t c = 0; c < channels_; ++c) {
      typename single::state h;
      each<Kernel::order>([&](int k) { h.h[k] = carry::at(before, 0, k)[c]; });
      for (int l = 0; l < count; ++l) {
        each<Kernel::order>(
            [&](int k) { states_[(c * order + k) * width + l] = static_cast<S>(h.h[k]); });
        single::apply(map_of_lane(c, l), h);
      }
      each<Kernel::order>([&](int k) { carry::at(after, 0, k)[c] = h.h[k]; });
    }
  }
  void replay(const Kernel& kernel, index_t first, int count) const noexcept {
    with_count(count, [&](auto n) { walk_lanes(kernel, *this, first, n); });
  }
  /// The state after the chunk in lane l.
  void leave(S* state, int l) const noexcept {
    for (index_t c = 0; c < channels_; ++c)
      for (int k = 0; k < Kernel::order; ++k)
        state_of(state, c, Kernel::order)[k * state_lanes] = states_[(c * order + k) * width + l];
  }

 private:
  using single = typename Kernel::template recurrence<number>;

  // Tokens turned at a time. Measured: with fewer what is done once a tile shows, more numbers than these do
  // not stay in the first level.
  static constexpr index_t tile = Kernel::order * Kernel::outputs <= 8 ? 32 : 8;
  // Turned tokens of this many bytes are kept for the replay, in L2 beside what a core reads.
  static constexpr index_t kept_bytes = index_t{128} << 10;

  [[nodiscard]] static index_t token_numbers(const Kernel& kernel, index_t channels) noexcept {
    index_t n = 0;
    for (int i = 0; i < Kernel::arrays; ++i) n += kernel.array(i).numbers * channels;
    return n;
  }
  [[nodiscard]] static index_t kept_tokens(const Kernel& kernel, index_t channels,
                                           index_t chunk) noexcept {
    const index_t bytes = token_numbers(kernel, channels) * width * static_cast<index_t>(sizeof(S));
    return chunk * bytes <= kept_bytes ? std::max(chunk, tile) : tile;
  }
  [[nodiscard]] static index_t maps_size(index_t channels) noexcept {
    return doubles_for<number>(channels * map_numbers * width);
  }
  [[nodiscard]] static index_t states_size(index_t channels) noexcept {
    return doubles_for<S>(channels * order * width);
  }
  [[nodiscard]] static index_t out_size(index_t channels) noexcept {
    return doubles_for<S>(tile * channels * outputs * width);
  }

  template <class F>
  static void with_count(int count, const F& f) noexcept {
    if (count == width)
      f(all_lanes<V>{});
    else
      f(count);
  }
  [[nodiscard]] map* map_at(index_t c) const noexcept {
    return std::launder(
        reinterpret_cast<map*>(reinterpret_cast<number*>(maps_) + c * map_numbers * width));
  }
  [[nodiscard]] typename single::map map_of_lane(index_t c, int l) const noexcept {
    const number* const from = reinterpret_cast<number*>(maps_) + c * map_numbers * width + l;
    number numbers[static_cast<std::size_t>(map_numbers)];
    for (index_t i = 0; i < map_numbers; ++i) numbers[i] = from[i * width];
    typename single::map m;
    static_assert(sizeof m == sizeof numbers);
    std::memcpy(static_cast<void*>(&m), numbers, sizeof m);
    return m;
  }

  /// Where the turned tokens of a tile lie, array by array.
  struct places {
    const S* from[static_cast<std::size_t>(Kernel::arrays)];
    index_t token[static_cast<std::size_t>(Kernel::arrays)];

    void advance() noexcept {
      each<Kernel::arrays>([&](int i) { from[i] += token[i]; });
    }
  };
  [[nodiscard]] places places_of(const Kernel& kernel, index_t t) const noexcept {
    places at;
    S* to = turned_;
    each<Kernel::arrays>([&](int i) {
      const auto a = kernel.array(i);
      const index_t numbers = a.numbers * channels_ * width;
      at.token[i] = a.time == 0 ? 0 : numbers;
      at.from[i] = to + (kept_ > tile ? t : 0) * at.token[i];
      to += kept_ * numbers;
    });
    return at;
  }

  /// Turns tokens [t, t + count) of each chunk, the first of which begins at `first`.
  template <class N>
  void turn(const Kernel& kernel, index_t first, index_t t, index_t count, N n) const noexcept {
    const places at = places_of(kernel, t);
    each<Kernel::arrays>([&](int i) {
      const auto a = kernel.array(i);
      const index_t numbers = a.numbers * channels_, apart = chunk_ * a.time;
      S* const to = turned_ + (at.from[i] - turned_);
      const S* const from = a.first + (first + t) * a.time;
      if (a.time == numbers) return simd::turn_rows<V>(to, from, apart, count * numbers, n);
      const index_t tokens = a.time == 0 ? 1 : count;
      for (index_t s = 0; s < tokens; ++s)
        simd::turn_rows<V>(to + s * numbers * width, from + s * a.time, apart, numbers, n);
    });
  }
  /// The inverse, of outputs.
  template <class N>
  void write(const Kernel& kernel, index_t t, index_t count, N n) const noexcept {
    const index_t numbers = channels_ * outputs, time = kernel.y(1, 0) - kernel.y(0, 0);
    if (time == numbers)
      return simd::turn_back<V>(kernel.y(t, 0), chunk_ * time, out_, count * numbers, n);
    for (index_t s = 0; s < count; ++s)
      simd::turn_back<V>(kernel.y(t + s, 0), chunk_ * time, out_ + s * numbers * width, numbers, n);
  }

  /// Appends `count` turned tokens of channel c to its map.
  static void append(const Kernel& kernel, map& to, places at, index_t c, index_t count) noexcept {
    // Up to here a map stays in registers.
    constexpr bool small = order <= 2;
    if constexpr (!small && requires { R::append_run(to, nullptr, count); }) {
      typename R::token tokens[static_cast<std::size_t>(tile)];
      for (index_t s = 0; s < count; ++s, at.advance())
        tokens[s] = R::convert(kernel.template turned_token<V>(at.from, c));
      R::append_run(to, tokens, count);
    } else {
      map m = to;
      for (index_t s = 0; s < count; ++s, at.advance())
        R::append(m, R::convert(kernel.template turned_token<V>(at.from, c)));
      to = m;
    }
  }

  template <class N>
  [[gnu::noinline, gnu::flatten]] static void make_maps(const Kernel kernel,
                                                        const narrow_chunks self, index_t first,
                                                        N n) noexcept {
    for (index_t c = 0; c < self.channels_; ++c)
      new (reinterpret_cast<number*>(self.maps_) + c * map_numbers * width) map(R::identity());
    for (index_t t = 0; t < self.chunk_; t += tile) {
      const index_t count = std::min(tile, self.chunk_ - t);
      self.turn(kernel, first, t, count, n);
      for (index_t c = 0; c < self.channels_; ++c) {
        append(kernel, *self.map_at(c), self.places_of(kernel, t), c, count);
      }
    }
  }

  template <class N>
  [[gnu::noinline, gnu::flatten]] static void walk_lanes(const Kernel kernel,
                                                         const narrow_chunks self, index_t first,
                                                         N n) noexcept {
    using step = typename Kernel::template recurrence<V>;
    for (index_t t = 0; t < self.chunk_; t += tile) {
      const index_t count = std::min(tile, self.chunk_ - t);
      if (self.kept_ == tile) self.turn(kernel, first, t, count, n);
      for (index_t c = 0; c < self.channels_; ++c) {
        places at = self.places_of(kernel, t);
        typename step::state h;
        S* const state = self.states_ + c * order * width;
        each<Kernel::order>([&](int k) { h.h[k] = lane<V>::load(state + k * width); });
        for (index_t s = 0; s < count; ++s, at.advance()) {
          step::step(kernel.template turned_token<V>(at.from, c), h);
          S* const out = self.out_ + (s * self.channels_ + c) * outputs * width;
          each<Kernel::outputs>([&](int k) { lane<V>::store(out + k * width, h.h[k]); });
        }
        each<Kernel::order>([&](int k) { lane<V>::store(state + k * width, h.h[k]); });
      }
      self.write(kernel, first + t, count, n);
    }
  }

  double* maps_;
  S* states_;
  S* out_;
  S* turned_;
  index_t channels_, chunk_, kept_;
};

}  // namespace maslin::inline MASLIN_ABI::scan
