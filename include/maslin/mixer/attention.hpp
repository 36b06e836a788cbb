// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Causal softmax attention over a key-value cache.

#include <maslin/core/concepts.hpp>
#include <maslin/fwd.hpp>
#include <maslin/mixer/attention_walk.hpp>

#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <string>
#include <utility>

namespace maslin::inline MASLIN_ABI {

/// Each token's query is met by the keys up to its own, and mixes their values.
///   s[t,j] = cap tanh(scale <query[t], key[j]> / cap) + slope (j - t) + mask[t,j]     j <= t
///   y[t]   = sum_j e^(s[t,j] - m) value[j] / l,   m = max_j s[t,j],  l = sum_j e^(s[t,j] - m)
///   lse[t] = m + log l                                     (arXiv 1805.02867, 2307.08691)
/// t and j count the tokens of a sequence from the first that its state has seen. Of H query heads h
/// reads key-value head floor(h H' / H). With a window w, j > t - w too. A sink logit of a head adds
/// e^sink to l and no value. Positions by rotation are applied to queries and keys beforehand
/// (mixer/position.hpp), slopes are those of ALiBi.
///
/// S is what arithmetic is in, C what keys and values are kept as: S itself, or bf16 or fp16 of
/// float. All outputs are those of the keys and values as kept.
///
/// shapes    query [B, T, H, K]   key [B, T, H', K]   value [B, T, H', E]   y [B, T, H, E]
///           mask [B, T, H or 1, N], N at least the keys of the last token; optional   lse [B, T, H]
///           slopes, sinks [H]; optional   state: every key and value, or those of the window
/// layout    last axes unit stride, B, T and head strides free
/// aliasing  y and lse must not overlap anything else
/// numerics  blocks of 64 keys fold in segments of 1024, both anchored at key 0; one fma chain a
///           score and an output of a block, sums in 16 lanes, own exp: the same bytes for every
///           split into calls, thread count, policy, place in the batch and register width.
///           |err| <= (n + 8) u sum_j P |v_j| + u (K + 2) scale max_j <|q|, |k_j|> 2 sum_j P |v_j|,
///           n blocks of keys; sums of one sign whose roundings all go one way lose up to 64 u
///           more. A row whose keys are all masked is 0 with an lse of -inf. A masked or
///           later key has no effect, be it or its value NaN. A logit that is NaN or +inf makes its
///           row NaN; a NaN in a value its column, for the rows that see it
/// cost      per query head and key K + E multiply-adds and one exp; K + E numbers of cache a key and
///           key-value head are read once for 24 queries. E above 256 takes the scores again for
///           each 256. No allocation, but for threads that share one query: scratch of the state
/// effects   state holds the keys and values on return
/// throws    shape_error before any write
template <class S, class C>
struct attention {
  static_assert(std::floating_point<S>, "attention mixes float or double");
  static_assert(std::same_as<C, S> || (std::same_as<S, float> && half_storage<C>),
                "attention keeps keys and values as S, or as bf16 or fp16 of float");

  index_t heads = 1;
  index_t key_heads = 0;  // H'; 0: heads
  index_t key_dim = 0, value_dim = 0;
  index_t window = 0;         // keys that a token sees, its own among them; 0: all
  S scale = 0;                // of the scores; 0: 1 / sqrt(K)
  S cap = 0;                  // soft cap of the logits; 0: none
  view<const S, 1> slopes{};  // [H]; empty: none
  view<const S, 1> sinks{};   // [H]; empty: none

  using scalar_type = S;
  using output = view<S, 4>;
  using output_token = view<S, 3>;
  using log_sums = view<S, 3>;
  using log_sums_token = view<S, 2>;
  using state = attention_state<S, C>;
  /// Tokens that a state without a window has room for where nothing asks for another number.
  static constexpr index_t usual_capacity = 4096;

  /// One token of every sequence.
  struct token {
    view<const S, 3> query{};  // [B, H, K]
    view<const S, 3> key{};    // [B, H', K]
    view<const S, 3> value{};  // [B, H', E]
    view<const S, 3> mask{};   // [B, H or 1, N]; empty: none
  };
  /// A span of tokens. With `offsets` (count + 1 positions) B is 1 and sequence b of the state owns
  /// tokens offsets[b] .. offsets[b + 1] - 1.
  struct tokens {
    view<const S, 4> query{};  // [B, T, H, K]
    view<const S, 4> key{};    // [B, T, H', K]
    view<const S, 4> value{};  // [B, T, H', E]
    view<const S, 4> mask{};   // [B, T, H or 1, N]; empty: none
    std::span<const index_t> offsets{};

