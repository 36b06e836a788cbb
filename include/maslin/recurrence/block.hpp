// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// M x M recurrences: the algebra of BD-LRU (arXiv 2602.12021).

#include <maslin/recurrence/gate_row.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// h[t][i] = sum_j A[t][i][j] h[t-1][j] + b[t][i]: a dense block.
///
/// Row i holds the weights with which the new component i reads the old components. In each row the
/// input comes first, then the columns in ascending order, the diagonal last: where a block is near
/// the identity the largest term is then rounded once.
/// numerics  one rounding a term: |err| <= (M + 1) u W; if each row's L1 norm with the input gate
///           is at most 1, no component exceeds the largest of |h0| and |input|
/// cost      step M^2, append M^3 + M^2, compose M^3 + M^2 multiply-adds
template <class V, int M>
struct block {
  static_assert(M >= 1, "the size of a block is at least 1");
  using value = V;
  static constexpr int order = M;

  struct token {
    gate_row<V, M> rows[static_cast<std::size_t>(M)];
    [[nodiscard]] constexpr const gate_row<V, M>& row(int i) const noexcept { return rows[i]; }
  };
  struct state {
    V h[static_cast<std::size_t>(M)];
  };
  using map = affine_map<V, M>;

  /// A token is anything whose `row(i)` gives the gates of component i; kernels make rows one by
  /// one.
  template <class U>
  static constexpr void step(const U& u, state& h) noexcept {
    V out[static_cast<std::size_t>(M)];
    if constexpr (M <= 8) {
      each<M>([&](int i) { out[i] = component(u.row(i), h, i); });
    } else {
      for (int i = 0; i < M; ++i) out[i] = component(u.row(i), h, i);
    }
    each<M>([&](int i) { h.h[i] = out[i]; });
  }
  [[nodiscard]] static constexpr map identity() noexcept { return identity_map<V, M>(); }
  template <class U>
  static constexpr void append(map& m, const U& u) noexcept {
    map token_map;
    for (int i = 0; i < M; ++i) {
      const gate_row<V, M> row = u.row(i);
      token_map.s[i] = row.input;
      for (int j = 0; j < M; ++j) token_map.P[i][j] = row.gate[j];
    }
    m = compose_maps<V, M>(token_map, m);
  }
  /// append of `count` tokens, one after another: the same operations, column by column.
  static constexpr void append_run(map& m, const token* tokens, index_t count) noexcept {
    for_each_column<V, M>(m, [&](V(&h)[static_cast<std::size_t>(M)], auto inhomogeneous) {
      for (index_t n = 0; n < count; ++n) {
        V out[static_cast<std::size_t>(M)];
        const auto component = [&](int i) {
          const gate_row<V, M>& row = tokens[n].rows[i];
          V x = inhomogeneous ? row.input : lane<V>::broadcast(0);
          each<M>([&](int k) { x = lane<V>::fma(row.gate[k], h[k], x); });
          out[i] = x;
        };
        if constexpr (M <= 4) {
          each<M>(component);
        } else {
          for (int i = 0; i < M; ++i) component(i);
        }
        each<M>([&](int i) { h[i] = out[i]; });
      }
    });
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    return compose_maps<V, M>(later, earlier);
  }
  static constexpr void apply(const map& f, state& h) noexcept { apply_map<V, M>(f, h.h); }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    token out;
    for (int i = 0; i < M; ++i) out.rows[i] = convert_row<V, M>(u.row(i));
    return out;
  }

 private:
  static constexpr V component(const gate_row<V, M>& row, const state& h, int i) noexcept {
    V x = row.input;
    if constexpr (M <= 8) {
      each<M>([&](int j) {
        if (j != i) x = lane<V>::fma(row.gate[j], h.h[j], x);
      });
    } else {
      for (int j = 0; j < i; ++j) x = lane<V>::fma(row.gate[j], h.h[j], x);
      for (int j = i + 1; j < M; ++j) x = lane<V>::fma(row.gate[j], h.h[j], x);
    }
    return carry_state(row.gate[i], h.h[i], x);
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
