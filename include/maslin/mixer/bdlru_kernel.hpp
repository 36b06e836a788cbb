// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One sequence of BD-LRU as a schedule sees it (scan/kernel.hpp).

#include <maslin/core/types.hpp>
#include <maslin/mixer/hlru_kernel.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/recurrence/block.hpp>
#include <maslin/recurrence/normalise.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/simd/columns.hpp>
#include <maslin/simd/stream.hpp>

#include <bit>
#include <type_traits>

namespace maslin::inline MASLIN_ABI {

/// Blocks of M rows of M + 1 gates, normalised by N as they are read. `Packed`: blocks lie side by
/// side everywhere, at distances known to the compiler.
template <class S, int M, normalise N, gates Order, bool Packed>
struct bdlru_kernel {
  /// How far ahead of their use gates are asked for, in bytes. Measured: given gates are one stream, which
  /// hardware prefetchers follow and far software prefetch slows; rows of 8 gain from the next row alone,
  /// which is asked for while this one waits. Natural order turns rows as it reads them, and arithmetic between
  /// loads keeps hardware from running ahead of normalised gates, less so in many rows of cheap weights.
  static constexpr index_t fetch_distance = [] {
    if (Order == gates::natural && !maslin::recurrence::costly_weights<N> &&
        (N == normalise::none || M >= 7))
      return M > 8 ? 3072 : M > 4 && M < 8 ? 1280 : 1536;
    if (N == normalise::none) return M < 4 ? 1024 : M < 8 ? 512 : 256;
    return M >= 8 && !maslin::recurrence::costly_weights<N> ? 1280 : 2048;
  }();

  /// True if natural gates of V are turned a register of every block at a time, lines to come being asked
  /// for in between.
  template <class V, class N_>
  static constexpr bool turns_registers =
      Order == gates::natural&& M <= 8 && simd::loads_registers<V, M*(M + 1), N_> &&
      !maslin::recurrence::raised_later<N>;

  /// A token whose rows are normalised when the step asks for them. Natural gates have been
  /// transposed into lanes; grouped ones are read where they lie.
  template <class V, class N_>
  struct lazy_token {
    static constexpr bool transposed = Order == gates::natural;
    struct in_memory {
      layout::grouped_gates<S> group;
      index_t block;
      N_ count;
    };
    using gate_source =
        std::conditional_t<transposed, V[static_cast<std::size_t>(M * (M + 1))], in_memory>;

    gate_source gate;
    V input[static_cast<std::size_t>(M)];
    const S* fetch;  // where these blocks' gates begin, if the call streams from memory; else null
    index_t apart;   // of what is asked for, if a run of blocks is walked: see simd::prefetch_row

    void logits(int i, V (&z)[static_cast<std::size_t>(M) + 1]) const noexcept {
      if constexpr (lane<V>::width > 1)
        if (fetch != nullptr) {
          // The lines that begin in this row of the group.
          constexpr index_t row_bytes = lane<V>::width * (M + 1) * static_cast<index_t>(sizeof(S));
          const auto line = [&](index_t bytes) {
            return (bytes + simd::cache_line - 1) / simd::cache_line;
          };
          for (index_t n = line(i * row_bytes); n < line((i + 1) * row_bytes); ++n)
            simd::prefetch_row<simd::cache_line, fetch_distance>(
                reinterpret_cast<const char*>(fetch) + n * simd::cache_line, apart);
        }
      each<M + 1>([&](int k) {
        if constexpr (transposed)
          z[k] = gate[i * (M + 1) + k];
        else
          z[k] = gate.group.template load<V>(gate.block, gate.count, i * (M + 1) + k);
      });
    }
    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int i) const noexcept {
      V z[static_cast<std::size_t>(M) + 1];
      logits(i, z);
      return maslin::recurrence::normalised_row<N, V, M>(z, [&] { return input[i]; });
    }
  };

