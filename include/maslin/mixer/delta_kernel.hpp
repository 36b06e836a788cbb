// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the delta rule walks time, token by token: what is inside `delta_rule`.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::detail {

/// One sequence of a call (scan/heads.hpp). A token has `steps` micro-steps, each with its own key,
/// value and beta; it decays before the first and is read after the last.
template <class S, decay_axis Axis>
struct delta_kernel {
  using scalar_type = S;
  static constexpr bool gated = Axis != decay_axis::none;

  scan::head_rows<const S> query, key, value, beta;
  scan::head_rows<const S> decay;  // logarithms
  scan::head_rows<S> out;
  index_t key_step, value_step, beta_step, steps;  // from micro-step to micro-step
  index_t K, E;
  S scale;

  /// Tokens that go by while a piece of the state stays in the first-level cache.
  static constexpr index_t block = 64;

  [[nodiscard]] bool whole_heads() const noexcept { return false; }
  [[nodiscard]] index_t scratch() const noexcept { return 0; }
  [[nodiscard]] delta_kernel shifted(index_t b, index_t t) const noexcept {
    delta_kernel k = *this;
    for (scan::head_rows<const S>* r : {&k.query, &k.key, &k.value, &k.beta, &k.decay})
      r->shift(b, t);
    k.out.shift(b, t);
    return k;
  }

  template <class V>
  void walk(const scan::head_span<S>& span) const noexcept {
    alignas(64) S factors[block];
    for (index_t t = 0; t < span.length; t += block) {
      const index_t n = std::min(block, span.length - t);
      find_decays<V>(factors, span.head, t, n);
      matrix::for_each_piece<V, 4, 2, 1>(matrix::columns_of(span, E),
                                         [&](auto registers, index_t c, auto lanes) {
                                           advance<V, registers()>(span, factors, t, n, c, lanes);
                                         });
    }
  }

  /// The decays of n <= 64 tokens of a head.
  template <class V>
  void find_decays(S* to, index_t head, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    if constexpr (gated) {
      const index_t width = L::width;
      for (index_t j = 0; j < n; ++j) to[j] = *decay.at(t + j, head);
      std::fill(to + n, to + (n + width - 1) / width * width, S(0));
      for (index_t j = 0; j < n; j += width) L::store(to + j, simd::exp(L::load(to + j)));
    } else {
      std::fill_n(to, n, S(1));
    }
  }

  /// What one micro-step does to a row of the state, beside writing to it.
  struct pass {
    const S* key;
    const S* query;     // of the token, if the row is then read
    const S* next_key;  // of the next micro-step
  };

  /// Tokens t .. t + n - 1, R registers of columns from c on. While a micro-step writes to a row, the
  /// token reads it and the next micro-step predicts from it: each row is loaded once.
  ///   u = beta (v - a S^T k),   S <- a S + k u^T,   y = scale S^T q,   keys ascending
  template <class V, int R, class Count>
  void advance(const scan::head_span<S>& span, const S* factors, index_t t, index_t n, index_t c,
               Count lanes) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R);
    const auto state = matrix::matrix_of(span, K);
    const index_t first = span.begin * matrix::panel_columns + c;
    const index_t h = span.head, last = n * steps;
    V predicted[registers], read[registers], write[registers];
    predict<V>(state, key.at(t, h), c, predicted);
    for (index_t m = 0; m < last; ++m) {
      const index_t at = t + m / steps, r = m % steps;
      const S a = r == 0 ? factors[m / steps] : S(1);
      const V by = L::broadcast(*(beta.at(at, h) + r * beta_step)), kept = L::broadcast(a);
      const S* v = value.at(at, h) + r * value_step + first;
      unrolled<R>([&](auto k) {
        const S* from = v + static_cast<index_t>(k()) * L::width;
        const V x = static_cast<int>(k()) + 1 == R ? L::load(from, lanes) : L::load(from);
        write[k] = by * L::fma(L::broadcast(S(0)) - kept, predicted[k], x);
      });
      const bool reads = r + 1 == steps;
      const index_t after = m + 1 < last ? m + 1 : m;
      const pass rows{key.at(at, h) + r * key_step, query.at(at, h),
                      key.at(t + after / steps, h) + after % steps * key_step};
      if (r == 0 && reads)
        update<V, gated, true>(state, rows, kept, c, write, read, predicted);
      else if (r == 0)
        update<V, gated, false>(state, rows, kept, c, write, read, predicted);
      else if (reads)
        update<V, false, true>(state, rows, kept, c, write, read, predicted);
      else
        update<V, false, false>(state, rows, kept, c, write, read, predicted);
      if (!reads) continue;
      S* y = out.at(at, h) + first;
      unrolled<R>([&](auto k) {
        S* to = y + static_cast<index_t>(k()) * L::width;
        const V x = L::broadcast(scale) * read[k];
        if constexpr (static_cast<int>(k()) + 1 == R)
          L::store(to, x, lanes);
        else
          L::store(to, x);
      });
    }
  }

  /// S^T k of the columns from c on.
  template <class V, std::size_t R>
  void predict(const matrix::panels<S>& state, const S* k, index_t c,
               V (&predicted)[R]) const noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(R);
    V sum[R];
    unrolled<registers>([&](auto r) { sum[r] = L::broadcast(S(0)); });
    matrix::register_places<V, registers, S> place(state, 0, c);
    for (index_t i = 0; i < K; ++i) {
      const V weight = L::broadcast(k[i]);
      unrolled<registers>([&](auto r) {
        sum[r] = L::fma(weight, L::load(place.at[r]), sum[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<registers>([&](auto r) { predicted[r] = sum[r]; });
  }

  template <class V, bool Decays, bool Reads, std::size_t R>
  void update(const matrix::panels<S>& state, const pass& rows, V kept, index_t c,
              const V (&write)[R], V (&read)[R], V (&predicted)[R]) const noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(R);
    V sum[R], next[R], u[R];
    unrolled<registers>([&](auto r) {
      sum[r] = next[r] = L::broadcast(S(0));
      u[r] = write[r];
    });
    matrix::register_places<V, registers, S> place(state, 0, c);
    for (index_t i = 0; i < K; ++i) {
      const V k = L::broadcast(rows.key[i]), ahead = L::broadcast(rows.next_key[i]);
      [[maybe_unused]] const V q = L::broadcast(rows.query[i]);
      unrolled<registers>([&](auto r) {
        V x = L::load(place.at[r]);
        if constexpr (Decays)
          x = carry_state(kept, x, k * u[r]);
        else
          x = L::fma(k, u[r], x);
        L::store(place.at[r], x);
        place.at[r] += matrix::panel_columns;
        if constexpr (Reads) sum[r] = L::fma(q, x, sum[r]);
        next[r] = L::fma(ahead, x, next[r]);
      });
    }
    unrolled<registers>([&](auto r) {
      read[r] = sum[r];
      predicted[r] = next[r];
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
