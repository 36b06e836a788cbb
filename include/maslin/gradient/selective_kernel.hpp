// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the adjoint of a selective state-space model walks time: what is inside the gradient of
/// `selective_ssm`.

#include <maslin/gradient/call.hpp>
#include <maslin/mixer/selective_kernel.hpp>
#include <maslin/recurrence/selective_adjoint.hpp>

#include <algorithm>
#include <initializer_list>

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

/// Channels of a block: enough that folding the lanes of their sums costs little (measured: a fifth of
/// the time with 16 channels), few enough that the states of a token and all that is added up for it
/// stay near. The grid of blocks depends on N alone, and with it the order of sums over channels.
[[nodiscard]] constexpr index_t block_of(index_t N) noexcept {
  constexpr index_t numbers = 4096, most = 64;
  return std::clamp(numbers / N / scan::state_lanes * scan::state_lanes, scan::state_lanes, most);
}

/// Sums over the lanes of 16, by halves, of N rows, which are emptied.
template <class V, class S>
inline void take_lane_sums(S* rows, index_t N, S* to) noexcept {
  constexpr int lanes = static_cast<int>(scan::state_lanes);
  maslin::detail::registers_of<V>(0, N, [&](index_t k, auto n) {
    V x[static_cast<std::size_t>(lanes)];
    simd::load_columns<V, lanes>(rows + k * lanes, lanes, n, x);
    for (index_t i = 0; i < n * lanes; i += lane<V>::width)
      lane<V>::store(rows + k * lanes + i, lane<V>::broadcast(S(0)));
    for (int half = lanes / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) x[i] = x[i] + x[i + half];
    lane<V>::store(to + k, x[0], n);
  });
}

/// f(c, n) for registers of channels [c, stop) that keep to multiples of their width, so that a
/// channel is always the same lane of 16.
template <class V, class F>
inline void aligned_registers(index_t c, index_t stop, const F& f) noexcept {
  constexpr index_t width = lane<V>::width;
  while (c < stop) {
    if (c % width == 0 && stop - c >= width) {
      f(c, all_lanes<V>{});
      c += width;
    } else {
      const index_t used = std::min(width - c % width, stop - c);
      f(c, static_cast<int>(used));
      c += used;
    }
  }
}

/// f(R, c, n) for the same registers: two at once, 16 channels apart, while there are so many, and
/// otherwise one. A lane of 16 sees its channels in ascending order.
template <class V, class F>
inline void pairs_of(index_t c, index_t stop, const F& f) noexcept {
  constexpr index_t lanes = scan::state_lanes;
  constexpr std::integral_constant<int, 1> one{};
  const auto single = [&](index_t i, auto n) { f(one, i, n); };
  const index_t aligned = std::min((c + lanes - 1) / lanes * lanes, stop);
  aligned_registers<V>(c, aligned, single);
  for (c = aligned; c + 2 * lanes <= stop; c += 2 * lanes)
    for (index_t i = 0; i < lanes; i += lane<V>::width)
      f(std::integral_constant<int, 2>{}, c + i, all_lanes<V>{});
  aligned_registers<V>(c, stop, single);
}

/// Scratch of one task: a block of channels over the tokens between two kept states.
template <class S>
struct selective_block {
  S *decay, *rate, *reach, *rate_reach;  // [block / 16][N][16], twice, and [block]
  S *h, *delta, *drive, *sum;      // [every], of a block each: states after a token, and below
  S *g, *into_input, *into_delta;  // [block], of the token at hand
  S *into_decay, *into_skip, *into_bias;  // sums over tokens
  S *into_write, *into_read;              // [N][16], sums over channels

  [[nodiscard]] static selective_block of(parts_of<S>& from, index_t N, index_t every) noexcept {
    const index_t block = block_of(N), row = block + scan::state_lanes;
    const auto rows = [&](index_t count) { return from.take(count * row); };
    const auto states = [&](index_t count) { return from.take(count * block * N); };
    selective_block w{};
    w.decay = states(1), w.rate = states(1), w.reach = rows(1), w.rate_reach = rows(1);
    w.h = states(every), w.delta = rows(every), w.drive = rows(every), w.sum = rows(every);
    w.g = rows(1), w.into_input = rows(1), w.into_delta = rows(1);
    w.into_decay = states(1), w.into_skip = rows(1), w.into_bias = rows(1);
    w.into_write = from.take(N * scan::state_lanes), w.into_read = from.take(N * scan::state_lanes);
    return w;
  }
};

