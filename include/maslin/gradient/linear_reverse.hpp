// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How the adjoint of linear attention walks the heads of a task, a segment of time after another.

#include <maslin/gradient/head_groups.hpp>
#include <maslin/gradient/matrix_passes.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// One sequence of a backward call (gradient/head_groups.hpp).
template <class S, decay_axis Axis, feature Map>
struct linear_reverse {
  using scalar_type = S;
  using desk = matrix_desk<S>;
  using passes = matrix_passes<S, Axis, false>;
  using panels = matrix::panels<S>;

  scan::head_rows<const S> query, key, value, decay, dy;
  shared_gradient<S> dquery, dkey, dvalue, ddecay;
  index_t heads, group, K, E;
  S scale;
  bool normalised, accumulate;
  const scan::matrix_checkpoints<S>* keep;

  /// As in mixer/linear_kernel.hpp.
  static constexpr S least_divisor = S(1e-10);

  [[nodiscard]] linear_reverse shifted(index_t b, index_t t) const noexcept {
    linear_reverse k = *this;
    for (auto* rows : {&k.query, &k.key, &k.value, &k.decay, &k.dy}) rows->shift(b, t);
    for (auto* d : {&k.dquery, &k.dkey, &k.dvalue, &k.ddecay}) d->rows.shift(b, t);
    return k;
  }
  void enter(index_t h) noexcept {
    for (auto* rows : {&query, &key, &value, &decay, &dy}) rows->enter(h);
    for (auto* d : {&dquery, &dkey, &dvalue, &ddecay}) d->rows.enter(h);
  }

  /// Whether rows of gradients go past the cache.
  void stream(bool past) noexcept {
    for (auto* d : {&dquery, &dkey, &dvalue, &ddecay}) d->streaming = past;
  }

  [[nodiscard]] matrix_wanted wanted() const noexcept {
    const bool decays = static_cast<bool>(ddecay);
    return {.replay = dquery || decays || normalised,
            .reverse = dkey || decays || normalised,
            .decay = decays};
  }
  [[nodiscard]] typename desk::shape shape() const noexcept {
    return {.K = K,
            .E = E,
            .count = keep->spacing(),
            .heads = group,
            .shared = dquery.rows.share > 1 || dkey.rows.share > 1 || dvalue.rows.share > 1,
            .normalised = normalised,
            .wanted = wanted()};
  }
  [[nodiscard]] index_t scratch() const noexcept { return desk(nullptr, shape()).size; }

  template <class V>
  void walk(index_t b, index_t number, index_t length, scan::matrix_state<S>& dstate,
            S* scratch) const noexcept {
    const desk d(scratch, shape());
    const index_t first = number * group;
    if (wanted().reverse)
      for (index_t j = 0; j < group; ++j)
        d.template transpose<V>(dstate.matrix(b, first + j), dstate.vector(b, first + j),
                                d.carried_by(j));
    for_each_segment(
        *this, b, number, length,
        [&](const linear_reverse& head, index_t j, index_t t, index_t n, const S* state) {
          head.template walk_segment<V>(d, first + j, t, n, state, dstate.matrix(b, first + j),
                                        d.carried_by(j));
        });
    if (normalised)
      for (index_t j = 0; j < group; ++j) d.copy_sums(d.carried_by(j), dstate.vector(b, first + j));
  }

 protected:
  /// Tokens t .. t + n - 1 of head h, whose state before them is given.
  template <class V>
  void walk_segment(const desk& d, index_t h, index_t t, index_t n, const S* state, S* dstate,
                    S* carried) const noexcept {
    const passes pass{d};
    load<V>(d, t, n);
    if (wanted().replay) {
      d.template transpose<V>(state, state + matrix::round_up(E) * K, d.states);
      pass.template replay<V>(n);
    }
    if (normalised) normalise<V>(d, n);
    pull<V>(d, n, {dstate, matrix::panel_columns, matrix::panel_columns * K});
    if (wanted().reverse) pass.template reverse<V>(n, carried);
    through_features<V>(d, t, n);
    dquery.template put<V>(h, t, n, d.read, d.keys, K, d.query_sum, accumulate);
    dkey.template put<V>(h, t, n, d.dkey, d.keys, K, d.key_sum, accumulate);
    dvalue.template put<V>(h, t, n, d.dvalue, d.columns, E, d.value_sum, accumulate);
    put_decays<V>(d, h, t, n);
  }

