// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the adjoints of mixers with a matrix state walk a segment of time. Its rows are tokens, or
/// the micro-steps of the delta rule. With D the gradient of the state S that a row leaves,
///
///   D <- D + q dy^T                          what the row reads,          dq = S dy
///   dk = D v,   dv = D^T k                   what it writes
///   D <- D - k (beta dv)^T                   delta: what it writes is corrected by what it finds
///   da = sum D S_before,   D <- a D          what it keeps
///
/// Sums over keys are made where columns are lanes, on the state as it lies; sums over columns
/// where keys are lanes, on the transposed matrices: no sum crosses a register. States are made
/// again from the segment's first by the operations of the scan, so that they have its bits
/// wherever a segment begins; every sum is one chain of fma over ascending numbers.

#include <maslin/core/each.hpp>
#include <maslin/gradient/matrix_desk.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// The passes over rows of a desk.
template <class S, decay_axis Axis, bool Delta>
struct matrix_passes {
  using panels = matrix::panels<S>;
  static constexpr bool decays = Axis != decay_axis::none;

  const matrix_desk<S>& d;
  index_t steps = 1;  // micro-steps of a token, of which the first decays

  /// Rows of which not all decay go one by one.
  [[nodiscard]] bool grouped() const noexcept { return !decays || steps == 1; }

  /// States from the first, at d.states, and what is read from them: read = S dy, and with the
  /// delta rule answer = S~ corrected.
  template <class V>
  void replay(index_t n) const noexcept {
    index_t m = 0;
    S* from = d.states;
    const auto group = [&]<int T>(std::integral_constant<int, T>) {
      S* const to = from + d.state_step;
      if (decays && m % steps == 0)
        replay_rows<V, decays, T>(m, d.transposed(from), d.transposed(to));
      else
        replay_rows<V, false, T>(m, d.transposed(from), d.transposed(to));
      from = to;
      m += T;
    };
    while (grouped() && m + 4 <= n) group(std::integral_constant<int, 4>{});
    while (m < n) group(std::integral_constant<int, 1>{});
  }

  /// D by keys from the last row to the first: dkey = D v, and ddecay = a sum D S_before where it
  /// is wanted.
  template <class V>
  void reverse(index_t n, S* carried) const noexcept {
    const index_t fours = grouped() ? n / 4 * 4 : 0;
    index_t m = n;
    S* from = d.states + (fours / 4 + n - fours) * d.state_step;
    const auto group = [&]<int T>(std::integral_constant<int, T>) {
      from -= d.state_step;
      m -= T;
      if (decays && d.state_step != 0)
        reverse_rows<V, decays, T>(m, d.transposed(from), d.transposed(carried));
      else
        reverse_rows<V, false, T>(m, {}, d.transposed(carried));
    };
    while (m > fours) group(std::integral_constant<int, 1>{});
    while (m > 0) group(std::integral_constant<int, 4>{});
  }

 private:
  /// Registers of keys that go together.
  template <class V>
  static constexpr int side_by_side =
      lane<V>::width == matrix::panel_columns || lane<V>::width == 1 ? 1 : 2;

  /// What a row of keys holds from lane c on.
  template <class V, int T, int R>
  [[gnu::always_inline]] static void load_rows(
      const S* rows, index_t keys, index_t c,
      V (&to)[static_cast<std::size_t>(T)][static_cast<std::size_t>(R)]) {
    unrolled<T>([&](auto s) {
      unrolled<R>([&](auto r) {
        to[s][r] = lane<V>::load(rows + static_cast<index_t>(s()) * keys + c +
                                 static_cast<index_t>(r()) * lane<V>::width);
      });
    });
  }
  template <class V, int T, int R>
  [[gnu::always_inline]] static void store_rows(
      const V (&from)[static_cast<std::size_t>(T)][static_cast<std::size_t>(R)], S* rows,
      index_t keys, index_t c) {
    unrolled<T>([&](auto s) {
      unrolled<R>([&](auto r) {
        lane<V>::store(rows + static_cast<index_t>(s()) * keys + c +
                           static_cast<index_t>(r()) * lane<V>::width,
                       from[s][r]);
      });
    });
  }
  template <class V, int T, int R>
  [[gnu::always_inline]] static void clear(
      V (&x)[static_cast<std::size_t>(T)][static_cast<std::size_t>(R)]) {
    unrolled<T>([&](auto s) { unrolled<R>([&](auto r) { x[s][r] = lane<V>::broadcast(S(0)); }); });
  }

