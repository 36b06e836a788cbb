// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The gated diagonal recurrence: first order, one gate a channel and token.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/recurrence/complex_diagonal.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/stream.hpp>

#include <complex>
#include <concepts>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// What a number of a recurrence is made of.
template <class S>
struct number_parts {
  using scalar = S;
  static constexpr int count = 1;
};
template <class S>
struct number_parts<std::complex<S>> {
  using scalar = S;
  static constexpr int count = 2;
};

/// Scans a first-order gated recurrence over T tokens and D independent channels.
///   h[t,d] = a[t,d] h[t-1,d] + input[t,d],   y = h             (HGRN, arXiv 2311.04823)
///   a = gate                    decay::value
///   a = exp(gate)               decay::log          (RetNet, Mamba-2 in one channel)
///   a = 1 - gate                decay::complement   (minGRU, arXiv 2410.01201: its z_t = gate,
///                                                    its z_t times the candidate = input)
/// With `decay` set the gate is fixed in time, one number a channel, and tokens carry none.
/// S may be std::complex (the diagonal of LRU and S4D, arXiv 2303.06349, 2206.11893; `lru_decay`
/// makes it from polar parameters): then decays are given by value.
///
/// shapes    gate [B, T, D] or fixed [D]   input, y [B, T, D]   state [B, D], complex [B, D, 2]
/// layout    channels unit stride, B and T strides free
/// aliasing  y may be input; y must not overlap gate
/// numerics  one fma a step: |err| <= u W (complement 2 u W; outside the FMA family 2 and 3), with
///           S <- |a| S + |input|, W <- |a| (W + S_before) + |input|; decay::log adds its exp,
///           within 1 ulp; exec::chunked has 3 u W. Any a is taken, and |a| > 1 leaves h unbounded.
///           Complex: two fma for each part, twice the bounds, with |Re a Re h| + |Im a Im h| and
///           the like in place of |a h|. NaN and Inf stay in their channel, later in time; a = 0
///           does not clear them
/// cost      B*T*D multiply-adds (decay::log: one exp each; complex: four times as many); reads 2,
///           writes 1 number a channel and token; `step` does not allocate
/// effects   state holds h on return
/// throws    shape_error before any write
template <class S, maslin::decay Form>
struct diagonal {
  static constexpr int parts = number_parts<S>::count;
  static_assert(std::floating_point<typename number_parts<S>::scalar>,
                "diagonal mixes float or double");
  static_assert(parts == 1 || Form == maslin::decay::value, "complex decays are given by value");

  index_t channels = 0;
  view<const S, 1> decay{};  // [D], fixed in time; empty: tokens bring their gates

