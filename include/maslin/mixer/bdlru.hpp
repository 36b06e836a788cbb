// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// BD-LRU: the block-diagonal linear recurrence of arXiv 2602.12021.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/bdlru_kernel.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/run.hpp>

#include <bit>
#include <concepts>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Scans G independent M x M linear recurrences over T tokens.
///   h[t,g,i] = sum_{j<M} a[t,g,i,j] h[t-1,g,j] + a[t,g,i,M] input[t,g,i],  a = normalise(gate)
///   y[t,g,i] = h[t,g,i]                                        (BD-LRU, arXiv 2602.12021)
/// Row i of a block holds the weights with which the new component i reads the old components. The
/// paper's input gate a_0 is its column 0 and ours is the last column, M.
///
/// shapes    gate [B, T, G, M, M+1], input gate last (grouped [B, T, ceil(G/L), M, M+1, L])
///           input, y [B, T, G, M]   state [B, G, M]
/// layout    components unit stride, B, T and block strides free; gate: natural with any block
///           stride and rows M + 1 apart, or lane-grouped with dense groups (fastest at
///           L = 8), L a power of two
/// aliasing  y may be input; y must not overlap gate
/// numerics  one fma a term, the diagonal last: |err| <= (M + 1) u W (twice that outside the FMA
///           family, three times with exec::chunked), and c_g u W, c_g = M + 8, more where the
///           gates are normalised here; max|h| <= max(|h0|, |input|) up to rounding for every
///           normalisation but `none`; NaN and Inf stay in their block, later in time
/// cost      B*T*G*M*(M + 1) multiply-adds and as many exp (softmax; half of them at M = 1); reads
///           M^2 + 2 M, writes M numbers a block and token; `step` does not allocate
/// effects   state holds h on return
/// throws    shape_error before any write
template <class S, int M, normalise N, gates Order>
struct bdlru {
  static_assert(std::floating_point<S>, "bdlru mixes float or double");
  static_assert(M >= 1, "the block size of bdlru is at least 1");

  index_t blocks = 0;

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using state = scan::lane_state<S, 3>;
  static constexpr int order = M;
  static constexpr int gate_rank = Order == gates::natural ? 5 : 6;

