// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the generalised mixer with coefficients given or made of gate logits.

#include <maslin/gradient/call.hpp>
#include <maslin/gradient/row_walk.hpp>
#include <maslin/mixer/generalized.hpp>
#include <maslin/recurrence/weigh_gradient.hpp>

#include <algorithm>
#include <array>

namespace maslin::inline MASLIN_ABI::gradient {

/// Gradients of generalized, t descending from s = dy:
///   dalpha_t = <s_t, x_t>,  dbeta_{t,p} = <s_t, y_p>,  dx_t = alpha_t s_t,  s_p += beta_{t,p} s_t
/// that is S = (I - B)^-T dY (arXiv 2605.31367, Y = AX + BY). Logits: their gradients come from those of
/// the coefficients, which are made anew (`weigh_row_gradient`).
///
/// shapes    those of `tokens`, dy [B, T, H, E]   dstate, as `initial`: empty, or at the position after
///           the last token
/// layout    last axes unit stride, B, T and H strides free
/// aliasing  a gradient must not overlap anything else of the call
/// numerics  s: one fma a reader, the last reader first, then dy; scalar products: 16 chains of fma over
///           E, added by halves. The same bytes in every policy, for every thread count, and for
///           segments handed over by dstate. NaN in dy passes to the rows that it was made of, in its
///           head. Slots that are not read get 0
/// cost      3 B*H*E*sum_t(|R_t| + 1) multiply-adds, and the exp of the weights twice. Memory: the
///           adjoint cache, the gradients of all T rows of a sequence, is dinput itself where it is asked
///           for and overwritten, else T H E numbers a thread; a state's rows a thread; both in dstate,
///           which the first call allocates
/// effects   dstate enters as the gradient of the final state, an empty one as zero, and leaves as that
///           of the initial state, at its position. exec::chunked walks time in order
/// throws    shape_error before any write; std::bad_alloc, also before
template <class S, class Pattern, weights W>
struct generalized<maslin::generalized<S, Pattern, W>> {
  using mixer_t = maslin::generalized<S, Pattern, W>;
  using tokens = typename mixer_t::tokens;
  using saved = typename mixer_t::saved;
  using gradients = typename mixer_t::gradients;
  using state = typename mixer_t::state;

  template <class Policy>
  static void run(const mixer_t& mixer, const Policy& policy, const tokens& u, const saved& keep,
                  const view<const S, 4>& dy, const gradients& d, state& dstate) {
    const check::caller who{"generalized", "backward"};
    scan::check_policy(who, policy);
    run_rows_back(policy, checked(mixer, who, u, keep, dy, d, dstate), keep.initial, dstate);
  }

 private:
  struct kernel {
    static constexpr index_t tile = maslin::rows::is_dense<Pattern> ? 8 : 1;

    head_rows<const S> self, past, input, y, dy;
    head_rows<S> dself, dpast, dinput;
    index_t H, E, slots;
    bool accumulate;
    std::array<row_pair<S>, 1> kinds{};

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      for (auto* rows : {&k.self, &k.past, &k.input, &k.y, &k.dy}) rows->shift(b, t);
      for (auto* rows : {&k.dself, &k.dpast, &k.dinput}) rows->shift(b, t);
      return k;
    }
    /// dinput is the adjoint cache: a row is needed until its own token has been visited.
    [[nodiscard]] bool in_place() const noexcept { return dinput && !accumulate; }

    void place(S* memory, const S* before, index_t size, index_t, S*) noexcept {
      kinds[0] = {.now = y.first,
                  .dnow = in_place() ? dinput.first : memory + size,
                  .old = before,
                  .dold = memory,
                  .now_time = y.time,
                  .now_head = y.head,
                  .dnow_time = in_place() ? dinput.time : H * E,
                  .dnow_head = in_place() ? dinput.head : E,
                  .width = scan::row_stride<S>(H * E),
                  .count = E};
    }
    template <class V>
    void begin(index_t, head_range) const noexcept {}

