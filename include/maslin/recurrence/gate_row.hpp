// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `gate_row`: the coefficients with which one new number of state reads the M old ones, and what
/// it adds. Vocabulary of this room: a companion token is one row, a block token M of them.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>

#include <type_traits>

namespace maslin::inline MASLIN_ABI::recurrence {

/// h_new = sum_k gate[k] h_old[k] + input, where the input gate is already multiplied in.
template <class V, int M>
struct gate_row {
  V gate[static_cast<std::size_t>(M)];
  V input;
};

/// The same row in another lane type, number by number.
template <class To, int M, class From>
[[nodiscard]] constexpr gate_row<To, M> convert_row(const gate_row<From, M>& row) noexcept {
  gate_row<To, M> out;
  for (int k = 0; k < M; ++k) out.gate[k] = static_cast<To>(row.gate[k]);
  out.input = static_cast<To>(row.input);
  return out;
}

/// An affine map of M numbers: h <- P h + s.
template <class V, int M>
struct affine_map {
  V P[static_cast<std::size_t>(M)][static_cast<std::size_t>(M)];
  V s[static_cast<std::size_t>(M)];
};

/// h <- h: P = I, s = 0.
template <class V, int M>
[[nodiscard]] constexpr affine_map<V, M> identity_map() noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  affine_map<V, M> m;
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) m.P[i][j] = L::broadcast(S(i == j ? 1 : 0));
    m.s[i] = L::broadcast(S(0));
  }
  return m;
}

/// later after earlier: P = P_l P_e, s = P_l s_e + s_l. M^3 + M^2 multiply-adds.
template <class V, int M>
[[nodiscard]] constexpr affine_map<V, M> compose_maps(const affine_map<V, M>& later,
                                                      const affine_map<V, M>& earlier) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  affine_map<V, M> m;
  for (int i = 0; i < M; ++i) {
    V s = later.s[i];
    for (int k = 0; k < M; ++k) s = L::fma(later.P[i][k], earlier.s[k], s);
    m.s[i] = s;
    for (int j = 0; j < M; ++j) {
      V p = L::broadcast(S(0));
      for (int k = 0; k < M; ++k) p = L::fma(later.P[i][k], earlier.P[k][j], p);
      m.P[i][j] = p;
    }
  }
  return m;
}

/// h <- P h + s. M^2 multiply-adds.
template <class V, int M>
constexpr void apply_map(const affine_map<V, M>& f, V (&h)[static_cast<std::size_t>(M)]) noexcept {
  using L = lane<V>;
  V out[static_cast<std::size_t>(M)];
  for (int i = 0; i < M; ++i) {
    V x = f.s[i];
    for (int k = 0; k < M; ++k) x = L::fma(f.P[i][k], h[k], x);
    out[i] = x;
  }
  for (int i = 0; i < M; ++i) h[i] = out[i];
}

/// f(h, inhomogeneous) for each column of a map, the last being s: what a run of tokens does to a
/// column it does to a state, without its input where `inhomogeneous` is false. The M + 1 responses
/// never meet, so that each stays in registers for the run.
template <class V, int M, class F>
constexpr void for_each_column(affine_map<V, M>& m, const F& f) noexcept {
  V h[static_cast<std::size_t>(M)];
  for (int j = 0; j < M; ++j) {
    each<M>([&](int i) { h[i] = m.P[i][j]; });
    f(h, std::false_type{});
    each<M>([&](int i) { m.P[i][j] = h[i]; });
  }
  each<M>([&](int i) { h[i] = m.s[i]; });
  f(h, std::true_type{});
  each<M>([&](int i) { m.s[i] = h[i]; });
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
