// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The generalised mixer of arXiv 2605.31367 with coefficients from queries and keys, and ChaCAL.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/rows.hpp>
#include <maslin/recurrence/weigh.hpp>

#include <concepts>

namespace maslin::inline MASLIN_ABI {

/// Each token mixes its input with the outputs of the earlier tokens that a pattern names, weighted
/// by how its query meets their keys.
///   z[t,p] = scale <query[t], key[p]> + bias[h, level of p],  z[t,t] = scale <query[t], key[t]> +
///   self_bias[h],  c = weigh(z[t,t], z[t,p] for p in R_t)
///   y[t] = c_t input[t] + sum_{p in R_t} c_p y[p]                  direct::self
///   y[t] = c_t w[t] + sum_{p in R_t} c_p w[p],  w = (1 - g) input + g y,  g = feedback
///                                                                   direct::rows
/// (arXiv 2605.31367, Y = AX + BY; the scores are ours.) direct::self has a diagonal A.
/// direct::rows reads inputs and outputs of the same positions, A = (1 - g) F^-1 P and
/// B = g F^-1 tril(P, -1) with P = c and F = Diag(1 - g P_tt): with pattern::dense and softmax it is
/// ChaCAL (arXiv 2410.05565), at g = 0 causal softmax attention over the pattern.
///
/// shapes    query, key [B, T, H, K]   input, y [B, T, H, E]   bias [H, L], L at least the levels of
///           the last token, or empty   self_bias [H], or empty   state: the rows and keys that later
///           tokens read
/// layout    last axes unit stride, B, T and H strides free
/// aliasing  y may be input; y must not overlap query, key, bias or self_bias
/// numerics  scores: 16 chains of fma over K, added by halves; sums: one fma a term, by ascending
///           position; the same bytes in every policy. Softmax coefficients sum to 1 within
///           (|R_t| + 8) u and keep max|y| <= max|input| up to rounding (0 <= g < 1 for
///           direct::rows). NaN and Inf stay in their head and pass along the pattern only
/// cost      B*H*(E + K)*sum_t(|R_t| + 1) multiply-adds and |R_t| + 1 exp; `step` does not allocate,
///           nor does `scan` on one thread
/// effects   state holds the rows and keys that later tokens may read
/// throws    shape_error before any write
template <class S, class Pattern, weights W, direct A>
struct generalized_scores {
  static_assert(std::floating_point<S>, "generalized_scores mixes float or double");
  static_assert(pattern::any_pattern<Pattern>,
                "generalized_scores needs a pattern of maslin::pattern");

  index_t heads = 1;
  index_t key_dim = 0, value_dim = 0;
  S scale = 1;
  Pattern pattern{};
  view<const S, 2> bias{};       // [H, L]
  view<const S, 1> self_bias{};  // [H]
  S feedback = 1;                ///< g, of direct::rows alone

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using state = scan::row_state<S, pattern::history<Pattern>>;

  /// One token of every sequence.
  struct token {
    view<const S, 3> query{};  // [B, H, K]
    view<const S, 3> key{};    // [B, H, K]
    view<const S, 3> input{};  // [B, H, E]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 4> query{};  // [B, T, H, K]
    view<const S, 4> key{};    // [B, T, H, K]
    view<const S, 4> input{};  // [B, T, H, E]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(query, t), time_at(key, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"generalized_scores", "tokens::range"}, offsets);
      return {time_range(query, begin, end),
              time_range(key, begin, end),
              time_range(input, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] =
          scan::packed_range({"generalized_scores", "tokens::sequence"}, offsets, b);
      return tokens{.query = query, .key = key, .input = input}.range(begin, end);
    }
  };

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 4>, state>;
  /// Gradients of `tokens` and of the biases. One whose pointer is null is not computed.
  struct gradients {
    view<S, 4> query{};       // [B, T, H, K]
    view<S, 4> key{};         // [B, T, H, K]
    view<S, 4> input{};       // [B, T, H, E]
    view<S, 2> bias{};        // [H, L], summed over tokens and sequences
    view<S, 1> self_bias{};   // [H], likewise
    bool accumulate = false;  ///< adds to what is there
  };