  /// The decays of T rows, in lanes of keys.
  template <class V, int T, int R>
  [[gnu::always_inline]] void load_decays(
      index_t m, index_t c,
      V (&to)[static_cast<std::size_t>(T)][static_cast<std::size_t>(R)]) const {
    if constexpr (Axis == decay_axis::key) load_rows<V, T, R>(d.decay + m * d.keys, d.keys, c, to);
    if constexpr (Axis == decay_axis::head)
      unrolled<T>([&](auto s) {
        unrolled<R>([&](auto r) {
          to[s][r] = lane<V>::broadcast(d.factor[m + static_cast<index_t>(s())]);
        });
      });
  }

  /// S <- a S + k v as the scan has it.
  template <class V, bool Decays>
  [[nodiscard, gnu::always_inline]] static V step(V a, V h, V k, V v) noexcept {
    if constexpr (Decays)
      return carry_state(a, h, k * v);
    else
      return lane<V>::fma(k, v, h);
  }

  template <class V, bool Decays, int T>
  void replay_rows(index_t m, const panels& from, const panels& to) const noexcept {
    constexpr int R = Decays || Delta ? 1 : side_by_side<V>;
    for (index_t c = 0; c < d.keys; c += R * lane<V>::width)
      replay_piece<V, Decays, T, R>(m, c, from, to);
  }

