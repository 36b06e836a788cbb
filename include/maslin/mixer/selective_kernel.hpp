// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How a selective state-space model walks time: what is inside `selective_ssm`.

#include <maslin/recurrence/selective.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/sequential.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/activation.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/pieces.hpp>
#include <maslin/simd/stream.hpp>
#include <maslin/simd/twin.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::detail {

/// The most numbers of state that a channel may have.
inline constexpr index_t most_states = 256;

/// f(c, n) for registers of channels [begin, end): n is `all_lanes<V>`, or what is left.
template <class V, class F>
inline void registers_of(index_t begin, index_t end, const F& f) noexcept {
  constexpr index_t width = lane<V>::width;
  index_t c = begin;
  for (; c + width <= end; c += width) f(c, all_lanes<V>{});
  if constexpr (width > 1)
    if (c < end) f(c, static_cast<int>(end - c));
}
/// f<W>(c, n), four registers W at once while there are so many: chains as long as those of softplus
/// and silu fill what a core looks ahead.
template <class V, class F>
inline void quads_of(index_t begin, index_t end, const F& f) noexcept {
  index_t c = begin;
  if constexpr (lane<V>::width > 1) {
    using W = simd::twin<simd::twin<V>>;
    for (; c + lane<W>::width <= end; c += lane<W>::width)
      f.template operator()<W>(c, all_lanes<W>{});
  }
  registers_of<V>(c, end, [&](index_t i, auto n) { f.template operator()<V>(i, n); });
}

/// Transposes rows of N decays, those of `count` channels, into lanes [count / 16][N][16], each times
/// `scale`. `reach` becomes the largest of a channel in size, NaN for one that is not finite.
template <class V, class S>
inline void load_decays(const S* decay, index_t row, index_t N, index_t count, S scale, S* to,
                        S* reach) noexcept {
  using L = lane<V>;
  constexpr int piece = L::width == 1 ? 1 : simd::detail::piece<S>;
  registers_of<V>(0, count, [&](index_t c, auto n) {
    S* const lanes = scan::state_of(to, c, static_cast<int>(N));
    const S* const from = decay + c * row;
    V most = L::broadcast(S(0)), bad = most;
    const auto keep = [&](index_t k, V a) {
      a = a * L::broadcast(scale);
      most = L::max(most, L::abs(a));
      bad = L::fma(a, L::broadcast(S(0)), bad);
      L::store(lanes + k * scan::state_lanes, a);
    };
    index_t k = 0;
    for (; k + piece <= N; k += piece) {
      V a[static_cast<std::size_t>(piece)];
      simd::load_columns<V, piece>(from + k, row, n, a);
      each<piece>([&](int j) { keep(k + j, a[j]); });
    }
    for (; k < N; ++k) {
      alignas(64) S column[static_cast<std::size_t>(L::width)] = {};
      for (index_t j = 0; j < n; ++j) column[j] = from[j * row + k];
      keep(k, L::load(column));
    }
    L::store(reach + c, most + bad);
  });
}

/// Delta and Delta u of channels [begin, end) of a token, from `delta` and `drive` on.
template <class V, class S>
inline void find_steps(const S* steps, const S* values, const S* biases, index_t begin, index_t end,
                       S* delta, S* drive) noexcept {
  quads_of<V>(begin, end, [&]<class W>(index_t c, auto n) {
    using L = lane<W>;
    W x = L::load(steps + c, n);
    if (biases != nullptr) x = x + L::load(biases + c, n);
    const W step = simd::softplus(x);
    L::store(delta + (c - begin), step);
    L::store(drive + (c - begin), step * L::load(values + c, n));
  });
}

/// B or C of 16 channels from c on, before `end`, whose groups have `width` of them and begin `apart`
/// numbers after each other, into lanes: to[k 16 + l] is number k of channel c + l. Lanes past the end
/// repeat the last channel.
template <class V, class S>
inline void own_rows(const S* rows, index_t apart, index_t width, index_t c, index_t end, index_t N,
                     S* to) noexcept {
  constexpr index_t lanes = scan::state_lanes;
  constexpr int piece = lane<V>::width == 1 ? 1 : simd::detail::piece<S>;
  const S* from[static_cast<std::size_t>(lanes)];
  index_t group = c / width, left = (group + 1) * width - c;
  for (index_t l = 0; l < lanes; ++l) {
    from[l] = rows + group * apart;
    if (c + l + 1 < end && --left == 0) ++group, left = width;
  }
  for (index_t l = 0; l < lanes; l += lane<V>::width) {
    index_t k = 0;
    if constexpr (piece > 1)
      for (; k + piece <= N; k += piece) {
        V x[static_cast<std::size_t>(piece)];
        simd::load_columns_of<V, piece>([&](int r) { return from[l + r] + k; }, x);
        each<piece>([&](int j) { lane<V>::store(to + (k + j) * lanes + l, x[j]); });
      }
    for (; k < N; ++k)
      for (index_t r = l; r < l + lane<V>::width; ++r) to[k * lanes + r] = from[r][k];
  }
}