/// Where a block leaves its sums. Those over channels are of tokens `first` on, groups in the order
/// in which the block meets them; those over tokens are added to.
template <class S>
struct selective_sums {
  S *write, *read;  // [groups of the block][tokens][N]; null: not wanted
  index_t first, tokens;
  S *decay, *skip, *bias;  // [block / 16][N][16], [block], [block]
};

/// One sequence of a backward call. Times count from its beginning.
template <class S, discretisation Rule>
struct selective_adjoint_kernel {
  using forward_kernel = maslin::detail::selective_kernel<S, Rule>;

  forward_kernel forward;  // without outputs
  const S* kept;           // the states that the scan kept
  scan::token_rows<const S> dy;
  scan::token_rows<S> d_dt, d_input, d_gate;
  bool accumulate;

  /// Moves it to sequence b, whose tokens begin at t of the views.
  void enter(index_t b, index_t row, index_t t) noexcept {
    forward = forward.shifted(row, t);
    kept += maslin::detail::selective_row(forward.passed, b, forward.every) * kept_row();
    dy.shift(row, t);
    for (scan::token_rows<S>* r : {&d_dt, &d_input, &d_gate}) r->shift(row, t);
  }

  /// Channels [begin, end), a block, over kept states [first, last), the last one first. `carry`, a
  /// row of the state's gradient, enters as a[t] s[t] of the next token and leaves so.
  template <class V>
  void walk(const selective_block<S>& w, const selective_sums<S>& to, S* carry, index_t begin,
            index_t end, index_t first, index_t last, index_t length) const noexcept {
    const span x{begin, end, begin * forward.N};
    load<V>(w, x);
    for (index_t k = last; k-- > first;) {
      const index_t from = k * forward.every, until = std::min(from + forward.every, length);
      for (index_t t = from; t < until; ++t) {
        if (t + fetched_rows < until)
          fetch(x, t + fetched_rows, {&forward.dt, &forward.input}, {});
        else
          fetch_backward(x, t);
        replay<V>(w, x, from, t);
      }
      const index_t numbers = block_of(forward.N);
      std::fill_n(w.into_decay, numbers * forward.N, S(0));
      std::fill_n(w.into_skip, numbers, S(0));
      std::fill_n(w.into_bias, numbers, S(0));
      for (index_t t = until; t-- > from;) {
        if (t - fetched_rows >= from)
          fetch_backward(x, t - fetched_rows);
        else if (k > first)
          fetch(x, t - forward.every, {&forward.dt, &forward.input}, {});
        open<V>(w, x, t - from, t);
        adjoint<V>(w, x, to, from, t, carry);
        close<V>(w, x, t - from, t);
      }
      add(w, to, end - begin);
    }
  }

 private:
  struct span {
    index_t begin, end, offset;  // channels, and where the state of the first one is
  };

  // Rows lie a page or more apart, where no hardware prefetcher follows.
  static constexpr index_t fetched_rows = 2;

  static void fetch(const span& x, index_t t,
                    std::initializer_list<const scan::token_rows<const S>*> read,
                    std::initializer_list<const scan::token_rows<S>*> written) noexcept {
    constexpr index_t line = simd::cache_line / static_cast<index_t>(sizeof(S));
    for (index_t c = x.begin; c < x.end; c += line) {
      for (const auto* rows : read)
        if (*rows) __builtin_prefetch(rows->at(t) + c);
      for (const auto* rows : written)
        if (*rows) __builtin_prefetch(rows->at(t) + c, 1);
    }
  }
  void fetch_backward(const span& x, index_t t) const noexcept {
    fetch(x, t, {&dy, &forward.gate}, {&d_dt, &d_input, &d_gate});
  }
  [[nodiscard]] index_t row_of(index_t i) const noexcept {
    return i * (block_of(forward.N) + scan::state_lanes);
  }
  [[nodiscard]] index_t kept_row() const noexcept {
    return rounded_up(forward.channels) * forward.N;
  }
  [[nodiscard]] index_t states_of(index_t i) const noexcept {
    return i * block_of(forward.N) * forward.N;
  }
  [[nodiscard]] index_t place(index_t c) const noexcept {
    return c / scan::state_lanes * scan::state_lanes * forward.N + c % scan::state_lanes;
  }
  /// The state before token `from` + i, of the block.
  [[nodiscard]] const S* before(const selective_block<S>& w, const span& x, index_t from,
                                index_t i) const noexcept {
    if (i > 0) return w.h + states_of(i - 1);
    return kept + from / forward.every * kept_row() + x.offset;
  }

