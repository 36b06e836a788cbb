// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Linear attention: a matrix for each head that gathers keys times values and is read by queries.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/head_checks.hpp>
#include <maslin/mixer/linear_chunks.hpp>
#include <maslin/scan/matrix_checkpoints.hpp>

#include <concepts>
#include <optional>
#include <span>
#include <type_traits>

namespace maslin::inline MASLIN_ABI {

/// Scans H matrices [K, E] over T tokens.
///   S[t] = Diag(exp g[t]) S[t-1] + phi(k[t]) v[t]^T        (plain: arXiv 2006.16236, no decay)
///   y[t] = scale S[t]^T phi(q[t])                          (gated: GLA, arXiv 2312.06635)
/// and with `normalised`
///   z[t] = exp g[t] z[t-1] + phi(k[t]),   y[t] <- y[t] / (scale <phi(q[t]), z[t]> + 1e-10)
/// q, k, v, g are query, key, value, log_decay. `Axis` says what a decay belongs to: nothing, a head
/// (RetNet; Mamba-2's SSD is scale 1, query, key, value = C, B, X and the state transposed, arXiv
/// 2405.21060) or each key row of a head (GLA). phi is the identity or elu + 1 (`Map`). Queries, keys
/// and values may have fewer heads, any numbers that divide H: head h reads floor(h H' / H).
///
/// shapes    query, key [B, T, H', K]   value [B, T, H', E]   log_decay [B, T, H] or [B, T, H, K]
///           y [B, T, H, E]   state [B, H, K, E], and [B, H, K] where normalised
/// layout    last axes unit stride; B, T and head strides free
/// aliasing  y must not overlap anything
/// numerics  a sum of K products by one fma a term, keys ascending; a decay errs by 2 u. With
///           S <- a S + |k v|,   W <- a (W + 2 S_before) + |k v| + S   in the state,
///           y = scale sum_i |q_i| (W_i + (K + 3) S_i) bounds |err| / u, twice that outside the FMA
///           family, three times with exec::chunked; features of elu + 1 add 2 u each, a normaliser
///           the error of its quotient. Decays of a chunk are products of the tokens' own, never
///           quotients; chunk 0 is 32 tokens, none has more than 256. log_decay of -inf empties a
///           finite state, one above 0 is legal and may overflow. NaN and Inf of a value stay in its
///           column, those of a query in its token, all others in their head, later in time
/// cost      B*T*H*K*E multiply-adds twice, and as many products where there are decays; an exp a
///           decay; neither `step` nor, once it has its scratch, `scan` allocates
/// effects   state holds S[T-1] on return
/// throws    shape_error before any write
template <class S, decay_axis Axis, feature Map>
struct linear_attention {
  static_assert(std::floating_point<S>, "linear_attention mixes float or double");

  index_t heads = 0;         // H
  index_t key_dim = 0;       // K, 1 or more
  index_t value_dim = 0;     // E, 1 or more
  std::optional<S> scale{};  // positive; K^-1/2 where there is none
  bool normalised = false;

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using state = scan::matrix_state<S>;
  using saved = scan::matrix_checkpoints<S>;
  static constexpr int decay_rank = Axis == decay_axis::key ? 4 : 3;

  /// One token of every sequence.
  struct token {
    view<const S, 3> query{};                   // [B, H', K]
    view<const S, 3> key{};                     // [B, H', K]
    view<const S, 3> value{};                   // [B, H', E]
    view<const S, decay_rank - 1> log_decay{};  // [B, H] or [B, H, K]; empty with decay_axis::none
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 4> query{};               // [B, T, H', K]
    view<const S, 4> key{};                 // [B, T, H', K]
    view<const S, 4> value{};               // [B, T, H', E]
    view<const S, decay_rank> log_decay{};  // [B, T, H] or [B, T, H, K]; empty likewise
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(query, t), time_at(key, t), time_at(value, t), time_at(log_decay, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"linear_attention", "tokens::range"}, offsets);
      return {time_range(query, begin, end),
              time_range(key, begin, end),
              time_range(value, begin, end),
              Axis == decay_axis::none ? log_decay : time_range(log_decay, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] =
          scan::packed_range({"linear_attention", "tokens::sequence"}, offsets, b);
      tokens unpacked = *this;
      unpacked.offsets = {};
      return unpacked.range(begin, end);
    }
  };

  /// Gradients of tokens, of their shapes. One whose pointer is null is not wanted.
  struct gradients {
    view<S, 4> query{};               // [B, T, H', K]
    view<S, 4> key{};                 // [B, T, H', K]
    view<S, 4> value{};               // [B, T, H', E]
    view<S, decay_rank> log_decay{};  // [B, T, H] or [B, T, H, K]
    bool accumulate = false;          // add to what is there
  };

