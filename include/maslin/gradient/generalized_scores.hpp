// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the generalised mixer with coefficients from queries and keys, ChaCAL included.

#include <maslin/gradient/call.hpp>
#include <maslin/gradient/row_walk.hpp>
#include <maslin/mixer/generalized_scores.hpp>
#include <maslin/recurrence/weigh_gradient.hpp>

#include <algorithm>
#include <array>

namespace maslin::inline MASLIN_ABI::gradient {

/// Gradients of generalized_scores, t descending from s = dy. With w_p = y_p, but x_t for the token's
/// own, sigma = s and a = c_t (direct::self):
///   dc_{t,p} = <sigma_t, w_p>,  dx_t = a sigma_t,  s_p += c_{t,p} sigma_t
/// With w = (1 - g) x + g y and F_t = 1 - g c_t (direct::rows), omega being the gradient of w:
///   s = dy + g omega,  sigma = s / F,  dc_{t,p} = <sigma_t, w_p>,
///   dx_t = (1 - g) (c_t sigma_t + omega_t),  omega_p += c_{t,p} sigma_t
/// dz from dc (softmax: c_p <sigma, w_p - y>), dquery_t = scale sum dz key_p,
/// dkey_p += scale dz query_t, and the biases' gradients are sums of dz. The coefficients are made anew,
/// with the bytes of the scan.
///
/// shapes    those of `tokens`, dy [B, T, H, E]   bias [H, L], self_bias [H]   dstate, as `initial`:
///           empty, or at the position after the last token
/// layout    last axes unit stride, B, T and H strides free
/// aliasing  a gradient must not overlap anything else of the call
/// numerics  as gradient::generalized; dkey too takes one fma a reader, the last reader first. Biases
///           are summed by descending time in each sequence, then over the sequences. The same bytes in
///           every policy and for every thread count. NaN in dy passes to the rows that it was made of,
///           in its head
/// cost      B*H*(3 E + 3 K)*sum_t(|R_t| + 1) multiply-adds, and the exp of the weights twice. Memory:
///           the adjoint cache, as gradient::generalized; for direct::rows T H E numbers a thread for w;
///           H (L + 1) numbers a sequence for the biases; all in dstate, which the first call allocates
/// effects   dstate enters as the gradient of the final state, an empty one as zero, and leaves as that
///           of the initial state, at its position. exec::chunked walks time in order
/// throws    shape_error before any write; std::bad_alloc, also before
template <class S, class Pattern, weights W, direct A>
struct generalized_scores<maslin::generalized_scores<S, Pattern, W, A>> {
  using mixer_t = maslin::generalized_scores<S, Pattern, W, A>;
  using tokens = typename mixer_t::tokens;
  using saved = typename mixer_t::saved;
  using gradients = typename mixer_t::gradients;
  using state = typename mixer_t::state;

  template <class Policy>
  static void run(const mixer_t& mixer, const Policy& policy, const tokens& u, const saved& keep,
                  const view<const S, 4>& dy, const gradients& d, state& dstate) {
    const check::caller who{"generalized_scores", "backward"};
    scan::check_policy(who, policy);
    const auto source = checked(mixer, who, u, keep, dy, d, dstate);
    const S* sums = run_rows_back(policy, source, keep.initial, dstate);
    add_up(source, sums, d);
  }

 private:
  struct kernel {
    static constexpr index_t tile = maslin::rows::is_dense<Pattern> ? 8 : 1;

    head_rows<const S> query, key, input, y, dy;
    head_rows<S> dquery, dkey, dinput;
    const S* bias;       // may be null
    const S* self_bias;  // may be null
    index_t bias_head, self_bias_head, H, K, E;
    index_t sums_of_head;  // 1 + L: of dz of the token's own, then of each level; 0: not wanted
    S scale, feedback;
    bool accumulate;
    std::array<row_pair<S>, 2> kinds{};  // values and keys
    S* sums = nullptr;                   // [H, sums_of_head]
    S* mixed = nullptr;                  // w of direct::rows, [T, H, E]

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      for (auto* rows : {&k.query, &k.key, &k.input, &k.y, &k.dy}) rows->shift(b, t);
      for (auto* rows : {&k.dquery, &k.dkey, &k.dinput}) rows->shift(b, t);
      return k;
    }
    /// dinput is the adjoint cache: a row is needed until its own token has been visited.
    [[nodiscard]] bool in_place() const noexcept { return dinput && !accumulate; }
    /// Scratch of a token, of which w comes last.
    [[nodiscard]] index_t token_numbers() const noexcept {
      return (in_place() ? 0 : H * E) + (A == direct::rows ? H * E : 0);
    }