  /// f(first, lanes) for the registers of a row of keys.
  template <class V, class F>
  void for_each_key(const F& f) const noexcept {
    matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto lanes) { f(i, lanes); });
  }

  /// What `load` reads of a token: rows a token apart, which hardware does not run ahead of.
  [[gnu::always_inline]] void fetch_rows(index_t t) const noexcept {
    matrix::fetch_row(query.at(t), K);
    matrix::fetch_row(key.at(t), K);
    if constexpr (Axis == decay_axis::key) matrix::fetch_row(decay.at(t), K);
    matrix::fetch_row(value.at(t), E);
    matrix::fetch_row(dy.at(t), E);
  }

  /// Features, values, decays and scale dy of n tokens.
  template <class V, class Desk>
  void load(const Desk& d, index_t t, index_t n) const noexcept {
    using L = lane<V>;
    const auto rows = [&](S* data) { return panels{data, d.columns, matrix::panel_columns}; };
    for (index_t m = 0; m < n; ++m) {
      fetch_rows(t + std::min(m + matrix::rows_ahead, n - 1));
      feature_row<V>(query.at(t + m), d.query + m * d.keys);
      feature_row<V>(key.at(t + m), d.key + m * d.keys);
      if constexpr (Axis == decay_axis::key)
        for_each_key<V>([&](index_t i, auto lanes) {
          L::store(d.decay + m * d.keys + i, simd::exp(L::load(decay.at(t + m) + i, lanes)), lanes);
        });
      matrix::load_row<V>(value.at(t + m), E, rows(d.value), m);
      matrix::load_row<V>(dy.at(t + m), E, rows(d.dy), m);
      matrix::scale_row<V>(d.dy + m * d.columns, scale, E);
      if (normalised) d.value[m * d.columns + E] = 1;
    }
    if constexpr (Axis == decay_axis::head) {
      for (index_t m = 0; m < n; ++m) d.factor[m] = *decay.at(t + m);
      for (index_t m = 0; m < n; m += L::width)
        L::store(d.factor + m, simd::exp(L::load(d.factor + m)));
    }
  }
  template <class V>
  void feature_row(const S* from, S* to) const noexcept {
    using L = lane<V>;
    for_each_key<V>([&](index_t i, auto lanes) {
      V x = L::load(from + i, lanes);
      if constexpr (Map == feature::elu_plus_one)
        x = L::select(x > L::broadcast(S(0)), x + L::broadcast(S(1)), simd::exp(x));
      L::store(to + i, x, lanes);
    });
  }

  /// dy / n, and what a column of ones has in its place; dq of the quotient.
  template <class V, class Desk>
  void normalise(const Desk& d, index_t n) const noexcept {
    using L = lane<V>;
    for (index_t m = 0; m < n; ++m) {
      const S *q = d.query + m * d.keys, *z = d.sums + m * d.keys;
      S *read = d.read + m * d.keys, *row = d.dy + m * d.columns;
      const S divisor = lane<S>::fma(scale, recurrence::dot_row<V>(q, z, K), least_divisor);
      // <dy, y>, since read holds scale S dy.
      const S along = recurrence::dot_row<V>(q, static_cast<const S*>(read), K) / divisor;
      const V by = L::broadcast(divisor), ones = L::broadcast(-scale * along);
      for_each_key<V>([&](index_t i, auto lanes) {
        const V x = L::fma(ones, L::load(z + i, lanes), L::load(read + i, lanes));
        L::store(read + i, L::div(x, by), lanes);
      });
      matrix::for_each_piece<V, 1>(E, [&](auto, index_t e, auto lanes) {
        L::store(row + e, L::div(L::load(row + e, lanes), by), lanes);
      });
      row[E] = -scale * along / divisor;
    }
  }

  /// dvalue = D^T k of n tokens, D as it lies.
  template <class V>
  void pull(const desk& d, index_t n, const panels& state) const noexcept {
    matrix::for_each_piece<V, 2, 1>(matrix::round_up(E), [&](auto registers, index_t c, auto) {
      for (index_t m = n; m > 0;) {
        const index_t count = m % 4 != 0 ? 1 : 4;
        m -= count;
        if (count == 4)
          pull_piece<V, 4, registers()>(d, m, c, state);
        else
          pull_piece<V, 1, registers()>(d, m, c, state);
      }
    });
  }

  /// From row m + T - 1 to m, R registers of columns from c on.
  template <class V, int T, int R>
  void pull_piece(const desk& d, index_t m, index_t c, const panels& state) const noexcept {
    using L = lane<V>;
    constexpr auto registers = static_cast<std::size_t>(R), rows = static_cast<std::size_t>(T);
    V dy_row[rows][registers], sum[rows][registers];
    [[maybe_unused]] V factor[rows];
    const S *q = d.query + m * d.keys, *k = d.key + m * d.keys;
    [[maybe_unused]] const S* a = d.decay + m * d.keys;
    const index_t keys = d.keys, columns = d.columns, count = K;
    unrolled<T>([&](auto s) {
      const index_t at = m + static_cast<index_t>(s());
      if constexpr (Axis == decay_axis::head) factor[s] = L::broadcast(d.factor[at]);
      unrolled<R>([&](auto r) {
        dy_row[s][r] = L::load(d.dy + at * columns + c + static_cast<index_t>(r()) * L::width);
        sum[s][r] = L::broadcast(S(0));
      });
    });
    matrix::register_places<V, R, S> place(state, 0, c);
    for (index_t i = 0; i < count; ++i) {
      V h[registers];
      unrolled<R>([&](auto r) { h[r] = L::load(place.at[r]); });
      unrolled<T>([&](auto back) {
        constexpr std::size_t s = rows - 1 - back();
        const index_t at = static_cast<index_t>(s) * keys + i;
        const V read = L::broadcast(q[at]), write = L::broadcast(k[at]);
        if constexpr (Axis == decay_axis::key) factor[s] = L::broadcast(a[at]);
        unrolled<R>([&](auto r) {
          h[r] = L::fma(read, dy_row[s][r], h[r]);
          sum[s][r] = L::fma(write, h[r], sum[s][r]);
          if constexpr (Axis != decay_axis::none) h[r] = factor[s] * h[r];
        });
      });
      unrolled<R>([&](auto r) {
        L::store(place.at[r], h[r]);
        place.at[r] += matrix::panel_columns;
      });
    }
    unrolled<T>([&](auto s) {
      unrolled<R>([&](auto r) {
        L::store(d.dvalue + (m + static_cast<index_t>(s())) * columns + c +
                     static_cast<index_t>(r()) * L::width,
                 sum[s][r]);
      });
    });
  }

  /// From gradients of features to those of queries and keys: elu + 1 has slope 1, or its value.
  template <class V, class Desk>
  void through_features(const Desk& d, index_t t, index_t n) const noexcept {
    if constexpr (Map == feature::elu_plus_one) {
      using L = lane<V>;
      const auto slope = [&](const S* raw, const S* features, S* to) {
        for_each_key<V>([&](index_t i, auto lanes) {
          const V by = L::select(L::load(raw + i, lanes) > L::broadcast(S(0)), L::broadcast(S(1)),
                                 L::load(features + i, lanes));
          L::store(to + i, by * L::load(to + i, lanes), lanes);
        });
      };
      for (index_t m = 0; m < n; ++m) {
        if (dquery) slope(query.at(t + m), d.query + m * d.keys, d.read + m * d.keys);
        if (dkey) slope(key.at(t + m), d.key + m * d.keys, d.dkey + m * d.keys);
      }
    }
  }

  template <class V>
  void put_decays(const desk& d, index_t h, index_t t, index_t n) const noexcept {
    if constexpr (Axis == decay_axis::key)
      ddecay.template put<V>(h, t, n, d.ddecay, d.keys, K, nullptr, accumulate);
    if constexpr (Axis == decay_axis::head) {
      if (!ddecay) return;
      for (index_t m = 0; m < n; ++m)
        store<S>(ddecay.rows.at(t + m), d.template sum_of_keys<V>(d.ddecay + m * d.keys),
                 all_lanes<S>{}, accumulate);
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
