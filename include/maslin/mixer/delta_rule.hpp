// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The delta rule: a matrix for each head in which a token corrects what its key answers, instead of
/// adding to it.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/delta_chunks.hpp>
#include <maslin/mixer/head_checks.hpp>
#include <maslin/scan/matrix_checkpoints.hpp>

#include <concepts>
#include <optional>
#include <span>

namespace maslin::inline MASLIN_ABI {

/// Scans H matrices [K, E] over T tokens.
///   S~   = exp(g[t]) S[t-1]                                  (plain: g = 0, arXiv 2406.06484)
///   u    = beta[t] (v[t] - S~^T k[t]),   S[t] = S~ + k[t] u^T     (gated: arXiv 2412.06464)
///   y[t] = scale S[t]^T q[t]
/// q, k, v, g are query, key, value, log_decay. With updates::several a token decays once, makes R
/// micro-steps S~ <- S~ + k_r u_r^T in order, each from its own key, value and beta, and is read
/// after the last (DeltaProduct, arXiv 2502.10297). Queries, keys and values may have fewer heads, any
/// numbers that divide H: head h reads floor(h H' / H).
///
/// shapes    query [B, T, H', K]   key [B, T, H', K]   value [B, T, H', E]   beta [B, T, H]
///           with updates::several key [B, T, R, H', K], value [B, T, R, H', E], beta [B, T, R, H]
///           log_decay [B, T, H] with decay_axis::head   y [B, T, H, E]   state [B, H, K, E]
/// layout    last axes unit stride; B, T, R and head strides free
/// aliasing  y must not overlap anything
/// numerics  sums of K products by one fma a term, keys ascending; a decay errs by 2 u. With A =
///           a (I + |beta| |k| |k|^T) and b = |beta| |k| |v|, the state carries
///           S <- A S + b,   W <- A (W + (K + 5) S_before) + 3 b + S,
///           and y = scale sum_i |q_i| (W_i + (K + 3) S_i) bounds |err| / u, twice that outside the
///           FMA family, three times with exec::chunked, which solves the triangular system of a
///           chunk by forward substitution; chunk 0 is 32 micro-steps, none has more than 256. |k| =
///           1 and beta in [0, 2] keep the 2-norm of a step at 1 or below; others may grow. log_decay
///           of -inf empties a finite state. NaN and Inf of a value stay in its column, those of a
///           query in its token, all others in their head, later in time
/// cost      B*T*H*K*E multiply-adds three times, a product more where there are decays (R
///           micro-steps: 2 R + 1 times); one exp a decay and head; neither `step` nor, once it has
///           its scratch, `scan` allocates
/// effects   state holds S[T-1] on return
/// throws    shape_error before any write
template <class S, decay_axis Axis, updates Steps>
struct delta_rule {
  static_assert(std::floating_point<S>, "delta_rule mixes float or double");
  static_assert(Axis != decay_axis::key, "the delta rule decays whole heads, not their rows");

  index_t heads = 0;         // H
  index_t key_dim = 0;       // K, 1 or more
  index_t value_dim = 0;     // E, 1 or more
  std::optional<S> scale{};  // positive; K^-1/2 where there is none

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using state = scan::matrix_state<S>;
  using saved = scan::matrix_checkpoints<S>;
  /// Axes that the micro-steps of a token add.
  static constexpr int more = Steps == updates::several ? 1 : 0;