  template <class V>
  void load(const selective_block<S>& w, const span& x) const noexcept {
    const S* const from = forward.decay + x.begin * forward.decay_row;
    const index_t count = x.end - x.begin;
    maslin::detail::load_decays<V>(from, forward.decay_row, forward.N, count, S(1), w.rate,
                                   w.rate_reach);
    maslin::detail::load_decays<V>(from, forward.decay_row, forward.N, count, forward.scale,
                                   w.decay, w.reach);
    std::fill_n(w.into_write, forward.N * scan::state_lanes, S(0));
    std::fill_n(w.into_read, forward.N * scan::state_lanes, S(0));
  }

  /// f(c, stop, g, q) for channels [c, stop) of group g of write and q of read.
  template <class F>
  void groups_of(const span& x, const F& f) const noexcept {
    for (index_t c = x.begin; c < x.end;) {
      const index_t g = c / forward.write_width, q = c / forward.read_width;
      const index_t stop =
          std::min({x.end, (g + 1) * forward.write_width, (q + 1) * forward.read_width});
      f(c, stop, g, q);
      c = stop;
    }
  }

  /// True if no exponential of these lanes leaves the range of normal numbers.
  template <class V, class N>
  [[nodiscard]] static bool normal(const S* reach, V step, N n) noexcept {
    using L = lane<V>;
    return L::all(step * L::load(reach, n) <= L::broadcast(maslin::detail::normal_reach<S>));
  }

  // The passes of a token are functions of their own, each with all registers to itself.

