// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The generalised mixer Y = (I - B)^-1 A X of arXiv 2605.31367, its coefficients given or made of
/// gate logits.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/rows.hpp>
#include <maslin/recurrence/weigh.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>

namespace maslin::inline MASLIN_ABI {

/// Each token mixes its input with the outputs of the earlier tokens that a pattern names.
///   y[t] = alpha_t input[t] + sum_{p in R_t} beta_{t,p} y[p],  R_t from `pattern`
///   (alpha, beta) = weigh(self[t], past[t])                     (arXiv 2605.31367, Y = AX + BY)
/// The paper's A is diagonal here, alpha; its B has beta in row t, column p. Slot k of `past` belongs
/// to level k of the pattern, distance f(k); where several levels read one position only the lowest
/// one's slot is read. For pattern::dense slot p belongs to position p.
///
/// shapes    self [B, T, H]   past [B, T, H, S], S at least the levels of the last token (dense: its
///           position)   input, y [B, T, H, E]   state: the rows that later tokens read
/// layout    last axes unit stride, B, T and H strides free
/// aliasing  y may be input; y must not overlap self or past
/// numerics  one fma a term: alpha_t x_t, then R_t by ascending position; the same bytes in every
///           policy. |A x - (I - B) y|_t <= (n_t + 2) u (|A||x| + |I - B||y|)_t for n_t terms. If
///           |alpha| + sum |beta| <= 1 then max|y| <= max|input|; above 1 y may grow without bound
///           and is not limited (see `largest_row_norm`). NaN and Inf stay in their channel (those
///           of self and past in their head) and pass along the pattern only
/// cost      B*H*E*sum_t(|R_t| + 1) multiply-adds; |R_t| + 1 exp a head with softmax; `step` does not
///           allocate, nor does `scan` on one thread
/// effects   state holds the rows that later tokens may read
/// throws    shape_error before any write
template <class S, class Pattern, weights W>
struct generalized {
  static_assert(std::floating_point<S>, "generalized mixes float or double");
  static_assert(pattern::any_pattern<Pattern>, "generalized needs a pattern of maslin::pattern");

  index_t heads = 1;
  index_t value_dim = 0;
  Pattern pattern{};

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using state = scan::row_state<S, pattern::history<Pattern>>;