  /// A token whose numbers lie turned, those of a block `lanes` apart.
  template <class V>
  struct turned {
    const S* gates;
    const S* input;

    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int i) const noexcept {
      constexpr index_t width = lane<V>::width;
      V z[static_cast<std::size_t>(M) + 1];
      each<M + 1>([&](int k) { z[k] = lane<V>::load(gates + (i * (M + 1) + k) * width); });
      return maslin::recurrence::normalised_row<N, V, M>(
          z, [&] { return lane<V>::load(input + i * width); });
    }
  };

  /// A token whose weights have been made.
  template <class V>
  struct weighed {
    const S* from;
    V input[static_cast<std::size_t>(M)];

    [[nodiscard]] maslin::recurrence::gate_row<V, M> row(int i) const noexcept {
      V w[static_cast<std::size_t>(M) + 1];
      each<M + 1>([&](int k) { w[k] = lane<V>::load(from + (i * (M + 1) + k) * lane<V>::width); });
      return maslin::recurrence::finished_row<N, V, M>(w, input[i]);
    }
  };

  using scalar_type = S;
  template <class V>
  using recurrence = maslin::recurrence::block<V, M>;
  static constexpr int order = M, outputs = M;
  static constexpr int weights =
      maslin::recurrence::bundled_weights<N, std::size_t{M} + 1> ? M * (M + 1) : 0;
  static constexpr bool wide_lanes = true;
  /// Given gates of many rows are read and little else is done: registers that a group fills read one
  /// stream, wider ones two, and leave their outputs in longer bursts. Measured with 16 lanes: 8 take 0.84
  /// to 0.93 of their time.
  static constexpr int most_lanes = N == normalise::none && Order == gates::grouped && M >= 4
                                        ? static_cast<int>(default_group)
                                        : simd::native_width<S>;
  static constexpr int arrays = 2;
  static constexpr index_t run_bytes = scan::gated_run_bytes<M> / (M + 1);
  static constexpr auto costs = maslin::recurrence::costly_weights<N>
                                    ? scan::cost_family::block_weighed
                                    : scan::cost_family::block;

  const S* gate;
  const S* input;
  S* out;
  index_t gate_batch, gate_time;
  index_t gate_step;  // natural: from block to block; grouped: from group to group
  int group_shift;    // grouped: log2 of L
  index_t input_batch, input_time, input_step, out_batch, out_time, out_step;
  bool fetch;                // the call streams from memory
  index_t fetch_tokens = 0;  // of runs of channels: how far ahead they ask

  [[nodiscard]] bdlru_kernel shifted(index_t b, index_t t) const noexcept {
    bdlru_kernel k = *this;
    k.gate += b * gate_batch + t * gate_time;
    k.input += b * input_batch + t * input_time;
    k.out += b * out_batch + t * out_time;
    return k;
  }
  static constexpr index_t packed_gates =
      M * (M + 1) * (Order == gates::natural ? 1 : default_group);
  [[nodiscard]] bool is_packed() const noexcept {
    return gate_step == packed_gates && input_step == M && out_step == M;
  }
  /// Blocks of one number are channels of H-LRU of order 1, to the last bit.
  [[nodiscard]] auto packed() const noexcept {
    if constexpr (M == 1)
      return channels();
    else
      return std::bit_cast<bdlru_kernel<S, M, N, Order, true>>(*this);
  }
  [[nodiscard]] bdlru_kernel<S, M, N, Order, false> general() const noexcept {
    return std::bit_cast<bdlru_kernel<S, M, N, Order, false>>(*this);
  }
  [[nodiscard]] hlru_kernel<S, 1, N, Order, gate_side::read> channels() const noexcept {
    return {.gate = gate,
            .input = input,
            .out = out,
            .gate_batch = gate_batch,
            .gate_time = gate_time,
            .gate_step = gate_step,
            .group_shift = group_shift,
            .input_batch = input_batch,
            .input_time = input_time,
            .out_batch = out_batch,
            .out_time = out_time,
            .fetch = fetch,
            .fetch_tokens = fetch_tokens};
  }
  [[nodiscard]] index_t gates_apart() const noexcept { return Packed ? packed_gates : gate_step; }
  [[nodiscard]] index_t values_apart() const noexcept { return Packed ? M : input_step; }

  template <class V, class N_>
  [[nodiscard]] lazy_token<V, N_> token(index_t t, index_t c, N_ n) const noexcept {
    lazy_token<V, N_> u;
    gates_of<V>(t, c, n, u);
    values<V>(t, c, n, u.input);
    return u;
  }
  template <class V, class N_>
  void weigh(index_t t, index_t c, N_ n, S* to) const noexcept {
    lazy_token<V, N_> u;
    gates_of<V>(t, c, n, u);
    if constexpr (maslin::recurrence::raised_later<N>) u.fetch = nullptr;
    const auto weigh_row = [&](int i) {
      V z[static_cast<std::size_t>(M) + 1], w[static_cast<std::size_t>(M) + 1];
      u.logits(i, z);
      maslin::recurrence::begin_row<N>(z, w);
      each<M + 1>([&](int k) { lane<V>::store(to + (i * (M + 1) + k) * lane<V>::width, w[k]); });
    };
    for (int i = 0; i < M; ++i) weigh_row(i);
  }
  template <class V>
  void raise(index_t t, index_t c, index_t n, S* exponents) const noexcept {
    const bool fetches = lane<V>::width > 1 && fetch;
    maslin::recurrence::raise_rows<N, std::size_t{M} + 1, V>(
        exponents, n * M, fetches ? gates_from<V>(t, c) : nullptr);
  }
  /// Where the gates of a register of blocks begin.
  template <class V>
  [[nodiscard]] const S* gates_from(index_t t, index_t c) const noexcept {
    const S* row = gate + t * gate_time;
    if constexpr (Order == gates::natural)
      return row + c * gates_apart();
    else
      return layout::grouped_gates<S>{row, gates_apart(), group_shift}.template place<V>(c);
  }
  template <class V, class N_>
  [[nodiscard]] weighed<V> weighed_token(index_t t, index_t c, N_ n, const S* from) const noexcept {
    weighed<V> u;
    u.from = from;
    values<V>(t, c, n, u.input);
    return u;
  }
  template <class V, class N_>
  void gates_of(index_t t, index_t c, N_ n, lazy_token<V, N_>& u) const noexcept {
    const S* const from = gates_from<V>(t, c);
    u.fetch = fetch ? from : nullptr;
    u.apart = fetch_tokens * gate_time * static_cast<index_t>(sizeof(S));
    if constexpr (Order != gates::natural) {
      u.gate = {{gate + t * gate_time, gates_apart(), group_shift}, c, n};
    } else if constexpr (turns_registers<V, N_>) {
      // Turning takes longer than the arithmetic: what comes next is asked for between its parts.
      constexpr index_t part = lane<V>::width * lane<V>::width,
                        line = simd::cache_line / static_cast<index_t>(sizeof(S));
      simd::load_columns<V, M*(M + 1)>(
          from, gates_apart(), u.gate, [&](index_t q) __attribute__((always_inline)) {
            if (!fetch) return;
            for (index_t i = q * part; i < (q + 1) * part; i += line)
              simd::prefetch_row<simd::cache_line, fetch_distance>(from + i, u.apart);
          });
      u.fetch = nullptr;
    } else {
      simd::load_columns<V, M*(M + 1)>(from, gates_apart(), n, u.gate);
    }
  }
  template <class V, class N_>
  void values(index_t t, index_t c, N_ n, V (&v)[static_cast<std::size_t>(M)]) const noexcept {
    const S* row = input + t * input_time + c * values_apart();
    if constexpr (lane<V>::width > 1)
      if (fetch)
        simd::prefetch_row<lane<V>::width * M* static_cast<index_t>(sizeof(S)), fetch_distance>(
            row, fetch_tokens * input_time * static_cast<index_t>(sizeof(S)));
    simd::load_columns<V, M>(row, values_apart(), n, v);
  }
  template <class V, class N_>
  void emit(S* to, index_t stride, N_ n, const typename recurrence<V>::state& h) const noexcept {
    simd::store_columns<V, M>(to, Packed ? M : stride, n, h.h);
  }
  template <class V>
    requires(Packed&& simd::streams_columns<V, M>)
  void stream(S* to, const typename recurrence<V>::state& h) const noexcept {
    simd::store_columns<V, M, true>(to, index_t{M}, all_lanes<V>{}, h.h);
  }
  [[nodiscard]] S* y(index_t t, index_t c) const noexcept {
    return out + t * out_time + c * out_step;
  }
  [[nodiscard]] index_t y_stride() const noexcept { return out_step; }
  [[nodiscard]] scan::token_array<S> array(int i) const noexcept {
    if (i != 0) return {input, input_time, input_step == M ? M : 0};
    const bool dense = Order == gates::natural && gate_step == M * (M + 1);
    return {gate, gate_time, dense ? M * (M + 1) : 0};
  }
  template <class V>
  [[nodiscard]] turned<V> turned_token(const S* const (&from)[2], index_t c) const noexcept {
    constexpr index_t width = lane<V>::width;
    return {from[0] + c * M * (M + 1) * width, from[1] + c * M * width};
  }
};

}  // namespace maslin::inline MASLIN_ABI