  /// The empty state of `batch` sequences of at most `capacity` tokens; see generalized::make_state.
  /// throws    shape_error for a negative or absurd size or what is no pattern, std::bad_alloc
  [[nodiscard]] state make_state(index_t batch, index_t capacity) const {
    const check::caller who{"generalized_scores", "make_state"};
    return rows::make_state<state>(who, batch, row_width(who), pattern, capacity);
  }
  /// The same with room for `default_capacity` tokens.
  template <class Policy = exec::sequential>
    requires(!std::convertible_to<Policy, index_t>)
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    return make_state(batch, default_capacity);
  }

  /// Prefill: reads T tokens, writes T outputs, continues from `h` and leaves it at the end. Any T,
  /// zero included; the mixer may be shared between threads, a state belongs to one call at a time.
  /// throws    shape_error before any write; with several threads std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h) const {
    const check::caller who{"generalized_scores", "scan"};
    scan::check_policy(who, policy);
    scan::run_rows(policy, checked(who, u, y, h), h);
  }

  /// Room for what `backward` needs of `batch` sequences in a state of capacity `T`; one of another
  /// capacity is copied anew by the first scan.
  /// throws    as `make_state`
  [[nodiscard]] saved make_saved(index_t batch, index_t T = default_capacity,
                                 index_t /*every*/ = 0) const {
    return {.y = {}, .initial = make_state(batch, T)};
  }
  /// The same scan, which also fills `keep`: y must stay as it is until `backward`, and must not be
  /// input.
  /// throws    as `scan`; std::bad_alloc, also before any write
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"generalized_scores", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    scan::expect_apart(who, "y", u.input, y);
    keep.initial = h;
    keep.y = y;
    scan::run_rows(policy, source, h);
  }

  /// The gradients of a loss from dy, its gradient with respect to y; see
  /// <maslin/gradient/generalized_scores.hpp>, which defines it.
  template <scan::policy Policy, class Adjoint = gradient::generalized_scores<generalized_scores>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate) const {
    static_assert(complete<Adjoint>,
                  "generalized_scores::backward is defined in "
                  "<maslin/gradient/generalized_scores.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const tokens one{with_time(u.query), with_time(u.key), with_time(u.input), {}};
    scan::run_rows_step(checked({"generalized_scores", "step"}, one, with_time(y), h), h);
  }

 private:
  friend gradient::generalized_scores<generalized_scores>;

  struct kernel {
    static constexpr bool solves = false, lists = true;

    const S* query;
    const S* key;
    const S* bias;       // may be null
    const S* self_bias;  // may be null
    rows::values<S> values;
    index_t query_batch, query_time, query_head, key_batch, key_time, key_head;
    index_t bias_head, self_bias_head, K, keys_at;  // a row is [H, E], then keys [H, K]
    S scale, feedback;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.query += b * query_batch + t * query_time;
      k.key += b * key_batch + t * key_time;
      k.values = values.shifted(b, t);
      return k;
    }

    template <class V>
    void token(index_t t, S* row, std::span<const scan::row_read> reads, index_t newest,
               scan::column_range columns, S* c) const noexcept {
      const auto n = static_cast<index_t>(reads.size());
      columns.for_each_head([&](index_t h, index_t e, index_t count) {
        const S* q = query + t * query_time + h * query_head;
        const S* own = key + t * key_time + h * key_head;
        S* kept = row + keys_at + h * K;
        const S* offset = bias == nullptr ? nullptr : bias + h * bias_head;
        recurrence::dot_rows<V>(
            q, K, n + 1,
            [&](index_t i) {
              return i == 0 ? own : kept + reads[static_cast<std::size_t>(i - 1)].offset;
            },
            c);
        c[0] =
            lane<S>::fma(c[0], scale, self_bias == nullptr ? S(0) : self_bias[h * self_bias_head]);
        for (index_t i = 0; i < n; ++i) {
          const index_t level = reads[static_cast<std::size_t>(i)].level;
          c[i + 1] = lane<S>::fma(c[i + 1], scale, offset == nullptr ? S(0) : offset[level]);
        }
        std::copy_n(own, K, kept + newest);
        recurrence::weigh_row<W, V>(c, n + 1);
        mix<V>(t, h, e, count, row, reads, newest, c);
      });
    }

   private:
    /// One head of a token from its coefficients: c[0] its own, then those of `reads`.
    template <class V>
    void mix(index_t t, index_t h, index_t e, index_t count, S* row,
             std::span<const scan::row_read> reads, index_t newest, S* c) const noexcept {
      const auto others = rows::weighted(reads, [=](index_t i) { return c[i + 1]; });
      if constexpr (A == direct::self) {
        values.template mix<V>(t, h, e, count, row, newest, c[0], others, rows::keep_output{});
      } else {
        // y = ((1 - g) c_t x + sum c_p w_p) / (1 - g c_t)
        const S g = feedback, rest = 1 - g, inverse = 1 / lane<S>::fma(-g, c[0], S(1));
        const S alpha = rest * c[0] * inverse;
        for (std::size_t i = 1; i <= reads.size(); ++i) c[i] = c[i] * inverse;
        values.template mix<V>(t, h, e, count, row, newest, alpha, others, [=](V x, V y) {
          using L = lane<V>;
          return L::fma(L::broadcast(g), y, L::broadcast(rest) * x);
        });
      }
    }
  };

  [[nodiscard]] index_t row_width(const check::caller& who) const {
    check::count(who, "heads", heads);
    check::count(who, "key_dim", key_dim);
    check::count(who, "value_dim", value_dim);
    index_t per_head = 0;
    if (__builtin_add_overflow(key_dim, value_dim, &per_head))
      who.refuse("key_dim + value_dim must fit, got " +
                 check::list(std::array{key_dim, value_dim}));
    return rows::width(who, {heads, per_head});
  }

  [[nodiscard]] scan::row_source<kernel> checked(const check::caller& who, const tokens& u,
                                                 const output& y, const state& h) const {
    const index_t width = row_width(who);
    const index_t B = u.input.extent(0), T = u.input.extent(1), H = heads, K = key_dim;
    const index_t needed = rows::check_state(who, pattern, h, u.offsets, {B, T}, width);
    const auto query =
        check::layout<const S, 4>(who, "query", "[B, T, H, K]", u.query, {B, T, H, K}, 2);
    const auto key = check::layout<const S, 4>(who, "key", "[B, T, H, K]", u.key, {B, T, H, K}, 2);
    check::footprint biases, self_biases;
    if (bias.data_handle() != nullptr) {
      if (bias.extent(1) < needed)
        who.refuse("bias must be [H, L] with L of at least " + std::to_string(needed) + ", got " +
                   check::list(bias.extents()));
      biases = check::layout<const S, 2>(who, "bias", "[H, L]", bias, {H, bias.extent(1)}, 1);
    }
    if (self_bias.data_handle() != nullptr)
      self_biases = check::layout<const S, 1>(who, "self_bias", "[H]", self_bias, {H}, 0);
    const auto values = rows::check_values(
        who, u.input, y, {B, T, H, value_dim}, h,
        std::array{std::pair{"query", query}, std::pair{"key", key}, std::pair{"bias", biases},
                   std::pair{"self_bias", self_biases}});
    return {.first = {.query = u.query.data_handle(),
                      .key = u.key.data_handle(),
                      .bias = bias.data_handle(),
                      .self_bias = self_bias.data_handle(),
                      .values = values,
                      .query_batch = u.query.stride(0),
                      .query_time = u.query.stride(1),
                      .query_head = u.query.stride(2),
                      .key_batch = u.key.stride(0),
                      .key_time = u.key.stride(1),
                      .key_head = u.key.stride(2),
                      .bias_head = bias.stride(0),
                      .self_bias_head = self_bias.stride(0),
                      .K = K,
                      .keys_at = H * value_dim,
                      .scale = scale,
                      .feedback = feedback},
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .columns = H * value_dim,
            .head = value_dim,
            .unit = value_dim};
  }
};

/// ChaCAL: chained causal attention (arXiv 2410.05565), (1 - g) P (I - g P)^-1 V with P the causal
/// softmax of scale <query, key>. g = `feedback`, 0 <= g < 1; rows of the operator sum to 1.
template <class S>
using chacal = generalized_scores<S, pattern::dense, weights::softmax, direct::rows>;

}  // namespace maslin::inline MASLIN_ABI