    /// The token at t, which is not checked against T.
    [[nodiscard]] token operator[](index_t t) const noexcept {
      return {time_at(query, t), time_at(key, t), time_at(value, t), time_at(mask, t)};
    }
    /// Tokens begin .. end - 1, which are not checked against T.
    /// throws    shape_error for packed tokens, whose sequences end at different places
    [[nodiscard]] tokens range(index_t begin, index_t end) const {
      scan::expect_unpacked({"attention", "tokens::range"}, offsets);
      return {time_range(query, begin, end),
              time_range(key, begin, end),
              time_range(value, begin, end),
              mask.data_handle() == nullptr ? mask : time_range(mask, begin, end),
              {}};
    }
    /// Sequence b of packed tokens, unpacked: B is 1.
    /// throws    shape_error if there is no such sequence
    [[nodiscard]] tokens sequence(index_t b) const {
      const auto [begin, end] = scan::packed_range({"attention", "tokens::sequence"}, offsets, b);
      tokens unpacked = *this;
      unpacked.offsets = {};
      return unpacked.range(begin, end);
    }
  };

  /// What `backward` needs beside the tokens. `scan` fills it; by hand it is {.y = y, .lse = lse,
  /// .initial = before}, the last being the state before the scan, if that held any key.
  struct saved {
    view<const S, 4> y{};                           // [B, T, H, E], memory of the caller's
    view<const S, 3> lse{};                         // [B, T, H]; null: in `sums`
    state initial{"attention", attention_shape{}};  // the keys and values before the call
    aligned_vector<S> sums{};

    [[nodiscard]] index_t bytes() const noexcept {
      return initial.bytes() + static_cast<index_t>(sums.size() * sizeof(S));
    }
    [[nodiscard]] view<const S, 3> log_sum(index_t B, index_t T, index_t H) const {
      if (lse.data_handle() != nullptr || index_t(sums.size()) != B * T * H) return lse;
      return row_major(sums.data(), B, T, H);
    }
  };
  /// Where gradients go; those whose pointer is null are not wanted. Slopes have none.
  struct gradients {
    view<S, 4> query{};  // [B, T, H, K]
    view<S, 4> key{};    // [B, T, H', K]
    view<S, 4> value{};  // [B, T, H', E]
    view<S, 4> mask{};   // [B, T, H or 1, N], as the mask
    view<S, 1> sinks{};  // [H]
    bool accumulate = false;
  };

  /// The empty state of `batch` sequences of at most `capacity` tokens, all of which it keeps.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  [[nodiscard]] state make_state(index_t batch, index_t capacity) const {
    return make({"attention", "make_state"}, batch, 0, capacity);
  }
  /// The same for `usual_capacity` tokens or, with a window, a ring that keeps the window of any
  /// number of tokens.
  template <class Policy = exec::sequential>
    requires(!std::convertible_to<Policy, index_t>)
  [[nodiscard]] state make_state(index_t batch = 1, const Policy& = {}) const {
    constexpr index_t endless = std::numeric_limits<index_t>::max() / 4;
    return make({"attention", "make_state"}, batch, window, window > 0 ? endless : usual_capacity);
  }
  /// Makes room for `capacity` tokens of each sequence; the one call that lets a state grow.
  /// throws    shape_error for an absurd size, std::bad_alloc; the state is unchanged then
  void reserve(state& h, index_t capacity) const { h.reserve(capacity); }

