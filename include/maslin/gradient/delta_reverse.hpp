// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the adjoint of the delta rule walks the heads of a task, a segment of time after another.

#include <maslin/gradient/head_groups.hpp>
#include <maslin/gradient/matrix_passes.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// One sequence of a backward call (gradient/head_groups.hpp). Rows of a desk are micro-steps, of
/// which the last of a token reads.
template <class S, decay_axis Axis>
struct delta_reverse {
  using scalar_type = S;
  using desk = matrix_desk<S>;
  using passes = matrix_passes<S, Axis, true>;
  using panels = matrix::panels<S>;
  static constexpr bool gated = Axis != decay_axis::none;

  scan::head_rows<const S> query, key, value, beta, decay, dy;
  index_t key_step, value_step, beta_step, steps;
  shared_gradient<S> dquery, dkey, dvalue, dbeta, ddecay;
  index_t heads, group, K, E;
  S scale;
  bool accumulate;
  const scan::matrix_checkpoints<S>* keep;

  [[nodiscard]] delta_reverse shifted(index_t b, index_t t) const noexcept {
    delta_reverse k = *this;
    for (auto* rows : {&k.query, &k.key, &k.value, &k.beta, &k.decay, &k.dy}) rows->shift(b, t);
    for (auto* d : {&k.dquery, &k.dkey, &k.dvalue, &k.dbeta, &k.ddecay}) d->rows.shift(b, t);
    return k;
  }
  void enter(index_t h) noexcept {
    for (auto* rows : {&query, &key, &value, &beta, &decay, &dy}) rows->enter(h);
    for (auto* d : {&dquery, &dkey, &dvalue, &dbeta, &ddecay}) d->rows.enter(h);
  }

  /// Whether rows of gradients go past the cache.
  void stream(bool past) noexcept {
    for (auto* d : {&dquery, &dkey, &dvalue}) d->streaming = past;
  }

  [[nodiscard]] matrix_wanted wanted() const noexcept {
    const bool decays = static_cast<bool>(ddecay);
    return {.replay = dquery || dkey || decays, .reverse = dkey || decays, .decay = decays};
  }
  [[nodiscard]] typename desk::shape shape() const noexcept {
    return {.K = K,
            .E = E,
            .count = keep->spacing() * steps,
            .heads = group,
            .shared = dquery.rows.share > 1 || dkey.rows.share > 1 || dvalue.rows.share > 1,
            .delta = true,
            .grouped = !gated || steps == 1,
            .wanted = wanted()};
  }
  [[nodiscard]] index_t scratch() const noexcept { return desk(nullptr, shape()).size; }

  template <class V>
  void walk(index_t b, index_t number, index_t length, scan::matrix_state<S>& dstate,
            S* scratch) const noexcept {
    const desk d(scratch, shape());
    std::fill_n(d.zero, d.keys, S(0));
    const index_t first = number * group;
    if (wanted().reverse)
      for (index_t j = 0; j < group; ++j)
        d.template transpose<V>(dstate.matrix(b, first + j), nullptr, d.carried_by(j));
    for_each_segment(
        *this, b, number, length,
        [&](const delta_reverse& head, index_t j, index_t t, index_t n, const S* state) {
          head.template walk_segment<V>(d, first + j, t, n, state, dstate.matrix(b, first + j),
                                        d.carried_by(j));
        });
  }

 protected:
  [[nodiscard]] panels as_it_lies(S* matrix) const noexcept {
    return {matrix, matrix::panel_columns, matrix::panel_columns * K};
  }

