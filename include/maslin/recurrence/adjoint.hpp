// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The recurrences of gradients. What h[t] = A[t] h[t-1] + b[t] does forwards in time, its adjoint
/// does backwards with the transposed matrix: with dy[t] the gradient that arrives at h[t] directly,
///   s[t] = carry[t] + dy[t]          the whole gradient of h[t]
///   carry[t-1] = A[t]^T s[t]         what reaches h[t-1]
/// The carry after the last token is the gradient of the final state, the one before the first that
/// of the initial state. Each adjoint is a recurrence in the sense of core/concepts.hpp, its tokens
/// taken from the last to the first, so that every schedule serves it.
///
/// numerics  one rounding a term; the transpose of a normalised A bounds the carry in the 1-norm, and
///           so in the largest norm by M

#include <maslin/recurrence/gate_row.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// carry <- a (carry + dy). Of decays given by their complement, a = 1 - d, the rounding is kept
/// small by carry <- s - d s.
template <class V, bool Complement = false>
struct adjoint_diagonal {
  using value = V;
  static constexpr int order = 1;

  struct token {
    V gate, dy;
  };
  struct state {
    V h[1];
  };
  struct map {
    V a, b;
  };

  /// A^T s
  [[nodiscard]] static constexpr V carry(V gate, V s) noexcept {
    if constexpr (Complement)
      return lane<V>::fma(lane<V>::broadcast(typename lane<V>::scalar(0)) - gate, s, s);
    else
      return gate * s;
  }
  static constexpr void step(const token& u, state& h) noexcept {
    h.h[0] = carry(u.gate, h.h[0] + u.dy);
  }
  [[nodiscard]] static constexpr map identity() noexcept {
    using S = typename lane<V>::scalar;
    return {lane<V>::broadcast(S(1)), lane<V>::broadcast(S(0))};
  }
  static constexpr void append(map& m, const token& u) noexcept {
    m = {carry(u.gate, m.a), carry(u.gate, m.b + u.dy)};
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    return {later.a * earlier.a, lane<V>::fma(later.a, earlier.b, later.b)};
  }
  static constexpr void apply(const map& f, state& h) noexcept {
    h.h[0] = lane<V>::fma(f.a, h.h[0], f.b);
  }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {static_cast<V>(u.gate), static_cast<V>(u.dy)};
  }
};

/// carry <- conj(a) (carry + dy) over complex numbers, kept as their two parts.
template <class V>
struct adjoint_complex_diagonal {
  using value = V;
  static constexpr int order = 2;

  struct token {
    V a_re, a_im, dy_re, dy_im;
  };
  struct state {
    V h[2];  // re, im
  };
  struct map {
    V a_re, a_im, b_re, b_im;
  };

  /// conj(a) s
  static constexpr void carry(V a_re, V a_im, V s_re, V s_im, V (&to)[std::size_t{2}]) noexcept {
    using L = lane<V>;
    const V minus_im = L::broadcast(typename L::scalar(0)) - a_im;
    to[0] = L::fma(a_re, s_re, a_im * s_im);
    to[1] = L::fma(a_re, s_im, minus_im * s_re);
  }
  static constexpr void step(const token& u, state& h) noexcept {
    carry(u.a_re, u.a_im, h.h[0] + u.dy_re, h.h[1] + u.dy_im, h.h);
  }
  [[nodiscard]] static constexpr map identity() noexcept {
    using S = typename lane<V>::scalar;
    const V zero = lane<V>::broadcast(S(0));
    return {lane<V>::broadcast(S(1)), zero, zero, zero};
  }
  static constexpr void append(map& m, const token& u) noexcept {
    V a[2], b[2];
    carry(u.a_re, u.a_im, m.a_re, m.a_im, a);
    carry(u.a_re, u.a_im, m.b_re + u.dy_re, m.b_im + u.dy_im, b);
    m = {a[0], a[1], b[0], b[1]};
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    V a[2], b[2];
    const V im = lane<V>::broadcast(typename lane<V>::scalar(0)) - later.a_im;
    carry(later.a_re, im, earlier.a_re, earlier.a_im, a);
    carry(later.a_re, im, earlier.b_re, earlier.b_im, b);
    return {a[0], a[1], b[0] + later.b_re, b[1] + later.b_im};
  }
  static constexpr void apply(const map& f, state& h) noexcept {
    const map h_map = compose(f, {h.h[0], h.h[1], h.h[0], h.h[1]});
    h.h[0] = h_map.b_re;
    h.h[1] = h_map.b_im;
  }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {static_cast<V>(u.a_re), static_cast<V>(u.a_im), static_cast<V>(u.dy_re),
            static_cast<V>(u.dy_im)};
  }
};

