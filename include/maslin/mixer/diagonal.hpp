// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The gated diagonal recurrence: first order, one gate a channel and token.

#include <maslin/fwd.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/stream.hpp>

#include <concepts>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Scans a first-order gated recurrence over T tokens and D independent channels.
///   h[t,d] = a[t,d] h[t-1,d] + input[t,d],   y = h             (HGRN, arXiv 2311.04823)
///   a = gate                    decay::value
///   a = exp(gate)               decay::log          (RetNet, Mamba-2 in one channel)
///   a = 1 - gate                decay::complement   (minGRU, arXiv 2410.01201: its z_t = gate,
///                                                    its z_t times the candidate = input)
/// With `decay` set the gate is fixed in time, one number a channel, and tokens carry none.
///
/// shapes    gate [B, T, D] or fixed [D]   input, y [B, T, D]   state [B, D]
/// layout    channels unit stride, B and T strides free
/// aliasing  y may be input; y must not overlap gate
/// numerics  one fma a step: |err| <= u W (complement 2 u W; outside the FMA family 2 and 3), with
///           S <- |a| S + |input|, W <- |a| (W + S_before) + |input|; decay::log adds its exp,
///           within 1 ulp; exec::chunked has 3 u W. Any a is taken, and |a| > 1 leaves h unbounded.
///           NaN and Inf stay in their channel, later in time; a = 0 does not clear them
/// cost      B*T*D multiply-adds (decay::log: one exp each); reads 2, writes 1 number a channel and
///           token; `step` does not allocate
/// effects   state holds h on return
/// throws    shape_error before any write
template <class S, maslin::decay Form>
struct diagonal {
  static_assert(std::floating_point<S>, "diagonal mixes float or double");

  index_t channels = 0;
  view<const S, 1> decay{};  // [D], fixed in time; empty: tokens bring their gates

  using scalar_type = S;
  using output = view<S, 3>;
  using output_token = view<S, 2>;
  using state = scan::lane_state<S, 2>;

  /// One token of every sequence.
  struct token {
    view<const S, 2> gate{};   // [B, D]
    view<const S, 2> input{};  // [B, D]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 3> gate{};   // [B, T, D]
    view<const S, 3> input{};  // [B, T, D]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(gate, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"diagonal", "tokens::range"}, offsets);
      return {gate.data_handle() == nullptr ? gate : time_range(gate, begin, end),
              time_range(input, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"diagonal", "tokens::sequence"}, offsets, b);
      return tokens{.gate = gate, .input = input}.range(begin, end);
    }
  };

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"diagonal", "make_state"}, "channels", channels);
    return state("diagonal", batch, channels, 1);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"diagonal", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    scan::run(policy, source, h);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const auto source =
        checked({"diagonal", "step"}, with_time(u.gate), with_time(u.input), with_time(y), {}, h);
    scan::run_step(source, h);
  }

 private:
  template <class V>
  using algebra = std::conditional_t<Form == maslin::decay::complement,
                                     recurrence::diagonal_complement<V>, recurrence::diagonal<V>>;

  struct kernel {
    using scalar_type = S;
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = 1, outputs = 1;

    const S* gate;
    const S* input;
    S* out;
    index_t gate_batch, gate_time, input_batch, input_time, out_batch, out_time;
    bool fetch;  // the call streams from memory

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.gate += b * gate_batch + t * gate_time;
      k.input += b * input_batch + t * input_time;
      k.out += b * out_batch + t * out_time;
      return k;
    }
    template <class V, class N>
    [[nodiscard]] typename algebra<V>::token token(index_t t, index_t c, N n) const noexcept {
      constexpr index_t bytes = lane<V>::width * static_cast<index_t>(sizeof(S));
      if (fetch) {
        if (gate_time != 0) simd::prefetch_ahead<bytes>(gate + t * gate_time + c);
        simd::prefetch_ahead<bytes>(input + t * input_time + c);
      }
      V a = lane<V>::load(gate + t * gate_time + c, n);
      if constexpr (Form == maslin::decay::log) a = simd::exp(a);
      return {a, lane<V>::load(input + t * input_time + c, n)};
    }
    template <class V, class N>
    void emit(S* to, index_t, N n, const typename algebra<V>::state& h) const noexcept {
      lane<V>::store(to, h.h[0], n);
    }
    template <class V>
    void stream(S* to, const typename algebra<V>::state& h) const noexcept {
      simd::stream_register(to, h.h[0]);
    }
    [[nodiscard]] S* y(index_t t, index_t c) const noexcept { return out + t * out_time + c; }
    [[nodiscard]] static constexpr index_t y_stride() noexcept { return 1; }
  };

  scan::source<kernel> checked(const check::caller& who, const view<const S, 3>& gate,
                               const view<const S, 3>& input, const output& y,
                               std::span<const index_t> offsets, const state& h) const {
    const index_t B = input.extent(0), T = input.extent(1);
    const bool fixed = decay.data_handle() != nullptr;
    check::footprint gates;
    check::count(who, "channels", channels);
    if (fixed) {
      gates = check::layout<const S, 1>(who, "decay", "[D]", decay, {channels}, 0);
      if (gate.data_handle() != nullptr)
        who.refuse("gate must be empty where decay is fixed, got " + check::list(gate.extents()));
    } else {
      gates = check::layout<const S, 3>(who, "gate", "[B, T, D]", gate, {B, T, channels}, 2);
    }
    scan::check_order(who, "state", h, 1);
    const bool in_place =
        scan::check_values<S, 3>(who, "[B, T, D]", input, y, {B, T, channels},
                                 fixed ? "decay" : "gate", gates, offsets, "[B, D]", h);
    const index_t moved_bytes =
        (fixed ? 2 : 3) * B * T * channels * static_cast<index_t>(sizeof(S));
    const kernel first{fixed ? decay.data_handle() : gate.data_handle(),
                       input.data_handle(),
                       y.data_handle(),
                       fixed ? 0 : gate.stride(0),
                       fixed ? 0 : gate.stride(1),
                       input.stride(0),
                       input.stride(1),
                       y.stride(0),
                       y.stride(1),
                       moved_bytes >= exec::streaming_bytes};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = offsets,
            .channel_count = channels,
            .moved_bytes = moved_bytes,
            .may_stream = !in_place};
  }
};

}  // namespace maslin::inline MASLIN_ABI