  /// One token of every sequence.
  struct token {
    view<const S, gate_rank - 1> gate{};  // [B, G, M, M+1] or [B, G/L, M, M+1, L]
    view<const S, 3> input{};             // [B, G, M]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, gate_rank> gate{};  // [B, T, G, M, M+1] or [B, T, G/L, M, M+1, L]
    view<const S, 4> input{};         // [B, T, G, M]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(gate, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"bdlru", "tokens::range"}, offsets);
      return {time_range(gate, begin, end), time_range(input, begin, end), {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"bdlru", "tokens::sequence"}, offsets, b);
      return tokens{.gate = gate, .input = input}.range(begin, end);
    }
  };

  /// The empty state of `batch` sequences; the only call that allocates (with `exec::chunked` the
  /// first scan does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <scan::policy Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    check::count({"bdlru", "make_state"}, "blocks", blocks);
    return state("bdlru", batch, blocks, M);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"bdlru", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    scan::run(policy, source, h);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const auto source =
        checked({"bdlru", "step"}, with_time(u.gate), with_time(u.input), with_time(y), {}, h);
    scan::run_step(source, h);
  }

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 4>, state>;
  /// Where gradients go, in the shapes of `tokens`. A view whose pointer is null is not wanted.
  struct gradients {
    view<S, gate_rank> gate{};  // [B, T, G, M, M+1] or [B, T, G/L, M, M+1, L]
    view<S, 4> input{};         // [B, T, G, M]
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
    const check::caller who{"bdlru", "scan"};
    scan::expect_apart(who, "y", u.input, y);
    scan::check_policy(who, policy);
    const auto source = checked(who, u.gate, u.input, y, u.offsets, h);
    keep.y = y;
    keep.initial = h;
    scan::run(policy, source, h);
  }

  /// The adjoint of `scan`: gradients of a loss whose derivatives by y are `dy`.
  ///   s[t] = carry + dy[t],   carry[j] <- sum_i a[t,i,j] s[t,i]
  ///   dgate[t,i,k] = s[t,i] phi'(z_ik) / n_i (u_k - e_ik h[t,i]),   dinput[t,i] = s[t,i] a[t,i,M]
  /// with u = (h[t-1], input[t,i]), from the last token to the first; neither a nor its gradient is
  /// stored (arXiv 2602.12021; phi, n and e = dn / dw of the normalisation).
  ///
  /// shapes    dy and gradients.input [B, T, G, M], gradients.gate as gate, dstate [B, G, M]
  /// layout    as tokens; padding of grouped gates is not written
  /// aliasing  no gradient may overlap anything that is read, nor another gradient
  /// numerics  one rounding a term, beside the errors of y and of the coefficients; the carry grows
  ///           to M times the largest dy at most, where rows have L1 norm 1. NaN and Inf of dy stay
  ///           in their block, earlier in time. The same bytes for every split and thread count
  ///           (exec::chunked: for every thread count)
  /// cost      3 M (M + 1) multiply-adds and the normalisation of M (M + 1) gates a block and token;
  ///           reads M^2 + 4 M, writes M^2 + 2 M numbers; no allocation (exec::chunked: its scratch)
  /// effects   dstate enters as the gradient of the final state and leaves as that of the initial
  ///           state, so that segments can be taken from the last to the first
  /// throws    shape_error before any write
  template <scan::policy Policy, class Adjoint = gradient::bdlru<bdlru>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate) const {
    static_assert(complete<Adjoint>,
                  "bdlru::backward is defined in <maslin/gradient/bdlru.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

 private:
  friend struct gradient::bdlru<bdlru>;

  static constexpr const char* gate_axes =
      Order == gates::natural ? "[B, T, G, M, M+1]" : "[B, T, ceil(G/L), M, M+1, L]";

  using kernel = bdlru_kernel<S, M, N, Order, false>;

  scan::source<kernel> checked(const check::caller& who, const view<const S, gate_rank>& gate,
                               const view<const S, 4>& input, const output& y,
                               std::span<const index_t> offsets, const state& h) const {
    check::count(who, "blocks", blocks);
    const index_t B = input.extent(0), T = input.extent(1), G = blocks;
    check::footprint gates_in;
    index_t L = 1;
    constexpr bool natural = Order == gates::natural;
    if constexpr (natural) {
      gates_in =
          check::layout<const S, 5>(who, "gate", "[B, T, G, M, M+1]", gate, {B, T, G, M, M + 1}, 2);
      // A block is read as one run of M (M + 1) gates.
      if (!gate.empty() && M > 1 && gate.stride(3) != M + 1)
        who.refuse("gate must have rows of a block M+1 = " + std::to_string(M + 1) +
                   " apart, got strides " + check::list(gate.strides()));
    } else {
      L = layout::group_of(who, gate);
      gates_in = check::layout<const S, 6>(who, "gate", "[B, T, ceil(G/L), M, M+1, L]", gate,
                                           {B, T, layout::groups(G, L), M, M + 1, L}, 2);
      if (!gate.empty()) layout::expect_dense_groups(who, gate, 3);
    }
    scan::check_order(who, "state", h, M);
    const bool in_place = scan::check_values<S, 4>(who, "[B, T, G, M]", input, y, {B, T, G, M},
                                                   "gate", gates_in, offsets, "[B, G]", h);
    const index_t moved_bytes = B * T * G * M * (M + 3) * static_cast<index_t>(sizeof(S));
    const kernel first{.gate = gate.data_handle(),
                       .input = input.data_handle(),
                       .out = y.data_handle(),
                       .gate_batch = gate.stride(0),
                       .gate_time = gate.stride(1),
                       .gate_step = gate.stride(2),
                       .group_shift = std::countr_zero(static_cast<std::size_t>(L)),
                       .input_batch = input.stride(0),
                       .input_time = input.stride(1),
                       .input_step = input.stride(2),
                       .out_batch = y.stride(0),
                       .out_time = y.stride(1),
                       .out_step = y.stride(2),
                       .fetch = moved_bytes >= exec::streaming_bytes};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = offsets,
            .channel_count = G,
            .lane_multiple = natural ? scan::state_lanes : layout::lane_multiple(L),
            .moved_bytes = moved_bytes,
            .may_stream = !in_place && (y.stride(2) == M || G == 1)};
  }
};

}  // namespace maslin::inline MASLIN_ABI
