// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of linear attention in chunks of tokens: small matrix products in place of three walks
/// over a state a token. With P[r,c] = prod_{c < i <= r} a_i, the first state S of a chunk and the
/// gradient D of its last,
///
///   dq_r = prod_{i <= r} a_i S dy_r + sum_{c <= r} P[r,c] <dy_r, v_c> k_c
///   dv_c = P[last,c] D^T k_c + sum_{r >= c} P[r,c] <q_r, k_c> dy_r
///   dk_c = P[last,c] D v_c + sum_{r >= c} P[r,c] <dy_r, v_c> q_r
///   D   <- prod a_i D + sum_r prod_{i <= r} a_i q_r dy_r^T
///
/// and dg of a token is the sum of all these terms' paths that cross it (chunk_desk::cross).

#include <maslin/gradient/chunk_desk.hpp>
#include <maslin/gradient/key_paths.hpp>
#include <maslin/gradient/linear_reverse.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// One sequence of a backward call (gradient/head_groups.hpp). Decays of keys have factors for each pair
/// of tokens and key (key_paths.hpp), hence shorter chunks. Sums without decays go token by token,
/// since their walks have no more work than the products: measured.
template <class S, decay_axis Axis, feature Map>
struct linear_chunks : linear_reverse<S, Axis, Map> {
  using base = linear_reverse<S, Axis, Map>;
  using base::ddecay;
  using base::E;
  using base::group;
  using base::K;
  using base::keep;
  using base::normalised;
  using base::scratch;
  using rows = chunk_desk<S>;
  static constexpr bool by_token = Axis == decay_axis::none;
  static constexpr bool by_key = Axis == decay_axis::key;
  static constexpr index_t wide = matrix::panel_columns;
  static constexpr index_t most_by_key = key_paths<S>::most;

  /// Measured: shorter chunks load and store the states too often, longer ones pay for scores.
  static constexpr index_t default_chunk = by_key ? most_by_key : 32;

  [[nodiscard]] linear_chunks shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  [[nodiscard]] index_t chunk_of(index_t asked) const noexcept {
    const index_t chunk = std::min(asked == 0 ? default_chunk : asked, keep->spacing());
    return by_key ? std::min(chunk, most_by_key) : chunk;
  }
  [[nodiscard]] typename rows::shape shape(index_t chunk) const noexcept {
    const auto of = base::shape();
    return {.K = K,
            .E = E,
            .count = of.count,
            .chunk = chunk,
            .heads = group,
            .shared = of.shared,
            .normalised = normalised,
            .by_key = by_key};
  }
  [[nodiscard]] index_t scratch(index_t chunk) const noexcept {
    if constexpr (by_token)
      return scratch();
    else
      return rows(nullptr, shape(chunk)).size;
  }

  template <class V>
  void walk_chunks(index_t b, index_t number, index_t length, scan::matrix_state<S>& dstate,
                   S* scratch, index_t chunk) const noexcept {
    if constexpr (by_token) {
      this->template walk<V>(b, number, length, dstate, scratch);
    } else {
      const rows d(scratch, shape(chunk));
      const index_t first = number * group;
      const auto carried = [&](index_t j) {
        return normalised ? d.carried + j * d.state_size : dstate.matrix(b, first + j);
      };
      if (normalised)
        for (index_t j = 0; j < group; ++j)
          gather(d, dstate.matrix(b, first + j), dstate.vector(b, first + j), carried(j));
      for_each_segment(
          *this, b, number, length,
          [&](const linear_chunks& head, index_t j, index_t t, index_t n, const S* state) {
            head.template walk_pieces<V>(d, first + j, t, n, chunk, state, carried(j));
          });
      if (normalised)
        for (index_t j = 0; j < group; ++j)
          scatter(d, carried(j), dstate.matrix(b, first + j), dstate.vector(b, first + j));
    }
  }