/// What the adjoints of orders above one share: tokens of gate rows and of what arrives at the state.
template <class V, int M, int Rows>
struct adjoint_token {
  gate_row<V, M> rows[static_cast<std::size_t>(Rows)];  // their `input` is not read
  V dy[static_cast<std::size_t>(M)];
};

/// The linear part of an adjoint, `Carry::carry(rows, s)` in place, made a recurrence.
template <class Carry, class V, int M, int Rows>
struct adjoint_of_order {
  using value = V;
  static constexpr int order = M;
  using token = adjoint_token<V, M, Rows>;
  struct state {
    V h[static_cast<std::size_t>(M)];
  };
  using map = affine_map<V, M>;

  static constexpr void step(const token& u, state& h) noexcept {
    each<M>([&](int j) { h.h[j] = h.h[j] + u.dy[j]; });
    Carry::carry(u.rows, h.h);
  }
  [[nodiscard]] static constexpr map identity() noexcept { return identity_map<V, M>(); }
  static constexpr void append(map& m, const token& u) noexcept {
    for (int j = 0; j < M; ++j) m.s[j] = m.s[j] + u.dy[j];
    Carry::carry(u.rows, m.s);
    for (int j = 0; j < M; ++j) {
      V column[static_cast<std::size_t>(M)];
      for (int i = 0; i < M; ++i) column[i] = m.P[i][j];
      Carry::carry(u.rows, column);
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
    token to;
    for (int i = 0; i < Rows; ++i) to.rows[i] = convert_row<V, M>(u.rows[i]);
    for (int j = 0; j < M; ++j) to.dy[j] = static_cast<V>(u.dy[j]);
    return to;
  }
};

/// The transpose of the companion matrix: carry[j] <- a[j] s[0] + s[j+1].
template <class V, int M>
struct adjoint_companion : adjoint_of_order<adjoint_companion<V, M>, V, M, 1> {
  static constexpr void carry(const gate_row<V, M> (&row)[std::size_t{1}],
                              V (&s)[static_cast<std::size_t>(M)]) noexcept {
    const V first = s[0];
    each<M - 1>([&](int j) { s[j] = lane<V>::fma(row[0].gate[j], first, s[j + 1]); });
    s[M - 1] = row[0].gate[M - 1] * first;
  }
};

/// The transpose of the write-side companion: carry[0] <- sum_j a[j] s[j], carry[j+1] <- s[j].
template <class V, int M>
struct adjoint_write_side : adjoint_of_order<adjoint_write_side<V, M>, V, M, 1> {
  static constexpr void carry(const gate_row<V, M> (&row)[std::size_t{1}],
                              V (&s)[static_cast<std::size_t>(M)]) noexcept {
    V sum = row[0].gate[M - 1] * s[M - 1];
    each<M - 1>([&](int k) { sum = lane<V>::fma(row[0].gate[M - 2 - k], s[M - 2 - k], sum); });
    each<M - 1>([&](int j) { s[M - 1 - j] = s[M - 2 - j]; });
    s[0] = sum;
  }
};

/// The transpose of a block: carry[j] <- sum_i a[i][j] s[i], the diagonal last.
template <class V, int M>
struct adjoint_block : adjoint_of_order<adjoint_block<V, M>, V, M, M> {
  /// What row i, `gate`, adds to all sums but its own.
  static constexpr void add_row(int i, const V (&gate)[static_cast<std::size_t>(M)], V s,
                                V (&sum)[static_cast<std::size_t>(M)]) noexcept {
    each<M>([&](int j) {
      if (j != i) sum[j] = lane<V>::fma(gate[j], s, sum[j]);
    });
  }
  static constexpr void carry(const gate_row<V, M> (&row)[static_cast<std::size_t>(M)],
                              V (&s)[static_cast<std::size_t>(M)]) noexcept {
    V sum[static_cast<std::size_t>(M)];
    for (int j = 0; j < M; ++j) sum[j] = lane<V>::broadcast(typename lane<V>::scalar(0));
    for (int i = 0; i < M; ++i) add_row(i, row[i].gate, s[i], sum);
    for (int j = 0; j < M; ++j) s[j] = lane<V>::fma(row[j].gate[j], s[j], sum[j]);
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
