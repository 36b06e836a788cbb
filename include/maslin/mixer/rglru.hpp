// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// RG-LRU: the real-gated linear recurrent unit of Griffin and Hawk.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/scan/begun_state.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/decay.hpp>

#include <array>
#include <concepts>
#include <cstring>
#include <limits>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Scans a gated recurrence whose input is scaled to keep the state's variance, in one pass.
///   h[t,d] = a[t,d] h[t-1,d] + mu[t,d] i[t,d] input[t,d],  y = h     (Griffin, arXiv 2402.19427)
///   a = exp(-8 r softplus(decay)),  mu = sqrt(1 - a^2), but 1 at the first token of a sequence
///   r = recurrence_gate, i = input_gate      gate_form::probability
///   r, i = their sigmoids                    gate_form::logit
/// `decay` is the weight Lambda of published models (the transformers form): a falls as it rises.
/// The paper writes a = sigmoid(Lambda)^(8 r) with the opposite sign, decay = -Lambda.
///
/// shapes    recurrence_gate, input_gate, input, y [B, T, D]   decay [D]   state [B, D] and whether
///           the first token of each sequence has passed
/// layout    channels unit stride, B and T strides free
/// aliasing  y may be input; y must not overlap the gates or decay
/// numerics  one fma a step (u W; outside the FMA family 2 u W, exec::chunked 3), and the errors of
///           the coefficients: a within (4 + 9 |log a|) u, mu i input within 12 u (logits: 4 |log
///           a| u and 6 u more; outside the FMA family 2 u more); 1 - a^2 does not cancel. Gates
///           are not checked: r < 0 leaves no meaningful number in its channel. NaN and Inf stay in
///           their channel, later in time
/// cost      B*T*D times 1 exp, 1 root and 5 multiply-adds (logits: 3 exp); reads 3, writes 1
///           number a channel and token; `step` does not allocate. softplus(decay) is taken once:
///           the state remembers it, and each call compares D numbers
/// effects   state holds h on return, and that its sequences have begun
/// throws    shape_error before any write
template <class S, gate_form Form>
struct rglru {
  static_assert(std::floating_point<S>, "rglru mixes float or double");

  index_t channels = 0;
  view<const S, 1> decay{};  // [D]

  using scalar_type = S;
  using output = view<S, 3>;
  using output_token = view<S, 2>;

  /// The numbers of `scan::begun_state`, and what the decays of the last call were converted to.
  class state : public scan::begun_state<S> {
   public:
    /// See `make_state`.
    state(index_t batch, index_t channels)
        : scan::begun_state<S>("rglru", batch, channels),
          // NaN converts to NaN, so the two agree from the start.
          decays_(static_cast<std::size_t>(channels), std::numeric_limits<S>::quiet_NaN()),
          rates_(decays_) {}

   private:
    friend rglru;
    friend gradient::rglru<rglru>;
    // No part of the value, but copied with it: a copy must not allocate when it is stepped.
    aligned_vector<S> decays_, rates_;
    scan::scratch<S> sums_;  // of backward
  };

