// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// S6, the selective scan of Mamba: a diagonal state-space model whose step, input and readout are
/// chosen by the token.

#include <maslin/core/aligned.hpp>
#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/selective_kernel.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <string>

namespace maslin::inline MASLIN_ABI {

/// Scans D independent state-space models, each with N numbers of state, over T tokens.
///   Delta[t,d] = softplus(dt[t,d] + dt_bias[d])
///   h[t,d,n]   = exp(Delta A[d,n]) h[t-1,d,n] + Delta w write[t,g,n] input[t,d]
///   y[t,d]     = (sum_n read[t,g,n] h[t,d,n] + skip[d] input[t,d]) silu(output_gate[t,d])
///                                                     (S6, arXiv 2312.00752, algorithm 2)
/// with w = 1 (discretisation::euler, as Mamba's published scan has it) or phi1(Delta A)
/// (zero_order_hold), phi1(x) = (exp(x) - 1) / x. The paper's Delta, A, B, C, D, z are our Delta,
/// decay, write, read, skip, output_gate. `write` and `read` have groups of channels in common,
/// each its own number of them: channel d of D belongs to group floor(d groups / D).
///
/// shapes    dt, input, output_gate (optional), y [B, T, D]   state [B, D, N]
///           write, read [B, T, groups, N], groups dividing D
///           decay [D, N], the real A, negative in a stable model   skip, dt_bias [D] (optional)
/// layout    last axes unit stride; B, T and groups strides free, and that of D in decay
/// aliasing  y may be input; y must not overlap anything else
/// numerics  one fma a term, n ascending, skip last. |err| <= u W (twice that outside the FMA
///           family, three times with exec::chunked), where each state carries
///           S <- a S + |b|,   W <- a (W + e_a S_before) + e_b |b| + S,
///           e_a = 3 + (e + 1) |Delta A| and e_b = e + 2 for the rounded coefficients, e = 6 plus
///           what rounding dt + dt_bias does to Delta (zero_order_hold: e_a less 1, e_b = e + 15 +
///           (e + 1) min(|Delta A|, 1)); y adds N + 1 roundings, its gate 6. A decay below the
///           smallest normal number is 0: A of -1e4 and Delta of 20 leave no trace. A > 0 is legal
///           and may overflow. phi1 cancels nothing as Delta A goes to 0. NaN and Inf of dt, input,
///           output_gate, decay, skip and dt_bias stay in their channel, those of write and read in
///           their group, later in time
/// cost      B*T*D*N times 10 slots of the fma pipes in float, one exp included, B*T*D softplus
///           and silu; reads 3 numbers a channel and token; neither `step` nor `scan` allocates
/// effects   state holds h on return
/// throws    shape_error before any write
template <class S, discretisation Rule>
struct selective_ssm {
  static_assert(std::floating_point<S>, "selective_ssm mixes float or double");
  /// The most numbers of state that a channel may have.
  static constexpr index_t most_states = detail::most_states;

  index_t channels = 0;
  index_t state_dim = 0;       // N, 1 .. 256
  view<const S, 2> decay{};    // [D, N]
  view<const S, 1> skip{};     // [D]; empty: none
  view<const S, 1> dt_bias{};  // [D]; empty: none

  using scalar_type = S;
  using output = view<S, 3>;
  using output_token = view<S, 2>;
  using state = scan::lane_state<S, 3>;

  /// One token of every sequence.
  struct token {
    view<const S, 2> dt{};           // [B, D]
    view<const S, 2> input{};        // [B, D]
    view<const S, 3> write{};        // [B, groups, N]
    view<const S, 3> read{};         // [B, groups, N]
    view<const S, 2> output_gate{};  // [B, D]; empty: none
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 3> dt{};           // [B, T, D]
    view<const S, 3> input{};        // [B, T, D]
    view<const S, 4> write{};        // [B, T, groups, N]
    view<const S, 4> read{};         // [B, T, groups, N]
    view<const S, 3> output_gate{};  // [B, T, D]; empty: none
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(dt, t), time_at(input, t), time_at(write, t), time_at(read, t),
              time_at(output_gate, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"selective_ssm", "tokens::range"}, offsets);
      return {
          time_range(dt, begin, end),
          time_range(input, begin, end),
          time_range(write, begin, end),
          time_range(read, begin, end),
          output_gate.data_handle() == nullptr ? output_gate : time_range(output_gate, begin, end),
          {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] =
          scan::packed_range({"selective_ssm", "tokens::sequence"}, offsets, b);
      tokens unpacked = *this;
      unpacked.offsets = {};
      return unpacked.range(begin, end);
    }
  };

