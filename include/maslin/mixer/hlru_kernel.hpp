// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One sequence of H-LRU as a schedule sees it (scan/kernel.hpp); blocks of one number are walked as
/// the same.

#include <maslin/core/types.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/normalise.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/stream.hpp>

#include <type_traits>

namespace maslin::inline MASLIN_ABI {

/// Gates of M + 1 numbers a channel, normalised by N as they are read.
template <class S, int M, normalise N, gates Order, gate_side Side>
struct hlru_kernel {
  template <class V>
  using algebra = std::conditional_t<Side == gate_side::read, maslin::recurrence::companion<V, M>,
                                     maslin::recurrence::write_side_companion<V, M>>;

  /// How far ahead of their use gates are asked for, in bytes. Measured: given gates are one stream, which
  /// hardware prefetchers follow and far software prefetch slows, unless rows are turned as they are read;
  /// arithmetic between loads keeps them from running ahead of normalised ones, but for many rows of cheap
  /// weights.
  static constexpr index_t fetch_distance = [] {
    if (N == normalise::none && Order == gates::natural) return 1536;
    if (N == normalise::none) return M < 8 ? 1024 : 512;
    return M < 8 || maslin::recurrence::costly_weights<N> ? 2048 : 1024;
  }();

  /// A token that is read and normalised when the step asks for its row, so that the row is made in
  /// registers and never copied.
  template <class V, class N_>
  struct lazy_token {
    const hlru_kernel& in;
    index_t t, c;
    N_ n;

    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int) const noexcept {
      V z[static_cast<std::size_t>(M) + 1];
      in.template logits<V>(t, c, n, z);
      return maslin::recurrence::normalised_row<N, V, M>(
          z, [&] { return in.template values<V>(t, c, n); });
    }
    [[nodiscard]] typename algebra<V>::token made() const noexcept { return {row(0)}; }
  };

