// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How linear attention walks time, token by token: what is inside `linear_attention`.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::detail {

/// One sequence of a call (scan/heads.hpp).
template <class S, decay_axis Axis, feature Map>
struct linear_kernel {
  using scalar_type = S;

  scan::head_rows<const S> query, key, value;
  scan::head_rows<const S> decay;  // logarithms
  scan::head_rows<S> out;
  index_t K, E;
  S scale;
  bool normalised;

  /// The published constant that keeps the divisor of a first token from 0.
  static constexpr S least_divisor = S(1e-10);
  /// Tokens whose rows are made ready at once.
  static constexpr index_t block = 16;
  /// Rows of a block that scratch holds: features and decays.
  static constexpr index_t made_rows =
      (Map == feature::given ? 0 : 2) + (Axis == decay_axis::key ? 1 : 0);

  [[nodiscard]] bool whole_heads() const noexcept { return normalised; }
  [[nodiscard]] index_t scratch() const noexcept { return made_rows * block * matrix::round_up(K); }
  [[nodiscard]] linear_kernel shifted(index_t b, index_t t) const noexcept {
    linear_kernel k = *this;
    for (scan::head_rows<const S>* r : {&k.query, &k.key, &k.value, &k.decay}) r->shift(b, t);
    k.out.shift(b, t);
    return k;
  }

  /// The rows of a block of tokens of one head.
  struct ready {
    const S* query[block];
    const S* key[block];
    const S* decay[block];  // decay_axis::key: K numbers
    S factor[block];        // decay_axis::head
    S divisor[block];       // 1 where nothing is normalised
  };

  void enter(index_t h) noexcept {
    for (scan::head_rows<const S>* r : {&query, &key, &value, &decay}) r->enter(h);
    out.enter(h);
  }

  template <class V>
  void walk(const scan::head_span<S>& span) const noexcept {
    ready rows;
    for (index_t t = 0; t < span.length; t += block) {
      const index_t n = std::min(block, span.length - t);
      prepare<V>(rows, span, t, n);
      fetch(span, t + n, std::min(block, span.length - t - n));
      index_t j = 0;
      if constexpr (lane<V>::width > 1)
        for (; j + 4 <= n; j += 4) advance<V, 4>(rows, span, t, j);
      for (; j < n; ++j) advance<V, 1>(rows, span, t, j);
    }
  }

  /// Starts fetching what tokens t .. t + n - 1 read and write.
  void fetch(const scan::head_span<S>& span, index_t t, index_t n) const noexcept {
    const index_t first = span.begin * matrix::panel_columns, count = matrix::columns_of(span, E);
    matrix::fetch(query, t, n, 0, K);
    matrix::fetch(key, t, n, 0, K);
    if constexpr (Axis == decay_axis::key) matrix::fetch(decay, t, n, 0, K);
    matrix::fetch(value, t, n, first, count);
    matrix::fetch<matrix::access::write>(out, t, n, first, count);
  }

  /// Features, decays and divisors of tokens t .. t + n - 1.
  template <class V>
  void prepare(ready& rows, const scan::head_span<S>& span, index_t t, index_t n) const noexcept {
    S* made = span.scratch;
    for (index_t j = 0; j < n; ++j) {
      rows.query[j] = made_feature<V>(query.at(t + j), made);
      rows.key[j] = made_feature<V>(key.at(t + j), made);
      if constexpr (Axis == decay_axis::key) {
        map_row<V>(decay.at(t + j), made, [](V g) { return simd::exp(g); });
        rows.decay[j] = made;
        made += matrix::round_up(K);
      }
    }
    if constexpr (Axis == decay_axis::head) head_decays<V>(rows.factor, t, n);
    for (index_t j = 0; j < n; ++j)
      rows.divisor[j] = normalised ? divisor<V>(rows, span.vector, j) : S(1);
  }

  /// The decays of n <= 16 tokens of a head.
  template <class V>
  void head_decays(S* to, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    alignas(64) S g[block] = {};
    for (index_t j = 0; j < n; ++j) g[j] = *decay.at(t + j);
    for (index_t j = 0; j < n; j += L::width) L::store(g + j, simd::exp(L::load(g + j)));
    std::copy_n(g, n, to);
  }