  /// What backward needs beside the tokens: the state before every `every` tokens of a sequence.
  /// The states in between are recomputed from these.
  struct saved {
    index_t every = 1;
    aligned_vector<S> states{};  // rows of [D / 16][N][16]
    // Of the scan that filled it; -1: none has.
    index_t sequences = -1, tokens = -1;

    [[nodiscard]] index_t bytes() const noexcept {
      return static_cast<index_t>(states.size() * sizeof(S));
    }
  };
  /// Where gradients go; a view without data is not wanted. Those of tokens mirror `tokens`, those
  /// of parameters are sums over all tokens and sequences.
  struct gradients {
    view<S, 3> dt{};           // [B, T, D]
    view<S, 3> input{};        // [B, T, D]
    view<S, 4> write{};        // [B, T, groups, N]
    view<S, 4> read{};         // [B, T, groups, N]
    view<S, 3> output_gate{};  // [B, T, D], with an output gate
    view<S, 2> decay{};        // [D, N]
    view<S, 1> skip{};         // [D], with a skip
    view<S, 1> dt_bias{};      // [D], with a bias
    bool accumulate = false;   // adds to what is there
  };
  /// Tokens from kept state to kept state where the caller names no number: the states in between,
  /// N numbers a channel and token, are then worth half an array of tokens at N = 16.
  static constexpr index_t default_every = 32;

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check_sizes({"selective_ssm", "make_state"});
    return state("selective_ssm", batch, channels, state_dim);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"selective_ssm", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    scan::run(policy, source, h);
  }

  /// Buffers for `backward` of `batch` sequences of `length` tokens: about B T / every + B states.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t batch, index_t length, index_t every = 0) const {
    const check::caller who{"selective_ssm", "make_saved"};
    check::count(who, "B", batch);
    check::count(who, "T", length);
    index_t all = 0;
    if (__builtin_mul_overflow(batch, length, &all))
      who.refuse("B and T must be a number of tokens that fits in memory, got " +
                 check::list(std::array{batch, length}));
    return make_saved(who, batch, all, every);
  }
  /// The same for packed sequences, which have `offsets.back()` tokens in all.
  [[nodiscard]] saved make_saved(std::span<const index_t> offsets, index_t every = 0) const {
    const check::caller who{"selective_ssm", "make_saved"};
    if (offsets.empty()) who.refuse("offsets must be given, got none");
    check::packed(who, offsets, 1, offsets.back());
    return make_saved(who, static_cast<index_t>(offsets.size()) - 1, offsets.back(), every);
  }

  /// The scan that fills `keep` beside what it does otherwise, with the same bytes.
  /// aliasing  y must not be input, which backward reads
  /// throws    shape_error before any write, also for a `keep` made for fewer tokens or other sizes
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"selective_ssm", "scan"};
    scan::check_policy(who, policy);
    auto source = checked(who, u, y, h);
    scan::expect_apart(who, "y", u.input, y);
    expect_room(who, keep, h.sequence_size(), source.sequences(), tokens_of(u));
    keep.sequences = source.sequences();
    keep.tokens = tokens_of(u);
    source.first.keep = keep.states.data();
    source.first.every = keep.every;
    source.first.length = source.length;
    scan::run(policy, source, h);
  }

  /// The adjoint of a scan that filled `keep`: from dy, the gradient of y, those of tokens and
  /// parameters. `dstate` enters as the gradient of the final state and leaves as that of the
  /// initial one, so that spans of a sequence, the last one first, give the gradients of the whole.
  /// With s[t] the gradient of h[t], a = exp(Delta A) and g = dy silu(output_gate):
  ///   s[t,d,n] = g[t,d] read[t,n] + a[t+1,d,n] s[t+1,d,n]
  ///   d write  = sum_d s w Delta input       d read = sum_d g h[t]
  ///   d input  = g skip + Delta sum_n s w write
  ///   d Delta  = sum_n s (A a h[t-1] + write input), its second term times a with zero_order_hold
  ///   d decay  = sum_t s (Delta a h[t-1] + Delta^2 phi1'(Delta A) write input), Euler: the first
  ///
  /// shapes    dy [B, T, D]; gradients those of what they belong to; dstate as the state of `scan`
  /// layout    as in `scan`
  /// aliasing  gradients must not overlap each other, nor anything that is read
  /// numerics  the same bytes for every thread count and executor and with exec::scalar; gradients
  ///           of tokens also for every batch and every split into spans. Sums over channels run in
  ///           16 lanes of channels 16 apart, these added by halves, then over blocks of 64 channels
  ///           (where a group begins or ends inside 16 channels, those are added by themselves); sums
  ///           over tokens in pieces of `every`, sequence by sequence. A NaN in dy reaches its
  ///           channel, or group, of its sequence at earlier times
  /// cost      about 3 scans: states and decays of `every` tokens are made again, one exp for each
  ///           number of state, and used on the way back. Time is walked in order, by exec::chunked
  ///           too. Scratch stays in dstate: for each task 64 channels of N decays and of `every`
  ///           tokens, 8 numbers of state each, sums over channels of a few hundred tokens, a copy of
  ///           the parameters' gradients for each sequence at work; a second call of the same shape
  ///           allocates nothing
  /// effects   dstate as above
  /// throws    shape_error before any write; std::bad_alloc, also before
  template <scan::policy Policy, class Adjoint = gradient::selective_ssm<selective_ssm>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 3> dy,
                const gradients& d, state& dstate) const {
    static_assert(
        complete<Adjoint>,
        "selective_ssm::backward is defined in <maslin/gradient/selective_ssm.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const bool gated = u.output_gate.data_handle() != nullptr;
    const tokens one{.dt = with_time(u.dt),
                     .input = with_time(u.input),
                     .write = with_time(u.write),
                     .read = with_time(u.read),
                     .output_gate = gated ? with_time(u.output_gate) : view<const S, 3>{}};
    const auto source = checked({"selective_ssm", "step"}, one, with_time(y), h);
    scan::run_step(source, h);
  }

 private:
  friend struct gradient::selective_ssm<selective_ssm>;
  using kernel = detail::selective_kernel<S, Rule>;

  [[nodiscard]] static index_t tokens_of(const tokens& u) noexcept {
    return u.input.extent(0) * u.input.extent(1);
  }

  /// Rows of `saved` are counted so that each sequence finds its own without a sum over others.
  [[nodiscard]] static index_t rows_of(index_t sequences, index_t length, index_t every) noexcept {
    return detail::selective_row(length, sequences, every);
  }

  [[nodiscard]] saved make_saved(const check::caller& who, index_t sequences, index_t length,
                                 index_t every) const {
    check_sizes(who);
    check::count(who, "every", every);
    saved keep{.every = every == 0 ? default_every : every};
    index_t rows = 0, size = 0;
    if (__builtin_add_overflow(length / keep.every, sequences, &rows) ||
        __builtin_mul_overflow(rows, state(who.mixer, 1, channels, state_dim).sequence_size(),
                               &size) ||
        size > std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(S)))
      who.refuse("B and T must be numbers whose states fit in memory, got " +
                 std::to_string(sequences) + " sequences of " + std::to_string(length) +
                 " tokens in all");
    keep.states.resize(static_cast<std::size_t>(size));
    return keep;
  }

  static void expect_room(const check::caller& who, const saved& keep, index_t row,
                          index_t sequences, index_t length) {
    if (keep.every < 1)
      who.refuse("saved must keep a state every 1 or more tokens, got " +
                 std::to_string(keep.every));
    const index_t wanted = rows_of(sequences, length, keep.every) * row;
    if (static_cast<index_t>(keep.states.size()) < wanted)
      who.refuse("saved must be of make_saved for these sizes, " + std::to_string(wanted) +
                 " numbers, got " + std::to_string(keep.states.size()));
  }

  void check_sizes(const check::caller& who) const {
    check::count(who, "channels", channels);
    if (state_dim < 1 || state_dim > most_states)
      who.refuse("state_dim must be in [1, " + std::to_string(most_states) + "], got " +
                 std::to_string(state_dim));
  }

  /// A grouped array of N numbers a token.
  check::footprint check_grouped(const check::caller& who, const char* name,
                                 const view<const S, 4>& v, index_t B, index_t T) const {
    const index_t groups = v.extent(2);
    if (groups < 1 || channels % groups != 0)
      who.refuse(std::string(name) + " must have groups that divide channels = " +
                 std::to_string(channels) + ", got " + std::to_string(groups));
    return check::layout<const S, 4>(who, name, "[B, T, groups, N]", v, {B, T, groups, state_dim},
                                     2);
  }

  scan::source<kernel> checked(const check::caller& who, const tokens& u, const output& y,
                               const state& h) const {
    check_sizes(who);
    const index_t B = u.input.extent(0), T = u.input.extent(1), D = channels;
    const auto steps = check::layout<const S, 3>(who, "dt", "[B, T, D]", u.dt, {B, T, D}, 2);
    const auto writes = check_grouped(who, "write", u.write, B, T);
    const auto reads = check_grouped(who, "read", u.read, B, T);
    const auto decays = check::layout<const S, 2>(who, "decay", "[D, N]", decay, {D, state_dim}, 1);
    check::footprint gates, skips, biases;
    if (u.output_gate.data_handle() != nullptr)
      gates =
          check::layout<const S, 3>(who, "output_gate", "[B, T, D]", u.output_gate, {B, T, D}, 2);
    if (skip.data_handle() != nullptr)
      skips = check::layout<const S, 1>(who, "skip", "[D]", skip, {D}, 0);
    if (dt_bias.data_handle() != nullptr)
      biases = check::layout<const S, 1>(who, "dt_bias", "[D]", dt_bias, {D}, 0);
    scan::check_order(who, "state", h, state_dim);
    scan::check_values<S, 3>(who, "[B, T, D]", u.input, y, {B, T, D}, "dt", steps, u.offsets,
                             "[B, D]", h);
    const auto out = check::layout<S, 3>(who, "y", "[B, T, D]", y, {B, T, D}, 2);
    check::disjoint(who, "y", out, "write", writes);
    check::disjoint(who, "y", out, "read", reads);
    check::disjoint(who, "y", out, "output_gate", gates);
    check::disjoint(who, "y", out, "decay", decays);
    check::disjoint(who, "y", out, "skip", skips);
    check::disjoint(who, "y", out, "dt_bias", biases);
    return {.first = kernel_of(u, y),
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = D};
  }

  /// The kernel of sequence 0 of a checked call.
  [[nodiscard]] kernel kernel_of(const tokens& u, const output& y) const {
    return {.dt = scan::token_rows<const S>::of(u.dt),
            .input = scan::token_rows<const S>::of(u.input),
            .gate = scan::token_rows<const S>::of(u.output_gate),
            .write = scan::token_rows<const S>::of(u.write),
            .read = scan::token_rows<const S>::of(u.read),
            .out = scan::token_rows<S>::of(y),
            .write_group = u.write.stride(2),
            .read_group = u.read.stride(2),
            .write_width = channels / u.write.extent(2),
            .read_width = channels / u.read.extent(2),
            .decay = decay.data_handle(),
            .decay_row = decay.stride(0),
            .N = state_dim,
            .channels = channels,
            .skip = skip.data_handle(),
            .bias = dt_bias.data_handle()};
  }
};

}  // namespace maslin::inline MASLIN_ABI