 private:
  /// A matrix and the vector beside it, which becomes its last column; and back.
  void gather(const rows& d, const S* matrix, const S* vector, S* to) const noexcept {
    std::copy_n(matrix, K * matrix::round_up(E), to);
    std::fill(to + K * matrix::round_up(E), to + d.state_size, S(0));
    if (normalised)
      for (index_t i = 0; i < K; ++i) *rows::lying(to, K).at(i, E) = vector[i];
  }
  void scatter(const rows& d, S* from, S* matrix, S* vector) const noexcept {
    for (index_t i = 0; i < K; ++i) {
      S& last = *rows::lying(from, K).at(i, E);
      vector[i] = last;
      last = 0;
    }
    std::copy_n(from, std::min(K * matrix::round_up(E), d.state_size), matrix);
  }

  /// Tokens t .. t + n - 1 of head h, a chunk after another; the state before them is given.
  template <class V>
  void walk_pieces(const rows& d, index_t h, index_t t, index_t n, index_t chunk, const S* state,
                   S* carried) const noexcept {
    this->template load<V>(d, t, n);
    if (normalised)
      for (index_t m = 0; m < n; ++m) {
        std::fill_n(d.value + m * d.columns + E + 1, d.columns - E - 1, S(0));
        std::fill_n(d.dy + m * d.columns + E, d.columns - E, S(0));
      }
    if constexpr (by_key) clear_padding(d, n);
    gather(d, state, state + matrix::round_up(E) * K, d.states);
    for (index_t m = 0; m + chunk < n; m += chunk)
      advance<V>(d.rows_from(m), chunk, d.states + m / chunk * d.state_size);
    for (index_t m = (n - 1) / chunk * chunk; m >= 0; m -= chunk) {
      const index_t tokens = std::min(chunk, n - m);
      S* const before = d.states + m / chunk * d.state_size;
      if constexpr (by_key)
        reverse_by_key<V>(d.rows_from(m), h, t + m, tokens, before, carried);
      else
        reverse<V>(d.rows_from(m), h, t + m, tokens, before, carried);
    }
  }

  /// The state after n tokens, behind the one before.
  template <class V>
  void advance(const rows& d, index_t n, S* state) const noexcept {
    if constexpr (by_key) {
      key_paths<S>{d}.template fade_keys<V>(n);
    } else {
      d.template find_decays<V>(n);
      d.template fade<V>(d.key, d.tail(n), n, d.faded);
    }
    simd::multiply<V>(rows::lying(state + d.state_size, K), rows::lying(state, K).read(),
                      d.by_keys(d.faded).read(), d.by_columns(d.value).read(), {.scale = d.kept}, K,
                      d.columns, n);
  }

  template <class V>
  void reverse(const rows& d, index_t h, index_t t, index_t n, S* state,
               S* carried) const noexcept {
    const bool paths = static_cast<bool>(ddecay);
    d.template find_decays<V>(n);
    turn_rows<V>(d, n);
    d.template turn_state<V>(state, d.state_by_key);
    d.template turn_state<V>(carried, d.carried_by_key);
    find_queries<V>(d, n, paths);
    if (normalised) normalise_chunk<V>(d, n, paths);
    weigh_scores<V>(d, n, paths);
    find_values_and_keys<V>(d, n, carried, paths);
    if (paths) {
      d.template cross<V>(n, d.template meeting_of<V>(state, carried));
      for (index_t m = 0; m < n; ++m)
        store<S>(ddecay.rows.at(t + m), d.crossed[m], all_lanes<S>{}, this->accumulate);
    }
    d.template fade<V>(d.query, d.prefix, n, d.faded);
    update<V>(d, d.faded, n, carried);
    put_rows<V>(d, h, t, n);
  }

