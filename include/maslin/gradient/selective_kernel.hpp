// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the adjoint of a selective state-space model walks time: what is inside the gradient of
/// `selective_ssm`.

#include <maslin/gradient/call.hpp>
#include <maslin/gradient/selective_tile.hpp>

#include <algorithm>
#include <initializer_list>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient::detail {

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
    const span x{begin, end};
    load<V>(w, x);
    for (index_t k = last; k-- > first;) {
      const index_t from = k * forward.every, until = std::min(from + forward.every, length);
      std::fill_n(w.into_skip, block_channels, S(0));
      std::fill_n(w.into_bias, block_channels, S(0));
      for (index_t t = until; t-- > from;) {
        if (t >= fetched_rows)
          fetch(x, t - fetched_rows, {&forward.dt, &forward.input, &dy, &forward.gate});
        fetch(x, t, {&d_dt, &d_input, &d_gate});
        steps<V>(w, x, t - from, t);
        open<V>(w, x, t - from, t);
      }
      clear_padding(w, x, until - from);
      tiles<V>(w, x, to, kept + k * kept_row(), carry, from, until - from);
      for (index_t t = until; t-- > from;) close<V>(w, x, t - from, t);
      for (index_t i = 0; i < end - begin; ++i) {
        to.skip[i] += w.into_skip[i];
        to.bias[i] += w.into_bias[i];
      }
    }
  }

 private:
  struct span {
    index_t begin, end;  // channels

    [[nodiscard]] index_t padded() const noexcept { return rounded_up(end - begin); }
  };

  // Rows lie a page or more apart, where no hardware prefetcher follows.
  static constexpr index_t fetched_rows = 2;

  template <class Number>
  static void fetch(const span& x, index_t t,
                    std::initializer_list<const scan::token_rows<Number>*> all) noexcept {
    constexpr index_t line = simd::cache_line / static_cast<index_t>(sizeof(S));
    for (const auto* rows : all)
      for (index_t c = x.begin; *rows && c < x.end; c += line)
        __builtin_prefetch(rows->at(t) + c, std::is_const_v<Number> ? 0 : 1);
  }
  [[nodiscard]] static index_t row_of(index_t i) noexcept { return i * selective_block<S>::row; }
  [[nodiscard]] index_t kept_row() const noexcept {
    return rounded_up(forward.channels) * forward.N;
  }

  template <class V>
  void load(const selective_block<S>& w, const span& x) const noexcept {
    maslin::detail::load_decays<V>(forward.decay + x.begin * forward.decay_row, forward.decay_row,
                                   forward.N, x.end - x.begin, S(1), w.rate, w.reach);
    for (index_t i = 0; i < x.padded(); ++i)
      w.reach[i] = x.begin + i < x.end ? w.reach[i] * forward_kernel::scale : S(0);
    std::fill_n(w.into_write, forward.every * selective_block<S>::lanes, S(0));
    std::fill_n(w.into_read, forward.every * selective_block<S>::lanes, S(0));
  }

  /// Channels that pad the block put nothing in.
  static void clear_padding(const selective_block<S>& w, const span& x, index_t tokens) noexcept {
    const index_t count = x.end - x.begin;
    for (index_t i = 0; count < x.padded() && i < tokens; ++i)
      for (S* rows : {w.delta, w.drive, w.g, w.sum, w.into_input, w.into_delta, w.driven})
        std::fill(rows + row_of(i) + count, rows + row_of(i) + x.padded(), S(0));
  }

  // The passes of a token are functions of their own, each with all registers to itself.

  /// Delta, Delta u and the derivative of Delta. Sums over n begin.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void steps(const selective_block<S>& w, const span& x, index_t i,
                                             index_t t) const noexcept {
    const S *const from = forward.dt.at(t), *const values = forward.input.at(t);
    const S* const biases = forward.bias;
    S *const delta = w.delta + row_of(i), *const drive = w.drive + row_of(i);
    S *const slope = w.slope + row_of(i), *const reach = w.reach;
    bool normal = true;
    maslin::detail::quads_of<V>(x.begin, x.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      const index_t k = c - x.begin;
      W raw = L::load(from + c, n);
      if (biases != nullptr) raw = raw + L::load(biases + c, n);
      const W e = simd::softplus_exp(raw), step = simd::softplus(raw, e);
      L::store(delta + k, step);
      L::store(drive + k, step * L::load(values + c, n));
      L::store(slope + k, simd::sigmoid(raw, e));
      for (S* rows : {w.sum, w.into_input, w.into_delta, w.driven})
        L::store(rows + row_of(i) + k, L::broadcast(S(0)));
      normal = normal &&
               L::all(step * L::load(reach + k) <= L::broadcast(maslin::detail::normal_reach<S>));
    });
    w.normal[i] = normal ? S(1) : S(0);
  }

  /// From dy to the gradient of y before its gate, and the derivative of the gate.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void open(const selective_block<S>& w, const span& x, index_t i,
                                            index_t t) const noexcept {
    const S *const out = dy.at(t), *const values = forward.input.at(t);
    const S* const gates = forward.gate ? forward.gate.at(t) : nullptr;
    S *const to = w.g + row_of(i), *const gate_slope = w.gate_slope + row_of(i);
    maslin::detail::quads_of<V>(x.begin, x.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      const index_t k = c - x.begin;
      W g = L::load(out + c, n);
      if (gates != nullptr) {
        const W z = L::load(gates + c, n), gate = simd::silu_gate(z);
        L::store(gate_slope + k, simd::silu_slope(z, gate));
        g = g * (z * gate);
      }
      L::store(to + k, g);
      L::store(w.into_skip + k, L::fma(g, L::load(values + c, n), L::load(w.into_skip + k)));
    });
  }

  /// All states of a piece of tokens. The tile of the first numbers of state comes first, and of each
  /// channel so do sums over n.
  template <class V>
  void tiles(const selective_block<S>& w, const span& x, const selective_sums<S>& to,
             const S* state, S* carry, index_t from, index_t tokens) const noexcept {
    for (index_t n = 0; n < forward.N; n += tile_states)
      runs_of(
          x.begin, x.end, forward.write_width, forward.read_width, [&](const selective_run& run) {
            const selective_tile<S, Rule> tile{
                forward, w, run, x.begin, from, tokens, n, std::min(tile_states, forward.N - n)};
            tile.template walk<V>(state, carry, to);
          });
  }

  /// From sums over n to the gradients of gate, input, dt and bias.
  template <class V>
  [[gnu::noinline, gnu::flatten]] void close(const selective_block<S>& w, const span& x, index_t i,
                                             index_t t) const noexcept {
    const S *const values = forward.input.at(t), *const out = dy.at(t), *const skips = forward.skip;
    S* const to_dt = d_dt ? d_dt.at(t) : nullptr;
    S* const to_input = d_input ? d_input.at(t) : nullptr;
    S* const to_gate = d_gate ? d_gate.at(t) : nullptr;
    maslin::detail::quads_of<V>(x.begin, x.end, [&]<class W>(index_t c, auto n) {
      using L = lane<W>;
      const index_t k = row_of(i) + c - x.begin, b = c - x.begin;
      const W u = L::load(values + c, n), into_input = L::load(w.into_input + k);
      W du = L::load(w.delta + k) * into_input, y = L::load(w.sum + k);
      if (skips != nullptr) {
        const W skip = L::load(skips + c, n);
        du = L::fma(L::load(w.g + k), skip, du);
        y = L::fma(skip, u, y);
      }
      if (to_gate != nullptr)
        store(to_gate + c, L::load(out + c, n) * y * L::load(w.gate_slope + k), n, accumulate);
      if (to_input != nullptr) store(to_input + c, du, n, accumulate);
      const W through = Rule == discretisation::euler ? into_input : L::load(w.driven + k);
      const W into_delta = L::fma(u, through, L::load(w.into_delta + k));
      const W slope = L::load(w.slope + k);
      if (to_dt != nullptr) store(to_dt + c, into_delta * slope, n, accumulate);
      L::store(w.into_bias + b, L::fma(into_delta, slope, L::load(w.into_bias + b)));
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient::detail
