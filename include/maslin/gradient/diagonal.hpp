// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the gated diagonal recurrence: maslin::diagonal::backward.

#include <maslin/gradient/reverse.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/recurrence/adjoint.hpp>

namespace maslin::inline MASLIN_ABI::gradient {

template <class S, maslin::decay Form>
struct diagonal<maslin::diagonal<S, Form>> {
  using mixer = maslin::diagonal<S, Form>;
  using R = typename mixer::scalar_type;
  static constexpr int parts = mixer::parts;

  /// maslin::diagonal::backward, which documents it.
  template <class Policy>
  static void run(const mixer& m, const Policy& policy, const typename mixer::tokens& u,
                  const typename mixer::saved& keep, view<const S, 3> dy,
                  const typename mixer::gradients& d, typename mixer::state& dstate) {
    const check::caller who{"diagonal", "backward"};
    scan::check_policy(who, policy);
    auto source = checked(who, m, u, keep, dy, d, dstate);
    kernel& first = source.first;
    first.streaming = !d.accumulate && streams(policy, source.moved_bytes);
    if (d.decay.data_handle() == nullptr) return scan::run(policy, source, dstate);

    // One sum for each sequence and channel, then one over the sequences: the same order for every
    // number of threads.
    const index_t sequences = source.sequences(), row = dstate.sequence_size();
    const auto numbers = static_cast<std::size_t>(sequences * row);
    R* const sums = reinterpret_cast<R*>(dstate.workspace().reserve(numbers));
    std::fill_n(sums, numbers, R(0));
    first.sums = sums;
    first.sums_row = row;
    scan::run(in_order(policy), source, dstate);
    for (index_t c = 0; c < m.channels; ++c)
      for (int k = 0; k < parts; ++k) {
        R sum = 0;
        for (index_t b = 0; b < sequences; ++b)
          sum += scan::state_of(sums + b * row, c, parts)[k * scan::state_lanes];
        R& to = mixer::numbers(d.decay.data_handle())[c * parts + k];
        to = d.accumulate ? to + sum : sum;
      }
  }

 private:
  template <class V>
  using algebra =
      std::conditional_t<parts == 2, recurrence::adjoint_complex_diagonal<V>,
                         recurrence::adjoint_diagonal<V, Form == maslin::decay::complement>>;

  struct kernel : reverse_kernel<kernel, R, 2> {
    template <class V>
    using recurrence = algebra<V>;
    static constexpr int order = parts;
    static constexpr std::array<index_t, 2> per_channel{parts, parts};  // gate, input
    template <class V>
    static constexpr bool streams_registers = false;  // two half lines in turn: measured 3x slower

    scan::token_rows<const R> gate{};
    R* sums = nullptr;  // of a fixed decay
    index_t sums_row = 0;

    [[nodiscard]] kernel shifted(index_t b, index_t t) const noexcept {
      kernel k = *this;
      k.shift(b, t);
      k.gate.shift(b, t);
      return k;
    }
    void enter(index_t b) noexcept {
      kernel::reverse_kernel::enter(b);
      if (sums != nullptr) sums += b * sums_row;
    }
    /// The n channels from c on of one row.
    template <class V, class N>
    static void load(const R* row, index_t c, N n,
                     V (&x)[static_cast<std::size_t>(parts)]) noexcept {
      simd::load_columns<V, parts>(row + parts * c, parts, n, x);
    }
    template <class V, class N>
    void decay_of(index_t t, index_t c, N n,
                  V (&a)[static_cast<std::size_t>(parts)]) const noexcept {
      load<V>(gate.at(t), c, n, a);
      if constexpr (Form == maslin::decay::log) a[0] = simd::exp(a[0]);
    }
    template <class V, class N>
    [[nodiscard]] typename algebra<V>::token token(index_t r, index_t c, N n) const noexcept {
      const index_t t = this->time_of(r);
      V a[static_cast<std::size_t>(parts)], x[static_cast<std::size_t>(parts)];
      decay_of<V>(t, c, n, a);
      load<V>(this->dy.at(t), c, n, x);
      if constexpr (parts == 2)
        return {a[0], a[1], x[0], x[1]};
      else
        return {a[0], x[0]};
    }
    /// h[t-1]
    template <class V, bool Early, class N>
    void earlier(index_t t, index_t c, N n,
                 V (&h)[static_cast<std::size_t>(parts)]) const noexcept {
      if (!Early || t > 0) return load<V>(this->y.at(t - 1), c, n, h);
      const R* const from = scan::state_of(this->before, c, parts);
      each<parts>([&](int k) { h[k] = lane<V>::load(from + k * scan::state_lanes); });
    }
    template <class V, scan::leave How, class N>
    void store(const gradient_row<R>& to, index_t c, N n,
               V (&x)[static_cast<std::size_t>(parts)]) const noexcept {
      if (!to) return;
      if (this->accumulate) {
        V old[static_cast<std::size_t>(parts)];
        simd::load_columns<V, parts>(to.at(c), to.step, n, old);
        each<parts>([&](int k) { x[k] = old[k] + x[k]; });
      }
      simd::store_columns<V, parts, How == scan::leave::past_cache>(to.at(c), to.step, n, x);
    }
    template <class V, bool Early, scan::leave How, class N>
    void back(index_t t, index_t c, N n, R* carry,
              const typename kernel::row_set& to) const noexcept {
      using L = lane<V>;
      V a[static_cast<std::size_t>(parts)], h[static_cast<std::size_t>(parts)],
          s[static_cast<std::size_t>(parts)], da[static_cast<std::size_t>(parts)],
          next[static_cast<std::size_t>(parts)];
      decay_of<V>(t, c, n, a);
      earlier<V, Early>(t, c, n, h);
      load<V>(this->dy.at(t), c, n, s);
      each<parts>([&](int k) { s[k] = s[k] + L::load(carry + k * scan::state_lanes); });
      if constexpr (parts == 2) {
        // conj(a) s, and s conj(h) = conj(h) s.
        algebra<V>::carry(a[0], a[1], s[0], s[1], next);
        algebra<V>::carry(h[0], h[1], s[0], s[1], da);
      } else {
        next[0] = algebra<V>::carry(a[0], s[0]);
        if constexpr (Form == maslin::decay::log)
          da[0] = next[0] * h[0];
        else if constexpr (Form == maslin::decay::complement)
          da[0] = L::broadcast(R(0)) - s[0] * h[0];
        else
          da[0] = s[0] * h[0];
      }
      each<parts>([&](int k) { L::store(carry + k * scan::state_lanes, next[k]); });
      if (sums != nullptr) add_to_sums<V>(c, da);
      store<V, How>(to[0], c, n, da);
      store<V, How>(to[1], c, n, s);
    }
    template <class V>
    void add_to_sums(index_t c, const V (&da)[static_cast<std::size_t>(parts)]) const noexcept {
      R* const sum = scan::state_of(sums, c, parts);
      each<parts>([&](int k) {
        R* const at = sum + k * scan::state_lanes;
        lane<V>::store(at, lane<V>::load(at) + da[k]);
      });
    }
  };