  /// T rows from m on, R registers of keys from c on: each line of the state stays in registers
  /// while the rows go by.
  template <class V, bool Decays, int T, int R>
  void replay_piece(index_t m, index_t c, const panels& from, const panels& to) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R), rows = static_cast<std::size_t>(T);
    V k[rows][registers], read[rows][registers];
    [[maybe_unused]] V a[rows][registers], answer[rows][registers];
    const index_t columns = d.columns, E = d.E;
    const S *v = d.value + m * columns, *dy = d.dy + m * columns;
    [[maybe_unused]] const S* corrected = Delta ? d.corrected + m * columns : nullptr;
    load_rows<V, T, R>(d.key + m * d.keys, d.keys, c, k);
    if constexpr (Decays) load_decays<V, T, R>(m, c, a);
    clear<V, T, R>(read);
    if constexpr (Delta) clear<V, T, R>(answer);
    const S* in = from.at(0, c);
    S* out = to.at(0, c);
    const auto line = [&](index_t e, auto reads) __attribute__((always_inline)) {
      V h[registers];
      unrolled<R>([&](auto r) { h[r] = L::load(in + static_cast<index_t>(r()) * L::width); });
      unrolled<T>([&](auto s) __attribute__((always_inline)) {
        const index_t at = static_cast<index_t>(s()) * columns + e;
        const V x = L::broadcast(v[at]);
        unrolled<R>([&](auto r) __attribute__((always_inline)) {
          if constexpr (Delta)
            answer[s][r] = L::fma(L::broadcast(corrected[at]), h[r], answer[s][r]);
          h[r] = step<V, Decays>(a[s][r], h[r], k[s][r], x);
          if constexpr (reads())
            read[s][r] = L::fma(L::broadcast(dy[at]), h[r], read[s][r]);
          else
            L::store(d.sums + (m + static_cast<index_t>(s())) * d.keys + c +
                         static_cast<index_t>(r()) * L::width,
                     h[r]);
        });
      });
      unrolled<R>([&](auto r) { L::store(out + static_cast<index_t>(r()) * L::width, h[r]); });
      in += matrix::panel_columns;
      out += matrix::panel_columns;
    };
    for (index_t e = 0; e < E; ++e) line(e, std::true_type{});
    if (d.lines > E) line(E, std::false_type{});
    store_rows<V, T, R>(read, d.read + m * d.keys, d.keys, c);
    if constexpr (Delta) {
      if constexpr (Decays)
        unrolled<T>(
            [&](auto s) { unrolled<R>([&](auto r) { answer[s][r] = a[s][r] * answer[s][r]; }); });
      store_rows<V, T, R>(answer, d.answer + m * d.keys, d.keys, c);
    }
  }

  template <class V, bool WithDecay, int T>
  void reverse_rows(index_t m, const panels& state, const panels& carried) const noexcept {
    // With states beside it, D leaves no registers for more.
    constexpr int R = WithDecay ? 1 : side_by_side<V>;
    for (index_t c = 0; c < d.keys; c += R * lane<V>::width)
      reverse_piece<V, WithDecay, T, R>(m, c, state, carried);
  }

  /// The same from row m + T - 1 to m.
  template <class V, bool WithDecay, int T, int R>
  void reverse_piece(index_t m, index_t c, const panels& state,
                     const panels& carried) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R), rows = static_cast<std::size_t>(T);
    V k[rows][registers], q[rows][registers], dk[rows][registers];
    [[maybe_unused]] V a[rows][registers], da[rows][registers];
    const index_t columns = d.columns, lines = d.lines;
    const S *v = d.value + m * columns, *dy = d.dy + m * columns;
    [[maybe_unused]] const S* corrected = Delta ? d.corrected + m * columns : nullptr;
    load_rows<V, T, R>(d.key + m * d.keys, d.keys, c, k);
    load_rows<V, T, R>(d.query + m * d.keys, d.keys, c, q);
    if constexpr (decays) load_decays<V, T, R>(m, c, a);
    clear<V, T, R>(dk);
    if constexpr (WithDecay) clear<V, T, R>(da);
    [[maybe_unused]] const S* in = WithDecay ? state.at(0, c) : nullptr;
    S* out = carried.at(0, c);
    for (index_t e = 0; e < lines; ++e) {
      unrolled<R>([&](auto r) __attribute__((always_inline)) {
        const index_t lane_offset = static_cast<index_t>(r()) * L::width;
        [[maybe_unused]] V before[rows];
        if constexpr (WithDecay) {
          before[0] = L::load(in + lane_offset);
          unrolled<T - 1>([&](auto s) {
            const V x = L::broadcast(v[static_cast<index_t>(s()) * columns + e]);
            before[s() + 1] = step<V, true>(a[s][r], before[s], k[s][r], x);
          });
        }
        V x = L::load(out + lane_offset);
        unrolled<T>([&](auto back) {
          constexpr std::size_t s = rows - 1 - back();
          const index_t at = static_cast<index_t>(s) * columns + e;
          x = L::fma(q[s][r], L::broadcast(dy[at]), x);
          dk[s][r] = L::fma(L::broadcast(v[at]), x, dk[s][r]);
          if constexpr (Delta) x = L::fma(k[s][r], L::broadcast(corrected[at]), x);
          if constexpr (WithDecay) da[s][r] = L::fma(before[s], x, da[s][r]);
          if constexpr (decays) x = a[s][r] * x;
        });
        L::store(out + lane_offset, x);
      });
      if constexpr (WithDecay) in += matrix::panel_columns;
      out += matrix::panel_columns;
    }
    store_rows<V, T, R>(dk, d.dkey + m * d.keys, d.keys, c);
    if constexpr (WithDecay) {
      unrolled<T>([&](auto s) { unrolled<R>([&](auto r) { da[s][r] = a[s][r] * da[s][r]; }); });
      store_rows<V, T, R>(da, d.ddecay + m * d.keys, d.keys, c);
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