  /// One token of every sequence.
  struct token {
    view<const S, 2> recurrence_gate{};  // [B, D]
    view<const S, 2> input_gate{};       // [B, D]
    view<const S, 2> input{};            // [B, D]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 3> recurrence_gate{};  // [B, T, D]
    view<const S, 3> input_gate{};       // [B, T, D]
    view<const S, 3> input{};            // [B, T, D]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(recurrence_gate, t), time_at(input_gate, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"rglru", "tokens::range"}, offsets);
      return {time_range(recurrence_gate, begin, end),
              time_range(input_gate, begin, end),
              time_range(input, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"rglru", "tokens::sequence"}, offsets, b);
      return tokens{recurrence_gate, input_gate, input, {}}.range(begin, end);
    }
  };

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 3>, state>;
  /// Gradients of `tokens` and of `decay`. One whose pointer is null is not computed.
  struct gradients {
    view<S, 3> recurrence_gate{};  // [B, T, D]
    view<S, 3> input_gate{};       // [B, T, D]
    view<S, 3> input{};            // [B, T, D]
    view<S, 1> decay{};            // [D], summed over tokens and sequences
    bool accumulate = false;       ///< adds to what is there
  };

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"rglru", "make_state"}, "channels", channels);
    return state(batch, channels);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"rglru", "scan"};
    scan::check_policy(who, policy);
    run(policy, checked(who, u, y, h), h);
  }

  /// Room for what `backward` needs of `batch` sequences; nothing grows with T.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t batch, index_t /*T*/ = 0, index_t /*every*/ = 0) const {
    return {.y = {}, .initial = make_state(batch)};
  }
  /// The same scan, which also fills `keep`: y must stay as it is until `backward`, and must not be
  /// input.
  /// throws    as `scan`
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"rglru", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    scan::expect_apart(who, "y", u.input, y);
    keep.initial = h;
    keep.y = y;
    run(policy, source, h);
  }

  /// The gradients of a loss from dy, its gradient with respect to y; see <maslin/gradient/rglru.hpp>,
  /// which defines it.
  template <scan::policy Policy, class Adjoint = gradient::rglru<rglru>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 3> dy,
                const gradients& d, state& dstate) const {
    static_assert(complete<Adjoint>,
                  "rglru::backward is defined in <maslin/gradient/rglru.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const auto source =
        checked({"rglru", "step"},
                {with_time(u.recurrence_gate), with_time(u.input_gate), with_time(u.input), {}},
                with_time(y), h);
    convert_decays(h);
    scan::run_step(source, h.lanes());
    for (index_t b = 0; b < h.batch(); ++b) h.advance(b, 1);
  }

 private:
  friend gradient::rglru<rglru>;

  template <class V>
  using algebra = recurrence::diagonal<V>;

  template <class Policy, class Source>
  void run(const Policy& policy, const Source& source, state& h) const {
    convert_decays(h);
    scan::run(policy, source, h.lanes());
    for (index_t b = 0; b < h.batch(); ++b) h.advance(b, source.tokens(b));
  }

  struct kernel {
    using scalar_type = S;
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = 1, outputs = 1;
    // An exp, a root and their use are one long chain of operations.
    static constexpr bool twins = true;
    static constexpr bool wide_lanes = true;

    const S* recurrence_gate;
    const S* input_gate;
    const S* input;
    S* out;
    index_t recurrence_batch, recurrence_time, gate_batch, gate_time;
    index_t input_batch, input_time, out_batch, out_time;
    const S* rates;  // log2 a = rate r
    const unsigned char* begun;
    index_t first = 0;  // time of the sequence's first token; -1 if that has passed

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.recurrence_gate += b * recurrence_batch + t * recurrence_time;
      k.input_gate += b * gate_batch + t * gate_time;
      k.input += b * input_batch + t * input_time;
      k.out += b * out_batch + t * out_time;
      return k;
    }
    void enter(index_t b) noexcept { first = begun[b] != 0 ? -1 : 0; }

    template <class V, class N>
    [[nodiscard, gnu::always_inline]] typename algebra<V>::token token(index_t t, index_t c,
                                                                       N n) const noexcept {
      using L = lane<V>;
      V r = L::load(recurrence_gate + t * recurrence_time + c, n);
      V i = L::load(input_gate + t * gate_time + c, n);
      if constexpr (Form == gate_form::logit) {
        r = simd::sigmoid(r);
        i = simd::sigmoid(i);
      }
      const V x = i * L::load(input + t * input_time + c, n);
      const auto a = simd::exp2_and_complement(V(L::load(rates + c, n) * r));
      // 1 - a^2 = (1 - a) (1 + a)
      V mu = L::sqrt(L::fma(a.lost, a.kept, a.lost));
      if (t == first) mu = L::broadcast(S(1));
      return {a.kept, mu * x};
    }
    template <class V, class N>
    void emit(S* to, index_t, N n, const typename algebra<V>::state& h) const noexcept {
      lane<V>::store(to, h.h[0], n);
    }
    [[nodiscard]] S* y(index_t t, index_t c) const noexcept { return out + t * out_time + c; }
    [[nodiscard]] static constexpr index_t y_stride() noexcept { return 1; }
  };

  /// -8 softplus(x) / ln 2 of n channels.
  template <class V, class N>
  static void convert(const S* x, S* rate, N n) noexcept {
    using L = lane<V>;
    const V zero = L::broadcast(S(0)), z = L::load(x, n);
    const V softplus = L::max(zero, z) + simd::log1p_of_unit(simd::exp(V(zero - L::abs(z))));
    L::store(rate, softplus * L::broadcast(S(-8 * 1.4426950408889634)), n);
  }
  /// Converts the decays unless the state has seen them: softplus costs as much as a step.
  void convert_decays(state& h) const noexcept {
    using V = simd::native<S>;
    if (channels == 0) return;
    const S* const now = decay.data_handle();
    const std::size_t bytes = static_cast<std::size_t>(channels) * sizeof(S);
    if (std::memcmp(h.decays_.data(), now, bytes) == 0) return;
    std::memcpy(h.decays_.data(), now, bytes);
    index_t c = 0;
    for (; c + lane<V>::width <= channels; c += lane<V>::width)
      convert<V>(now + c, h.rates_.data() + c, all_lanes<V>{});
    if (c < channels) convert<V>(now + c, h.rates_.data() + c, static_cast<int>(channels - c));
  }

  scan::source<kernel> checked(const check::caller& who, const tokens& u, const output& y,
                               const state& h) const {
    check::count(who, "channels", channels);
    const index_t B = u.input.extent(0), T = u.input.extent(1);
    const std::array<index_t, 3> shape{B, T, channels};
    const auto decays = check::layout<const S, 1>(who, "decay", "[D]", decay, {channels}, 0);
    const auto r =
        check::layout<const S, 3>(who, "recurrence_gate", "[B, T, D]", u.recurrence_gate, shape, 2);
    const auto i =
        check::layout<const S, 3>(who, "input_gate", "[B, T, D]", u.input_gate, shape, 2);
    scan::check_order(who, "state", h, 1);
    const bool in_place = scan::check_values<S, 3>(who, "[B, T, D]", u.input, y, shape,
                                                   "recurrence_gate", r, u.offsets, "[B, D]", h);
    const auto out = check::layout<S, 3>(who, "y", "[B, T, D]", y, shape, 2);
    check::disjoint(who, "y", out, "input_gate", i);
    check::disjoint(who, "y", out, "decay", decays);
    const index_t moved_bytes = 4 * B * T * channels * static_cast<index_t>(sizeof(S));
    const kernel first{.recurrence_gate = u.recurrence_gate.data_handle(),
                       .input_gate = u.input_gate.data_handle(),
                       .input = u.input.data_handle(),
                       .out = y.data_handle(),
                       .recurrence_batch = u.recurrence_gate.stride(0),
                       .recurrence_time = u.recurrence_gate.stride(1),
                       .gate_batch = u.input_gate.stride(0),
                       .gate_time = u.input_gate.stride(1),
                       .input_batch = u.input.stride(0),
                       .input_time = u.input.stride(1),
                       .out_batch = y.stride(0),
                       .out_time = y.stride(1),
                       .rates = h.rates_.data(),
                       .begun = h.flags()};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = channels,
            .moved_bytes = moved_bytes,
            .may_stream = !in_place};
  }
};

}  // namespace maslin::inline MASLIN_ABI