  /// The forward pass of token t, bit for bit.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void replay(const selective_block<S>& w, const span& x,
                                              index_t from, index_t t) const noexcept {
    using L = lane<V>;
    const index_t i = t - from;
    S *const delta = w.delta + row_of(i), *const drive = w.drive + row_of(i);
    S* const sum = w.sum + row_of(i);
    maslin::detail::find_steps<V>(forward.dt.at(t), forward.input.at(t), forward.bias, x.begin,
                                  x.end, delta, drive);
    recurrence::selective_rows<S> at{nullptr, nullptr, nullptr, nullptr, nullptr, forward.N};
    const S* const state = before(w, x, from, i);
    S* const next = w.h + states_of(i);
    groups_of(x, [&](index_t first, index_t stop, index_t g, index_t q) {
      at.write = forward.write.at(t) + g * forward.write_group;
      at.read = forward.read.at(t) + q * forward.read_group;
      aligned_registers<V>(first, stop, [&](index_t c, auto n) {
        const index_t k = c - x.begin, p = place(k);
        at.decay = w.decay + p, at.state = state + p, at.next = next + p;
        const V steps[] = {L::load(delta + k, n)}, drives[] = {L::load(drive + k, n)};
        V y[1];
        recurrence::selective<Rule, V, 1>::token(at, steps, drives,
                                                 normal(w.reach + k, steps[0], n), n, y);
        L::store(sum + k, y[0], n);
      });
    });
  }

  /// From dy to the gradient of y before its gate, and to that of the gate.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void open(const selective_block<S>& w, const span& x, index_t i,
                                            index_t t) const noexcept {
    const S *const out = dy.at(t), *const values = forward.input.at(t), *const skips = forward.skip;
    const S* const gates = forward.gate ? forward.gate.at(t) : nullptr;
    const S* const sums = w.sum + row_of(i);
    S* const to = d_gate ? d_gate.at(t) : nullptr;
    maslin::detail::quads_of<V>(x.begin, x.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      const index_t k = c - x.begin;
      const W u = L::load(values + c, n);
      W g = L::load(out + c, n);
      if (gates != nullptr) {
        const W z = L::load(gates + c, n), gate = simd::sigmoid(z), one = L::broadcast(S(1));
        if (to != nullptr) {
          W y = L::load(sums + k);
          if (skips != nullptr) y = L::fma(L::load(skips + c, n), u, y);
          store(to + c, g * y * (gate * L::fma(z, one - gate, one)), n, accumulate);
        }
        g = g * (z * gate);
      }
      L::store(w.g + k, g);
      L::store(w.into_skip + k, L::fma(g, u, L::load(w.into_skip + k)));
    });
  }

  /// The states of token t, and its sums over channels.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void adjoint(const selective_block<S>& w, const span& x,
                                               const selective_sums<S>& to, index_t from, index_t t,
                                               S* carry) const noexcept {
    const index_t i = t - from;
    recurrence::selective_adjoint_rows<S> at{};
    at.N = forward.N;
    const S *const last = before(w, x, from, i), *const now = w.h + states_of(i);
    groups_of(x, [&](index_t first, index_t stop, index_t g, index_t q) {
      at.write = forward.write.at(t) + g * forward.write_group;
      at.read = forward.read.at(t) + q * forward.read_group;
      pairs_of<V>(first, stop, [&]<int R>(std::integral_constant<int, R>, index_t c, auto n) {
        const index_t k = c - x.begin, p = place(k);
        at.rate = w.rate + p, at.into_decay = w.into_decay + p;
        at.before = last + p, at.after = now + p, at.carry = carry + x.offset + p;
        at.into_write = w.into_write + k % scan::state_lanes;
        at.into_read = w.into_read + k % scan::state_lanes;
        adjoint_of<V, R>(w, at, i, k, forward.input.at(t) + c, n);
      });
      const auto finish = [&](S* sums, S* lanes, index_t group, index_t width) {
        if (stop != x.end && stop != (group + 1) * width) return;
        const index_t slot = group - x.begin / width;
        if (sums != nullptr)
          take_lane_sums<V>(lanes, forward.N, sums + (slot * to.tokens + t - to.first) * forward.N);
      };
      finish(to.write, w.into_write, g, forward.write_width);
      finish(to.read, w.into_read, q, forward.read_width);
    });
  }
  template <class V, int R, class N>
  void adjoint_of(const selective_block<S>& w, const recurrence::selective_adjoint_rows<S>& at,
                  index_t i, index_t k, const S* input, N n) const noexcept {
    using L = lane<V>;
    using adjoint_type = recurrence::selective_adjoint<Rule, V, R>;
    const S *const delta = w.delta + row_of(i) + k, *const drive = w.drive + row_of(i) + k;
    typename adjoint_type::token_values x;
    bool ordinary = true;
    unrolled<R>([&](auto r) {
      const auto c = static_cast<index_t>(r) * scan::state_lanes;
      x.delta[r] = L::load(delta + c, n);
      x.drive[r] = L::load(drive + c, n);
      x.input[r] = L::load(input + c, n);
      x.g[r] = L::load(w.g + k + c, n);
      const V step = x.delta[r] * L::broadcast(forward.scale);
      ordinary = ordinary && normal(w.rate_reach + k + c, step, n);
    });
    const auto sums = adjoint_type::token(at, x, ordinary, n);
    unrolled<R>([&](auto r) {
      const index_t c = k + static_cast<index_t>(r) * scan::state_lanes;
      L::store(w.into_input + c, sums.into_input[r], n);
      L::store(w.into_delta + c, sums.into_delta[r], n);
    });
  }

  /// From sums over n to the gradients of input, dt and bias.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void close(const selective_block<S>& w, const span& x, index_t i,
                                             index_t t) const noexcept {
    const S *const steps = forward.dt.at(t), *const values = forward.input.at(t);
    const S *const skips = forward.skip, *const biases = forward.bias;
    const S* const deltas = w.delta + row_of(i);
    S* const to_dt = d_dt ? d_dt.at(t) : nullptr;
    S* const to_input = d_input ? d_input.at(t) : nullptr;
    maslin::detail::quads_of<V>(x.begin, x.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      const index_t k = c - x.begin;
      const W into_input = L::load(w.into_input + k);
      if (to_input != nullptr) {
        W du = L::load(deltas + k) * into_input;
        if (skips != nullptr) du = L::fma(L::load(w.g + k), L::load(skips + c, n), du);
        store(to_input + c, du, n, accumulate);
      }
      W raw = L::load(steps + c, n), into_delta = L::load(w.into_delta + k);
      if (biases != nullptr) raw = raw + L::load(biases + c, n);
      if (Rule == discretisation::euler)
        into_delta = L::fma(L::load(values + c, n), into_input, into_delta);
      const W slope = simd::sigmoid(raw);
      if (to_dt != nullptr) store(to_dt + c, into_delta * slope, n, accumulate);
      L::store(w.into_bias + k, L::fma(into_delta, slope, L::load(w.into_bias + k)));
    });
  }

  /// Sums over the tokens of a piece join those of the sequence.
  void add(const selective_block<S>& w, const selective_sums<S>& to, index_t count) const noexcept {
    const index_t states = rounded_up(count) * forward.N;
    for (index_t i = 0; i < states; ++i) to.decay[i] += w.into_decay[i];
    for (index_t i = 0; i < count; ++i) to.skip[i] += w.into_skip[i];
    for (index_t i = 0; i < count; ++i) to.bias[i] += w.into_bias[i];
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