  /// Tokens t .. t + n - 1 of head h, whose state before them is given.
  template <class V>
  void walk_segment(const desk& d, index_t h, index_t t, index_t n, const S* state, S* dstate,
                    S* carried) const noexcept {
    const passes pass{d, steps};
    const index_t rows = n * steps;
    load<V>(d, t, n);
    if (wanted().replay || dbeta) {
      std::copy_n(state, K * d.columns, d.matrix);
      matrix::for_each_piece<V, 4, 2, 1>(d.columns, [&](auto registers, index_t c, auto) {
        solve_columns<V, registers()>(d, t, rows, c);
      });
    }
    matrix::for_each_piece<V, 4, 2, 1>(d.columns, [&](auto registers, index_t c, auto) {
      pull_columns<V, registers()>(d, t, rows, c, as_it_lies(dstate));
    });
    if (wanted().replay) {
      d.template transpose<V>(state, nullptr, d.states);
      pass.template replay<V>(rows);
    }
    if (wanted().reverse) pass.template reverse<V>(rows, carried);
    finish<V>(d, h, t, n);
  }

  /// Which token and micro-step row m is. Mostly it is no division.
  [[nodiscard]] auto place_of(index_t m) const noexcept {
    struct place {
      index_t token, step;
    };
    return steps == 1 ? place{m, 0} : place{m / steps, m % steps};
  }
  [[nodiscard]] const S* key_at(index_t t, index_t m) const noexcept {
    const auto at = place_of(m);
    return key.at(t + at.token) + at.step * key_step;
  }
  [[nodiscard]] const S* value_at(index_t t, index_t m) const noexcept {
    const auto at = place_of(m);
    return value.at(t + at.token) + at.step * value_step;
  }
  [[nodiscard]] S beta_at(index_t t, index_t m) const noexcept {
    const auto at = place_of(m);
    return *(beta.at(t + at.token) + at.step * beta_step);
  }

  // What is copied of a micro-step: rows a token apart, which hardware does not run ahead of.
  [[gnu::always_inline]] void fetch_written(index_t t, index_t m) const noexcept {
    matrix::fetch_row(key_at(t, m), K);
    matrix::fetch_row(value_at(t, m), E);
  }
  [[gnu::always_inline]] void fetch_read(index_t t, index_t m) const noexcept {
    const index_t at = t + place_of(m).token;
    matrix::fetch_row(query.at(at), K);
    matrix::fetch_row(dy.at(at), E);
  }

  template <class V>
  void load(const desk& d, index_t t, index_t n) const noexcept {
    load_written<V>(d, t, n * steps, n * steps);
    load_read<V>(d, t, n * steps);
    find_factors<V>(d.factor, t, n);
  }
  /// Keys and values of `rows` micro-steps from token t on; `end` may be read.
  template <class V, class Desk>
  void load_written(const Desk& d, index_t t, index_t rows, index_t end) const noexcept {
    const panels keys{d.key, d.keys, matrix::panel_columns};
    const panels values{d.value, d.columns, matrix::panel_columns};
    for (index_t m = 0; m < rows; ++m) {
      fetch_written(t, std::min(m + matrix::rows_ahead, end - 1));
      matrix::load_row<V>(key_at(t, m), K, keys, m);
      matrix::load_row<V>(value_at(t, m), E, values, m);
    }
  }
  /// Queries and scale dy, where micro-steps are the last of their tokens.
  template <class V, class Desk>
  void load_read(const Desk& d, index_t t, index_t rows) const noexcept {
    const panels keys{d.query, d.keys, matrix::panel_columns};
    const panels outputs{d.dy, d.columns, matrix::panel_columns};
    for (index_t m = 0; m < rows; ++m) {
      fetch_read(t, std::min(m + matrix::rows_ahead, rows - 1));
      const auto [token, step] = place_of(m);
      if (step + 1 == steps) {
        matrix::load_row<V>(query.at(t + token), K, keys, m);
        matrix::load_row<V>(dy.at(t + token), E, outputs, m, scale);
      } else {
        std::fill_n(keys.at(m, 0), d.keys, S(0));
        std::fill_n(outputs.at(m, 0), d.columns, S(0));
      }
    }
  }
  /// The decays of n tokens, each in the place of its first micro-step.
  template <class V>
  void find_factors(S* to, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    std::fill_n(to, n * steps, S(1));
    if constexpr (gated) {
      alignas(64) S factors[matrix::panel_columns];
      for (index_t j = 0; j < n; j += matrix::panel_columns) {
        const index_t count = std::min(matrix::panel_columns, n - j);
        for (index_t i = 0; i < matrix::panel_columns; ++i)
          factors[i] = i < count ? *decay.at(t + j + i) : S(0);
        for (index_t i = 0; i < count; i += L::width)
          L::store(factors + i, simd::exp(L::load(factors + i)));
        for (index_t i = 0; i < count; ++i) to[(j + i) * steps] = factors[i];
      }
    }
  }

