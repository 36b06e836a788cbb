// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// H-LRU: the higher-order linear recurrence of arXiv 2602.12021.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/hlru_kernel.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>

#include <bit>
#include <concepts>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Scans an order-M linear recurrence over T tokens and D independent channels.
///   h[t,d] = sum_{k<M} a[t,d,k] h[t-1-k,d] + a[t,d,M] input[t,d],  a = normalise(gate)
///   y[t,d] = h[t,d]                                            (H-LRU, arXiv 2602.12021)
/// The paper's symbols: its A_t is the companion matrix with first row a[0..M-1], its input gate
/// a_0 is our a[M]. The paper's output of all M lags is y at earlier tokens: see `lags`.
///
/// shapes    gate [B, T, D, M+1], input gate last (grouped [B, T, ceil(D/L), M+1, L])
///           input, y [B, T, D]   state [B, D, M], newest first
/// layout    channels unit stride, B and T strides free; gate: natural with any channel stride, or
///           lane-grouped with dense groups (fastest at L = 8), L a power of two
/// aliasing  y may be input; y must not overlap gate
/// numerics  one fma a term, farthest lag first: |err| <= (M + 1) u W (twice that outside the FMA
///           family, three times with exec::chunked), and c_g u W, c_g = M + 8, more where the
///           gates are normalised here; max|h| <= max(|h0|, |input|) up to rounding for every
///           normalisation but `none`; NaN and Inf stay in their channel, later in time
/// cost      B*T*D*(M + 1) multiply-adds and M + 1 exp (softmax; one at M = 1); reads M + 2, writes
///           1 number a channel and token; `step` does not allocate
/// effects   state holds the last M values on return
/// throws    shape_error before any write
///
/// `Side` = gate_side::write is the transposed companion of some published code, kept to compare
/// with: its lag k is weighted by the token that wrote the value, and |h| is not bounded.
template <class S, int M, normalise N, gates Order, gate_side Side>
struct hlru {
  static_assert(std::floating_point<S>, "hlru mixes float or double");
  static_assert(M >= 1, "the order of hlru is at least 1");

  index_t channels = 0;

  using scalar_type = S;
  using output = view<S, 3>;
  using output_token = view<S, 2>;
  using state = scan::lane_state<S, 3>;
  static constexpr int order = M;
  static constexpr int gate_rank = Order == gates::natural ? 4 : 5;

