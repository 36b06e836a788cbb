// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the RG-LRU.

#include <maslin/gradient/call.hpp>
#include <maslin/mixer/rglru.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// Gradients of rglru, time walked from the last token to the first.
///   s[t] = dy[t] + a[t+1] s[t+1],  dinput = s mu i,  di = s mu input
///   dlog a = s (a h[t-1] - a^2 i input / mu), the last term only where mu is not the first token's 1
///   dr = -8 softplus(decay) dlog a,  ddecay = -8 sigmoid(decay) sum r dlog a
/// With logits dr and di are multiplied by r (1 - r) and i (1 - i). 1 / mu is bounded by 1000: at
/// r = 0 the derivative of mu has no bound.
///
/// shapes    those of `tokens`, dy [B, T, D]   decay [D]   dstate, as `initial`
/// layout    channels unit stride, B and T strides free
/// aliasing  a gradient must not overlap anything else of the call
/// numerics  a product and a sum a step, so that segments handed over by dstate give the bytes of
///           one call; ddecay is summed for each sequence by descending time, then over the
///           sequences. The same bytes for every thread count; exec::chunked: those of its chunk
///           length, |err| <= 3 times the bound. NaN in dy stays in its channel, earlier in time
/// cost      B*T*D times 1 exp, 1 root, 1 division and 14 multiply-adds (logits: 3 exp); reads 5,
///           writes 3 numbers a channel and token. Memory: D numbers for each sequence (exec::chunked:
///           for each chunk), in dstate, which the first call allocates
/// effects   dstate enters as the gradient of the final state and leaves as that of the initial one;
///           which of its sequences have begun stays
/// throws    shape_error before any write; std::bad_alloc, also before
template <class S, gate_form Form>
struct rglru<maslin::rglru<S, Form>> {
  using mixer_t = maslin::rglru<S, Form>;
  using tokens = typename mixer_t::tokens;
  using saved = typename mixer_t::saved;
  using gradients = typename mixer_t::gradients;
  using state = typename mixer_t::state;

  template <class Policy>
  static void run(const mixer_t& mixer, const Policy& policy, const tokens& u, const saved& keep,
                  const view<const S, 3>& dy, const gradients& d, state& dstate) {
    const check::caller who{"rglru", "backward"};
    scan::check_policy(who, policy);
    auto source = checked(mixer, who, u, keep, dy, d, dstate);
    const partial_sums sums(policy, source, d.decay.data_handle() != nullptr);
    source.first.sums = dstate.sums_.reserve(static_cast<std::size_t>(sums.size()));
    source.first.sums_of_sequence = sums.of_sequence();
    source.first.chunk = sums.chunk;
    if (sums.size() == 0) source.first.sums = nullptr;
    mixer.convert_decays(dstate);
    source.first.rates = dstate.rates_.data();
    scan::run(policy, source, dstate.lanes());
    if (d.decay.data_handle() != nullptr && mixer.channels > 0)
      add_up(mixer, source, sums, dstate.sums_.reserve(0), d);
  }

 private:
  template <class V>
  using algebra = recurrence::diagonal<V>;

  /// One sequence; times count from its end.
  struct kernel {
    using scalar_type = S;
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = 1, outputs = 1;

    scan::token_rows<const S> recurrence_gate, input_gate, input, y, dy;
    scan::token_rows<S> drecurrence_gate, dinput_gate, dinput;
    const S* rates = nullptr;
    const S* before;  // h[-1] of every sequence
    index_t before_of_sequence;
    const unsigned char* begun;
    index_t length;
    std::span<const index_t> offsets;
    bool accumulate;
    S* sums = nullptr;  // of r dlog a, a row a chunk; null: not wanted
    index_t sums_of_sequence = 0, chunk = 1, channels;
    index_t first = 0;  // time of the sequence's first token; -1 if that has passed

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      for (auto* rows : {&k.recurrence_gate, &k.input_gate, &k.input, &k.y, &k.dy})
        rows->shift(b, t);
      for (auto* rows : {&k.drecurrence_gate, &k.dinput_gate, &k.dinput}) rows->shift(b, t);
      return k;
    }
    void enter(index_t b) noexcept {
      const auto at = static_cast<std::size_t>(b);
      first = begun[b] != 0 ? -1 : 0;
      before += b * before_of_sequence;
      if (sums != nullptr) sums += b * sums_of_sequence;
      if (!offsets.empty()) length = offsets[at + 1] - offsets[at];
    }