/// Where the kept states of sequence b begin, `passed` tokens having gone before it: those of shorter
/// sequences leave a row free, so that no sum over them is needed.
[[nodiscard]] constexpr index_t selective_row(index_t passed, index_t b, index_t every) noexcept {
  return passed / every + b;
}

/// The largest Delta |A| of which no exponential leaves the range of normal numbers.
template <class S>
inline constexpr S normal_reach = -simd::exp2_constants<S>::lowest;

/// One sequence of a call: a kernel that walks its own way (scan/kernel.hpp) and brings its own
/// summaries (scan/chunked.hpp).
template <class S, discretisation Rule>
struct selective_kernel {
  using scalar_type = S;
  static constexpr int outputs = 1;
  // Arithmetic outweighs traffic by far: any group of channels is worth a thread.
  static constexpr index_t run_bytes = scan::state_lanes * static_cast<index_t>(sizeof(S));

  scan::token_rows<const S> dt, input, gate, write, read;
  scan::token_rows<S> out;                                   // null: the state alone is wanted
  index_t write_group, read_group, write_width, read_width;  // strides; channels of a group
  const S* decay;
  index_t decay_row, N, channels;
  const S* skip;
  const S* bias;
  // What a scan for backward keeps: the state before every so many tokens, [D / 16][N][16] each.
  S* keep = nullptr;
  index_t every = 1, length = 0, passed = 0;  // tokens of a sequence of the batch, and before it

  /// The factor that decays in lanes carry.
  static constexpr S scale = Rule == discretisation::euler ? simd::exp_constants<S>::log2e : S(1);

  [[nodiscard]] selective_kernel shifted(index_t b, index_t t) const noexcept {
    selective_kernel k = *this;
    k.passed += b * length + t;
    for (scan::token_rows<const S>* r : {&k.dt, &k.input, &k.gate, &k.write, &k.read})
      r->shift(b, t);
    k.out.shift(b, t);
    return k;
  }
  void enter(index_t b) noexcept {
    if (keep != nullptr) keep += selective_row(passed, b, every) * offset(rounded_up(channels));
  }

  /// Channels are walked in tiles whose decays, transposed into lanes, and state stay in L2 while
  /// time goes by. A token of a tile is three passes, so that chains of softplus and of silu, each
  /// longer than what a core looks ahead, run side by side and not one before every register.
  static constexpr index_t most_channels = 1024, most_decays = 65536 / index_t{sizeof(S)};
  static_assert(most_decays >= most_states * scan::state_lanes);
  static_assert(scan::state_lanes == recurrence::lanes_apart);
  struct tile {
    index_t begin, end;
    alignas(64) S decay[static_cast<std::size_t>(most_decays)];  // [channels / 16][N][16]
    // The largest |decay|; NaN for one that is not finite.
    alignas(64) S reach[static_cast<std::size_t>(most_channels)];
    // Registers of a last group may begin anywhere in it.
    alignas(64) S delta[static_cast<std::size_t>(most_channels + scan::state_lanes)];
    alignas(64) S drive[static_cast<std::size_t>(most_channels + scan::state_lanes)];
    alignas(64) S sum[static_cast<std::size_t>(most_channels + scan::state_lanes)];
    // B and C of 16 channels of more than one group, [N][16].
    alignas(64) S write[static_cast<std::size_t>(most_states * scan::state_lanes)];
    alignas(64) S read[static_cast<std::size_t>(most_states * scan::state_lanes)];
  };
  [[nodiscard]] index_t tile_channels() const noexcept {
    return std::min(most_channels, most_decays / N / scan::state_lanes * scan::state_lanes);
  }