  /// One token of every sequence.
  struct token {
    view<const S, gate_rank - 1> gate{};  // [B, D, M+1] or [B, D/L, M+1, L]
    view<const S, 2> input{};             // [B, D]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, gate_rank> gate{};  // [B, T, D, M+1] or [B, T, D/L, M+1, L]
    view<const S, 3> input{};         // [B, T, D]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(gate, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"hlru", "tokens::range"}, offsets);
      return {time_range(gate, begin, end), time_range(input, begin, end), {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"hlru", "tokens::sequence"}, offsets, b);
      return tokens{.gate = gate, .input = input}.range(begin, end);
    }
  };

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <scan::policy Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"hlru", "make_state"}, "channels", channels);
    return state(Side == gate_side::read ? "hlru" : "hlru_write", batch, channels, M);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"hlru", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    scan::run(policy, source, h);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const auto source =
        checked({"hlru", "step"}, with_time(u.gate), with_time(u.input), with_time(y), {}, h);
    scan::run_step(source, h);
  }

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 3>, state>;
  /// Where gradients go, in the shapes of `tokens`. A view whose pointer is null is not wanted.
  struct gradients {
    view<S, gate_rank> gate{};  // [B, T, D, M+1] or [B, T, D/L, M+1, L]
    view<S, 3> input{};         // [B, T, D]
    bool accumulate = false;    // add to what is there
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
    const check::caller who{"hlru", "scan"};
    scan::expect_apart(who, "y", u.input, y);
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    keep.y = y;
    keep.initial = h;
    scan::run(policy, source, h);
  }

  /// The adjoint of `scan`: gradients of a loss whose derivatives by y are `dy`.
  ///   s[t] = carry[0] + dy[t],   carry[k] <- a[t,k] s[t] + carry[k+1]
  ///   dgate[t,k] = s[t] phi'(z_k) / n (h[t-1-k] - e_k h[t]),   dinput[t] = s[t] a[t,M]
  /// from the last token to the first; the coefficients a are made again, neither they nor their
  /// gradients are stored (arXiv 2602.12021; phi, n and e_k = dn / dw_k of the normalisation).
  ///
  /// shapes    dy and gradients.input [B, T, D], gradients.gate as gate, dstate [B, D, M]
  /// layout    as tokens; padding of grouped gates is not written
  /// aliasing  no gradient may overlap anything that is read, nor another gradient
  /// numerics  one rounding a term, beside the errors of y and of the coefficients; the carry grows
  ///           to M times the largest dy at most, where rows have L1 norm 1. NaN and Inf of dy stay
  ///           in their channel, earlier in time. The same bytes for every split and thread count
  ///           (exec::chunked: for every thread count)
  /// cost      3 (M + 1) multiply-adds and the normalisation of M + 1 gates a channel and token;
  ///           reads M + 4, writes M + 2 numbers; no allocation (exec::chunked: its scratch)
  /// effects   dstate enters as the gradient of the final state and leaves as that of the initial
  ///           state, so that segments can be taken from the last to the first
  /// throws    shape_error before any write
  template <scan::policy Policy, class Adjoint = gradient::hlru<hlru>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 3> dy,
                const gradients& d, state& dstate) const {
    static_assert(complete<Adjoint>,
                  "hlru::backward is defined in <maslin/gradient/hlru.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// The paper's output of all M lags, lag 0 first, from y and the state before its first token:
  ///   out[b,t,d,j] = y[b,t-j,d], or initial[b,d,j-1-t] before the first token
  /// shapes    y [B, T, D]   initial: of B sequences   out [B, T, D, M]
  /// layout    last axes unit stride, B and T strides free
  /// aliasing  out must not overlap y or initial
  /// cost      B*T*D*M copies; no allocation
  /// throws    shape_error before any write
  void lags(view<const S, 3> y, const state& initial, view<S, 4> out) const
      requires(Side == gate_side::read) {
    const check::caller who{"hlru", "lags"};
    check::count(who, "channels", channels);
    const index_t B = y.extent(0), T = y.extent(1), D = channels;
    const auto in = check::layout<const S, 3>(who, "y", "[B, T, D]", y, {B, T, D}, 2);
    const auto to = check::layout<S, 4>(who, "out", "[B, T, D, M]", out, {B, T, D, M}, 2);
    scan::check_order(who, "initial", initial, M);
    if (initial.batch() != B || initial.channels() != D)
      who.refuse("initial must be [B, D] = " + check::list(std::array{B, D}) + ", got " +
                 check::list(std::array{initial.batch(), initial.channels()}));
    check::writable(who, "out", to);
    check::disjoint(who, "out", to, "y", in);
    check::disjoint(who, "out", to, "initial", initial.memory());
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t d = 0; d < D; ++d)
          for (index_t j = 0; j < M; ++j)
            out(b, t, d, j) =
                j <= t ? y(b, t - j, d)
                       : scan::state_of(initial.row(b), d, M)[(j - 1 - t) * scan::state_lanes];
  }
  /// The adjoint of `lags`: what arrives at each lag of each token is folded onto the token that
  /// made it, or onto the initial state.
  ///   dy[b,t,d] = sum_j dout[b,t+j,d,j],   dinitial[b,d,k] += sum of dout[b,t,d,j], t - j = -1 - k
  /// shapes    dout [B, T, D, M]   dy [B, T, D]   dinitial: of B sequences
  /// layout    last axes unit stride, B and T strides free
  /// aliasing  dy must not overlap dout or dinitial
  /// numerics  M - 1 additions, lag 0 first
  /// cost      B*T*D*M additions; no allocation
  /// effects   dy is overwritten and then enters `backward`; dinitial is added to: give it what
  ///           `backward` left in dstate
  /// throws    shape_error before any write
  void lags_backward(view<const S, 4> dout, view<S, 3> dy, state& dinitial) const
      requires(Side == gate_side::read) {
    const check::caller who{"hlru", "lags_backward"};
    check::count(who, "channels", channels);
    const index_t B = dy.extent(0), T = dy.extent(1), D = channels;
    const auto in = check::layout<const S, 4>(who, "dout", "[B, T, D, M]", dout, {B, T, D, M}, 2);
    const auto to = check::layout<S, 3>(who, "dy", "[B, T, D]", dy, {B, T, D}, 2);
    scan::check_order(who, "dinitial", dinitial, M);
    if (dinitial.batch() != B || dinitial.channels() != D)
      who.refuse("dinitial must be [B, D] = " + check::list(std::array{B, D}) + ", got " +
                 check::list(std::array{dinitial.batch(), dinitial.channels()}));
    check::writable(who, "dy", to);
    check::disjoint(who, "dy", to, "dout", in);
    check::disjoint(who, "dy", to, "dinitial", dinitial.memory());
    check::disjoint(who, "dinitial", dinitial.memory(), "dout", in);
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t d = 0; d < D; ++d) {
          S sum = dout(b, t, d, 0);
          for (index_t j = 1; j < M && t + j < T; ++j) sum += dout(b, t + j, d, j);
          dy(b, t, d) = sum;
          for (index_t j = t + 1; j < M; ++j)
            scan::state_of(dinitial.row(b), d, M)[(j - 1 - t) * scan::state_lanes] +=
                dout(b, t, d, j);
        }
  }

 private:
  friend struct gradient::hlru<hlru>;

  static constexpr const char* gate_axes =
      Order == gates::natural ? "[B, T, D, M+1]" : "[B, T, ceil(D/L), M+1, L]";

  using kernel = hlru_kernel<S, M, N, Order, Side>;
  template <class V>
  using algebra = typename kernel::template recurrence<V>;

  scan::source<kernel> checked(const check::caller& who, const view<const S, gate_rank>& gate,
                               const view<const S, 3>& input, const output& y,
                               std::span<const index_t> offsets, const state& h) const {
    check::count(who, "channels", channels);
    const index_t B = input.extent(0), T = input.extent(1), D = channels;
    check::footprint gates_in;
    index_t L = 1;
    if constexpr (Order == gates::natural) {
      gates_in =
          check::layout<const S, 4>(who, "gate", "[B, T, D, M+1]", gate, {B, T, D, M + 1}, 2);
    } else {
      L = layout::group_of(who, gate);
      gates_in = check::layout<const S, 5>(who, "gate", "[B, T, ceil(D/L), M+1, L]", gate,
                                           {B, T, layout::groups(D, L), M + 1, L}, 2);
      if (!gate.empty()) layout::expect_dense_groups(who, gate, 3);
    }
    scan::check_order(who, "state", h, M);
    const bool in_place = scan::check_values<S, 3>(who, "[B, T, D]", input, y, {B, T, D}, "gate",
                                                   gates_in, offsets, "[B, D]", h);
    const index_t moved_bytes = B * T * D * (M + 3) * static_cast<index_t>(sizeof(S));
    const kernel first{.gate = gate.data_handle(),
                       .input = input.data_handle(),
                       .out = y.data_handle(),
                       .gate_batch = gate.stride(0),
                       .gate_time = gate.stride(1),
                       .gate_step = gate.stride(2),
                       .group_shift = std::countr_zero(static_cast<std::size_t>(L)),
                       .input_batch = input.stride(0),
                       .input_time = input.stride(1),
                       .out_batch = y.stride(0),
                       .out_time = y.stride(1),
                       .fetch = moved_bytes >= exec::streaming_bytes};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = offsets,
            .channel_count = D,
            .lane_multiple = Order == gates::natural ? scan::state_lanes : layout::lane_multiple(L),
            .moved_bytes = moved_bytes,
            .may_stream = !in_place};
  }
};

}  // namespace maslin::inline MASLIN_ABI