  /// The scan over R registers of columns from c on: error = v - a S^T k, and value <- beta error,
  /// by the operations of mixer/delta_kernel.hpp.
  template <class V, int R>
  void solve_columns(const desk& d, index_t t, index_t rows, index_t c) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R);
    V predicted[registers], write[registers];
    answer<V, R>(d, d.key, c, predicted);
    for (index_t m = 0; m < rows; ++m) {
      const V kept = L::broadcast(d.factor[m]), by = L::broadcast(beta_at(t, m));
      const V minus = L::broadcast(-d.factor[m]);
      unrolled<R>([&](auto r) {
        const index_t at = m * d.columns + c + static_cast<index_t>(r()) * L::width;
        const V error = L::fma(minus, predicted[r], L::load(d.value + at));
        write[r] = by * error;
        L::store(d.error + at, error);
        L::store(d.value + at, write[r]);
      });
      const S* next = m + 1 < rows ? d.key + (m + 1) * d.keys : d.zero;
      if (gated && m % steps == 0)
        update<V, gated, R>(d, d.key + m * d.keys, next, kept, c, write, predicted);
      else
        update<V, false, R>(d, d.key + m * d.keys, next, kept, c, write, predicted);
    }
  }

  template <class V, int R>
  void answer(const desk& d, const S* k, index_t c,
              V (&sum)[static_cast<std::size_t>(R)]) const noexcept {
    using L = lane<V>;
    unrolled<R>([&](auto r) { sum[r] = L::broadcast(S(0)); });
    matrix::register_places<V, R, S> place(as_it_lies(d.matrix), 0, c);
    for (index_t i = 0; i < K; ++i) {
      const V weight = L::broadcast(k[i]);
      unrolled<R>([&](auto r) {
        sum[r] = L::fma(weight, L::load(place.at[r]), sum[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
  }

  template <class V, bool Decays, int R>
  void update(const desk& d, const S* k, const S* next, V kept, index_t c,
              const V (&write)[static_cast<std::size_t>(R)],
              V (&predicted)[static_cast<std::size_t>(R)]) const noexcept {
    using L = lane<V>;
    V sum[static_cast<std::size_t>(R)];
    unrolled<R>([&](auto r) { sum[r] = L::broadcast(S(0)); });
    matrix::register_places<V, R, S> place(as_it_lies(d.matrix), 0, c);
    const index_t count = K;
    for (index_t i = 0; i < count; ++i) {
      const V weight = L::broadcast(k[i]), ahead = L::broadcast(next[i]);
      unrolled<R>([&](auto r) {
        V x = L::load(place.at[r]);
        if constexpr (Decays)
          x = carry_state(kept, x, weight * write[r]);
        else
          x = L::fma(weight, write[r], x);
        L::store(place.at[r], x);
        sum[r] = L::fma(ahead, x, sum[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<R>([&](auto r) { predicted[r] = sum[r]; });
  }

  /// D over R registers of columns from c on: dvalue = D^T k, which is du, and corrected = -beta
  /// du. What a row corrects and keeps is done on the way of the row before it.
  template <class V, int R>
  void pull_columns(const desk& d, index_t t, index_t rows, index_t c,
                    const panels& state) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R);
    V correction[registers], dy_row[registers], sum[registers];
    unrolled<R>([&](auto r) { correction[r] = L::broadcast(S(0)); });
    const S* after = d.zero;
    S kept = 1;
    for (index_t m = rows - 1; m >= 0; --m) {
      unrolled<R>([&](auto r) {
        dy_row[r] = L::load(d.dy + m * d.columns + c + static_cast<index_t>(r()) * L::width);
      });
      pull_row<V, R>(state, c, after, kept, d.query + m * d.keys, d.key + m * d.keys, correction,
                     dy_row, sum);
      const V by = L::broadcast(-beta_at(t, m));
      unrolled<R>([&](auto r) {
        const index_t at = m * d.columns + c + static_cast<index_t>(r()) * L::width;
        correction[r] = by * sum[r];
        L::store(d.dvalue + at, sum[r]);
        L::store(d.corrected + at, correction[r]);
      });
      after = d.key + m * d.keys;
      kept = d.factor[m];
    }
    unrolled<R>([&](auto r) { dy_row[r] = L::broadcast(S(0)); });
    pull_row<V, R>(state, c, after, kept, d.zero, d.zero, correction, dy_row, sum);
  }

  template <class V, int R>
  void pull_row(const panels& state, index_t c, const S* after, S kept, const S* q, const S* k,
                const V (&correction)[static_cast<std::size_t>(R)],
                const V (&dy_row)[static_cast<std::size_t>(R)],
                V (&sum)[static_cast<std::size_t>(R)]) const noexcept {
    using L = lane<V>;
    [[maybe_unused]] const V factor = L::broadcast(kept);
    V found[static_cast<std::size_t>(R)], minus[static_cast<std::size_t>(R)],
        dy_of[static_cast<std::size_t>(R)];
    unrolled<R>([&](auto r) {
      found[r] = L::broadcast(S(0));
      minus[r] = correction[r];
      dy_of[r] = dy_row[r];
    });
    matrix::register_places<V, R, S> place(state, 0, c);
    const index_t count = K;
    for (index_t i = 0; i < count; ++i) {
      const V last = L::broadcast(after[i]), read = L::broadcast(q[i]), write = L::broadcast(k[i]);
      unrolled<R>([&](auto r) {
        V x = L::fma(last, minus[r], L::load(place.at[r]));
        if constexpr (gated) x = factor * x;
        x = L::fma(read, dy_of[r], x);
        L::store(place.at[r], x);
        found[r] = L::fma(write, x, found[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<R>([&](auto r) { sum[r] = found[r]; });
  }

  /// What the passes have found, to the gradients.
  template <class V>
  void finish(const desk& d, index_t h, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    for (index_t m = 0; m < n * steps; ++m) {
      S *du = d.dvalue + m * d.columns, *dk = d.dkey + m * d.keys;
      if (dbeta) {
        const S* error = d.error + m * d.columns;
        store<S>(dbeta.at(t, m), recurrence::dot_row<V>(static_cast<const S*>(du), error, E),
                 all_lanes<S>{}, accumulate);
      }
      const V by = L::broadcast(beta_at(t, m));
      for (index_t e = 0; e < d.columns; e += L::width) L::store(du + e, by * L::load(du + e));
      const S* answered = d.answer + m * d.keys;
      if (dkey)
        for (index_t i = 0; i < d.keys; i += L::width)
          L::store(dk + i, L::load(dk + i) + L::load(answered + i));
    }
    const S* read = d.read + (steps - 1) * d.keys;
    dquery.template put<V>(h, t, n, read, steps * d.keys, K, d.query_sum, accumulate);
    dkey.template put<V>(h, t, n * steps, d.dkey, d.keys, K, d.key_sum, accumulate);
    dvalue.template put<V>(h, t, n * steps, d.dvalue, d.columns, E, d.value_sum, accumulate);
    if constexpr (gated)
      if (ddecay)
        for (index_t m = 0; m < n; ++m)
          store<S>(ddecay.rows.at(t + m), d.template sum_of_keys<V>(d.ddecay + m * steps * d.keys),
                   all_lanes<S>{}, accumulate);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