  template <class V>
  [[gnu::flatten]] void walk(S* state, index_t first, index_t last, index_t begin,
                             index_t end) const noexcept {
    tile w;
    for (w.begin = begin; w.begin < end; w.begin = w.end) {
      w.end = std::min(w.begin + tile_channels(), end);
      load_decay<V>(w);
      for (index_t t = first; t < last; ++t) {
        if (keep != nullptr && t % every == 0) keep_state(w, t, state);
        if (t + fetched_rows < last) fetch(w, t + fetched_rows);
        find_steps<V>(w, t);
        update<V>(w, t, state);
        if (out) finish<V>(w, t);
      }
    }
  }

  /// exec::chunked: what multiplies a state over tokens [first, last), exp(A sum Delta) in double,
  /// beside the state that they leave when it was zero.
  template <class V>
  void summarise(double* summary, S* state, index_t first, index_t last) const noexcept {
    selective_kernel silent = *this;
    silent.out.first = nullptr;
    silent.keep = nullptr;
    silent.template walk<V>(state, first, last, 0, channels);
    tile w;
    for (w.begin = 0; w.begin < channels; w.begin = w.end) {
      w.end = std::min(w.begin + tile_channels(), channels);
      double total[static_cast<std::size_t>(most_channels)] = {};
      for (index_t t = first; t < last; ++t) {
        find_steps<V>(w, t);
        for (index_t c = 0; c < w.end - w.begin; ++c) total[c] += static_cast<double>(w.delta[c]);
      }
      for (index_t c = w.begin; c < w.end; ++c)
        for (index_t n = 0; n < N; ++n)
          summary[offset(c) + n * scan::state_lanes] =
              simd::exp(static_cast<double>(decay[c * decay_row + n]) * total[c - w.begin]);
    }
  }
  void relay(const double* summary, const S* state, const double* before,
             double* after) const noexcept {
    for (index_t c = 0; c < channels; ++c)
      for (index_t n = 0; n < N; ++n) {
        const index_t i = offset(c) + n * scan::state_lanes;
        const auto fresh = static_cast<double>(state[i]);
        // Of nothing nothing grows, though the factor of a growing state may have overflowed.
        const bool empty = !(before[i] < 0 || before[i] > 0 || before[i] != before[i]);
        after[i] = empty ? fresh : lane<double>::fma(summary[i], before[i], fresh);
      }
  }

 private:
  // Rows lie a page or more apart, where no hardware prefetcher follows.
  static constexpr index_t fetched_rows = 2;

  void fetch(const tile& w, index_t t) const noexcept {
    constexpr index_t line = simd::cache_line / static_cast<index_t>(sizeof(S));
    for (index_t c = w.begin; c < w.end; c += line) {
      __builtin_prefetch(dt.at(t) + c);
      __builtin_prefetch(input.at(t) + c);
      if (gate) __builtin_prefetch(gate.at(t) + c);
      if (out) __builtin_prefetch(out.at(t) + c, 1);
    }
  }

  [[nodiscard]] static constexpr index_t rounded_up(index_t c) noexcept {
    return (c + scan::state_lanes - 1) / scan::state_lanes * scan::state_lanes;
  }
  void keep_state(const tile& w, index_t t, const S* state) const noexcept {
    const index_t begin = offset(w.begin), end = offset(rounded_up(w.end));
    std::copy(state + begin, state + end, keep + t / every * offset(rounded_up(channels)) + begin);
  }

  [[nodiscard]] index_t offset(index_t c) const noexcept {
    const auto at = static_cast<std::size_t>(c),
               lanes = static_cast<std::size_t>(scan::state_lanes);
    return static_cast<index_t>(at / lanes * lanes) * N + static_cast<index_t>(at % lanes);
  }

  /// Decays of the tile, each times log2(e) for the Euler rule.
  template <class V>
  void load_decay(tile& w) const noexcept {
    load_decays<V>(decay + w.begin * decay_row, decay_row, N, w.end - w.begin, scale, w.decay,
                   w.reach);
  }

  // Rows are named before a loop: its stores may alias the members of a kernel, which would be read
  // again after each.
  template <class V>
  void find_steps(tile& w, index_t t) const noexcept {
    detail::find_steps<V>(dt.at(t), input.at(t), bias, w.begin, w.end, w.delta, w.drive);
  }