  /// The empty state of `batch` sequences; the only call that allocates (the first scan with several
  /// threads, or with `exec::chunked`, does too).
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  template <class Policy = exec::sequential>
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    heads::check_sizes({"linear_attention", "make_state"}, heads, key_dim, value_dim, scale);
    return state("linear_attention", batch, extents(), kernel::made_rows * kernel::block);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; std::bad_alloc for scratch, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"linear_attention", "scan"};
    scan::check_policy(who, policy);
    scan::run_heads(policy, checked(who, u, y, h), h);
  }

  /// Room for what `backward` needs beside the tokens of B sequences: the state every `every`
  /// tokens (0: 64; 256 at most), K / every times the memory of y.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] saved make_saved(index_t B, index_t T, index_t every = 0) const {
    const check::caller who{"linear_attention", "make_saved"};
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    check::count(who, "every", every);
    return saved(who, extents(), B, T, every == 0 ? default_every : every);
  }
  /// The same for packed sequences, as many as `offsets` less one, of `offsets.back()` tokens in all.
  /// throws    shape_error for offsets that are none, decrease or begin elsewhere than at 0, and for a
  ///           negative or absurd size; std::bad_alloc
  [[nodiscard]] saved make_saved(std::span<const index_t> offsets, index_t every = 0) const {
    const check::caller who{"linear_attention", "make_saved"};
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    check::count(who, "every", every);
    return saved(who, extents(), offsets, every == 0 ? default_every : every);
  }

  /// The same scan, same bytes, that fills `keep` on its way. With exec::chunked states lie a whole
  /// number of chunks apart.
  /// throws    shape_error before any write; std::bad_alloc where `keep` has to grow, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"linear_attention", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    heads::check_saved(who, y, keep);
    scan::run_heads(policy, source, h, keep);
  }

  /// The adjoint of `scan`: gradients of the tokens from dy, that of y. `dstate` enters as the
  /// gradient of the final state and leaves as that of the initial one: gradient/linear_attention.hpp.
  /// throws    shape_error before any write; std::bad_alloc for scratch, also before
  template <scan::policy Policy, class Adjoint = gradient::linear_attention<linear_attention>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate) const {
    static_assert(
        complete<Adjoint>,
        "linear_attention::backward is defined in <maslin/gradient/linear_attention.hpp>: "
        "include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const tokens one{
        with_time(u.query), with_time(u.key), with_time(u.value), with_time(u.log_decay), {}};
    scan::run_heads_step(checked({"linear_attention", "step"}, one, with_time(y), h), h);
  }

 private:
  friend gradient::linear_attention<linear_attention>;
  using kernel = detail::linear_chunks<S, Axis, Map>;

  static constexpr index_t default_every = 64;

  [[nodiscard]] typename state::shape extents() const noexcept {
    return {heads, key_dim, value_dim, normalised};
  }

  /// The footprint of the decays, which must be there exactly where they have an axis.
  check::footprint check_decay(const check::caller& who, const view<const S, decay_rank>& g,
                               index_t B, index_t T) const {
    if constexpr (Axis == decay_axis::none) {
      if (g.data_handle() != nullptr)
        who.refuse("log_decay must be empty with decay_axis::none, got " +
                   check::list(g.extents()));
      return {};
    } else if constexpr (Axis == decay_axis::head) {
      return check::layout<const S, 3>(who, "log_decay", "[B, T, H]", g, {B, T, heads}, 2);
    } else {
      return check::layout<const S, 4>(who, "log_decay", "[B, T, H, K]", g, {B, T, heads, key_dim},
                                       2);
    }
  }

  scan::head_source<kernel> checked(const check::caller& who, const tokens& u, const output& y,
                                    const state& h) const {
    heads::check_sizes(who, heads, key_dim, value_dim, scale);
    const index_t B = y.extent(0), T = y.extent(1), H = heads, K = key_dim, E = value_dim;
    const auto out = check::layout<S, 4>(who, "y", "[B, T, H, E]", y, {B, T, H, E}, 2);
    check::writable(who, "y", out);
    const heads::inputs in(who, out);
    in.add("query", heads::check_shared(who, "query", "[B, T, H', K]", u.query, B, T, H, K));
    in.add("key", heads::check_shared(who, "key", "[B, T, H', K]", u.key, B, T, H, K));
    in.add("value", heads::check_shared(who, "value", "[B, T, H', E]", u.value, B, T, H, E));
    in.add("log_decay", check_decay(who, u.log_decay, B, T));
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    const index_t sequences = u.offsets.empty() ? B : static_cast<index_t>(u.offsets.size()) - 1;
    scan::check_matrices(who, h, sequences, extents());
    in.add("state", h.memory());
    kernel first;
    first.query = heads::shared_rows(u.query, H);
    first.key = heads::shared_rows(u.key, H);
    first.value = heads::shared_rows(u.value, H);
    first.decay = heads::rows_of(u.log_decay, 2);
    first.out = heads::rows_of(y, 2);
    first.K = K;
    first.E = E;
    first.scale = heads::scale_of(scale, K);
    first.normalised = normalised;
    return {.first = first, .batch = B, .length = T, .offsets = u.offsets};
  }
};

}  // namespace maslin::inline MASLIN_ABI
