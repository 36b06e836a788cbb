// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Order-M recurrences of one number: the algebra of H-LRU (arXiv 2602.12021).

#include <maslin/recurrence/gate_row.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// h[t] = sum_{k<M} a[t,k] h[t-1-k] + b[t]: the companion matrix, its first row chosen by token t.
///
/// The state holds the last M values, newest first; a step writes one and shifts the others. Terms
/// are added farthest lag first, so that only the last fma waits for the newest value.
/// numerics  one rounding a term: |err| <= (M + 1) u W; if each row's L1 norm with the input gate
///           is at most 1, |h| never exceeds the largest of |h0| and |input|
/// cost      step M, append M^2 + M, compose M^3 + M^2 multiply-adds
template <class V, int M>
struct companion {
  static_assert(M >= 1, "the order of a recurrence is at least 1");
  using value = V;
  static constexpr int order = M;

  struct token {
    gate_row<V, M> gates;
    [[nodiscard]] constexpr const gate_row<V, M>& row(int) const noexcept { return gates; }
  };
  struct state {
    V h[static_cast<std::size_t>(M)];  // newest first
  };
  using map = affine_map<V, M>;

  /// What a token makes of the last M values; it is anything whose `row(0)` gives the gates, as kernels
  /// make it on the fly.
  template <class U>
  [[nodiscard]] static constexpr V next(const U& u, const state& h) noexcept {
    const gate_row<V, M> row = u.row(0);
    V x = row.input;
    each<M - 1>([&](int k) { x = lane<V>::fma(row.gate[M - 1 - k], h.h[M - 1 - k], x); });
    return carry_state(row.gate[0], h.h[0], x);
  }
  template <class U>
  static constexpr void step(const U& u, state& h) noexcept {
    const V x = next(u, h);
    each<M - 1>([&](int k) { h.h[M - 1 - k] = h.h[M - 2 - k]; });
    h.h[0] = x;
  }
  [[nodiscard]] static constexpr map identity() noexcept { return identity_map<V, M>(); }
  /// One new row, a P; the other rows shift down.
  template <class U>
  static constexpr void append(map& m, const U& u) noexcept {
    using L = lane<V>;
    const gate_row<V, M> row = u.row(0);
    V s = row.input;
    for (int k = M - 1; k >= 0; --k) s = L::fma(row.gate[k], m.s[k], s);
    V p[static_cast<std::size_t>(M)];
    for (int j = 0; j < M; ++j) {
      p[j] = row.gate[M - 1] * m.P[M - 1][j];
      for (int k = M - 2; k >= 0; --k) p[j] = L::fma(row.gate[k], m.P[k][j], p[j]);
    }
    for (int k = M - 1; k > 0; --k) {
      m.s[k] = m.s[k - 1];
      for (int j = 0; j < M; ++j) m.P[k][j] = m.P[k - 1][j];
    }
    m.s[0] = s;
    for (int j = 0; j < M; ++j) m.P[0][j] = p[j];
  }
  /// append of `count` tokens, one after another: the same operations, column by column.
  static constexpr void append_run(map& m, const token* tokens, index_t count) noexcept {
    using L = lane<V>;
    for_each_column<V, M>(m, [&](V(&h)[static_cast<std::size_t>(M)], auto inhomogeneous) {
      for (index_t n = 0; n < count; ++n) {
        const gate_row<V, M>& row = tokens[n].gates;
        V x = inhomogeneous ? L::fma(row.gate[M - 1], h[M - 1], row.input)
                            : V(row.gate[M - 1] * h[M - 1]);
        each<M - 1>([&](int k) { x = L::fma(row.gate[M - 2 - k], h[M - 2 - k], x); });
        each<M - 1>([&](int k) { h[M - 1 - k] = h[M - 2 - k]; });
        h[0] = x;
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
    return {convert_row<V, M>(u.row(0))};
  }
};

/// The transposed companion, found in some published code: coefficients in the first column.
///   w[t][j] = a[t,j] w[t-1][0] + w[t-1][j+1] + [j = 0] b[t],  h[t] = w[t][0]
/// The coefficient at lag k is then chosen by the token that wrote the value, and the bound on |h|
/// does not hold: inputs in [-1, 1] with normalised gates can give 3 at M = 4.
template <class V, int M>
struct write_side_companion {
  static_assert(M >= 1, "the order of a recurrence is at least 1");
  using value = V;
  static constexpr int order = M;

  using token = typename companion<V, M>::token;
  struct state {
    V h[static_cast<std::size_t>(M)];  // h[0] is the output, the others partial sums to come
  };
  using map = affine_map<V, M>;

  template <class U>
  static constexpr void step(const U& u, state& h) noexcept {
    const gate_row<V, M> row = u.row(0);
    advance(row, h.h, row.input);
  }
  [[nodiscard]] static constexpr map identity() noexcept { return identity_map<V, M>(); }
  template <class U>
  static constexpr void append(map& m, const U& u) noexcept {
    using S = typename lane<V>::scalar;
    const gate_row<V, M> row = u.row(0);
    advance(row, m.s, row.input);
    for (int j = 0; j < M; ++j) {
      V column[static_cast<std::size_t>(M)];
      for (int i = 0; i < M; ++i) column[i] = m.P[i][j];
      advance(row, column, lane<V>::broadcast(S(0)));
      for (int i = 0; i < M; ++i) m.P[i][j] = column[i];
    }
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    return compose_maps<V, M>(later, earlier);
  }
  static constexpr void apply(const map& f, state& h) noexcept { apply_map<V, M>(f, h.h); }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {convert_row<V, M>(u.row(0))};
  }

 private:
  static constexpr void advance(const gate_row<V, M>& row, V (&w)[static_cast<std::size_t>(M)],
                                V input) noexcept {
    using S = typename lane<V>::scalar;
    using L = lane<V>;
    const V first = w[0];
    each<M>([&](int j) {
      const V next = j + 1 < M ? w[j + 1] : L::broadcast(S(0));
      // `input` may be a product, which a compiler would contract with a sum: an fma takes it.
      w[j] =
          j == 0 ? carry_state(row.gate[0], first, input) + next : L::fma(row.gate[j], first, next);
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