  /// Prefill: reads T tokens, writes T outputs (and log-sum-exps), continues from `h` and leaves it
  /// at the end. Any T, zero included; the mixer may be shared between threads, a state belongs to
  /// one call at a time. Every policy gives the same bytes: exec::chunked walks as exec::sequential.
  /// throws    shape_error before any write; with more threads than heads std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, log_sums lse = {}) const {
    const check::caller who{"attention", "scan"};
    scan::check_policy(who, policy);
    run(policy, checked(who, u, y, lse, h));
  }

  /// What a scan of T tokens leaves for `backward`: log-sum-exps, and a copy of the keys and values that
  /// the state held before; `every` is for other mixers. Memory is taken by the first scan.
  [[nodiscard]] saved make_saved(index_t batch, index_t length, index_t every = 0) const {
    const check::caller who{"attention", "make_saved"};
    for (const auto& [name, n] : {std::pair{"batch", batch}, {"length", length}, {"every", every}})
      check::count(who, name, n);
    return {};
  }
  /// The scan that fills `keep`, which refers to y: it must stay as it is until `backward`.
  /// throws    shape_error before any write, std::bad_alloc, also before
  template <scan::policy Policy>
  void scan(const Policy& policy, const tokens& u, output y, state& h, saved& keep) const {
    const check::caller who{"attention", "scan"};
    scan::check_policy(who, policy);
    auto call = checked(who, u, y, {}, h);
    keep.sums.resize(static_cast<std::size_t>(call.batch * call.length * heads));
    keep.initial.keep(h);
    keep.lse = {};
    keep.y = y;
    call.log_sum =
        detail::head_rows<S>::of(row_major(keep.sums.data(), call.batch, call.length, heads));
    run(policy, call);
  }
  /// The adjoint of `scan`, in gradient/attention.hpp: gradients of the tokens from that of y, dy, and
  /// if there is one of the log-sum-exps, dlse. `dstate` enters as the gradient of the final state and
  /// leaves as that of the initial one: of the keys and values before the call.
  /// throws    shape_error before any write, std::bad_alloc, also before
  template <scan::policy Policy, class Adjoint = gradient::attention<attention>>
  void backward(const Policy& policy, const tokens& u, const saved& keep, view<const S, 4> dy,
                const gradients& d, state& dstate, view<const S, 3> dlse = {}) const {
    static_assert(complete<Adjoint>,
                  "attention::backward is defined in <maslin/gradient/attention.hpp>: include it");
    Adjoint::run(*this, policy, u, keep, dy, d, dstate, dlse);
  }

  /// Decode: one token of every sequence, on the caller's thread. No allocation, no lock.
  /// throws    shape_error before any write
  void step(const token& u, output_token y, state& h, log_sums_token lse = {}) const {
    const bool masked = u.mask.data_handle() != nullptr;
    const tokens one{with_time(u.query),
                     with_time(u.key),
                     with_time(u.value),
                     masked ? with_time(u.mask) : view<const S, 4>{},
                     {}};
    const bool wanted = lse.data_handle() != nullptr;
    const auto call =
        checked({"attention", "step"}, one, with_time(y), wanted ? with_time(lse) : log_sums{}, h);
    run(exec::sequential{}, call);
  }

  /// Keys and values alone, for queries that come later: `u.query` and `u.mask` are not read.
  /// throws    shape_error before any write
  void append(const tokens& u, state& h) const {
    const check::caller who{"attention", "append"};
    auto call = sized(who, u, h);
    check_cached(who, u, call);
    run(exec::sequential{}, call);
  }

 private:
  friend struct gradient::attention<attention>;
  using call_type = detail::attention_call<S, C>;

  template <class Policy, class Call>
  static void run(const Policy& policy, const Call& call) {
    using bare_type = std::remove_cvref_t<decltype(scan::detail::bare(policy))>;
    using V = std::conditional_t<std::same_as<bare_type, exec::scalar>, S, simd::native<S>>;
    const index_t threads = scan::detail::threads_of(scan::detail::bare(policy));
    if constexpr (requires { policy.where; }) {
      call.template run<V>(*policy.where, threads);
    } else {
      auto where = scan::detail::executor_of(policy);
      call.template run<V>(where, threads);
    }
  }

  [[nodiscard]] index_t cached_heads() const noexcept { return key_heads == 0 ? heads : key_heads; }

  [[nodiscard]] detail::attention_rule<S> rule() const noexcept {
    return {.scale = scale == 0 ? S(1 / std::sqrt(static_cast<double>(key_dim))) : scale,
            .cap = cap,
            .slopes = slopes.data_handle(),
            .sinks = sinks.data_handle(),
            .window = window};
  }

  void check_sizes(const check::caller& who) const {
    check::count(who, "heads", heads);
    check::count(who, "value_dim", value_dim);
    check::count(who, "window", window);
    if (key_dim < 1) who.refuse("key_dim must be 1 or more, got " + std::to_string(key_dim));
    if (key_heads < 0 || (heads > 0 && heads % cached_heads() != 0))
      who.refuse("key_heads must divide heads = " + std::to_string(heads) + ", got " +
                 std::to_string(key_heads));
    for (const auto& [name, x] : {std::pair{"scale", scale}, std::pair{"cap", cap}})
      if (!(x >= 0 && x <= std::numeric_limits<S>::max()))
        who.refuse(std::string(name) + " must be a finite number of 0 or more, got " +
                   std::to_string(x));
  }

  [[nodiscard]] state make(const check::caller& who, index_t batch, index_t ring,
                           index_t capacity) const {
    check_sizes(who);
    return state(who.mixer, {.batch = batch,
                             .heads = cached_heads(),
                             .key_dim = key_dim,
                             .value_dim = value_dim,
                             .window = ring,
                             .capacity = capacity});
  }

  /// What a call and its state must agree on; the arrays are still to be checked.
  [[nodiscard]] call_type sized(const check::caller& who, const tokens& u, state& h) const {
    check_sizes(who);
    const index_t B = u.key.extent(0), T = u.key.extent(1);
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    const index_t sequences = u.offsets.empty() ? B : static_cast<index_t>(u.offsets.size()) - 1;
    const auto& made = h.shape();
    const std::array wanted{sequences, cached_heads(), key_dim, value_dim};
    const std::array got{made.batch, made.heads, made.key_dim, made.value_dim};
    if (wanted != got)
      who.refuse("state must be [B, H', K, E] = " + check::list(wanted) + ", got " +
                 check::list(got));
    if (h.is_ring() && (window == 0 || window > made.window))
      who.refuse("window must be within that of the state's ring, " + std::to_string(made.window) +
                 ", got " + std::to_string(window));
    call_type call;
    call.offsets = u.offsets;
    call.batch = B;
    call.length = T;
    call.heads = heads;
    call.cache = &h;
    call.rule = rule();
    for (index_t b = 0; b < sequences; ++b)
      if (const index_t n = call.tokens(b); n > h.capacity() - h.position(b))
        who.refuse("tokens must fit in the state's capacity of " + std::to_string(h.capacity()) +
                   ", got " + std::to_string(n) + " after position " +
                   std::to_string(h.position(b)));
    return call;
  }

  using footprints = std::array<check::footprint, 2>;
  footprints check_cached(const check::caller& who, const tokens& u, call_type& call) const {
    const index_t B = call.batch, T = call.length, H = cached_heads();
    const auto key =
        check::layout<const S, 4>(who, "key", "[B, T, H', K]", u.key, {B, T, H, key_dim}, 2);
    const auto value =
        check::layout<const S, 4>(who, "value", "[B, T, H', E]", u.value, {B, T, H, value_dim}, 2);
    call.key = detail::head_rows<const S>::of(u.key);
    call.value = detail::head_rows<const S>::of(u.value);
    return {key, value};
  }

  check::footprint check_mask(const check::caller& who, const tokens& u, const state& h,
                              call_type& call) const {
    if (u.mask.data_handle() == nullptr) return {};
    const index_t of = u.mask.extent(2) == 1 ? 1 : heads, keys = u.mask.extent(3);
    const auto mask = check::layout<const S, 4>(who, "mask", "[B, T, H or 1, N]", u.mask,
                                                {call.batch, call.length, of, keys}, 2);
    for (index_t b = 0; b < h.batch(); ++b)
      if (const index_t needed = h.position(b) + call.tokens(b);
          call.tokens(b) > 0 && keys < needed)
        who.refuse("mask must be [B, T, H or 1, N] with N of at least " + std::to_string(needed) +
                   ", got " + check::list(u.mask.extents()));
    call.mask = detail::head_rows<const S>::of(u.mask);
    return mask;
  }

  [[nodiscard]] call_type checked(const check::caller& who, const tokens& u, const output& y,
                                  const log_sums& lse, state& h) const {
    auto call = sized(who, u, h);
    const index_t B = call.batch, T = call.length, H = heads;
    const auto query =
        check::layout<const S, 4>(who, "query", "[B, T, H, K]", u.query, {B, T, H, key_dim}, 2);
    const auto [key, value] = check_cached(who, u, call);
    const auto mask = check_mask(who, u, h, call);
    check::footprint slope, sink, sums;
    if (is_there(slopes)) slope = check::layout<const S, 1>(who, "slopes", "[H]", slopes, {H}, 0);
    if (is_there(sinks)) sink = check::layout<const S, 1>(who, "sinks", "[H]", sinks, {H}, 0);
    const auto out = check::layout<S, 4>(who, "y", "[B, T, H, E]", y, {B, T, H, value_dim}, 2);
    check::writable(who, "y", out);
    if (lse.data_handle() != nullptr) {
      sums = check::layout<S, 3>(who, "lse", "[B, T, H]", lse, {B, T, H}, 2);
      check::writable(who, "lse", sums);
      check::disjoint(who, "lse", sums, "y", out);
    }
    const std::array read{std::pair{"query", query},     std::pair{"key", key},
                          std::pair{"value", value},     std::pair{"mask", mask},
                          std::pair{"slopes", slope},    std::pair{"sinks", sink},
                          std::pair{"state", h.memory()}};
    for (const auto& [name, memory] : read) {
      check::disjoint(who, "y", out, name, memory);
      check::disjoint(who, "lse", sums, name, memory);
    }
    call.query = detail::head_rows<const S>::of(u.query);
    call.y = detail::head_rows<S>::of(y);
    call.log_sum = detail::head_rows<S>::of(lse);
    return call;
  }
  [[nodiscard]] static bool is_there(const view<const S, 1>& v) noexcept {
    return v.data_handle() != nullptr;
  }
};

}  // namespace maslin::inline MASLIN_ABI