    void place(S* memory, const S* before, index_t size, index_t length, S* sums_here) noexcept {
      sums = sums_here;
      S* const cache = memory + size;
      mixed = in_place() ? cache : cache + length * H * E;
      const index_t width = scan::row_stride<S>(H * (E + K));
      kinds[0] = {.now = y.first,
                  .dnow = in_place() ? dinput.first : cache,
                  .old = before,
                  .dold = memory,
                  .now_time = y.time,
                  .now_head = y.head,
                  .dnow_time = in_place() ? dinput.time : H * E,
                  .dnow_head = in_place() ? dinput.head : E,
                  .width = width,
                  .count = E};
      if constexpr (A == direct::rows) {
        kinds[0].now = mixed;
        kinds[0].now_time = H * E;
        kinds[0].now_head = E;
      }
      kinds[1] = {.now = key.first,
                  .dnow = dkey.first,
                  .old = before + H * E,
                  .dold = memory + H * E,
                  .now_time = key.time,
                  .now_head = key.head,
                  .dnow_time = dkey.time,
                  .dnow_head = dkey.head,
                  .width = width,
                  .column = H * E,
                  .count = K,
                  .adds = accumulate};
    }

    /// The rows w = (1 - g) x + g y of the call, the bytes of those that the scan kept.
    template <class V>
    void begin(index_t length, head_range heads) const noexcept {
      if constexpr (A == direct::rows) {
        using L = lane<V>;
        const V g = L::broadcast(feedback), rest = L::broadcast(1 - feedback);
        for (index_t t = 0; t < length; ++t)
          for (index_t h = heads.begin; h < heads.end; ++h) {
            S* const w = mixed + (t * H + h) * E;
            std::copy_n(input.at(t, h), E, w);
            combine_rows<V>(w, y.at(t, h), E, [=](V a, V b) { return L::fma(g, b, rest * a); });
          }
      }
    }

    template <class V>
    void open(head_token<S>& w) const noexcept {
      scores<V>(w);
      std::copy_n(w.z, w.count(), w.c);
      recurrence::weigh_row<W, V>(w.c, w.count());
      S* const omega = kinds[0].gradient(w.t, w.h);
      const S* const given = dy.at(w.t, w.h);
      if constexpr (A == direct::self) {
        combine_rows<V>(omega, given, E, [](V a, V b) { return a + b; });
        w.sigma = omega;
      } else {
        using L = lane<V>;
        const V g = L::broadcast(feedback),
                inverse = L::broadcast(1 / lane<S>::fma(-feedback, w.c[0], S(1)));
        std::copy_n(omega, E, w.more);
        combine_rows<V>(w.more, given, E, [=](V a, V b) { return inverse * L::fma(g, a, b); });
        w.sigma = w.more;
      }
    }
    template <class V>
    void weigh(const head_token<S>& w) const noexcept {
      const S* const own = A == direct::rows ? kinds[0].value(w.t, w.h) : input.at(w.t, w.h);
      w.d[0] = recurrence::dot_row<V>(w.sigma, own, E);
      recurrence::weigh_row_gradient<W, V>(w.z, w.c, w.d, w.count());
      add_biases(w);
      for (index_t i = 0; i < w.count(); ++i) w.d[i] = scale * w.d[i];
    }
    [[nodiscard]] const S* query_of(const head_token<S>& w) const noexcept {
      return query.at(w.t, w.h);
    }
    /// Where it is not wanted it is made in scratch, behind sigma.
    [[nodiscard]] S* dquery_of(const head_token<S>& w) const noexcept {
      return dquery ? dquery.at(w.t, w.h) : w.more + (A == direct::rows ? E : 0);
    }
    /// The part of its own key.
    template <class V>
    void begin_query(const head_token<S>& w) const noexcept {
      S* const to = dquery_of(w);
      const V d = lane<V>::broadcast(w.d[0]);
      if (!dquery || !accumulate) std::fill_n(to, K, S(0));
      combine_rows<V>(to, key.at(w.t, w.h), K, [=](V a, V b) { return lane<V>::fma(d, b, a); });
    }
    template <class V>
    void give_own_key(const head_token<S>& w) const noexcept {
      if (!dkey) return;
      const V d = lane<V>::broadcast(w.d[0]);
      combine_rows<V>(dkey.at(w.t, w.h), query.at(w.t, w.h), K,
                      [=](V a, V b) { return lane<V>::fma(d, b, a); });
    }
    template <class V>
    void close(const head_token<S>& w) const noexcept {
      using L = lane<V>;
      if (!dinput) return;
      const V own = L::broadcast(w.c[0]), rest = L::broadcast(1 - feedback);
      S* const omega = kinds[0].gradient(w.t, w.h);
      combine_rows<V>(omega, w.sigma, E, [=](V a, V b) {
        if constexpr (A == direct::self)
          return own * b;
        else
          return rest * L::fma(own, b, a);
      });
      if (accumulate)
        combine_rows<V>(dinput.at(w.t, w.h), omega, E, [](V a, V b) { return a + b; });
    }