  template <class V>
  void put_rows(const rows& d, index_t h, index_t t, index_t n) const noexcept {
    this->template through_features<V>(d, t, n);
    this->dquery.template put<V>(h, t, n, d.read, d.keys, K, d.query_sum, this->accumulate);
    this->dkey.template put<V>(h, t, n, d.dkey, d.keys, K, d.key_sum, this->accumulate);
    this->dvalue.template put<V>(h, t, n, d.dvalue, d.columns, E, d.value_sum, this->accumulate);
  }

  /// The same with a decay for each key.
  template <class V>
  void reverse_by_key(const rows& d, index_t h, index_t t, index_t n, S* state,
                      S* carried) const noexcept {
    const key_paths<S> paths{d};
    paths.template fade_keys<V>(n);
    matrix::transpose<V>(d.faded, d.keys, n, K, d.key_by_row);
    matrix::transpose<V>(d.value, d.columns, n, d.lines, d.value_by_row);
    d.template turn_state<V>(state, d.state_by_key);
    d.template turn_state<V>(carried, d.carried_by_key);
    if (normalised) {
      walk_keys<V>(d, n, false);
      sum_keys<V>(d, n);
      this->template normalise<V>(d, n);
    }
    walk_keys<V>(d, n, static_cast<bool>(ddecay));
    const auto values = d.by_columns(d.dvalue);
    simd::multiply<V>(values, rows::lying(d.key_by_row, K).read(), rows::lying(carried, K).read(),
                      {.nothing = true}, n, d.columns, K);
    simd::multiply<V, simd::terms::from>(values, d.square(d.scores).read(),
                                         d.by_columns(d.dy).read(), {}, n, d.columns, n);
    update<V>(d, d.faded_query, n, carried);
    put_rows<V>(d, h, t, n);
    ddecay.template put<V>(h, t, n, d.ddecay, d.keys, K, nullptr, this->accumulate);
  }

  /// dq, dk, scores and, if `paths`, dg, as dy is at hand.
  template <class V>
  void walk_keys(const rows& d, index_t n, bool paths) const noexcept {
    matrix::transpose<V>(d.dy, d.columns, n, d.lines, d.dy_by_row);
    d.template score<V>(d.dy_by_row, d.value_by_row, d.lines, n, d.arrivals);
    read_state<V>(d, n, d.read);
    write_state<V>(d, n);
    key_paths<S>{d}.template walk<V>(n, paths);
  }

  /// The normalisers, made again.
  template <class V>
  void sum_keys(const rows& d, index_t n) const noexcept {
    using L = lane<V>;
    const auto before = rows::lying(d.state_by_key, d.lines);
    for (index_t i = 0; i < d.keys; i += L::width) {
      V z = L::load(before.at(E, i));
      for (index_t at = i; at < n * d.keys; at += d.keys) {
        z = L::fma(L::load(d.decay + at), z, L::load(d.key + at));
        L::store(d.sums + at, z);
      }
    }
  }

  /// What lies past the last of K keys goes through whole registers like the others.
  void clear_padding(const rows& d, index_t n) const noexcept {
    for (S* row : {d.query, d.key, d.decay})
      for (index_t m = 0; m < n; ++m, row += d.keys) std::fill(row + K, row + d.keys, S(0));
  }

  template <class V>
  void turn_rows(const rows& d, index_t n) const noexcept {
    matrix::transpose<V>(d.query, d.keys, n, K, d.query_by_row);
    matrix::transpose<V>(d.key, d.keys, n, K, d.key_by_row);
    matrix::transpose<V>(d.value, d.columns, n, d.lines, d.value_by_row);
    matrix::transpose<V>(d.dy, d.columns, n, d.lines, d.dy_by_row);
  }

  /// What the first state has to do with n outputs: to = S dy
  template <class V>
  void read_state(const rows& d, index_t n, S* to) const noexcept {
    simd::multiply<V>(d.by_keys(to), rows::lying(d.dy_by_row, d.lines).read(),
                      rows::lying(d.state_by_key, d.lines).read(), {.nothing = true}, n, K,
                      d.lines);
  }