  /// Rows of real numbers, a complex one being two.
  template <class T>
  [[nodiscard]] static auto real_rows(const view<T, 3>& v) noexcept {
    auto* const p = mixer::numbers(v.data_handle());
    using number = std::remove_pointer_t<decltype(p)>;
    return scan::token_rows<number>{p, parts * v.stride(0), parts * v.stride(1)};
  }

  static scan::source<kernel> checked(const check::caller& who, const mixer& m,
                                      const typename mixer::tokens& u,
                                      const typename mixer::saved& keep, const view<const S, 3>& dy,
                                      const typename mixer::gradients& d,
                                      const typename mixer::state& dstate) {
    const index_t B = dy.extent(0), T = dy.extent(1), D = m.channels;
    const std::array<index_t, 3> wanted{B, T, D};
    const bool fixed = m.decay.data_handle() != nullptr;
    check::count(who, "channels", D);
    memory_of_call memory(who);
    memory.reads("dy", "[B, T, D]", dy, wanted);
    memory.reads("saved.y", "[B, T, D]", keep.y, wanted);
    if (fixed) {
      memory.reads("decay", "[D]", m.decay, {D}, 0);
      for (const auto& [name, given] :
           {std::pair{"gate", u.gate.data_handle() != nullptr},
            std::pair{"gradients.gate", d.gate.data_handle() != nullptr}})
        if (given)
          who.refuse(std::string(name) + " must be empty where decay is fixed, got a pointer");
    } else {
      memory.reads("gate", "[B, T, D]", u.gate, wanted);
      if (d.decay.data_handle() != nullptr)
        who.refuse("gradients.decay must be empty where tokens bring gates, got a pointer");
    }
    check_states(who, u.offsets, B, T, D, parts, keep.initial, dstate, memory);
    const bool gate = memory.writes("gradients.gate", "[B, T, D]", d.gate, wanted);
    const bool input = memory.writes("gradients.input", "[B, T, D]", d.input, wanted);
    memory.writes("gradients.decay", "[D]", d.decay, {D}, 0);

    kernel k;
    if (gate) k.out[0] = {real_rows(d.gate), parts, 1};
    if (input) k.out[1] = {real_rows(d.input), parts, 1};
    k.y = real_rows(keep.y);
    k.dy = real_rows(dy);
    k.gate = fixed ? scan::token_rows<const R>{mixer::numbers(m.decay.data_handle()), 0, 0}
                   : real_rows(u.gate);
    k.begin_at(keep.initial);
    k.length = T;
    k.offsets = u.offsets;
    k.accumulate = d.accumulate;
    const index_t moved_bytes = B * T * D * 5 * static_cast<index_t>(sizeof(S));
    return {.first = k,
            .batch = B,
            .length = T,
            .offsets = u.offsets,
            .channel_count = D,
            .moved_bytes = moved_bytes};
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