  template <class V, class F>
  void map_row(const S* from, S* to, const F& f) const noexcept {
    matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto n) {
      lane<V>::store(to + i, f(lane<V>::load(from + i, n)), n);
    });
  }
  /// The features of a row.
  template <class V>
  void feature_row(const S* row, S* to) const noexcept {
    map_row<V>(row, to, [](V x) {
      using L = lane<V>;
      if constexpr (Map == feature::given)
        return x;
      else
        return L::select(x > L::broadcast(S(0)), x + L::broadcast(S(1)), simd::exp(x));
    });
  }
  template <class V>
  [[nodiscard]] const S* made_feature(const S* row, S*& made) const noexcept {
    if constexpr (Map == feature::given) return row;
    S* const features = made;
    feature_row<V>(row, features);
    made += matrix::round_up(K);
    return features;
  }

  /// z <- a z + k, and what token j is divided by.
  template <class V>
  [[nodiscard]] S divisor(const ready& rows, S* z, index_t j) const noexcept {
    using L = lane<V>;
    const S* k = rows.key[j];
    matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto n) {
      const V x = L::load(k + i, n), before = L::load(z + i, n);
      V after = before + x;
      if constexpr (Axis == decay_axis::head)
        after = carry_state(L::broadcast(rows.factor[j]), before, x);
      if constexpr (Axis == decay_axis::key)
        after = carry_state(L::load(rows.decay[j] + i, n), before, x);
      L::store(z + i, after, n);
    });
    return lane<S>::fma(scale, recurrence::dot_row<V>(rows.query[j], z, K), least_divisor);
  }

  /// Tokens j .. j + T - 1 of a block, all columns of the span.
  template <class V, int T>
  void advance(const ready& rows, const scan::head_span<S>& span, index_t t,
               index_t j) const noexcept {
    const index_t first = span.begin * matrix::panel_columns;
    const S* values[static_cast<std::size_t>(T)];
    S* outs[static_cast<std::size_t>(T)];
    unrolled<T>([&](auto q) {
      const index_t at = t + j + static_cast<index_t>(q());
      values[q] = value.at(at) + first;
      outs[q] = out.at(at) + first;
    });
    const auto piece = [&](auto registers, index_t c, auto n) {
      advance_piece<V, T, registers()>(rows, j, matrix::matrix_of(span, K), values, outs, c, n);
    };
    const index_t count = matrix::columns_of(span, E);
    // A single token needs its chains side by side; several bring theirs.
    if constexpr (T == 1)
      matrix::for_each_piece<V, 8, 4, 2, 1>(count, piece);
    else
      matrix::for_each_piece<V, 2, 1>(count, piece);
  }

  /// T tokens, R registers of columns from c on: each row of the state stays in registers while the
  /// tokens go by.
  ///   S[i,e] <- a_i S[i,e] + k_i v_e,   y_e = scale sum_i q_i S[i,e], i ascending
  template <class V, int T, int R, class Count>
  void advance_piece(const ready& rows, index_t j, const matrix::panels<S>& state,
                     const S* const* values, S* const* outs, index_t c, Count n) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R), tokens = static_cast<std::size_t>(T);
    V v[tokens][registers], y[tokens][registers];
    const S *q[tokens], *k[tokens];
    [[maybe_unused]] const S* a[tokens];
    [[maybe_unused]] V factor[tokens];
    unrolled<T>([&](auto s) {
      const index_t at = j + static_cast<index_t>(s());
      q[s] = rows.query[at];
      k[s] = rows.key[at];
      if constexpr (Axis == decay_axis::key) a[s] = rows.decay[at];
      if constexpr (Axis == decay_axis::head) factor[s] = L::broadcast(rows.factor[at]);
      unrolled<R>([&](auto r) {
        const S* from = values[s] + c + static_cast<index_t>(r()) * L::width;
        v[s][r] = static_cast<int>(r()) + 1 == R ? L::load(from, n) : L::load(from);
        y[s][r] = L::broadcast(S(0));
      });
    });
    matrix::register_places<V, R, S> place(state, 0, c);
    for (index_t i = 0; i < K; ++i) {
      V h[registers];
      unrolled<R>([&](auto r) { h[r] = L::load(place.at[r]); });
      unrolled<T>([&](auto s) {
        const V write = L::broadcast(k[s][i]), read = L::broadcast(q[s][i]);
        if constexpr (Axis == decay_axis::key) factor[s] = L::broadcast(a[s][i]);
        unrolled<R>([&](auto r) {
          if constexpr (Axis == decay_axis::none)
            h[r] = L::fma(write, v[s][r], h[r]);
          else
            h[r] = carry_state(factor[s], h[r], write * v[s][r]);
          y[s][r] = L::fma(read, h[r], y[s][r]);
        });
      });
      unrolled<R>([&](auto r) {
        L::store(place.at[r], h[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<T>([&](auto s) {
      const S by = rows.divisor[j + static_cast<index_t>(s())];
      unrolled<R>([&](auto r) {
        V x = L::broadcast(scale) * y[s][r];
        if (normalised) x = L::div(x, L::broadcast(by));
        S* to = outs[s] + c + static_cast<index_t>(r()) * L::width;
        if constexpr (static_cast<int>(r()) + 1 == R)
          L::store(to, x, n);
        else
          L::store(to, x);
      });
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