   private:
    /// The logits, the bytes of the scan.
    template <class V>
    void scores(const head_token<S>& w) const noexcept {
      recurrence::dot_rows<V>(
          query.at(w.t, w.h), K, w.count(),
          [&](index_t i) {
            const index_t row = i == 0 ? w.t : w.reads[static_cast<std::size_t>(i)].offset;
            return kinds[1].value(row, w.h);
          },
          w.z);
      const S* const offset = bias == nullptr ? nullptr : bias + w.h * bias_head;
      const S own = self_bias == nullptr ? S(0) : self_bias[w.h * self_bias_head];
      w.z[0] = lane<S>::fma(w.z[0], scale, own);
      for (index_t i = 1; i < w.count(); ++i)
        w.z[i] = lane<S>::fma(w.z[i], scale, offset == nullptr ? S(0) : offset[level(w, i)]);
    }
    /// Of a tile of a dense pattern the reads are listed for its last token.
    [[nodiscard]] static index_t level(const head_token<S>& w, index_t i) noexcept {
      return maslin::rows::is_dense<Pattern> ? w.count() - 1 - i
                                             : w.reads[static_cast<std::size_t>(i)].level;
    }

    void add_biases(const head_token<S>& w) const noexcept {
      if (sums_of_head == 0) return;
      S* const to = sums + w.h * sums_of_head;
      to[0] += w.d[0];
      if (sums_of_head > 1)
        for (index_t i = 1; i < w.count(); ++i) to[1 + level(w, i)] += w.d[i];
    }
  };

  /// The biases' gradients from the sums of all sequences, in their order.
  static void add_up(const back_source<kernel>& source, const S* sums, const gradients& d) {
    const index_t per_head = source.first.sums_of_head;
    const auto total = [&](index_t h, index_t k) {
      S sum = 0;
      for (index_t b = 0; b < source.sequences(); ++b)
        sum += sums[b * source.sequence_numbers + h * per_head + k];
      return sum;
    };
    for (index_t h = 0; h < source.heads; ++h) {
      if (d.self_bias.data_handle() != nullptr)
        store<S>(&d.self_bias(h), total(h, 0), all_lanes<S>{}, d.accumulate);
      if (d.bias.data_handle() != nullptr)
        for (index_t k = 0; k < d.bias.extent(1); ++k)
          store<S>(&d.bias(h, k), total(h, 1 + k), all_lanes<S>{}, d.accumulate);
    }
  }

