// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the short causal convolution: maslin::causal_conv::backward.

#include <maslin/gradient/reverse.hpp>
#include <maslin/mixer/causal_conv.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace maslin::inline MASLIN_ABI::gradient {

template <class S, int Width>
struct causal_conv<maslin::causal_conv<S, Width>> {
  using mixer = maslin::causal_conv<S, Width>;
  static constexpr int order = mixer::order;
  /// Sums over time that a channel has: of its weights and its bias.
  static constexpr int sum_count = Width + 1;

  /// maslin::causal_conv::backward, which documents it.
  template <class Policy>
  static void run(const mixer& m, const Policy& policy, const typename mixer::tokens& u,
                  const typename mixer::saved& keep, view<const S, 3> dy,
                  const typename mixer::gradients& d, typename mixer::state& dstate) {
    const check::caller who{"causal_conv", "backward"};
    scan::check_policy(who, policy);
    auto source = checked(who, m, u, keep, dy, d, dstate);
    const bool summed = d.weight.data_handle() != nullptr || d.bias.data_handle() != nullptr;
    if (!summed) return scan::run(in_order(policy), source, dstate);

    // One sum for each sequence and channel, then one over the sequences: the same order for every
    // number of threads.
    const index_t sequences = source.sequences(), row = dstate.sequence_size() / order * sum_count;
    const auto numbers = static_cast<std::size_t>(sequences * row);
    S* const all = reinterpret_cast<S*>(dstate.workspace().reserve(numbers));
    std::fill_n(all, numbers, S(0));
    source.first.sum = all;
    source.first.sum_row = row;
    scan::run(in_order(policy), source, dstate);
    const auto put = [&](S& to, index_t c, int k) {
      S x = 0;
      for (index_t b = 0; b < sequences; ++b)
        x += scan::state_of(all + b * row, c, sum_count)[k * scan::state_lanes];
      to = d.accumulate ? to + x : x;
    };
    for (index_t c = 0; c < m.channels; ++c) {
      for (int k = 0; k < Width && d.weight.data_handle() != nullptr; ++k)
        put(d.weight(c, k), c, k);
      if (d.bias.data_handle() != nullptr) put(d.bias(c), c, Width);
    }
  }

 private:
  /// A kernel that walks its own way: its times count from the end of the sequence.
  struct kernel {
    using scalar_type = S;
    static constexpr int outputs = 1;

    scan::token_rows<const S> input, dy;
    scan::token_rows<S> out;  // of the gradient of input; null: not wanted
    const S* weight;
    index_t weight_row;
    const S* bias;
    bool silu, accumulate;
    const typename mixer::state* initial;
    std::span<const index_t> offsets;
    index_t length;
    const S* before = nullptr;  // the state before the first token of this sequence
    S* sum = nullptr;           // [D / 16][Width + 1][16] for each sequence; null: not wanted
    index_t sum_row = 0;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.input.shift(b, t);
      k.dy.shift(b, t);
      k.out.shift(b, t);
      return k;
    }
    void enter(index_t b) noexcept {
      before = initial->row(b);
      if (sum != nullptr) sum += b * sum_row;
      if (offsets.empty()) return;
      const auto at = static_cast<std::size_t>(b);
      length = offsets[at + 1] - offsets[at];
    }

    // Weights and sums of a tile stay in L1 beside the carried state; a piece of time is summed by
    // itself, which keeps the roundings of long sums apart.
    static constexpr index_t tile = 256, piece = 128;
    struct tile_of {
      index_t begin, end;
      alignas(64) S weights[static_cast<std::size_t>(Width * tile)];   // [Width][tile]
      alignas(64) S sums[static_cast<std::size_t>(sum_count * tile)];  // [tile / 16][Width + 1][16]
    };

    template <class V>
    [[gnu::flatten]] void walk(S* carry, index_t first, index_t last, index_t begin,
                               index_t end) const noexcept {
      const kernel self = *this;
      tile_of w;
      for (w.begin = begin; w.begin < end; w.begin = w.end) {
        w.end = std::min(w.begin + tile, end);
        self.template load<V>(w);
        for (index_t from = first; from < last; from += piece) {
          std::fill(std::begin(w.sums), std::end(w.sums), S(0));
          for (index_t r = from; r < std::min(from + piece, last); ++r)
            self.template walk_row<V>(w, carry, self.length - 1 - r);
          if (self.sum != nullptr) self.add(w);
        }
      }
    }

   private:
    /// f(c, n) for registers of channels: n is `all_lanes<V>`, or what is left.
    template <class V, class F>
    static void registers_of(const tile_of& w, const F& f) noexcept {
      index_t c = w.begin;
      for (; c + lane<V>::width <= w.end; c += lane<V>::width) f(c, all_lanes<V>{});
      if constexpr (lane<V>::width > 1)
        if (c < w.end) f(c, static_cast<int>(w.end - c));
    }
    template <class V>
    void load(tile_of& w) const noexcept {
      registers_of<V>(w, [&](index_t c, auto n) {
        V x[static_cast<std::size_t>(Width)];
        simd::load_columns<V, Width>(weight + c * weight_row, weight_row, n, x);
        each<Width>([&](int k) { lane<V>::store(w.weights + k * tile + (c - w.begin), x[k]); });
      });
    }
    void add(const tile_of& w) const noexcept {
      S* const to = scan::state_of(sum, w.begin, sum_count);
      const index_t groups = (w.end - w.begin + scan::state_lanes - 1) / scan::state_lanes;
      for (index_t i = 0; i < groups * sum_count * scan::state_lanes; ++i) to[i] += w.sums[i];
    }

