// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What exec::chunked does with one chunk: summarise it as affine maps, relay the carry through
/// them, replay its tokens from the carry. Here lanes are channels; see scan/narrow.hpp for lanes
/// that are chunks.
///
/// numerics  maps and carries are kept in double (integers: as they are), so that gates close to one
///           lose nothing however long a chunk is; a carry is rounded once where its chunk begins.
///           The operations of a channel are the same whatever its lane is.

#include <maslin/scan/sequential.hpp>
#include <maslin/simd/wide.hpp>

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// A kernel that summarises chunks its own way: as many doubles as a state has numbers, in its
/// layout.
template <class Kernel>
concept brings_summaries = requires(const Kernel& kernel, typename Kernel::scalar_type* state,
                                    double* numbers) {
  kernel.relay(numbers, state, numbers, numbers);
};

/// A kernel whose recurrence<V> and token<V> may be had in lanes of double as well (simd::wide<V>).
template <class Kernel>
concept has_wide_lanes = requires {
  requires(Kernel::wide_lanes);
};

/// Tokens of one chunk: [first, last).
struct chunk_span {
  index_t first, last;
};

/// The sizes that decide how much scratch a call needs.
struct chunk_sizes {
  index_t channels, state_size;
};

/// Doubles that hold `n` numbers of S, whole cache lines of them.
template <class S>
[[nodiscard]] constexpr index_t doubles_for(index_t n) noexcept {
  constexpr index_t line = 64, size = static_cast<index_t>(sizeof(S));
  return (n * size + line - 1) / line * (line / static_cast<index_t>(sizeof(double)));
}

/// Chunks of kernels that have a recurrence, channels in lanes of V, or one by one where the kernel
/// does not say that it widens.
template <class V, class Kernel>
class channel_chunk {
 public:
  using S = typename Kernel::scalar_type;
  static constexpr bool in_lanes = has_wide_lanes<Kernel> && simd::widens<V>;
  using U = std::conditional_t<in_lanes, V, S>;
  using W = simd::wide<U>;
  using R = typename Kernel::template recurrence<W>;
  using map = typename R::map;
  using number = typename lane<W>::scalar;
  static constexpr index_t order = Kernel::order, width = lane<U>::width;
  static constexpr index_t map_numbers = static_cast<index_t>(sizeof(map) / sizeof(number)) / width;

  [[nodiscard]] static index_t carry_size(const chunk_sizes& of) noexcept {
    return doubles_for<number>(padded(of.channels) * order);
  }
  /// Scratch of one task.
  [[nodiscard]] static index_t size(const chunk_sizes& of) noexcept {
    return doubles_for<number>(padded(of.channels) * map_numbers) + doubles_for<S>(of.state_size);
  }

  channel_chunk(double* memory, const chunk_sizes& of)
      : maps_(memory),
        state_(
            reinterpret_cast<S*>(memory + doubles_for<number>(padded(of.channels) * map_numbers))),
        channels_(of.channels),
        state_size_(of.state_size) {}

  /// The carry into the first chunk of a sequence: its state.
  static void enter(double* carry, const S* state, const chunk_sizes& of) noexcept {
    for (index_t c = 0; c < of.channels; c += width)
      each<Kernel::order>([&](int k) {
        const U h = lane<U>::load(state_of(state, c, Kernel::order) + k * state_lanes);
        lane<W>::store(at(carry, c, k), simd::widened(h));
      });
  }

  void summarise(const Kernel& kernel, const chunk_span& span) const noexcept {
    make_maps(kernel, maps_, span, channels_);
  }
  /// The carry into the chunk, rounded to the state of its replay; `after` is the carry out of it,
  /// null where nobody asks for it.
  void relay(const Kernel&, const double* before, double* after) const noexcept {
    std::fill_n(state_, state_size_, S(0));
    for (index_t c = 0; c < channels_; c += width) {
      typename R::state h;
      each<Kernel::order>([&](int k) {
        h.h[k] = lane<W>::load(at(before, c, k));
        lane<U>::store(state_of(state_, c, Kernel::order) + k * state_lanes,
                       simd::narrowed<U>(h.h[k]));
      });
      if (after == nullptr) continue;
      R::apply(*map_at(maps_, c), h);
      each<Kernel::order>([&](int k) { lane<W>::store(at(after, c, k), h.h[k]); });
    }
  }
  void replay(const Kernel& kernel, const chunk_span& span, bool streaming) const noexcept {
    walk<V>(kernel, state_, span.first, span.last, 0, channels_, streaming);
  }
  /// The state after the last chunk of a sequence.
  void leave(S* state) const noexcept { std::copy_n(state_, state_size_, state); }