  /// One token of every sequence.
  struct token {
    view<const S, 3> query{};         // [B, H', K]
    view<const S, 3 + more> key{};    // [B, H', K] or [B, R, H', K]
    view<const S, 3 + more> value{};  // [B, H', E] or [B, R, H', E]
    view<const S, 2 + more> beta{};   // [B, H] or [B, R, H]
    view<const S, 2> log_decay{};     // [B, H]; empty with decay_axis::none
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 4> query{};         // [B, T, H', K]
    view<const S, 4 + more> key{};    // [B, T, H', K] or [B, T, R, H', K]
    view<const S, 4 + more> value{};  // [B, T, H', E] or [B, T, R, H', E]
    view<const S, 3 + more> beta{};   // [B, T, H] or [B, T, R, H]
    view<const S, 3> log_decay{};     // [B, T, H]; empty with decay_axis::none
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(query, t), time_at(key, t), time_at(value, t), time_at(beta, t),
              time_at(log_decay, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"delta_rule", "tokens::range"}, offsets);
      return {time_range(query, begin, end),
              time_range(key, begin, end),
              time_range(value, begin, end),
              time_range(beta, begin, end),
              Axis == decay_axis::none ? log_decay : time_range(log_decay, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"delta_rule", "tokens::sequence"}, offsets, b);
      tokens unpacked = *this;
      unpacked.offsets = {};
      return unpacked.range(begin, end);
    }
  };

  /// Gradients of tokens, of their shapes. One whose pointer is null is not wanted.
  struct gradients {
    view<S, 4> query{};         // [B, T, H', K]
    view<S, 4 + more> key{};    // [B, T, H', K] or [B, T, R, H', K]
    view<S, 4 + more> value{};  // [B, T, H', E] or [B, T, R, H', E]
    view<S, 3 + more> beta{};   // [B, T, H] or [B, T, R, H]
    view<S, 3> log_decay{};     // [B, T, H]
    bool accumulate = false;    // add to what is there
  };

  /// The empty state of `batch` sequences; the only call that allocates (the first scan with
  /// `exec::chunked` does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    heads::check_sizes({"delta_rule", "make_state"}, heads, key_dim, value_dim, scale);
    return state("delta_rule", batch, extents(), 0);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with exec::chunked std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"delta_rule", "scan"};
    scan::check_policy(who, policy);
    scan::run_heads(policy, checked(who, u, y, h), h);
  }

  /// Room for what `backward` needs beside the tokens of B sequences: the state every `every`
  /// tokens (0: 64; 256 at most), K / every times the memory of y.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t B, index_t T, index_t every = 0) const {
    const check::caller who{"delta_rule", "make_saved"};
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    check::count(who, "every", every);
    return saved(who, extents(), B, T, every == 0 ? default_every : every);
  }
  /// The same for packed sequences, as many as `offsets` less one, of `offsets.back()` tokens in all.
  /// throws    shape_error for offsets that are none, decrease or begin elsewhere than at 0, and for a
  ///           negative or absurd size; std::bad_alloc
  [[nodiscard]] saved make_saved(std::span<const index_t> offsets, index_t every = 0) const {
    const check::caller who{"delta_rule", "make_saved"};
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    check::count(who, "every", every);
    return saved(who, extents(), offsets, every == 0 ? default_every : every);
  }

  /// The same scan, same bytes, that fills `keep` on its way. With exec::chunked states lie a whole
  /// number of chunks apart.
  /// throws    shape_error before any write; std::bad_alloc where `keep` has to grow, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"delta_rule", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    heads::check_saved(who, y, keep);
    scan::run_heads(policy, source, h, keep);
  }

  /// The adjoint of `scan`: gradients of the tokens from dy, that of y. `dstate` enters as the
  /// gradient of the final state and leaves as that of the initial one: gradient/delta_rule.hpp.
  /// throws    shape_error before any write; std::bad_alloc for scratch, also before
  template <scan::policy Policy, class Adjoint = gradient::delta_rule<delta_rule>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate) const {
    static_assert(
        complete<Adjoint>,
        "delta_rule::backward is defined in <maslin/gradient/delta_rule.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const tokens one{with_time(u.query), with_time(u.key),       with_time(u.value),
                     with_time(u.beta),  with_time(u.log_decay), {}};
    scan::run_heads_step(checked({"delta_rule", "step"}, one, with_time(y), h), h);
  }

 private:
  friend gradient::delta_rule<delta_rule>;
  using kernel = detail::delta_chunks<S, Axis>;

  static constexpr index_t default_every = 64;

  [[nodiscard]] typename state::shape extents() const noexcept {
    return {heads, key_dim, value_dim, false};
  }

  check::footprint check_decay(const check::caller& who, const view<const S, 3>& g, index_t B,
                               index_t T) const {
    if constexpr (Axis == decay_axis::head) {
      return check::layout<const S, 3>(who, "log_decay", "[B, T, H]", g, {B, T, heads}, 2);
    } else {
      if (g.data_handle() != nullptr)
        who.refuse("log_decay must be empty with decay_axis::none, got " +
                   check::list(g.extents()));
      return {};
    }
  }

  /// Micro-steps of a token: those of its keys.
  [[nodiscard]] static index_t steps_of(const check::caller& who, const tokens& u) {
    if constexpr (Steps == updates::one) return 1;
    const index_t R = u.key.extent(2);
    if (R < 1) who.refuse("key must have 1 micro-step or more, got " + std::to_string(R));
    return R;
  }

  scan::head_source<kernel> checked(const check::caller& who, const tokens& u, const output& y,
                                    const state& h) const {
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    const index_t B = y.extent(0), T = y.extent(1), H = heads, K = key_dim, E = value_dim;
    const index_t R = steps_of(who, u);
    const auto out = check::layout<S, 4>(who, "y", "[B, T, H, E]", y, {B, T, H, E}, 2);
    check::writable(who, "y", out);
    const heads::inputs in(who, out);
    in.add("query", heads::check_shared(who, "query", "[B, T, H', K]", u.query, B, T, H, K));
    if constexpr (Steps == updates::one) {
      in.add("key", heads::check_shared(who, "key", "[B, T, H', K]", u.key, B, T, H, K));
      in.add("value", heads::check_shared(who, "value", "[B, T, H', E]", u.value, B, T, H, E));
      in.add("beta", check::layout<const S, 3>(who, "beta", "[B, T, H]", u.beta, {B, T, H}, 2));
    } else {
      in.add("key", heads::check_shared(who, "key", "[B, T, R, H', K]", u.key, B, T, R, H, K));
      in.add("value",
             heads::check_shared(who, "value", "[B, T, R, H', E]", u.value, B, T, R, H, E));
      in.add("beta",
             check::layout<const S, 4>(who, "beta", "[B, T, R, H]", u.beta, {B, T, R, H}, 2));
    }
    in.add("log_decay", check_decay(who, u.log_decay, B, T));
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    const index_t sequences = u.offsets.empty() ? B : static_cast<index_t>(u.offsets.size()) - 1;
    scan::check_matrices(who, h, sequences, extents());
    in.add("state", h.memory());
    return {.first = kernel_of(u, y, R), .batch = B, .length = T, .offsets = u.offsets};
  }

  [[nodiscard]] kernel kernel_of(const tokens& u, const output& y, index_t R) const noexcept {
    kernel k;
    k.query = heads::shared_rows(u.query, heads);
    k.key = heads::shared_rows(u.key, heads);
    k.value = heads::shared_rows(u.value, heads);
    k.beta = heads::rows_of(u.beta, 2 + more);
    k.decay = heads::rows_of(u.log_decay, 2);
    k.out = heads::rows_of(y, 2);
    k.steps = R;
    k.key_step = more == 0 ? 0 : u.key.stride(2);
    k.value_step = more == 0 ? 0 : u.value.stride(2);
    k.beta_step = more == 0 ? 0 : u.beta.stride(2);
    k.K = key_dim;
    k.E = value_dim;
    k.scale = heads::scale_of(scale, key_dim);
    return k;
  }
};

}  // namespace maslin::inline MASLIN_ABI
