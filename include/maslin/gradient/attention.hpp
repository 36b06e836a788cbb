// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of causal softmax attention.

#include <maslin/fwd.hpp>
#include <maslin/gradient/attention_walk.hpp>
#include <maslin/gradient/call.hpp>
#include <maslin/mixer/attention.hpp>

#include <array>
#include <concepts>
#include <string>
#include <utility>

namespace maslin::inline MASLIN_ABI::gradient {

/// The adjoint of `maslin::attention`, in tiles: no matrix of weights is kept, they are made again
/// from the log-sum-exps (arXiv 2307.08691, section 3).
///   P[t,j] = e^(s[t,j] - lse[t])     D[t] = <dy[t], y[t]> - dlse[t]
///   dvalue[j] = sum_t P[t,j] dy[t]   dlogit[t,j] = P[t,j] (<dy[t], value[j]> - D[t])
///   dquery[t] = sum_j dscore[t,j] key[j]     dkey[j] = sum_t dscore[t,j] query[t],
///   dscore = scale (1 - tanh^2(scale <query, key> / cap)) dlogit
///   dmask[t,j] = dlogit[t,j]         dsink = -sum_t e^(sink - lse[t]) D[t]
/// Gradients of keys and values are sums over the query heads that read them, that of a mask of one
/// head over all heads. Slopes are constants. Positions by rotation: `rotary::backward`.
///
/// shapes    as the forward call; dlse [B, T, H], optional; N of dmask that of the mask
/// layout    last axes unit stride, B, T and head strides free
/// aliasing  no gradient may overlap anything that is read, nor another gradient
/// numerics  one fma chain a number of dkey and dvalue over tokens from the last to the first, heads
///           ascending; dquery block by block of keys, the last first: the same bytes for every
///           thread count, policy, place in the batch and register width, and dquery, dkey, dvalue
///           and dmask for every split into calls. Masked or later keys get and give nothing,
///           whatever they hold; rows that see no key give zeros
/// cost      per query head and key 3 K + 2 E multiply-adds and one exp. Scratch in dstate, which the
///           first call alone takes: a thread's is 960 K + 608 E + 12288 numbers at most, widths up
///           to the next 16, and two numbers a token and query head of the head it is at. Threads take
///           sequences and key-value heads; if there are more threads than those, rows and keys of a
///           head are cut as well, and K + E numbers a key are kept. A mask of one head whose
///           gradient is wanted leaves threads whole sequences
/// effects   gradients that are not null are overwritten, or added to; dstate enters as the gradient
///           of the keys and values of the final state, zero from its position on, and leaves as
///           that of those before the call
/// throws    shape_error before any write, std::bad_alloc, also before
template <class S, class C>
struct attention<maslin::attention<S, C>> {
  static_assert(
      std::same_as<S, C>,
      "attention::backward is for caches of the arithmetic's own numbers: rounded gradients "
      "of keys and values could not be handed from call to call");
  using mixer_type = maslin::attention<S, C>;
  using terms_type = detail::attention_terms<S>;

  template <class Policy>
  static void run(const mixer_type& mixer, const Policy& policy,
                  const typename mixer_type::tokens& u, const typename mixer_type::saved& keep,
                  const view<const S, 4>& dy, const typename mixer_type::gradients& d,
                  typename mixer_type::state& dstate, const view<const S, 3>& dlse) {
    const check::caller who{"attention", "backward"};
    scan::check_policy(who, policy);
    mixer.check_sizes(who);
    terms_type x;
    x.rule = mixer.rule();
    x.offsets = u.offsets;
    x.batch = u.key.extent(0);
    x.length = u.key.extent(1);
    x.heads = mixer.heads;
    x.key_heads = mixer.cached_heads();
    x.key_dim = mixer.key_dim;
    x.value_dim = mixer.value_dim;
    x.accumulate = d.accumulate;
    x.initial = &keep.initial;
    x.dstate = &dstate;
    if (!u.offsets.empty()) check::packed(who, u.offsets, x.batch, x.length);
    check_states(who, x);
    memory_of_call memory(who);
    take_inputs(who, mixer, u, keep, dy, dlse, memory, x);
    take_gradients(who, mixer, u, d, memory, x);
    memory.writes("dstate", dstate.memory());
    if (x.heads > 0) mixer_type::run(policy, detail::attention_walk<S>(x));
  }