    /// The input `lag` tokens before t.
    template <class V, class N>
    [[nodiscard]] V earlier(index_t t, index_t lag, index_t c, N n) const noexcept {
      if (lag <= t) return lane<V>::load(input.at(t - lag) + c, n);
      return lane<V>::load(scan::state_of(before, c, order) + (lag - 1 - t) * scan::state_lanes);
    }

    template <class V>
    void walk_row(tile_of& w, S* carry, index_t t) const noexcept {
      const bool reads = silu || sum != nullptr;
      registers_of<V>(w, [&](index_t c, auto n) {
        using L = lane<V>;
        const S* const weights = w.weights + (c - w.begin);
        V x[static_cast<std::size_t>(Width)];  // newest first
        each<Width>([&](int k) { x[k] = reads ? earlier<V>(t, k, c, n) : L::broadcast(S(0)); });
        V g = L::load(dy.at(t) + c, n);
        if (silu) g = g * slope<V>(weights, x, c, n);
        pass<V>(weights, g, scan::state_of(carry, c, order), t, c, n);
        if (sum == nullptr) return;
        S* const to = scan::state_of(w.sums, c - w.begin, sum_count);
        each<Width>([&](int k) {
          S* const at = to + k * scan::state_lanes;
          L::store(at, L::fma(g, x[Width - 1 - k], L::load(at)));
        });
        S* const at = to + Width * scan::state_lanes;
        // By fma, since g may be a product, which a compiler would contract with a sum.
        L::store(at, L::fma(L::broadcast(S(1)), g, L::load(at)));
      });
    }
    /// The derivative of silu at the sum that `scan` formed.
    template <class V, class N>
    [[nodiscard]] V slope(const S* weights, const V (&x)[static_cast<std::size_t>(Width)],
                          index_t c, N n) const noexcept {
      using L = lane<V>;
      V s = bias == nullptr ? L::broadcast(S(0)) : L::load(bias + c, n);
      each<Width>([&](int k) { s = L::fma(L::load(weights + k * tile), x[Width - 1 - k], s); });
      return simd::silu_slope(s, simd::silu_gate(s));
    }
    /// From g at t to the gradients of inputs: that of t is complete, the others are carried.
    template <class V, class N>
    void pass(const S* weights, V g, S* carry, index_t t, index_t c, N n) const noexcept {
      using L = lane<V>;
      V h[static_cast<std::size_t>(Width)];
      each<order>([&](int k) { h[k] = L::load(carry + k * scan::state_lanes); });
      h[order] = L::broadcast(S(0));
      each<Width>(
          [&](int k) { h[k] = L::fma(L::load(weights + (Width - 1 - k) * tile), g, h[k]); });
      if (out) store(out.at(t) + c, h[0], n, accumulate);
      each<order>([&](int k) { L::store(carry + k * scan::state_lanes, h[k + 1]); });
    }
  };

  static scan::source<kernel> checked(const check::caller& who, const mixer& m,
                                      const typename mixer::tokens& u,
                                      const typename mixer::saved& keep, const view<const S, 3>& dy,
                                      const typename mixer::gradients& d,
                                      const typename mixer::state& dstate) {
    const index_t B = u.input.extent(0), T = u.input.extent(1), D = m.channels;
    const bool biased = m.bias.data_handle() != nullptr;
    check::count(who, "channels", D);
    memory_of_call memory(who);
    memory.reads("input", "[B, T, D]", u.input, {B, T, D});
    memory.reads("weight", "[D, Width]", m.weight, {D, Width}, 1);
    if (biased) memory.reads("bias", "[D]", m.bias, {D}, 0);
    memory.reads("dy", "[B, T, D]", dy, {B, T, D});
    check_states(who, u.offsets, B, T, D, order, keep.initial, dstate, memory);
    memory.writes("gradients.input", "[B, T, D]", d.input, {B, T, D});
    memory.writes("gradients.weight", "[D, Width]", d.weight, {D, Width}, 1);
    if (memory.writes("gradients.bias", "[D]", d.bias, {D}, 0) && !biased)
      who.refuse("gradients.bias must be empty without bias, got a pointer");
    const kernel first{.input = scan::token_rows<const S>::of(u.input),
                       .dy = scan::token_rows<const S>::of(dy),
                       .out = scan::token_rows<S>::of(d.input),
                       .weight = m.weight.data_handle(),
                       .weight_row = m.weight.stride(0),
                       .bias = m.bias.data_handle(),
                       .silu = m.silu,
                       .accumulate = d.accumulate,
                       .initial = &keep.initial,
                       .offsets = u.offsets,
                       .length = T};
    return {.first = first, .batch = B, .length = T, .offsets = u.offsets, .channel_count = D};
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