  /// One token of every sequence.
  struct token {
    view<const S, 2> self{};   // [B, H]
    view<const S, 3> past{};   // [B, H, S]
    view<const S, 3> input{};  // [B, H, E]
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 3> self{};   // [B, T, H]
    view<const S, 4> past{};   // [B, T, H, S]
    view<const S, 4> input{};  // [B, T, H, E]
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(self, t), time_at(past, t), time_at(input, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"generalized", "tokens::range"}, offsets);
      return {time_range(self, begin, end),
              time_range(past, begin, end),
              time_range(input, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"generalized", "tokens::sequence"}, offsets, b);
      return tokens{.self = self, .past = past, .input = input}.range(begin, end);
    }
  };

  /// y of the scan and the state before it.
  using saved = scan::saved_outputs<view<const S, 4>, state>;
  /// Gradients of `tokens`. One whose pointer is null is not computed.
  struct gradients {
    view<S, 3> self{};        // [B, T, H]
    view<S, 4> past{};        // [B, T, H, S]; slots that are not read get 0
    view<S, 4> input{};       // [B, T, H, E]
    bool accumulate = false;  ///< adds to what is there
  };

  /// The empty state of `batch` sequences of at most `capacity` tokens; the only call that allocates
  /// (with more than one thread the first scan does too). It has room for the rows that the pattern
  /// reads again: O(log capacity) for cached 2^k, O(sqrt capacity) for cached k^2 + 1, `count` for
  /// order(count), and up to the largest distance below `capacity` for other plain patterns.
  /// throws    shape_error for a negative or absurd size or what is no pattern, std::bad_alloc
  [[nodiscard]] state make_state(index_t batch, index_t capacity) const {
    const check::caller who{"generalized", "make_state"};
    check::count(who, "heads", heads);
    check::count(who, "value_dim", value_dim);
    return rows::make_state<state>(who, batch, rows::width(who, {heads, value_dim}), pattern,
                                   capacity);
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
    const check::caller who{"generalized", "scan"};
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
    const check::caller who{"generalized", "scan"};
    scan::check_policy(who, policy);
    const auto source = checked(who, u, y, h);
    scan::expect_apart(who, "y", u.input, y);
    keep.initial = h;
    keep.y = y;
    scan::run_rows(policy, source, h);
  }

  /// The gradients of a loss from dy, its gradient with respect to y; see
  /// <maslin/gradient/generalized.hpp>, which defines it.
  template <scan::policy Policy, class Adjoint = gradient::generalized<generalized>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate) const {
    static_assert(
        complete<Adjoint>,
        "generalized::backward is defined in <maslin/gradient/generalized.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h) const {
    const tokens one{with_time(u.self), with_time(u.past), with_time(u.input), {}};
    scan::run_rows_step(checked({"generalized", "step"}, one, with_time(y), h), h);
  }

  /// The largest |self| + sum over R_t of |past| of any token and head: outputs may grow without
  /// bound where it is above 1, and are bounded by the inputs where it is not. NaN if one is NaN.
  /// shapes    of `tokens`, whose first token has position `first` in its sequence
  /// throws    shape_error
  [[nodiscard]] S largest_row_norm(const tokens& u, index_t first = 0) const
      requires(W == weights::given) {
    const check::caller who{"generalized", "largest_row_norm"};
    check::count(who, "first", first);
    const index_t B = u.self.extent(0), T = u.self.extent(1);
    check::layout<const S, 3>(who, "self", "[B, T, H]", u.self, {B, T, heads}, 2);
    rows::check_past(who, u.past, {B, T, heads}, rows::slots(pattern, first + T));
    S largest = 0;
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t h = 0; h < heads; ++h) {
          S norm = std::abs(u.self(b, t, h));
          pattern::for_each_read(pattern, first + t, [&](index_t p, index_t level) {
            norm += std::abs(u.past(b, t, h, rows::is_dense<Pattern> ? p : level));
          });
          if (std::isnan(norm)) return norm;
          largest = std::max(largest, norm);
        }
    return largest;
  }

 private:
  struct kernel {
    static constexpr bool solves = !pattern::is_cached<Pattern> && W == weights::given;
    static constexpr bool lists =
        W != weights::given || !pattern::needs_no_list<pattern::history<Pattern>>;

    const S* self;
    const S* past;
    rows::values<S> values;
    index_t self_batch, self_time, self_head, past_batch, past_time, past_head;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.self += b * self_batch + t * self_time;
      k.past += b * past_batch + t * past_time;
      k.values = values.shifted(b, t);
      return k;
    }

    template <class V, class History>
    void token(index_t t, S* row, const History& history, index_t stride,
               scan::column_range columns) const noexcept {
      columns.for_each_head([&](index_t h, index_t e, index_t count) {
        const S* slot = past + t * past_time + h * past_head;
        const auto reads = [&](const auto& add) {
          history.for_each_read([&](index_t entry, index_t k) { add(entry * stride, slot[k]); });
        };
        values.template mix<V>(t, h, e, count, row, history.newest() * stride,
                               self[t * self_time + h * self_head], reads, rows::keep_output{});
      });
    }

    template <class V>
    void token(index_t t, S* row, std::span<const scan::row_read> reads, index_t newest,
               scan::column_range columns, S* z) const noexcept {
      const scan::row_read* read = reads.data();
      const auto count_of_reads = static_cast<index_t>(reads.size());
      columns.for_each_head([&](index_t h, index_t e, index_t count) {
        const S* slot = past + t * past_time + h * past_head;
        const S own = self[t * self_time + h * self_head];
        const auto mix = [&](S alpha, const auto& weight) {
          values.template mix<V>(t, h, e, count, row, newest, alpha, rows::weighted(reads, weight),
                                 rows::keep_output{});
        };
        // Reads of a dense pattern are the positions 0, 1, ..., and so are its slots.
        const auto logit = [=](index_t i) {
          return slot[rows::is_dense<Pattern> ? i : read[i].level];
        };
        if constexpr (W == weights::given) {
          mix(own, logit);
        } else {
          z[0] = own;
          for (index_t i = 0; i < count_of_reads; ++i) z[i + 1] = logit(i);
          recurrence::weigh_row<W, V>(z, count_of_reads + 1);
          mix(z[0], [=](index_t i) { return z[i + 1]; });
        }
      });
    }

    template <class V>
    void solve(index_t length, const pattern::ring& history, index_t* offsets, S* row,
               index_t stride, scan::column_range columns) const noexcept {
      columns.for_each_head([&](index_t h, index_t e, index_t count) {
        const scan::row_system<S> system{.self = self + h * self_head,
                                         .past = past + h * past_head,
                                         .input = values.input + h * values.input_head,
                                         .y = values.out + h * values.out_head,
                                         .rows = row + h * values.E,
                                         .self_time = self_time,
                                         .past_time = past_time,
                                         .input_time = values.input_time,
                                         .y_time = values.out_time,
                                         .row_stride = stride,
                                         .entries = history.entries(),
                                         .first = history.time()};
        if constexpr (rows::is_dense<Pattern>)
          scan::solve_dense<V>(system, length, e, count);
        else
          scan::solve_ring<V>(system, history.levels(), offsets, length, e, count);
      });
    }
  };

  [[nodiscard]] scan::row_source<kernel> checked(const check::caller& who, const tokens& u,
                                                 const output& y, const state& h) const {
    check::count(who, "heads", heads);
    check::count(who, "value_dim", value_dim);
    const index_t B = u.input.extent(0), T = u.input.extent(1), H = heads, E = value_dim;
    const index_t needed =
        rows::check_state(who, pattern, h, u.offsets, {B, T}, rows::width(who, {H, E}));
    const auto self = check::layout<const S, 3>(who, "self", "[B, T, H]", u.self, {B, T, H}, 2);
    const auto past = rows::check_past(who, u.past, {B, T, H}, needed);
    const auto values =
        rows::check_values(who, u.input, y, {B, T, H, E}, h,
                           std::array{std::pair{"self", self}, std::pair{"past", past}});
    return {.first = {.self = u.self.data_handle(),
                      .past = u.past.data_handle(),
                      .values = values,
                      .self_batch = u.self.stride(0),
                      .self_time = u.self.stride(1),
                      .self_head = u.self.stride(2),
                      .past_batch = u.past.stride(0),
                      .past_time = u.past.stride(1),
                      .past_head = u.past.stride(2)},
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .columns = H * E,
            .head = E,
            .unit = W == weights::given ? scan::state_lanes : E};
  }
};

}  // namespace maslin::inline MASLIN_ABI