    /// The carry a[t+1] s[t+1] is the state: c <- a (dy + c).
    template <class V, class N>
    [[nodiscard]] typename algebra<V>::token token(index_t back, index_t c, N n) const noexcept {
      const index_t t = length - 1 - back;
      const V a = decay_of<V>(gate_at<V>(recurrence_gate, t, c, n), c, n).kept;
      return {a, a * lane<V>::load(dy.at(t) + c, n)};
    }

    template <class V>
    void walk(S* carry, index_t begin_back, index_t end_back, index_t begin,
              index_t end) const noexcept {
      S* sum = sums == nullptr ? nullptr : sums + begin_back / chunk * channels;
      if (sum != nullptr) std::fill(sum + begin, sum + end, S(0));
      for (index_t back = begin_back; back < end_back; ++back)
        row<V>(*this, carry, sum, length - 1 - back, begin, end);
    }

   private:
    template <class V, class N>
    [[nodiscard, gnu::always_inline]] V gate_at(const scan::token_rows<const S>& rows, index_t t,
                                                index_t c, N n) const noexcept {
      const V g = lane<V>::load(rows.at(t) + c, n);
      if constexpr (Form == gate_form::logit)
        return simd::sigmoid(g);
      else
        return g;
    }
    template <class V, class N>
    [[nodiscard, gnu::always_inline]] auto decay_of(V r, index_t c, N n) const noexcept {
      return simd::exp2_and_complement(V(lane<V>::load(rates + c, n) * r));
    }
    /// The derivative of a gate with respect to what was given.
    template <class V>
    [[nodiscard, gnu::always_inline]] static V through_gate(V dg, V g) noexcept {
      if constexpr (Form == gate_form::logit)
        return dg * (g * (lane<V>::broadcast(S(1)) - g));
      else
        return dg;
    }
    template <class V, class N>
    [[gnu::always_inline]] void put(const scan::token_rows<S>& rows, index_t t, index_t c, V x,
                                    N n) const noexcept {
      if (rows) store<V>(rows.at(t) + c, x, n, accumulate);
    }

    /// One token of channels [begin, end). The kernel is a copy whose address nobody has: stores of
    /// registers might alias it.
    template <class V>
    [[gnu::noinline, gnu::flatten]] static void row(const kernel k, S* carry, S* sum, index_t t,
                                                    index_t begin, index_t end) noexcept {
      index_t c = begin;
      if constexpr (lane<V>::width > 1) {
        using W = simd::twin<V>;
        for (; c + lane<W>::width <= end; c += lane<W>::width)
          k.template channel<W>(carry, sum, t, c, all_lanes<W>{});
      }
      for (; c + lane<V>::width <= end; c += lane<V>::width)
        k.template channel<V>(carry, sum, t, c, all_lanes<V>{});
      if constexpr (lane<V>::width > 1)
        if (c < end) k.template channel<V>(carry, sum, t, c, static_cast<int>(end - c));
    }