 private:
  static void check_states(const check::caller& who, const terms_type& x) {
    const index_t sequences = x.sequences();
    const std::array wanted{sequences, x.key_heads, x.key_dim, x.value_dim};
    const auto check = [&](const char* name, const attention_state<S, S>& h) {
      const auto& made = h.shape();
      const std::array got{made.batch, made.heads, made.key_dim, made.value_dim};
      if (wanted != got)
        who.refuse(std::string(name) + " must be [B, H', K, E] = " + check::list(wanted) +
                   ", got " + check::list(got));
      if (h.is_ring() && (x.rule.window == 0 || x.rule.window > made.window))
        who.refuse("window must be within that of the ring of " + std::string(name) + ", " +
                   std::to_string(made.window) + ", got " + std::to_string(x.rule.window));
    };
    if (x.initial->batch() != 0) check("saved.initial", *x.initial);
    check("dstate", *x.dstate);
    for (index_t b = 0; b < sequences; ++b) {
      const index_t before = x.position(b), after = before + x.tokens(b);
      if (x.dstate->position(b) > after)
        who.refuse("dstate must be of the final state or an earlier one, of position " +
                   std::to_string(after) + " at most, got " +
                   std::to_string(x.dstate->position(b)));
      if (before > x.dstate->capacity())
        who.refuse("dstate must have room for the keys before the call, " + std::to_string(before) +
                   ", got " + std::to_string(x.dstate->capacity()));
    }
  }

  static void take_inputs(const check::caller& who, const mixer_type& mixer,
                          const typename mixer_type::tokens& u,
                          const typename mixer_type::saved& keep, const view<const S, 4>& dy,
                          const view<const S, 3>& dlse, memory_of_call& memory, terms_type& x) {
    using rows = maslin::detail::head_rows<const S>;
    const index_t B = x.batch, T = x.length, H = x.heads, G = x.key_heads, K = x.key_dim,
                  E = x.value_dim;
    const auto log_sum = keep.log_sum(B, T, H);
    memory.reads("query", "[B, T, H, K]", u.query, {B, T, H, K});
    memory.reads("key", "[B, T, H', K]", u.key, {B, T, G, K});
    memory.reads("value", "[B, T, H', E]", u.value, {B, T, G, E});
    if (u.mask.data_handle() != nullptr) {
      x.keys = u.mask.extent(3);
      memory.reads("mask", "[B, T, H or 1, N]", u.mask,
                   {B, T, u.mask.extent(2) == 1 ? 1 : H, x.keys});
      for (index_t b = 0; b < x.sequences(); ++b)
        if (const index_t needed = x.position(b) + x.tokens(b); x.tokens(b) > 0 && x.keys < needed)
          who.refuse("mask must be [B, T, H or 1, N] with N of at least " + std::to_string(needed) +
                     ", got " + check::list(u.mask.extents()));
    }
    memory.reads("saved.y", "[B, T, H, E]", keep.y, {B, T, H, E});
    memory.reads("saved.lse", "[B, T, H]", log_sum, {B, T, H});
    memory.reads("dy", "[B, T, H, E]", dy, {B, T, H, E});
    if (dlse.data_handle() != nullptr) memory.reads("dlse", "[B, T, H]", dlse, {B, T, H});
    for (const auto& [name, v] :
         {std::pair{"slopes", mixer.slopes}, std::pair{"sinks", mixer.sinks}})
      if (v.data_handle() != nullptr) memory.reads(name, "[H]", v, {H}, 0);
    memory.reads("saved.initial", keep.initial.memory());
    x.query = rows::of(u.query);
    x.key = rows::of(u.key);
    x.value = rows::of(u.value);
    x.mask = rows::of(u.mask);
    x.y = rows::of(keep.y);
    x.log_sum = rows::of(log_sum);
    x.dy = rows::of(dy);
    x.dlog_sum = rows::of(dlse);
  }

  static void take_gradients(const check::caller& who, const mixer_type& mixer,
                             const typename mixer_type::tokens& u,
                             const typename mixer_type::gradients& d, memory_of_call& memory,
                             terms_type& x) {
    using rows = maslin::detail::head_rows<S>;
    const index_t B = x.batch, T = x.length, H = x.heads, G = x.key_heads;
    memory.writes("gradients.query", "[B, T, H, K]", d.query, {B, T, H, x.key_dim});
    memory.writes("gradients.key", "[B, T, H', K]", d.key, {B, T, G, x.key_dim});
    memory.writes("gradients.value", "[B, T, H', E]", d.value, {B, T, G, x.value_dim});
    if (d.mask.data_handle() != nullptr && u.mask.data_handle() == nullptr)
      who.refuse("gradients.mask must be null without a mask, got one");
    if (d.sinks.data_handle() != nullptr && mixer.sinks.data_handle() == nullptr)
      who.refuse("gradients.sinks must be null without sinks, got some");
    memory.writes("gradients.mask", "[B, T, H or 1, N]", d.mask, u.mask.extents());
    memory.writes("gradients.sinks", "[H]", d.sinks, {H}, 0);
    x.dquery = rows::of(d.query);
    x.dkey = rows::of(d.key);
    x.dvalue = rows::of(d.value);
    x.dmask = rows::of(d.mask);
    x.dsinks = d.sinks.data_handle();
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
