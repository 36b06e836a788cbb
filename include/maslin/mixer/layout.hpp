// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The two orders of gates in memory, and the ways between them.
///
///   natural   [.., D, M + 1]         the papers' order, the input gate last
///             [.., G, M, M + 1]      for BD-LRU
///   grouped   [.., D / L, M + 1, L]  L channels or blocks side by side, the last group padded
///             [.., G / L, M, M + 1, L]
///
/// Grouped gates are the fastest to read at L = 8 (`default_group`); other powers of two are read one
/// channel at a time. A group is dense: its gates follow each other without gaps. L belongs to the
/// data, not to the instruction set.

#include <maslin/core/check.hpp>
#include <maslin/core/view.hpp>
#include <maslin/simd/columns.hpp>

#include <bit>
#include <type_traits>

namespace maslin::inline MASLIN_ABI {

/// Channels of a group where nothing asks for another number.
inline constexpr index_t default_group = 8;

namespace layout {

/// Groups of L that hold n channels.
[[nodiscard]] constexpr index_t groups(index_t n, index_t L) noexcept { return (n + L - 1) / L; }

/// The group size of a grouped gate view: its last extent, a power of two; `default_group` for a
/// view without elements.
template <class S, int Rank>
[[nodiscard]] index_t group_of(const check::caller& who, const view<S, Rank>& gate) {
  const index_t L = gate.extent(Rank - 1);
  if (L == 0) return default_group;
  if (L < 0 || !std::has_single_bit(static_cast<std::size_t>(L)))
    who.refuse("gate's last extent L must be a power of two, got " + std::to_string(L));
  return L;
}

/// Where the gates of channels (or blocks) lie in grouped order, for kernels. Groups of
/// `default_group` are read in registers, others one channel at a time.
template <class S>
struct grouped_gates {
  const S* first;  // gate 0 of group 0
  index_t step;    // from group to group
  int shift;       // log2 of L

  /// Where gate 0 of channel c lies, c a multiple of the lanes of V; groups are of `default_group`.
  template <class V>
  [[nodiscard]] const S* place(index_t c) const noexcept {
    constexpr index_t L = default_group;
    if constexpr (lane<V>::width % default_group == 0) return first + c / L * step;
    const auto u = static_cast<std::size_t>(c);  // unsigned: division is then a shift
    return first + static_cast<index_t>(u / L) * step + u % L;
  }
  /// Gate k of channels c .. c + width - 1. A register wider than a group is read from two.
  template <class V, class N>
  [[nodiscard]] V load(index_t c, N n, index_t k) const noexcept {
    if constexpr (simd::is_twin<V>) {
      return load_twin<V>(place<V>(c) + k * default_group);
    } else if constexpr (lane<V>::width == 1) {
      const index_t L = index_t{1} << shift;
      return first[(c >> shift) * step + k * L + (c & (L - 1))];
    } else {
      constexpr index_t L = default_group;
      const S* at = place<V>(c) + k * L;
      if constexpr (lane<V>::width > L)
        return simd::load_halves<V>(at, n > L ? at + step : nullptr);
      else
        return lane<V>::load(at);
    }
  }

  /// Gates 0 .. K - 1, all that a channel has. Registers of two groups that lie side by side are read whole.
  template <class V, int K, class N>
  void load_all(index_t c, N n, V (&z)[static_cast<std::size_t>(K)]) const noexcept {
    constexpr index_t L = default_group;
    if constexpr (!simd::is_twin<V> && lane<V>::width == 2 * L && std::is_same_v<N, all_lanes<V>>)
      if (step == K * L) return simd::load_all_halves<V, K>(first + c * K, z);
    each<K>([&](int k) { z[k] = load<V>(c, n, k); });
  }

 private:
  template <class V>
  [[nodiscard, gnu::always_inline]] V load_twin(const S* at) const noexcept {
    using half = decltype(V::first);
    constexpr index_t width = lane<half>::width, L = default_group;
    if constexpr (width > L)
      return {simd::load_halves<half>(at, at + step),
              simd::load_halves<half>(at + 2 * step, at + 3 * step)};
    else
      return {lane<half>::load(at), lane<half>::load(width < L ? at + width : at + step)};
  }
};

/// Lanes that may be read together: see `grouped_gates`.
[[nodiscard]] constexpr index_t lane_multiple(index_t L) noexcept {
  return L == default_group ? L : 1;
}

/// Checks that the gates of a group lie densely in it: `inner` axes, the last being L.
template <class S, int Rank>
void expect_dense_groups(const check::caller& who, const view<S, Rank>& gate, int first_inner) {
  index_t dense = 1;
  for (int r = Rank - 1; r >= first_inner; --r) {
    if (gate.extent(r) > 1 && gate.stride(r) != dense)
      who.refuse("gate must be dense inside a group, got strides " + check::list(gate.strides()));
    dense *= gate.extent(r);
  }
}

}  // namespace layout

/// Copies H-LRU gates from natural to grouped order.
/// shapes    natural [B, T, D, M+1]   grouped [B, T, ceil(D/L), M+1, L]
/// layout    last axes unit stride, B and T strides free; L, the last extent, a power of two
/// aliasing  grouped must not overlap natural
/// numerics  bits are moved; the padding of the last group is written as 0
/// cost      one copy a gate; no allocation
/// throws    shape_error before any write
template <class S>
void regroup_gate(const view<const S, 4>& natural, const view<S, 5>& grouped) {
  const check::caller who{"", "regroup_gate"};
  const index_t B = natural.extent(0), T = natural.extent(1), D = natural.extent(2),
                K = natural.extent(3), L = layout::group_of(who, grouped);
  const auto in =
      check::layout<const S, 4>(who, "natural", "[B, T, D, M+1]", natural, {B, T, D, K}, 2);
  const auto out = check::layout<S, 5>(who, "grouped", "[B, T, ceil(D/L), M+1, L]", grouped,
                                       {B, T, layout::groups(D, L), K, L}, 2);
  check::writable(who, "grouped", out);
  check::disjoint(who, "grouped", out, "natural", in);
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < layout::groups(D, L) * L; ++c)
        for (index_t k = 0; k < K; ++k)
          grouped(b, t, c / L, k, c % L) = c < D ? natural(b, t, c, k) : S(0);
}