    template <class V, class N>
    [[gnu::always_inline]] void channel(S* carry, S* sum, index_t t, index_t c,
                                        N n) const noexcept {
      using L = lane<V>;
      const V r = gate_at<V>(recurrence_gate, t, c, n), i = gate_at<V>(input_gate, t, c, n);
      const V x = L::load(input.at(t) + c, n);
      const V s = L::load(dy.at(t) + c, n) + L::load(carry + c, n);
      const auto a = decay_of<V>(r, c, n);
      const V carried = a.kept * s;
      L::store(carry + c, carried, n);

      V mu = L::broadcast(S(1)), h = L::load(t > 0 ? y.at(t - 1) + c : before + c, n);
      if (t != first) {
        const V one = L::broadcast(S(1)), most = L::broadcast(S(1000));
        mu = L::sqrt(L::fma(a.lost, a.kept, a.lost));
        const V inverse = L::div(one, mu);
        const V bounded = L::select(inverse > most, most, inverse);
        h = L::fma(L::broadcast(S(0)) - a.kept * bounded, i * x, h);
      }
      const V scaled = s * mu;
      put(dinput, t, c, V(scaled * i), n);
      put(dinput_gate, t, c, through_gate(V(scaled * x), i), n);
      const V dlog = carried * h;
      // A rate is -8 softplus(decay) / ln 2.
      const V rate = L::load(rates + c, n) * L::broadcast(S(0.69314718055994531));
      put(drecurrence_gate, t, c, through_gate(V(rate * dlog), r), n);
      if (sum != nullptr) L::store(sum + c, L::fma(r, dlog, L::load(sum + c, n)), n);
    }
  };

  /// How the sums over time lie: a row of D numbers for each chunk of each sequence, one chunk where
  /// time is walked in order.
  struct partial_sums {
    index_t chunk = 1, rows = 0, channels = 0, sequences = 0;

    template <class Policy>
    partial_sums(const Policy& policy, const scan::source<kernel>& source, bool wanted) {
      if (!wanted) return;
      channels = source.channel_count;
      sequences = source.sequences();
      index_t longest = 0;
      for (index_t b = 0; b < sequences; ++b) longest = std::max(longest, source.tokens(b));
      chunk = std::clamp(chunk_of(policy), index_t{1}, std::max(longest, index_t{1}));
      rows = (longest + chunk - 1) / chunk;
    }
    [[nodiscard]] index_t of_sequence() const { return rows * channels; }
    [[nodiscard]] index_t size() const { return sequences * of_sequence(); }

   private:
    template <class Policy>
    [[nodiscard]] static index_t chunk_of(const Policy&) {
      return std::numeric_limits<index_t>::max();
    }
    [[nodiscard]] static index_t chunk_of(const exec::chunked& p) {
      return p.chunk == 0 ? scan::default_chunk : p.chunk;
    }
    template <class Executor, class Policy>
    [[nodiscard]] static index_t chunk_of(const exec::bound_policy<Executor, Policy>& p) {
      return chunk_of(p.policy);
    }
  };

  /// ddecay from the sums of all chunks and sequences, in their order.
  static void add_up(const mixer_t& mixer, const scan::source<kernel>& source,
                     const partial_sums& sums, const S* of, const gradients& d) {
    for (index_t c = 0; c < mixer.channels; ++c) {
      S total = 0;
      for (index_t b = 0; b < source.sequences(); ++b)
        for (index_t k = 0; k * sums.chunk < source.tokens(b); ++k)
          total += of[b * sums.of_sequence() + k * sums.channels + c];
      const S slope = S(-8) * simd::sigmoid(mixer.decay(c));
      store<S>(&d.decay(c), slope * total, all_lanes<S>{}, d.accumulate);
    }
  }

  static scan::source<kernel> checked(const mixer_t& mixer, const check::caller& who,
                                      const tokens& u, const saved& keep,
                                      const view<const S, 3>& dy, const gradients& d,
                                      state& dstate) {
    check::count(who, "channels", mixer.channels);
    const index_t B = u.input.extent(0), T = u.input.extent(1), D = mixer.channels;
    const std::array<index_t, 3> shape{B, T, D};
    constexpr const char* axes = "[B, T, D]";
    if (!u.offsets.empty()) check::packed(who, u.offsets, B, T);
    const index_t sequences = u.offsets.empty() ? B : static_cast<index_t>(u.offsets.size()) - 1;
    expect_state(who, "saved.initial", keep.initial, sequences, D);
    expect_state(who, "dstate", dstate, sequences, D);
    memory_of_call memory(who);
    memory.reads("decay", "[D]", mixer.decay, {D}, 0);
    memory.reads("recurrence_gate", axes, u.recurrence_gate, shape);
    memory.reads("input_gate", axes, u.input_gate, shape);
    memory.reads("input", axes, u.input, shape);
    memory.reads("saved.y", axes, keep.y, shape);
    memory.reads("saved.initial", keep.initial.memory());
    memory.reads("dy", axes, dy, shape);
    memory.writes("dstate", dstate.memory());
    memory.writes("gradients.recurrence_gate", axes, d.recurrence_gate, shape);
    memory.writes("gradients.input_gate", axes, d.input_gate, shape);
    memory.writes("gradients.input", axes, d.input, shape);
    memory.writes("gradients.decay", "[D]", d.decay, {D}, 0);
    using in = scan::token_rows<const S>;
    using out = scan::token_rows<S>;
    const kernel first{.recurrence_gate = in::of(u.recurrence_gate),
                       .input_gate = in::of(u.input_gate),
                       .input = in::of(u.input),
                       .y = in::of(keep.y),
                       .dy = in::of(dy),
                       .drecurrence_gate = out::of(d.recurrence_gate),
                       .dinput_gate = out::of(d.input_gate),
                       .dinput = out::of(d.input),
                       .before = keep.initial.row(0),
                       .before_of_sequence = keep.initial.sequence_size(),
                       .begun = keep.initial.flags(),
                       .length = T,
                       .offsets = u.offsets,
                       .accumulate = d.accumulate,
                       .channels = D};
    return {.first = first,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = D,
            .moved_bytes = 0,
            .may_stream = false};
  }

  static void expect_state(const check::caller& who, const char* name, const state& h,
                           index_t sequences, index_t channels) {
    scan::check_order(who, name, h, 1);
    if (h.batch() != sequences || h.channels() != channels)
      who.refuse(std::string(name) +
                 " must be [B, D] = " + check::list(std::array{sequences, channels}) + ", got " +
                 check::list(std::array{h.batch(), h.channels()}));
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