    template <class V>
    void open(head_token<S>& w) const noexcept {
      const S* const slots_of = past.at(w.t, w.h);
      w.c[0] = *self.at(w.t, w.h);
      for (index_t i = 1; i < w.count(); ++i) w.c[i] = slots_of[slot(w.reads, i)];
      if constexpr (W != weights::given) {
        std::copy_n(w.c, w.count(), w.z);
        recurrence::weigh_row<W, V>(w.c, w.count());
      }
      S* const s = kinds[0].gradient(w.t, w.h);
      combine_rows<V>(s, dy.at(w.t, w.h), E, [](V a, V b) { return a + b; });
      w.sigma = s;
    }
    template <class V>
    void weigh(const head_token<S>& w) const noexcept {
      w.d[0] = recurrence::dot_row<V>(w.sigma, input.at(w.t, w.h), E);
      recurrence::weigh_row_gradient<W, V>(w.z, w.c, w.d, w.count());
      if (dself) store<S>(dself.at(w.t, w.h), w.d[0], all_lanes<S>{}, accumulate);
      if (!dpast) return;
      S* const to = dpast.at(w.t, w.h);
      if (!accumulate) std::fill_n(to, slots, S(0));
      for (index_t i = 1; i < w.count(); ++i)
        store<S>(to + slot(w.reads, i), w.d[i], all_lanes<S>{}, accumulate);
    }
    template <class V>
    void close(const head_token<S>& w) const noexcept {
      const V alpha = lane<V>::broadcast(w.c[0]);
      if (in_place())
        combine_rows<V>(dinput.at(w.t, w.h), w.sigma, E, [&](V, V b) { return alpha * b; });
      else if (dinput)
        combine_rows<V>(dinput.at(w.t, w.h), w.sigma, E,
                        [&](V a, V b) { return lane<V>::fma(alpha, b, a); });
    }

   private:
    [[nodiscard]] static std::size_t at(index_t i) noexcept { return static_cast<std::size_t>(i); }
    /// Reads of a dense pattern are the positions 0, 1, ..., and so are its slots.
    [[nodiscard]] static index_t slot(std::span<const scan::row_read> reads, index_t i) noexcept {
      return maslin::rows::is_dense<Pattern> ? i - 1 : reads[at(i)].level;
    }
  };

  static back_source<kernel> checked(const mixer_t& mixer, const check::caller& who,
                                     const tokens& u, const saved& keep, const view<const S, 4>& dy,
                                     const gradients& d, const state& dstate) {
    check::count(who, "heads", mixer.heads);
    check::count(who, "value_dim", mixer.value_dim);
    const index_t B = u.input.extent(0), T = u.input.extent(1), H = mixer.heads,
                  E = mixer.value_dim;
    const index_t width = maslin::rows::width(who, {H, E});
    const index_t needed = maslin::rows::check_state(who, mixer.pattern, keep.initial, u.offsets,
                                                     {B, T}, width, "saved.initial");
    expect_dstate(who, mixer.pattern, keep.initial, dstate, u.offsets, T);
    const std::array<index_t, 4> values{B, T, H, E};
    constexpr const char* axes = "[B, T, H, E]";
    memory_of_call memory(who);
    memory.reads("self", "[B, T, H]", u.self, {B, T, H});
    memory.reads("past", maslin::rows::check_past(who, u.past, {B, T, H}, needed));
    memory.reads("input", axes, u.input, values);
    memory.reads("saved.y", axes, keep.y, values);
    memory.reads("saved.initial", keep.initial.memory());
    memory.reads("dy", axes, dy, values);
    memory.writes("dstate", dstate.memory());
    memory.writes("gradients.self", "[B, T, H]", d.self, {B, T, H});
    memory.writes("gradients.past", "[B, T, H, S]", d.past, {B, T, H, u.past.extent(3)});
    memory.writes("gradients.input", axes, d.input, values);
    using in = head_rows<const S>;
    using out = head_rows<S>;
    const kernel first{.self = in::of(u.self),
                       .past = in::of(u.past),
                       .input = in::of(u.input),
                       .y = in::of(keep.y),
                       .dy = in::of(dy),
                       .dself = out::of(d.self),
                       .dpast = out::of(d.past),
                       .dinput = out::of(d.input),
                       .H = H,
                       .E = E,
                       .slots = u.past.extent(3),
                       .accumulate = d.accumulate};
    const bool caches = d.input.data_handle() == nullptr || d.accumulate;
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .heads = H,
            .token_numbers = caches ? width : 0};
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