  using scalar_type = typename number_parts<S>::scalar;
  using output = view<S, 3>;
  using output_token = view<S, 2>;
  using state = scan::lane_state<scalar_type, parts + 1>;

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
  template <scan::policy Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"diagonal", "make_state"}, "channels", channels);
    return state(parts == 1 ? "diagonal" : "complex_diagonal", batch, channels, parts);
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

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 3>, state>;
  /// Where gradients go. A view whose pointer is null is not wanted.
  struct gradients {
    view<S, 3> gate{};        // [B, T, D]
    view<S, 3> input{};       // [B, T, D]
    view<S, 1> decay{};       // [D], of a decay that is fixed in time: summed over B and T
    bool accumulate = false;  // add to what is there
  };

  /// Room for what a scan of `batch` sequences saves. Neither the number of tokens nor the spacing
  /// of checkpoints matters here: nothing but the initial state is kept.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t batch, index_t = 0, index_t = 0) const {
    return {{}, make_state(batch)};
  }
  /// The same scan; `keep` then serves `backward`.
  /// aliasing  y must not be input: its values would be lost to the gradients
  /// throws    shape_error before any write
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"diagonal", "scan"};
    scan::expect_apart(who, "y", u.input, y);
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    keep.y = y;
    keep.initial = h;
    scan::run(policy, source, h);
  }

  /// The adjoint of `scan`: gradients of a loss whose derivatives by y are `dy`.
  ///   s[t] = dy[t] + carry,   carry <- a[t] s[t],   dinput[t] = s[t]
  ///   dgate[t] = s[t] h[t-1]              decay::value (complex: s conj(h), as dx = dRe + i dIm has it)
  ///   dgate[t] = a[t] s[t] h[t-1]         decay::log
  ///   dgate[t] = -s[t] h[t-1]             decay::complement
  /// from the last token to the first. The gradient of a fixed decay is the sum of these over the
  /// tokens of each sequence, last first, then over the sequences.
  ///
  /// shapes    dy and gradients [B, T, D], gradients.decay [D], dstate [B, D]
  /// layout    as tokens
  /// aliasing  no gradient may overlap anything that is read, nor another gradient
  /// numerics  one rounding a term, beside the error of y. NaN and Inf of dy stay in their channel,
  ///           earlier in time. The same bytes for every split (but the sums over time) and thread
  ///           count (exec::chunked: for every thread count)
  /// cost      2 multiply-adds a channel and token (complex: 8); reads 3, writes 2 numbers; no
  ///           allocation but the scratch of exec::chunked and B D sums of a fixed decay, which dstate
  ///           keeps for the next call; with a fixed decay exec::chunked takes time in order
  /// effects   dstate enters as the gradient of the final state and leaves as that of the initial
  ///           state, so that segments can be taken from the last to the first
  /// throws    shape_error before any write
  template <scan::policy Policy, class Adjoint = gradient::diagonal<diagonal>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 3> dy,
                const gradients& d, state& dstate) const {
    static_assert(complete<Adjoint>,
                  "diagonal::backward is defined in <maslin/gradient/diagonal.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

 private:
  friend struct gradient::diagonal<diagonal>;

  using R = scalar_type;
  template <class V>
  using algebra = std::conditional_t<
      parts == 2, recurrence::complex_diagonal<V>,
      std::conditional_t<Form == maslin::decay::complement, recurrence::diagonal_complement<V>,
                         recurrence::diagonal<V>>>;

  struct kernel {
    using scalar_type = R;
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = parts, outputs = parts;
    static constexpr bool wide_lanes = true;
    static constexpr bool output_is_newest = parts == 1;
    static constexpr int arrays = 2;
    static constexpr auto costs = parts == 2                   ? scan::cost_family::complex_diagonal
                                  : Form == maslin::decay::log ? scan::cost_family::diagonal_exp
                                                               : scan::cost_family::diagonal;

    const R* gate;
    const R* input;
    R* out;
    // Strides of real numbers, as a complex one is an array of two.
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
      constexpr index_t bytes = parts * lane<V>::width * static_cast<index_t>(sizeof(R));
      const R* const gates = gate + t * gate_time + parts * c;
      const R* const inputs = input + t * input_time + parts * c;
      if (fetch) {
        // Measured: nearer than other mixers fetch, as little is done between loads.
        constexpr index_t distance =
            parts == 1 && Form != maslin::decay::log ? 1024 : simd::fetch_ahead;
        if (gate_time != 0) simd::prefetch_row<bytes, distance>(gates);
        simd::prefetch_row<bytes, distance>(inputs);
      }
      if constexpr (parts == 2) {
        V a[2], b[2];
        simd::load_columns<V, 2>(gates, 2, n, a);
        simd::load_columns<V, 2>(inputs, 2, n, b);
        return {a[0], a[1], b[0], b[1]};
      } else {
        V a = lane<V>::load(gates, n);
        if constexpr (Form == maslin::decay::log) a = simd::exp(a);
        return {a, lane<V>::load(inputs, n)};
      }
    }
    template <class V, class N>
    void emit(R* to, [[maybe_unused]] index_t stride, N n,
              const typename algebra<V>::state& h) const noexcept {
      if constexpr (parts == 2)
        simd::store_columns<V, 2>(to, stride, n, h.h);
      else
        lane<V>::store(to, h.h[0], n);
    }
    template <class V>
      requires(parts == 2 && simd::streams_columns<V, 2>)
    void stream(R* to, const typename algebra<V>::state& h) const noexcept {
      simd::store_columns<V, 2, true>(to, 2, all_lanes<V>{}, h.h);
    }
    /// Measured: nearer than tokens fetch, as nothing is computed meanwhile. Inlined by force: g++ takes
    /// a function that only prefetches for one without effect.
    [[gnu::always_inline]] void fetch_line(index_t t, index_t c) const noexcept {
      constexpr index_t distance = Form == maslin::decay::value ? 384 : 1024;
      simd::prefetch_row<simd::cache_line, distance>(gate + t * gate_time + c);
      simd::prefetch_row<simd::cache_line, distance>(input + t * input_time + c);
    }
    [[nodiscard]] R* y(index_t t, index_t c) const noexcept {
      return out + t * out_time + parts * c;
    }
    [[nodiscard]] static constexpr index_t y_stride() noexcept { return parts; }
    [[nodiscard]] scan::token_array<R> array(int i) const noexcept {
      return i == 0 ? scan::token_array<R>{gate, gate_time, parts}
                    : scan::token_array<R>{input, input_time, parts};
    }
    template <class V>
    [[nodiscard]] typename algebra<V>::token turned_token(const R* const (&from)[2],
                                                          index_t c) const noexcept {
      constexpr index_t width = lane<V>::width;
      const R* const gates = from[0] + c * parts * width;
      const R* const inputs = from[1] + c * parts * width;
      if constexpr (parts == 2) {
        return {lane<V>::load(gates), lane<V>::load(gates + width), lane<V>::load(inputs),
                lane<V>::load(inputs + width)};
      } else {
        V a = lane<V>::load(gates);
        if constexpr (Form == maslin::decay::log) a = simd::exp(a);
        return {a, lane<V>::load(inputs)};
      }
    }
  };

  /// A complex number as an array of two, as the standard has it.
  template <class T>
  [[nodiscard]] static auto numbers(T* p) noexcept {
    return reinterpret_cast<std::conditional_t<std::is_const_v<T>, const R, R>*>(p);
  }

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
    scan::check_order(who, "state", h, parts);
    const bool in_place =
        scan::check_values<S, 3>(who, "[B, T, D]", input, y, {B, T, channels},
                                 fixed ? "decay" : "gate", gates, offsets, "[B, D]", h);
    const index_t moved_bytes =
        (fixed ? 2 : 3) * B * T * channels * static_cast<index_t>(sizeof(S));
    const kernel first{.gate = numbers(fixed ? decay.data_handle() : gate.data_handle()),
                       .input = numbers(input.data_handle()),
                       .out = numbers(y.data_handle()),
                       .gate_batch = fixed ? 0 : parts * gate.stride(0),
                       .gate_time = fixed ? 0 : parts * gate.stride(1),
                       .input_batch = parts * input.stride(0),
                       .input_time = parts * input.stride(1),
                       .out_batch = parts * y.stride(0),
                       .out_time = parts * y.stride(1),
                       .fetch = moved_bytes >= exec::streaming_bytes};
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