  /// What the gradient of the last state has to do with n keys: dkey = D v
  template <class V>
  void write_state(const rows& d, index_t n) const noexcept {
    simd::multiply<V>(d.by_keys(d.dkey), rows::lying(d.value_by_row, d.lines).read(),
                      rows::lying(d.carried_by_key, d.lines).read(), {.nothing = true}, n, K,
                      d.lines);
  }

  /// dq, before a quotient is looked at.
  template <class V>
  void find_queries(const rows& d, index_t n, bool paths) const noexcept {
    d.template score<V>(d.dy_by_row, d.value_by_row, d.lines, n, d.arrivals);
    std::copy_n(d.arrivals, n * d.side, d.scores);
    d.template weigh<V>(d.scores, d.between, n);
    read_state<V>(d, n, d.read);
    if (paths && !normalised) d.template dots<V>(d.query, d.read, d.prefix, n, d.from_state);
    simd::multiply<V, simd::terms::through>(d.by_keys(d.read),
                                            d.template turn<V>(d.scores, n).read(),
                                            d.by_keys(d.key).read(), {.scale = d.prefix}, n, K);
  }

  /// dy and dq of the quotient, for which the normalisers are made again.
  template <class V>
  void normalise_chunk(const rows& d, index_t n, bool paths) const noexcept {
    const auto z = rows::lying(d.state_by_key, d.lines);
    for (index_t m = 0; m < n; ++m)
      for (index_t i = 0; i < K; i += wide) std::copy_n(z.at(E, i), wide, d.sums + m * d.keys + i);
    simd::multiply<V, simd::terms::through>(d.by_keys(d.sums),
                                            d.template turn<V>(d.between, n).read(),
                                            d.by_keys(d.key).read(), {.scale = d.prefix}, n, K);
    this->template normalise<V>(d, n);
    matrix::transpose<V>(d.dy, d.columns, n, d.lines, d.dy_by_row);
    d.template score<V>(d.dy_by_row, d.value_by_row, d.lines, n, d.arrivals);
    if (!paths) return;
    read_state<V>(d, n, d.faded);
    d.template dots<V>(d.query, d.faded, d.prefix, n, d.from_state);
  }

  /// Scores and what arrives through them, faded, and their products where decays ask for them.
  template <class V>
  void weigh_scores(const rows& d, index_t n, bool paths) const noexcept {
    d.template score<V>(d.query_by_row, d.key_by_row, K, n, d.scores);
    d.template weigh<V>(d.scores, d.between, n);
    if (paths) {
      std::copy_n(d.scores, n * d.side, d.paths);
      d.template weigh<V>(d.paths, d.arrivals, n);
    }
    d.template weigh<V>(d.arrivals, d.between, n);
  }

  template <class V>
  void find_values_and_keys(const rows& d, index_t n, S* carried, bool paths) const noexcept {
    const S* tail = d.tail(n);
    const auto values = d.by_columns(d.dvalue), keys = d.by_keys(d.dkey);
    simd::multiply<V>(values, rows::lying(d.key_by_row, K).read(), rows::lying(carried, K).read(),
                      {.nothing = true}, n, d.columns, K);
    simd::multiply<V, simd::terms::from>(values, d.square(d.scores).read(),
                                         d.by_columns(d.dy).read(), {.scale = tail}, n, d.columns,
                                         n);
    write_state<V>(d, n);
    if (paths) d.template dots<V>(d.key, d.dkey, tail, n, d.to_state);
    simd::multiply<V, simd::terms::from>(keys, d.square(d.arrivals).read(),
                                         d.by_keys(d.query).read(), {.scale = tail}, n, K, n);
  }

  /// D of the row before n tokens, from their queries as the first state is read.
  template <class V>
  void update(const rows& d, const S* queries, index_t n, S* carried) const noexcept {
    simd::multiply<V>(rows::lying(carried, K), d.by_keys(queries), d.by_columns(d.dy).read(),
                      {.scale = d.kept}, K, d.columns, n);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
