// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The short causal convolution that Mamba's blocks have before their scan.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/activation.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <concepts>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Convolves D channels with weights of their own over the last Width tokens.
///   s[t,d] = bias[d] + sum_{k<Width} weight[d,k] input[t-Width+1+k,d]
///   y[t,d] = s, or silu(s) = s / (1 + exp(-s))      (Mamba's conv1d, arXiv 2312.00752)
/// so that weight[d, Width-1] belongs to the newest input, as in PyTorch's causal conv1d.
///
/// shapes    input, y [B, T, D]   weight [D, Width]   bias [D] (optional)
///           state [B, D, Width-1], newest first
/// layout    last axes unit stride; B and T strides free, and that of D in weight
/// aliasing  y may be input; y must not overlap weight or bias
/// numerics  one fma a term, bias first, then the oldest input: |err| <= (Width + 1) u (|bias| +
///           sum |weight input|), twice that outside the FMA family, 4 u |y| more for silu (and
///           that times |s| of what s errs by); the same bytes under every policy, exec::chunked
///           too. NaN and Inf stay in their channel, for Width tokens
/// cost      B*T*D*Width multiply-adds, one exp with `silu`; reads 1, writes 1 number a channel
///           and token; `step` does not allocate
/// effects   state holds the last Width - 1 inputs on return
/// throws    shape_error before any write
template <class S, int Width>
struct causal_conv {
  static_assert(std::floating_point<S>, "causal_conv mixes float or double");
  static_assert(Width >= 2 && Width <= 4, "the width of causal_conv is 2, 3 or 4");

  index_t channels = 0;
  view<const S, 2> weight{};  // [D, Width], oldest first
  view<const S, 1> bias{};    // [D]; empty: none
  bool silu = false;

  using scalar_type = S;
  using output = view<S, 3>;
  using output_token = view<S, 2>;
  using state = scan::lane_state<S, 3>;
  static constexpr int order = Width - 1;