  static back_source<kernel> checked(const mixer_t& mixer, const check::caller& who,
                                     const tokens& u, const saved& keep, const view<const S, 4>& dy,
                                     const gradients& d, const state& dstate) {
    const index_t width = mixer.row_width(who);
    const index_t B = u.input.extent(0), T = u.input.extent(1), H = mixer.heads;
    const index_t needed = maslin::rows::check_state(who, mixer.pattern, keep.initial, u.offsets,
                                                     {B, T}, width, "saved.initial");
    expect_dstate(who, mixer.pattern, keep.initial, dstate, u.offsets, T);
    check_views(mixer, who, u, keep, dy, d, dstate, needed);
    using in = head_rows<const S>;
    using out = head_rows<S>;
    const bool sums = d.bias.data_handle() != nullptr || d.self_bias.data_handle() != nullptr;
    const kernel first{.query = in::of(u.query),
                       .key = in::of(u.key),
                       .input = in::of(u.input),
                       .y = in::of(keep.y),
                       .dy = in::of(dy),
                       .dquery = out::of(d.query),
                       .dkey = out::of(d.key),
                       .dinput = out::of(d.input),
                       .bias = mixer.bias.data_handle(),
                       .self_bias = mixer.self_bias.data_handle(),
                       .bias_head = mixer.bias.stride(0),
                       .self_bias_head = mixer.self_bias.stride(0),
                       .H = H,
                       .K = mixer.key_dim,
                       .E = mixer.value_dim,
                       .sums_of_head = !sums                             ? 0
                                       : d.bias.data_handle() == nullptr ? 1
                                                                         : 1 + d.bias.extent(1),
                       .scale = mixer.scale,
                       .feedback = mixer.feedback,
                       .accumulate = d.accumulate};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .heads = H,
            .token_numbers = first.token_numbers(),
            .head_numbers = mixer.key_dim + (A == direct::rows ? mixer.value_dim : 0),
            .sequence_numbers = H * first.sums_of_head};
  }

  static void check_views(const mixer_t& mixer, const check::caller& who, const tokens& u,
                          const saved& keep, const view<const S, 4>& dy, const gradients& d,
                          const state& dstate, index_t needed) {
    const index_t B = u.input.extent(0), T = u.input.extent(1), H = mixer.heads;
    const std::array<index_t, 4> values{B, T, H, mixer.value_dim}, keys{B, T, H, mixer.key_dim};
    constexpr const char *value_axes = "[B, T, H, E]", *key_axes = "[B, T, H, K]";
    const auto expect_levels = [&](const char* name, const auto& bias) {
      if (bias.data_handle() != nullptr && bias.extent(1) < needed)
        who.refuse(std::string(name) + " must be [H, L] with L of at least " +
                   std::to_string(needed) + ", got " + check::list(bias.extents()));
    };
    expect_levels("bias", mixer.bias);
    expect_levels("gradients.bias", d.bias);
    const bool biased = mixer.bias.data_handle() != nullptr;
    const index_t levels = biased ? mixer.bias.extent(1) : d.bias.extent(1);
    memory_of_call memory(who);
    memory.reads("query", key_axes, u.query, keys);
    memory.reads("key", key_axes, u.key, keys);
    memory.reads("input", value_axes, u.input, values);
    if (biased) memory.reads("bias", "[H, L]", mixer.bias, {H, levels}, 1);
    if (mixer.self_bias.data_handle() != nullptr)
      memory.reads("self_bias", "[H]", mixer.self_bias, {H}, 0);
    memory.reads("saved.y", value_axes, keep.y, values);
    memory.reads("saved.initial", keep.initial.memory());
    memory.reads("dy", value_axes, dy, values);
    memory.writes("dstate", dstate.memory());
    memory.writes("gradients.query", key_axes, d.query, keys);
    memory.writes("gradients.key", key_axes, d.key, keys);
    memory.writes("gradients.input", value_axes, d.input, values);
    memory.writes("gradients.bias", "[H, L]", d.bias, {H, levels}, 1);
    memory.writes("gradients.self_bias", "[H]", d.self_bias, {H}, 0);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