  /// Where order k of the channels from c on lies in a carry.
  template <class T>
  [[nodiscard]] static auto* at(T* carry, index_t c, int k) noexcept {
    using to = std::conditional_t<std::is_const_v<T>, const number, number>;
    return reinterpret_cast<to*>(carry) + c * order + k * width;
  }

 private:
  [[nodiscard]] static index_t padded(index_t channels) noexcept {
    return (channels + state_lanes - 1) / state_lanes * state_lanes;
  }
  [[nodiscard]] static map* map_at(double* maps, index_t c) noexcept {
    return std::launder(reinterpret_cast<map*>(reinterpret_cast<number*>(maps) + c * map_numbers));
  }

  // So many rows stay in L1 while a row of channels goes by.
  static constexpr index_t rows = 4;

  /// Appends tokens [first, last), `rows` or fewer, to the maps of the n channels from c on.
  template <class N>
  static void append(const Kernel& kernel, map* maps, index_t first, index_t last, index_t c,
                     N n) noexcept {
    if constexpr (requires { R::append_run(*maps, nullptr, first); }) {
      typename R::token tokens[static_cast<std::size_t>(rows)];
      for (index_t t = first; t < last; ++t)
        tokens[t - first] = R::convert(kernel.template token<U>(t, c, n));
      R::append_run(*maps, tokens, last - first);
    } else {
      map m = *maps;
      for (index_t t = first; t < last; ++t)
        R::append(m, R::convert(kernel.template token<U>(t, c, n)));
      *maps = m;
    }
  }

  [[gnu::noinline, gnu::flatten]] static void make_maps(const Kernel kernel, double* maps,
                                                        chunk_span span,
                                                        index_t channels) noexcept {
    for (index_t c = 0; c < channels; c += width)
      new (reinterpret_cast<number*>(maps) + c * map_numbers) map(R::identity());
    for (index_t t = span.first; t < span.last; t += rows) {
      const index_t stop = std::min(t + rows, span.last);
      index_t c = 0;
      for (; c + width <= channels; c += width)
        append(kernel, map_at(maps, c), t, stop, c, all_lanes<U>{});
      if constexpr (width > 1)
        if (c < channels)
          append(kernel, map_at(maps, c), t, stop, c, static_cast<int>(channels - c));
    }
  }

  double* maps_;
  S* state_;
  index_t channels_, state_size_;
};

/// Chunks of kernels that bring summaries.
template <class V, class Kernel>
class own_chunk {
 public:
  using S = typename Kernel::scalar_type;

  [[nodiscard]] static index_t carry_size(const chunk_sizes& of) noexcept {
    return doubles_for<double>(of.state_size);
  }
  [[nodiscard]] static index_t size(const chunk_sizes& of) noexcept {
    return doubles_for<double>(of.state_size) + doubles_for<S>(of.state_size);
  }

  own_chunk(double* memory, const chunk_sizes& of)
      : summary_(memory),
        state_(reinterpret_cast<S*>(memory + doubles_for<double>(of.state_size))),
        channels_(of.channels),
        state_size_(of.state_size) {}

  static void enter(double* carry, const S* state, const chunk_sizes& of) noexcept {
    std::copy_n(state, of.state_size, carry);
  }
  void summarise(const Kernel& kernel, const chunk_span& span) const noexcept {
    std::fill_n(state_, state_size_, S(0));
    kernel.template summarise<V>(summary_, state_, span.first, span.last);
  }
  void relay(const Kernel& kernel, const double* before, double* after) const noexcept {
    if (after != nullptr) kernel.relay(summary_, state_, before, after);
    std::transform(before, before + state_size_, state_,
                   [](double h) { return static_cast<S>(h); });
  }
  void replay(const Kernel& kernel, const chunk_span& span, bool streaming) const noexcept {
    walk<V>(kernel, state_, span.first, span.last, 0, channels_, streaming);
  }
  void leave(S* state) const noexcept { std::copy_n(state_, state_size_, state); }

 private:
  double* summary_;
  S* state_;
  index_t channels_, state_size_;
};

template <class V, class Kernel>
struct chunk_type {
  using type = channel_chunk<V, Kernel>;
};
template <class V, brings_summaries Kernel>
struct chunk_type<V, Kernel> {
  using type = own_chunk<V, Kernel>;
};
template <class V, class Kernel>
using chunk_of = typename chunk_type<V, Kernel>::type;

}  // namespace maslin::inline MASLIN_ABI::scan
