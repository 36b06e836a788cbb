// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the delta rule walks time, token by token: what is inside `delta_rule`.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/spread.hpp>

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
  /// Tokens that are fetched ahead.
  static constexpr index_t fetched = 8;

  [[nodiscard]] bool whole_heads() const noexcept { return false; }
  [[nodiscard]] index_t scratch() const noexcept { return 0; }
  [[nodiscard]] delta_kernel shifted(index_t b, index_t t) const noexcept {
    delta_kernel k = *this;
    for (scan::head_rows<const S>* r : {&k.query, &k.key, &k.value, &k.beta, &k.decay})
      r->shift(b, t);
    k.out.shift(b, t);
    return k;
  }

  void enter(index_t h) noexcept {
    for (scan::head_rows<const S>* r : {&query, &key, &value, &beta, &decay}) r->enter(h);
    out.enter(h);
  }

  /// The columns that come next: the first key that they answer, and where they lie.
  struct coming {
    const S* key = nullptr;
    const S* row = nullptr;  // null: there are none
  };
  /// What the last pass over some columns found out about those that come next: what that key
  /// answers there. Decoding, of which that is most, thus reads a state as it writes one.
  template <class V>
  struct relay {
    bool ready = false;
    V predicted[4];
  };

  template <class V>
  void walk(const scan::head_span<S>& span) const noexcept {
    relay<V> ahead;
    for (index_t t = 0; t < span.length; t += block)
      for (index_t i = 0; i < span.heads; ++i) {
        delta_kernel head = *this;
        head.enter(span.head + i);
        // From the last columns of a head to the first of the next one only a single token hands over.
        coming after;
        if (span.length == 1 && i + 1 < span.heads)
          after = {key.at(t, span.head + i + 1), matrix::matrix_of(span.one(i + 1), K).at(0, 0)};
        head.template walk_block<V>(span.one(i), t, after, ahead);
      }
  }

  /// The tokens of a head from t on, at most `block`; `after` comes after its last columns.
  template <class V>
  void walk_block(const scan::head_span<S>& span, index_t t, const coming& after,
                  relay<V>& ahead) const noexcept {
    alignas(64) S factors[block];
    const index_t count = matrix::columns_of(span, E), n = std::min(block, span.length - t);
    find_decays<V>(factors, t, n);
    const auto state = matrix::matrix_of(span, K);
    index_t leading = 0;  // columns of the first piece, as those of the next head's
    const auto piece = [&](auto registers, index_t c, auto lanes) {
      constexpr index_t columns = registers() * lane<V>::width;
      if (c == 0) leading = columns;
      coming next;
      if (c + 2 * columns <= count)
        next = {key.at(t), state.at(0, c + columns)};
      else if (c + columns == count && columns == leading)
        next = after;
      advance<V, registers()>(span, factors, t, n, c, lanes, next, ahead);
    };
    // Of a single token the columns at hand and those that come next should share the first cache.
    if (span.length == 1)
      matrix::for_each_piece<V, 2, 1>(count, piece);
    else
      matrix::for_each_piece<V, 4, 2, 1>(count, piece);
  }

  /// The decays of n <= 64 tokens of a head.
  template <class V>
  void find_decays(S* to, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    if constexpr (gated) {
      const index_t width = L::width;
      for (index_t j = 0; j < n; ++j) to[j] = *decay.at(t + j);
      std::fill(to + n, to + (n + width - 1) / width * width, S(0));
      for (index_t j = 0; j < n; j += width) L::store(to + j, simd::exp(L::load(to + j)));
    } else {
      std::fill_n(to, n, S(1));
    }
  }

  /// What a micro-step does with a row of the state, beside writing to it.
  struct pass {
    const S* key;
    const S* query;     // of the token, if the row is then read
    const S* next_key;  // whose answer is found on the way
    const S* next_row;  // of the columns that come next
  };
  /// Where that answer is found.
  enum class answers { nowhere, here, in_next_columns };

  /// Tokens t .. t + n - 1, R registers of columns from c on. While a micro-step writes to a row, the
  /// token reads it and the next micro-step predicts from it: each row is loaded once.
  ///   u = beta (v - a S^T k),   S <- a S + k u^T,   y = scale S^T q,   keys ascending
  template <class V, int R, class Count>
  void advance(const scan::head_span<S>& span, const S* factors, index_t t, index_t n, index_t c,
               Count lanes, const coming& after, relay<V>& ahead) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R);
    const auto state = matrix::matrix_of(span, K);
    const index_t first = span.begin * matrix::panel_columns + c;
    V predicted[registers], read[registers], write[registers];
    if (ahead.ready)
      unrolled<R>([&](auto k) { predicted[k] = ahead.predicted[k]; });
    else
      predict<V>(state, key.at(t), c, predicted);
    for (index_t at = t; at < t + n; ++at) {
      if (c == 0) fetch(span, at + fetched, std::min(span.length - at - fetched, index_t{1}));
      for (index_t r = 0; r < steps; ++r) {
        const S a = r == 0 ? factors[at - t] : S(1);
        correct<V>(value.at(at) + r * value_step + first, *(beta.at(at) + r * beta_step), a, lanes,
                   predicted, write);
        const bool reads = r + 1 == steps, ends = reads && at + 1 == t + n;
        pass rows{key.at(at) + r * key_step, query.at(at), after.key, after.row};
        if (!ends) rows.next_key = reads ? key.at(at + 1) : rows.key + key_step;
        const auto next = !ends                  ? answers::here
                          : after.row != nullptr ? answers::in_next_columns
                                                 : answers::nowhere;
        update<V>(state, rows, r == 0, reads, next, L::broadcast(a), c, write, read, predicted);
      }
      unrolled<R>([&](auto k) {
        S* to = out.at(at) + first + static_cast<index_t>(k()) * L::width;
        const V x = L::broadcast(scale) * read[k];
        if constexpr (static_cast<int>(k()) + 1 == R)
          L::store(to, x, lanes);
        else
          L::store(to, x);
      });
    }
    ahead.ready = after.row != nullptr;
    unrolled<R>([&](auto k) { ahead.predicted[k] = predicted[k]; });
  }

  /// beta (v - a S^T k), S^T k being predicted.
  template <class V, std::size_t R, class Count>
  static void correct(const S* v, S by, S kept, Count lanes, const V (&predicted)[R],
                      V (&write)[R]) noexcept {
    using L = lane<V>;
    unrolled<static_cast<int>(R)>([&](auto k) {
      const S* from = v + static_cast<index_t>(k()) * L::width;
      const V x = k() + 1 == R ? L::load(from, lanes) : L::load(from);
      write[k] = L::broadcast(by) * L::fma(L::broadcast(-kept), predicted[k], x);
    });
  }

  /// Starts fetching what tokens t .. t + n - 1 read and write.
  [[gnu::always_inline]] void fetch(const scan::head_span<S>& span, index_t t,
                                    index_t n) const noexcept {
    const index_t first = span.begin * matrix::panel_columns, count = matrix::columns_of(span, E);
    matrix::fetch(query, t, n, 0, K);
    matrix::fetch(key, t, n, 0, K);
    matrix::fetch(value, t, n, first, count);
    matrix::fetch<matrix::access::write>(out, t, n, first, count);
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

  template <class V, std::size_t R>
  void update(const matrix::panels<S>& state, const pass& rows, bool decays, bool reads,
              answers next, V kept, index_t c, const V (&write)[R], V (&read)[R],
              V (&predicted)[R]) const noexcept {
    const auto run = [&]<bool Decays, bool Reads, answers Next>() {
      update_rows<V, Decays, Reads, Next>(state, rows, kept, c, write, read, predicted);
    };
    // A last micro-step reads; one that does not read has a next one.
    const auto reading = [&]<bool Decays>() {
      if (next == answers::nowhere)
        run.template operator()<Decays, true, answers::nowhere>();
      else if (next == answers::in_next_columns)
        run.template operator()<Decays, true, answers::in_next_columns>();
      else if (reads)
        run.template operator()<Decays, true, answers::here>();
      else
        run.template operator()<Decays, false, answers::here>();
    };
    if (decays)
      reading.template operator()<gated>();
    else
      reading.template operator()<false>();
  }

  template <class V, bool Decays, bool Reads, answers Next, std::size_t R>
  void update_rows(const matrix::panels<S>& state, const pass& rows, V kept, index_t c,
                   const V (&write)[R], V (&read)[R], V (&predicted)[R]) const noexcept {
    using L = lane<V>;
    constexpr int registers = static_cast<int>(R);
    V sum[R], next[R], u[R];
    unrolled<registers>([&](auto r) {
      sum[r] = next[r] = L::broadcast(S(0));
      u[r] = write[r];
    });
    // One pointer for all registers: they lie within a panel or fill whole ones.
    constexpr index_t columns = registers * L::width;
    static_assert(matrix::panel_columns % columns == 0 || columns % matrix::panel_columns == 0);
    S* const row = state.at(0, c);
    const S* const writes_by = rows.key;
    const S* const reads_by = rows.query;
    const S* const next_by = rows.next_key;
    const index_t keys = K, panel = state.panel;
    [[maybe_unused]] index_t apart = 0;
    if constexpr (Next == answers::in_next_columns) apart = rows.next_row - row;
    const auto at_row = [&](index_t i, V ahead) __attribute__((always_inline)) {
      update_row<V, Decays, Reads, Next>(row + i * matrix::panel_columns, panel, apart,
                                         writes_by + i, reads_by + i, ahead, kept, u, sum, next);
    };
    index_t i = 0;
    // Loads are short here: two registers of the state, two of that ahead and three numbers.
    if constexpr (Next == answers::in_next_columns && L::width > 1) {
      using numbers = simd::spread<V>;
      for (; i + numbers::count <= keys; i += numbers::count) {
        const numbers ahead(next_by + i);
        unrolled<numbers::count>([&](auto j) __attribute__((always_inline)) {
          at_row(i + static_cast<index_t>(j()), ahead.template at<static_cast<int>(j())>());
        });
      }
    }
    MASLIN_UNROLL_BY_4
    for (; i < keys; ++i) at_row(i, Next == answers::nowhere ? V{} : L::broadcast(next_by[i]));
    unrolled<registers>([&](auto r) {
      read[r] = sum[r];
      predicted[r] = next[r];
    });
  }

  /// The registers at `row` and as many further panels as they fill; `ahead` in all lanes.
  template <class V, bool Decays, bool Reads, answers Next, std::size_t R>
  [[gnu::always_inline]] static void update_row(S* row, index_t panel, index_t apart, const S* by,
                                                const S* read_by, V ahead, V kept, const V (&u)[R],
                                                V (&sum)[R], V (&next)[R]) noexcept {
    using L = lane<V>;
    const V k = L::broadcast(*by);
    [[maybe_unused]] V q;
    if constexpr (Reads) q = L::broadcast(*read_by);
    unrolled<static_cast<int>(R)>([&](auto r) __attribute__((always_inline)) {
      constexpr index_t column = static_cast<index_t>(r()) * L::width;
      S* const at = row + column / matrix::panel_columns * panel + column % matrix::panel_columns;
      V x = L::load(at);
      // Before the store, which lies a multiple of 4 KiB away: a load after it would wait for it.
      if constexpr (Next == answers::in_next_columns)
        next[r] = L::fma(ahead, L::load(at + apart), next[r]);
      if constexpr (Decays)
        x = carry_state(kept, x, k * u[r]);
      else
        x = L::fma(k, u[r], x);
      L::store(at, x);
      if constexpr (Reads) sum[r] = L::fma(q, x, sum[r]);
      if constexpr (Next == answers::here) next[r] = L::fma(ahead, x, next[r]);
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