/// Copies BD-LRU gates from natural to grouped order.
/// shapes    natural [B, T, G, M, M+1]   grouped [B, T, ceil(G/L), M, M+1, L]
/// layout    last axes unit stride, B and T strides free; L, the last extent, a power of two
/// aliasing  grouped must not overlap natural
/// numerics  bits are moved; the padding of the last group is written as 0
/// cost      one copy a gate; no allocation
/// throws    shape_error before any write
template <class S>
void regroup_gate(const view<const S, 5>& natural, const view<S, 6>& grouped) {
  const check::caller who{"", "regroup_gate"};
  const index_t B = natural.extent(0), T = natural.extent(1), G = natural.extent(2),
                M = natural.extent(3), K = natural.extent(4), L = layout::group_of(who, grouped);
  const auto in =
      check::layout<const S, 5>(who, "natural", "[B, T, G, M, M+1]", natural, {B, T, G, M, K}, 2);
  const auto out = check::layout<S, 6>(who, "grouped", "[B, T, ceil(G/L), M, M+1, L]", grouped,
                                       {B, T, layout::groups(G, L), M, K, L}, 2);
  check::writable(who, "grouped", out);
  check::disjoint(who, "grouped", out, "natural", in);
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t g = 0; g < layout::groups(G, L) * L; ++g)
        for (index_t i = 0; i < M; ++i)
          for (index_t k = 0; k < K; ++k)
            grouped(b, t, g / L, i, k, g % L) = g < G ? natural(b, t, g, i, k) : S(0);
}
template <class S, int From, int To>
  requires(!std::is_const_v<S>)
void regroup_gate(const view<S, From>& natural, const view<S, To>& grouped) {
  regroup_gate(view<const S, From>(natural), grouped);
}

/// Permutes the rows of a gate projection once, after which the projection emits grouped gates.
///   grouped row (c / L, k, c % L) = natural row (c, k),  k < rows_per_channel
/// where rows_per_channel is M + 1 for H-LRU (c a channel) and M (M + 1) for BD-LRU (c a block).
/// shapes    weight [channels * rows_per_channel, width]   bias of as many rows, or empty
///           grouped_weight, grouped_bias: the same with channels rounded up to a multiple of L
/// layout    width unit stride, row strides free
/// aliasing  grouped_weight must not overlap weight, nor grouped_bias bias
/// numerics  bits are moved; rows of padding are written as 0
/// cost      one copy a number; no allocation
/// throws    shape_error before any write
template <index_t L = default_group, class S>
void regroup_rows(index_t channels, index_t rows_per_channel, const view<const S, 2>& weight,
                  const view<const S, 1>& bias, const view<S, 2>& grouped_weight,
                  const view<S, 1>& grouped_bias) {
  static_assert(L > 0 && std::has_single_bit(static_cast<std::size_t>(L)),
                "the group size is a power of two");
  const check::caller who{"", "regroup_rows"};
  check::count(who, "channels", channels);
  check::count(who, "rows_per_channel", rows_per_channel);
  index_t rows = 0, room = 0;
  if (__builtin_mul_overflow(channels, rows_per_channel, &rows) ||
      __builtin_add_overflow(rows, L * rows_per_channel, &room))
    who.refuse("channels * rows_per_channel must fit in memory, got " + std::to_string(channels) +
               " * " + std::to_string(rows_per_channel));
  const index_t width = weight.extent(1), padded = layout::groups(channels, L) * L;
  const bool biased = bias.data_handle() != nullptr || grouped_bias.data_handle() != nullptr;
  const auto in = check::layout<const S, 2>(who, "weight", "[channels * rows, width]", weight,
                                            {rows, width}, 1);
  const auto out = check::layout<S, 2>(who, "grouped_weight", "[padded channels * rows, width]",
                                       grouped_weight, {padded * rows_per_channel, width}, 1);
  check::disjoint(who, "grouped_weight", out, "weight", in);
  if (biased) {
    const auto bias_in =
        check::layout<const S, 1>(who, "bias", "[channels * rows]", bias, {rows}, 0);
    const auto bias_out = check::layout<S, 1>(who, "grouped_bias", "[padded channels * rows]",
                                              grouped_bias, {padded * rows_per_channel}, 0);
    check::disjoint(who, "grouped_bias", bias_out, "bias", bias_in);
    check::disjoint(who, "grouped_bias", bias_out, "weight", in);
    check::disjoint(who, "grouped_bias", bias_out, "grouped_weight", out);
    check::disjoint(who, "grouped_weight", out, "bias", bias_in);
  }
  for (index_t c = 0; c < padded; ++c)
    for (index_t k = 0; k < rows_per_channel; ++k) {
      const index_t from = c * rows_per_channel + k;
      const index_t to = (c / L * rows_per_channel + k) * L + c % L;
      for (index_t i = 0; i < width; ++i)
        grouped_weight(to, i) = c < channels ? weight(from, i) : S(0);
      if (biased) grouped_bias(to) = c < channels ? bias(from) : S(0);
    }
}

}  // namespace maslin::inline MASLIN_ABI
