// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How linear attention walks time, token by token: what is inside `linear_attention`.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <cstddef>

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
  /// Tokens whose rows are made ready at once: tiles of the state are loaded and stored once for them.
  /// With a decay a key twice as many are faster, with one a head no more.
  static constexpr index_t block = Axis == decay_axis::key ? 32 : 16;
  /// Rows of K numbers that scratch holds for each token of a block.
  static constexpr index_t made_rows = Axis == decay_axis::key ? 3 : 2;

  [[nodiscard]] bool whole_heads() const noexcept { return normalised; }
  [[nodiscard]] index_t scratch() const noexcept { return made_rows * block * matrix::round_up(K); }
  [[nodiscard]] linear_kernel shifted(index_t b, index_t t) const noexcept {
    linear_kernel k = *this;
    for (scan::head_rows<const S>* r : {&k.query, &k.key, &k.value, &k.decay}) r->shift(b, t);
    k.out.shift(b, t);
    return k;
  }

  /// The rows of a block of tokens of one head, `apart` from token to token.
  struct ready {
    const S *query, *key, *decay;  // features; decays of decay_axis::key
    index_t apart;
    S factor[static_cast<std::size_t>(block)];   // decays of decay_axis::head
    S divisor[static_cast<std::size_t>(block)];  // 1 where nothing is normalised
  };

  void enter(index_t h) noexcept {
    for (scan::head_rows<const S>* r : {&query, &key, &value, &decay}) r->enter(h);
    out.enter(h);
  }

  [[nodiscard]] linear_kernel entered(index_t h) const noexcept {
    linear_kernel k = *this;
    k.enter(h);
    return k;
  }

  template <class V>
  void walk(const scan::head_span<S>& span) const noexcept {
    for (index_t t = 0; t < span.length; t += block)
      for (index_t i = 0; i < span.heads; ++i)
        entered(span.head + i).template walk_block<V>(span.one(i), t, after(span, i, t, block));
  }

  /// The head and the token that come next.
  struct coming {
    const linear_kernel& sequence;  // of no head yet
    index_t head, t;
    bool fresh;  // whether its queries and keys are others than those at hand
  };
  /// What comes after head i of a span and `n` tokens from t on.
  [[nodiscard]] coming after(const scan::head_span<S>& span, index_t i, index_t t,
                             index_t n) const noexcept {
    const index_t h = span.head + i + 1;
    if (i + 1 < span.heads) return {*this, h, t, h % query.share == 0 || h % key.share == 0};
    return {*this, span.head, t + n, true};
  }

  /// The tokens of a head from t on, at most `block`.
  template <class V>
  void walk_block(const scan::head_span<S>& span, index_t t, const coming& next) const noexcept {
    ready rows;
    const index_t n = std::min(block, span.length - t);
    prepare<V>(rows, span, t, n);
    if (n == 1)
      advance_token<V>(rows, span, t);
    else
      advance<V>(rows, span, t, n, next);
  }

  /// Starts fetching what tokens t .. t + n - 1 read and write, queries and keys if they are `fresh`.
  [[gnu::always_inline]] void fetch(const scan::head_span<S>& span, index_t t, index_t n,
                                    bool fresh) const noexcept {
    const index_t first = span.begin * matrix::panel_columns, count = matrix::columns_of(span, E);
    if (fresh) {
      matrix::fetch(query, t, n, 0, K);
      matrix::fetch(key, t, n, 0, K);
    }
    if constexpr (Axis == decay_axis::key) matrix::fetch(decay, t, n, 0, K);
    matrix::fetch(value, t, n, first, count);
    matrix::fetch<matrix::access::write>(out, t, n, first, count);
  }

  /// Features, decays and divisors of tokens t .. t + n - 1. Rows of several tokens are copied where
  /// they need not be made: as they lie, a power of two apart, they push each other out of a cache.
  template <class V>
  void prepare(ready& rows, const scan::head_span<S>& span, index_t t, index_t n) const noexcept {
    const index_t apart = matrix::round_up(K);
    S *queries = span.scratch, *keys = queries + n * apart, *decays = keys + n * apart;
    const bool lie = n == 1 && Map == feature::given;
    rows.query = lie ? query.at(t) : queries;
    rows.key = lie ? key.at(t) : keys;
    rows.decay = decays;
    rows.apart = apart;
    for (index_t j = 0; !lie && j < n; ++j) {
      feature_row<V>(query.at(t + j), queries + j * apart);
      feature_row<V>(key.at(t + j), keys + j * apart);
    }
    if constexpr (Axis == decay_axis::key)
      for (index_t j = 0; j < n; ++j)
        map_row<V>(decay.at(t + j), decays + j * apart, [](V g) { return simd::exp(g); });
    if constexpr (Axis == decay_axis::head) head_decays<V>(rows.factor, t, n);
    for (index_t j = 0; j < n; ++j)
      rows.divisor[j] = normalised ? divisor<V>(rows, span.vector, j) : S(1);
  }

  /// The decays of n <= 16 tokens of a head.
  template <class V>
  void head_decays(S* to, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    alignas(64) S g[static_cast<std::size_t>(block)] = {};
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

  /// z <- a z + k, and what token j is divided by.
  template <class V>
  [[nodiscard]] S divisor(const ready& rows, S* z, index_t j) const noexcept {
    using L = lane<V>;
    const S* k = rows.key + j * rows.apart;
    matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto n) {
      const V x = L::load(k + i, n), before = L::load(z + i, n);
      V after = before + x;
      if constexpr (Axis == decay_axis::head)
        after = carry_state(L::broadcast(rows.factor[j]), before, x);
      if constexpr (Axis == decay_axis::key)
        after = carry_state(L::load(rows.decay + j * rows.apart + i, n), before, x);
      L::store(z + i, after, n);
    });
    return lane<S>::fma(scale, recurrence::dot_row<V>(rows.query + j * rows.apart, z, K),
                        least_divisor);
  }

  /// Registers of columns of a tile of the state, and its rows: what leaves registers for the values
  /// and outputs of a token.
  static constexpr int tile_registers = 2, tile_rows = 4;

  /// Columns of the tokens of a block: values, and outputs on their way.
  template <class V, int R>
  struct strip {
    static constexpr index_t columns = R * lane<V>::width;
    static constexpr auto numbers = static_cast<std::size_t>(block * columns);
    alignas(64) S value[numbers], out[numbers];
  };

  /// Tokens t .. t + n - 1 of a block, all columns of the span. Those that come next are fetched
  /// bit by bit: all at once would wait for room in the queue of a cache.
  template <class V>
  void advance(const ready& rows, const scan::head_span<S>& span, index_t t, index_t n,
               const coming& next) const noexcept {
    const index_t count = matrix::columns_of(span, E);
    const index_t more = std::clamp(span.length - next.t, index_t{0}, block);
    const linear_kernel head = next.sequence.entered(next.head);
    index_t fetched = 0;
    matrix::for_each_piece<V, tile_registers, 1>(count, [&](auto registers, index_t c, auto lanes) {
      strip<V, registers()> x;
      take_values(x, span, t, n, c, lanes);
      walk_strip(x, rows, matrix::matrix_of(span, K), n, c, [&](index_t i) {
        // As many tokens as these columns and rows of the state are of all.
        const index_t until = more * (c * K + std::min(x.columns, count - c) * i) / (count * K);
        for (; fetched < until; ++fetched) head.fetch(span, next.t + fetched, 1, next.fresh);
      });
      give_outputs(x, rows, span, t, n, c, lanes);
    });
  }

  template <class V, int R, class Count>
  void take_values(strip<V, R>& x, const scan::head_span<S>& span, index_t t, index_t n, index_t c,
                   Count lanes) const noexcept {
    using L = lane<V>;
    const index_t first = span.begin * matrix::panel_columns + c;
    for (index_t j = 0; j < n; ++j)
      unrolled<R>([&](auto r) {
        const index_t at = static_cast<index_t>(r()) * L::width, to = j * x.columns + at;
        const S* from = value.at(t + j) + first + at;
        L::store(x.value + to,
                 static_cast<int>(r()) + 1 == R ? L::load(from, lanes) : L::load(from));
        L::store(x.out + to, L::broadcast(S(0)));
      });
  }

  template <class V, int R, class Count>
  void give_outputs(const strip<V, R>& x, const ready& rows, const scan::head_span<S>& span,
                    index_t t, index_t n, index_t c, Count lanes) const noexcept {
    using L = lane<V>;
    const index_t first = span.begin * matrix::panel_columns + c;
    for (index_t j = 0; j < n; ++j)
      unrolled<R>([&](auto r) {
        const index_t at = static_cast<index_t>(r()) * L::width;
        V y = L::broadcast(scale) * L::load(x.out + j * x.columns + at);
        if (normalised) y = L::div(y, L::broadcast(rows.divisor[j]));
        S* to = out.at(t + j) + first + at;
        if constexpr (static_cast<int>(r()) + 1 == R)
          L::store(to, y, lanes);
        else
          L::store(to, y);
      });
  }

  /// All rows of the state, with `after(i)` called once i of them are done.
  template <class V, int R, class F>
  void walk_strip(strip<V, R>& x, const ready& rows, const matrix::panels<S>& state, index_t n,
                  index_t c, const F& after) const noexcept {
    index_t i = 0;
    while (i + tile_rows <= K) {
      advance_tile<V, tile_rows>(x, rows, state, i, c, n);
      after(i += tile_rows);
    }
    while (i < K) {
      advance_tile<V, 1>(x, rows, state, i, c, n);
      after(++i);
    }
  }

  /// n tokens, I rows of the state from i on and R registers of columns from c on, which stay in
  /// registers while the tokens go by.
  ///   S[i,e] <- a_i S[i,e] + k_i v_e,   y_e <- y_e + q_i S[i,e], i ascending
  template <class V, int I, int R>
  void advance_tile(strip<V, R>& x, const ready& rows, const matrix::panels<S>& state, index_t i,
                    index_t c, index_t n) const noexcept {
    using L = lane<V>;
    V h[static_cast<std::size_t>(I)][static_cast<std::size_t>(R)];
    const matrix::register_places<V, R, S> place(state, i, c);
    unrolled<I>([&](auto p) {
      unrolled<R>([&](auto r) {
        h[p][r] = L::load(place.at[r] + static_cast<index_t>(p()) * matrix::panel_columns);
      });
    });
    const S *q = rows.query + i, *k = rows.key + i, *a = rows.decay + i;
    for (index_t j = 0; j < n; ++j) {
      V v[static_cast<std::size_t>(R)], y[static_cast<std::size_t>(R)];
      unrolled<R>([&](auto r) {
        const index_t at = j * x.columns + static_cast<index_t>(r()) * L::width;
        v[r] = L::load(x.value + at);
        y[r] = L::load(x.out + at);
      });
      [[maybe_unused]] V factor;
      if constexpr (Axis == decay_axis::head) factor = L::broadcast(rows.factor[j]);
      unrolled<I>([&](auto p) {
        const V write = L::broadcast(k[p()]), read = L::broadcast(q[p()]);
        if constexpr (Axis == decay_axis::key) factor = L::broadcast(a[p()]);
        unrolled<R>([&](auto r) {
          if constexpr (Axis == decay_axis::none)
            h[p][r] = L::fma(write, v[r], h[p][r]);
          else
            h[p][r] = carry_state(factor, h[p][r], write * v[r]);
          y[r] = L::fma(read, h[p][r], y[r]);
        });
      });
      unrolled<R>([&](auto r) {
        L::store(x.out + j * x.columns + static_cast<index_t>(r()) * L::width, y[r]);
      });
      q += rows.apart;
      k += rows.apart;
      a += rows.apart;
    }
    unrolled<I>([&](auto p) {
      unrolled<R>([&](auto r) {
        L::store(place.at[r] + static_cast<index_t>(p()) * matrix::panel_columns, h[p][r]);
      });
    });
  }

  /// One token, whose chains are as many columns as there are registers for.
  template <class V>
  void advance_token(const ready& rows, const scan::head_span<S>& span, index_t t) const noexcept {
    matrix::for_each_piece<V, 8, 4, 2, 1>(matrix::columns_of(span, E),
                                          [&](auto registers, index_t c, auto n) {
                                            advance_piece<V, registers()>(rows, span, t, c, n);
                                          });
  }

  template <class V, int R, class Count>
  void advance_piece(const ready& rows, const scan::head_span<S>& span, index_t t, index_t c,
                     Count n) const noexcept {
    using L = lane<V>;
    const index_t first = span.begin * matrix::panel_columns + c;
    V v[static_cast<std::size_t>(R)], y[static_cast<std::size_t>(R)];
    unrolled<R>([&](auto r) {
      const S* from = value.at(t) + first + static_cast<index_t>(r()) * L::width;
      v[r] = static_cast<int>(r()) + 1 == R ? L::load(from, n) : L::load(from);
      y[r] = L::broadcast(S(0));
    });
    matrix::register_places<V, R, S> place(matrix::matrix_of(span, K), 0, c);
    [[maybe_unused]] V factor;
    if constexpr (Axis == decay_axis::head) factor = L::broadcast(rows.factor[0]);
    for (index_t i = 0; i < K; ++i) {
      const V write = L::broadcast(rows.key[i]), read = L::broadcast(rows.query[i]);
      if constexpr (Axis == decay_axis::key) factor = L::broadcast(rows.decay[i]);
      unrolled<R>([&](auto r) {
        V h = L::load(place.at[r]);
        if constexpr (Axis == decay_axis::none)
          h = L::fma(write, v[r], h);
        else
          h = carry_state(factor, h, write * v[r]);
        L::store(place.at[r], h);
        y[r] = L::fma(read, h, y[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<R>([&](auto r) {
      V x = L::broadcast(scale) * y[r];
      if (normalised) x = L::div(x, L::broadcast(rows.divisor[0]));
      S* to = out.at(t) + first + static_cast<index_t>(r()) * L::width;
      if constexpr (static_cast<int>(r()) + 1 == R)
        L::store(to, x, n);
      else
        L::store(to, x);
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