  /// One token of every sequence.
  struct token {
    view<const S, 2> input{};  // [B, D]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 3> input{};  // [B, T, D]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept { return {time_at(input, t)}; }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"causal_conv", "tokens::range"}, offsets);
      return {time_range(input, begin, end), {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"causal_conv", "tokens::sequence"}, offsets, b);
      return tokens{.input = input}.range(begin, end);
    }
  };

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"causal_conv", "make_state"}, "channels", channels);
    return state("causal_conv", batch, channels, order);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"causal_conv", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u.input, y, u.offsets, h);
    scan::run(policy, source, h);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const auto source = checked({"causal_conv", "step"}, with_time(u.input), with_time(y), {}, h);
    scan::run_step(source, h);
  }

  /// What `backward` needs of a scan beside its tokens.
  struct saved {
    state initial;  // before the first token

    [[nodiscard]] index_t bytes() const noexcept { return initial.bytes(); }
  };
  /// Where gradients go. A view whose pointer is null is not wanted.
  struct gradients {
    view<S, 3> input{};       // [B, T, D]
    view<S, 2> weight{};      // [D, Width], summed over B and T
    view<S, 1> bias{};        // [D], with a bias: the same
    bool accumulate = false;  // add to what is there
  };

  /// Room for what a scan of `batch` sequences saves. Neither the number of tokens nor the spacing
  /// of checkpoints matters here: nothing but the initial state is kept.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t batch, index_t = 0, index_t = 0) const {
    return {make_state(batch)};
  }
  /// The same scan; `keep` then serves `backward`.
  /// aliasing  y must not be input, which backward reads
  /// throws    shape_error before any write
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"causal_conv", "scan"};
    scan::expect_apart(who, "y", u.input, y);
    scan::check_policy(who, policy);
    const auto source = checked(who, u.input, y, u.offsets, h);
    keep.initial = h;
    scan::run(policy, source, h);
  }

  /// The adjoint of `scan`: gradients of a loss whose derivatives by y are `dy`. With g = dy, or
  /// dy sigmoid(s) (1 + s (1 - sigmoid(s))) with `silu`:
  ///   dinput[t]  = sum_{k<Width} weight[k] g[t+Width-1-k]
  ///   dweight[k] = sum_t g[t] input[t-Width+1+k],   dbias = sum_t g[t]
  /// from the last token to the first. Sums over time are made in pieces of 128 tokens, counted from
  /// the end, then over pieces, then over sequences.
  ///
  /// shapes    dy as y, gradients as what they belong to, dstate [B, D, Width-1]
  /// layout    as in `scan`
  /// aliasing  no gradient may overlap anything that is read, nor another gradient
  /// numerics  one fma a term; with silu s is computed anew, bit for bit. NaN and Inf of dy stay in
  ///           their channel, at their time and the Width - 1 before. The same bytes for every
  ///           thread count, for every batch and split too but for the sums over time
  /// cost      B*T*D*Width multiply-adds, twice that for the weights, as much again and an exp
  ///           for silu; reads 2 and writes 1 number a channel and token; exec::chunked takes time
  ///           in order; no allocation but the sums of each sequence, Width + 1 numbers a channel,
  ///           which dstate keeps for the next call
  /// effects   dstate enters as the gradient of the final state and leaves as that of the initial
  ///           state, so that segments can be taken from the last to the first
  /// throws    shape_error before any write
  template <scan::policy Policy, class Adjoint = gradient::causal_conv<causal_conv>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 3> dy,
                const gradients& d, state& dstate) const {
    static_assert(
        complete<Adjoint>,
        "causal_conv::backward is defined in <maslin/gradient/causal_conv.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

 private:
  friend struct gradient::causal_conv<causal_conv>;

  /// A kernel that walks its own way (scan/kernel.hpp), so that weights are transposed into
  /// lanes once a call, and brings its own summaries (scan/chunked.hpp): the last inputs.
  struct kernel {
    using scalar_type = S;
    static constexpr int outputs = 1;

    scan::token_rows<const S> input;
    scan::token_rows<S> out;  // null: the state alone is wanted
    const S* weight;
    index_t weight_row, channels;
    const S* bias;
    bool silu;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.input.shift(b, t);
      k.out.shift(b, t);
      return k;
    }

    // Weights of a row this long stay in L1 beside the state.
    static constexpr index_t most_weights = 4096, tile = most_weights / Width / 16 * 16;

    template <class V>
    void walk(S* state, index_t first, index_t last, index_t begin, index_t end) const noexcept {
      alignas(64) S weights[most_weights];  // [Width][tile]
      for (index_t from = begin; from < end; from += tile) {
        const index_t to = std::min(from + tile, end);
        registers_of<V>(from, to, [&](index_t c, auto n) {
          V w[static_cast<std::size_t>(Width)];
          simd::load_columns<V, Width>(weight + c * weight_row, weight_row, n, w);
          each<Width>([&](int k) { lane<V>::store(weights + k * tile + (c - from), w[k]); });
        });
        for (index_t t = first; t < last; ++t)
          registers_of<V>(from, to, [&](index_t c, auto n) {
            advance<V>(weights + (c - from), scan::state_of(state, c, order), t, c, n);
          });
      }
    }

    /// exec::chunked: how many inputs the chunk has, beside the last of them.
    template <class V>
    void summarise(double* summary, S* state, index_t first, index_t last) const noexcept {
      kernel silent = *this;
      silent.out.first = nullptr;
      const index_t seen = std::max(first, last - order);
      silent.template walk<V>(state, seen, last, 0, channels);
      if (channels > 0) *summary = static_cast<double>(last - seen);
    }
    void relay(const double* summary, const S* state, const double* before,
               double* after) const noexcept {
      const auto count = static_cast<index_t>(*summary);
      for (index_t c = 0; c < channels; ++c)
        for (index_t k = 0; k < order; ++k) {
          const auto at = [&](index_t lag) {
            return scan::state_of(state, c, order) - state + lag * scan::state_lanes;
          };
          after[at(k)] = k < count ? static_cast<double>(state[at(k)]) : before[at(k - count)];
        }
    }

   private:
    /// f(c, n) for registers of channels: n is `all_lanes<V>`, or what is left.
    template <class V, class F>
    static void registers_of(index_t begin, index_t end, const F& f) noexcept {
      constexpr index_t width = lane<V>::width;
      index_t c = begin;
      for (; c + width <= end; c += width) f(c, all_lanes<V>{});
      if constexpr (width > 1)
        if (c < end) f(c, static_cast<int>(end - c));
    }

    template <class V, class N>
    void advance(const S* weights, S* history, index_t t, index_t c, N n) const noexcept {
      using L = lane<V>;
      const V x = L::load(input.at(t) + c, n);
      V h[static_cast<std::size_t>(Width)];  // newest first
      h[0] = x;
      each<order>([&](int k) { h[k + 1] = L::load(history + k * scan::state_lanes); });
      each<order>([&](int k) { L::store(history + k * scan::state_lanes, h[k]); });
      if (!out) return;
      V y = bias == nullptr ? L::broadcast(S(0)) : L::load(bias + c, n);
      each<Width>([&](int k) { y = L::fma(L::load(weights + k * tile), h[Width - 1 - k], y); });
      if (silu) y = simd::silu(y);
      L::store(out.at(t) + c, y, n);
    }
  };

  scan::source<kernel> checked(const check::caller& who, const view<const S, 3>& input,
                               const output& y, std::span<const index_t> offsets,
                               const state& h) const {
    check::count(who, "channels", channels);
    const index_t B = input.extent(0), T = input.extent(1), D = channels;
    const auto weights =
        check::layout<const S, 2>(who, "weight", "[D, Width]", weight, {D, Width}, 1);
    scan::check_order(who, "state", h, order);
    scan::check_values<S, 3>(who, "[B, T, D]", input, y, {B, T, D}, "weight", weights, offsets,
                             "[B, D]", h);
    if (bias.data_handle() != nullptr) {
      const auto biases = check::layout<const S, 1>(who, "bias", "[D]", bias, {D}, 0);
      const auto out = check::layout<S, 3>(who, "y", "[B, T, D]", y, {B, T, D}, 2);
      check::disjoint(who, "y", out, "bias", biases);
    }
    const kernel first{.input = scan::token_rows<const S>::of(input),
                       .out = scan::token_rows<S>::of(y),
                       .weight = weight.data_handle(),
                       .weight_row = weight.stride(0),
                       .channels = D,
                       .bias = bias.data_handle(),
                       .silu = silu};
    return {.first = first, .batch = B, .length = T, .offsets = offsets, .channel_count = D};
  }
};

}  // namespace maslin::inline MASLIN_ABI