  /// A token whose numbers lie turned, those of a channel `lanes` apart.
  template <class V>
  struct turned {
    const S* gates;
    const S* input;

    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int) const noexcept {
      V z[static_cast<std::size_t>(M) + 1];
      each<M + 1>([&](int k) { z[k] = lane<V>::load(gates + k * lane<V>::width); });
      return maslin::recurrence::normalised_row<N, V, M>(z, [&] { return lane<V>::load(input); });
    }
  };

  /// A token whose weights have been made.
  template <class V, class N_>
  struct weighed {
    const hlru_kernel& in;
    index_t t, c;
    N_ n;
    const S* from;

    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int) const noexcept {
      V w[static_cast<std::size_t>(M) + 1];
      each<M + 1>([&](int k) { w[k] = lane<V>::load(from + k * lane<V>::width); });
      return maslin::recurrence::finished_row<N, V, M>(w, in.template values<V>(t, c, n));
    }
    [[nodiscard]] typename algebra<V>::token made() const noexcept { return {row(0)}; }
  };

  using scalar_type = S;
  template <class V>
  using recurrence = algebra<V>;
  static constexpr int order = M, outputs = 1;
  static constexpr int weights =
      maslin::recurrence::bundled_weights<N, std::size_t{M} + 1> ? M + 1 : 0;
  // A sigmoid is one long chain of operations.
  static constexpr bool twins = M == 1 && N == normalise::softmax;
  static constexpr bool output_is_newest = !twins;
  /// Measured: g++ 12 keeps what it turns in memory where M steps are written out.
  static constexpr bool ages = Order == gates::grouped;
  static constexpr bool wide_lanes = true;
  static constexpr int arrays = 2;
  static constexpr index_t run_bytes = scan::gated_run_bytes<M> / (M + 1);
  static constexpr auto costs = maslin::recurrence::costly_weights<N>
                                    ? scan::cost_family::companion_weighed
                                    : scan::cost_family::companion;

  const S* gate;
  const S* input;
  S* out;
  index_t gate_batch, gate_time;
  index_t gate_step;  // natural: from channel to channel; grouped: from group to group
  int group_shift;    // grouped: log2 of L
  index_t input_batch, input_time, out_batch, out_time;
  bool fetch;                // the call streams from memory
  index_t fetch_tokens = 0;  // of runs of channels: how far ahead they ask

  [[nodiscard]] hlru_kernel shifted(index_t b, index_t t) const noexcept {
    hlru_kernel k = *this;
    k.gate += b * gate_batch + t * gate_time;
    k.input += b * input_batch + t * input_time;
    k.out += b * out_batch + t * out_time;
    return k;
  }
  template <class V, class N_>
  [[nodiscard]] lazy_token<V, N_> token(index_t t, index_t c, N_ n) const noexcept {
    return {*this, t, c, n};
  }
  template <class V, class N_>
  void weigh(index_t t, index_t c, N_ n, S* to) const noexcept {
    V z[static_cast<std::size_t>(M) + 1], w[static_cast<std::size_t>(M) + 1];
    if constexpr (lane<V>::width > 1)
      if (fetch) fetch_ahead<V, !maslin::recurrence::raised_later<N>>(t, c);
    gates_at<V>(t, c, n, z);
    maslin::recurrence::begin_row<N>(z, w);
    each<M + 1>([&](int k) { lane<V>::store(to + k * lane<V>::width, w[k]); });
  }
  template <class V>
  void raise(index_t t, index_t c, index_t n, S* exponents) const noexcept {
    const bool fetches = lane<V>::width > 1 && fetch;
    maslin::recurrence::raise_rows<N, std::size_t{M} + 1, V>(
        exponents, n, fetches ? gates_from<V>(t, c) : nullptr);
  }
  template <class V, class N_>
  [[nodiscard]] weighed<V, N_> weighed_token(index_t t, index_t c, N_ n,
                                             const S* from) const noexcept {
    return {*this, t, c, n, from};
  }
  /// The gates of the n channels from c on, M + 1 registers.
  template <class V, class N_>
  void logits(index_t t, index_t c, N_ n, V (&z)[static_cast<std::size_t>(M) + 1]) const noexcept {
    if constexpr (lane<V>::width > 1)
      if (fetch) fetch_ahead<V>(t, c);
    gates_at<V>(t, c, n, z);
  }
  template <class V, class N_>
  void gates_at(index_t t, index_t c, N_ n,
                V (&z)[static_cast<std::size_t>(M) + 1]) const noexcept {
    if constexpr (Order == gates::natural) {
      simd::load_columns<V, M + 1>(gate + t * gate_time + c * gate_step, gate_step, n, z);
    } else {
      const layout::grouped_gates<S> grouped{gate + t * gate_time, gate_step, group_shift};
      grouped.template load_all<V, M + 1>(c, n, z);
    }
  }
  template <class V, class N_>
  [[nodiscard]] V values(index_t t, index_t c, N_ n) const noexcept {
    return lane<V>::load(input + t * input_time + c, n);
  }
  /// Where the gates of a register of channels begin.
  template <class V>
  [[nodiscard]] const S* gates_from(index_t t, index_t c) const noexcept {
    const S* row = gate + t * gate_time;
    if constexpr (Order == gates::natural)
      return row + c * gate_step;
    else
      return layout::grouped_gates<S>{row, gate_step, group_shift}.template place<V>(c);
  }
  /// Asks for what tokens to come will read: a lane's gates and input, times the lanes. Inlined by
  /// force: g++ takes a function that only prefetches for one without effect and drops its calls.
  template <class V, bool Gates = true>
  [[gnu::always_inline]] void fetch_ahead(index_t t, index_t c) const noexcept {
    constexpr auto size = static_cast<index_t>(sizeof(S)), bytes = lane<V>::width * size;
    if constexpr (Gates)
      simd::prefetch_row<bytes*(M + 1), fetch_distance>(gates_from<V>(t, c),
                                                        fetch_tokens * gate_time * size);
    simd::prefetch_row<bytes, fetch_distance>(input + t * input_time + c,
                                              fetch_tokens * input_time * size);
  }
  template <class V, class N_>
  void emit(S* to, index_t, N_ n, const typename algebra<V>::state& h) const noexcept {
    lane<V>::store(to, h.h[0], n);
  }
  template <class V>
  void stream(S* to, const typename algebra<V>::state& h) const noexcept {
    simd::stream_register(to, h.h[0]);
  }
  [[nodiscard]] S* y(index_t t, index_t c) const noexcept { return out + t * out_time + c; }
  [[nodiscard]] static constexpr index_t y_stride() noexcept { return 1; }
  [[nodiscard]] scan::token_array<S> array(int i) const noexcept {
    if (i != 0) return {input, input_time, 1};
    const bool dense = Order == gates::natural && gate_step == M + 1;
    return {gate, gate_time, dense ? M + 1 : 0};
  }
  template <class V>
  [[nodiscard]] turned<V> turned_token(const S* const (&from)[2], index_t c) const noexcept {
    return {from[0] + c * (M + 1) * lane<V>::width, from[1] + c * lane<V>::width};
  }
};

}  // namespace maslin::inline MASLIN_ABI