  /// The state and its readout: whole registers where groups allow it, in pairs where they fit.
  template <class V>
  void update(tile& w, index_t t, S* state) const noexcept {
    constexpr index_t width = lane<V>::width;
    constexpr bool paired = width > 1 && 2 * width <= scan::state_lanes;
    const bool whole = write_width % width == 0 && read_width % width == 0;
    for (index_t c = w.begin; c < w.end;) {
      const index_t g = c / write_width, q = c / read_width;
      const index_t stop = std::min({w.end, (g + 1) * write_width, (q + 1) * read_width});
      if constexpr (width > 1)
        if (!whole && c % scan::state_lanes == 0 && stop < c + scan::state_lanes &&
            c + scan::state_lanes <= w.end) {
          update_mixed<V>(w, t, c, state);
          c += scan::state_lanes;
          continue;
        }
      recurrence::selective_rows<S> at{.decay = nullptr,
                                       .write = write.at(t) + g * write_group,
                                       .read = read.at(t) + q * read_group,
                                       .state = nullptr,
                                       .next = nullptr,
                                       .kept = nullptr,
                                       .N = N};
      while (c < stop) {
        if (paired && c % (2 * width) == 0 && stop - c >= 2 * width) {
          c = update_run < V, paired ? 2 : 1 > (w, at, c, stop, state);
        } else if (c % width == 0 && stop - c >= width) {
          c = update_run<V, 1>(w, at, c, c + width, state);
        } else {
          const index_t used = std::min(width - c % width, stop - c);
          at.decay = w.decay + offset(c - w.begin);
          at.state = at.next = state + offset(c);
          update_block<V, 1>(w, at, c, static_cast<int>(used));
          c += used;
        }
      }
    }
  }

  /// As many blocks of R registers as there are whole ones before `stop`; where they end.
  template <class V, int R>
  index_t update_run(tile& w, recurrence::selective_rows<S> at, index_t c, index_t stop,
                     S* state) const noexcept {
    constexpr index_t channels_of_block = R * lane<V>::width;
    for (; c + channels_of_block <= stop; c += channels_of_block) {
      const index_t place = offset(c);
      at.decay = w.decay + (place - offset(w.begin));
      at.state = at.next = state + place;
      update_block<V, R>(w, at, c, all_lanes<V>{});
    }
    return c;
  }

  /// 16 channels of more than one group, from c on.
  template <class V>
  void update_mixed(tile& w, index_t t, index_t c, S* state) const noexcept {
    own_rows<V>(write.at(t), write_group, write_width, c, w.end, N, w.write);
    own_rows<V>(read.at(t), read_group, read_width, c, w.end, N, w.read);
    for (index_t l = 0; l < scan::state_lanes; l += lane<V>::width) {
      S* const h = state + offset(c) + l;
      const S* const decays = w.decay + offset(c - w.begin) + l;
      update_block<V, 1, recurrence::coefficients::own>(
          w, {decays, w.write + l, w.read + l, h, h, nullptr, N}, c + l, all_lanes<V>{});
    }
  }

  template <class V, int R, recurrence::coefficients Form = recurrence::coefficients::shared,
            class Count>
  static void update_block(tile& w, const recurrence::selective_rows<S>& at, index_t c,
                           Count n) noexcept {
    using L = lane<V>;
    constexpr index_t width = L::width;
    V delta[static_cast<std::size_t>(R)], drive[static_cast<std::size_t>(R)],
        y[static_cast<std::size_t>(R)];
    const index_t first = c - w.begin;
    unrolled<R>([&](auto r) {
      const index_t i = first + static_cast<index_t>(r) * width;
      delta[r] = L::load(w.delta + i, n);
      drive[r] = L::load(w.drive + i, n);
      y[r] = L::broadcast(S(0));
    });
    const auto normal_in = [&](std::size_t r) {
      const V reach = L::load(w.reach + first + static_cast<index_t>(r) * width, n);
      return delta[r] * reach <= L::broadcast(normal_reach<S>);
    };
    static_assert(R <= 2);
    const bool normal = L::all(L::both(normal_in(0), normal_in(R - 1)));
    recurrence::selective<Rule, V, R, Form>::token(at, delta, drive, normal, n, y);
    unrolled<R>(
        [&](auto r) { L::store(w.sum + first + static_cast<index_t>(r) * width, y[r], n); });
  }

  template <class V>
  void finish(const tile& w, index_t t) const noexcept {
    const S *const values = input.at(t), *const gates = gate ? gate.at(t) : nullptr;
    const S* const skips = skip;
    S* const to = out.at(t);
    quads_of<V>(w.begin, w.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      W y = L::load(w.sum + (c - w.begin));
      if (skips != nullptr) y = L::fma(L::load(skips + c, n), L::load(values + c, n), y);
      if (gates != nullptr) {
        y = y * simd::silu(W(L::load(gates + c, n)));
      }
      L::store(to + c, y, n);
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
