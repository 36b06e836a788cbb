// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of the delta rule in chunks of rows, which are micro-steps (linear_chunks.hpp). With
/// P[r,c] = prod_{c < i <= r} a_i, the first state S of a chunk and the gradient D of its last,
/// errors e and gradients w of updates u = beta e solve unit triangular systems,
///
///   e_r = v_r - prod_{i <= r} a_i S^T k_r - sum_{c < r} P[r,c] <k_r, k_c> beta_c e_c
///   w_c = P[last,c] D^T k_c + sum_{r >= c} P[r,c] <q_r, k_c> dy_r
///         - sum_{r > c} P[r,c] beta_r <k_r, k_c> w_r
///
/// the latter from the last row to the first. Then dv = beta w, dbeta = <w, e>, and a key is one that
/// writes u and one that reads -dv:
///
///   dq_r = prod_{i <= r} a_i S dy_r + sum_{c <= r} P[r,c] <dy_r, u_c> k_c
///   dk_r = - prod_{i <= r} a_i S dv_r - sum_{c < r} P[r,c] <dv_r, u_c> k_c
///          + P[last,r] D u_r + sum_{s >= r} P[s,r] <dy_s, u_r> q_s - sum_{s > r} P[s,r] <dv_s, u_r> k_s
///   D   <- prod a_i D + sum_r prod_{i <= r} a_i (q_r dy_r^T - k_r dv_r^T)

#include <maslin/gradient/chunk_desk.hpp>
#include <maslin/gradient/delta_reverse.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// One sequence of a backward call (gradient/head_groups.hpp).
template <class S, decay_axis Axis>
struct delta_chunks : delta_reverse<S, Axis> {
  using base = delta_reverse<S, Axis>;
  using base::E;
  using base::gated;
  using base::group;
  using base::K;
  using base::keep;
  using base::scratch;
  using base::steps;
  using rows = chunk_desk<S>;

  /// Rows of a chunk, measured as in linear_chunks.hpp.
  static constexpr index_t default_rows = 32;

  [[nodiscard]] delta_chunks shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  /// In tokens.
  [[nodiscard]] index_t chunk_of(index_t asked) const noexcept {
    const index_t most = asked == 0 ? default_rows : matrix::most_chunk;
    const index_t tokens = std::max(most / steps, index_t{1});
    return std::min(asked == 0 ? tokens : std::min(asked, tokens), keep->spacing());
  }
  [[nodiscard]] typename rows::shape shape(index_t chunk) const noexcept {
    const auto of = base::shape();
    return {.K = K,
            .E = E,
            .count = of.count,
            .chunk = chunk * steps,
            .heads = group,
            .shared = of.shared,
            .delta = true};
  }
  [[nodiscard]] index_t scratch(index_t chunk) const noexcept {
    return rows(nullptr, shape(chunk)).size;
  }

  template <class V>
  void walk_chunks(index_t b, index_t begin, index_t number, index_t length,
                   scan::matrix_state<S>& dstate, S* scratch, index_t chunk) const noexcept {
    const rows d(scratch, shape(chunk));
    const index_t first = number * group;
    for_each_segment(
        *this, b, begin, number, length,
        [&](const delta_chunks& head, index_t j, index_t t, index_t n, const S* state) {
          head.template walk_pieces<V>(d, first + j, t, n, chunk, state,
                                       dstate.matrix(b, first + j));
        });
  }

 private:
  /// Tokens t .. t + n - 1 of head h, a chunk after another; the state before them is given.
  template <class V>
  void walk_pieces(const rows& d, index_t h, index_t t, index_t n, index_t chunk, const S* state,
                   S* carried) const noexcept {
    this->template load<V>(d, t, n);
    for (index_t m = 0; m < n * steps; ++m) d.beta[m] = this->beta_at(t, m);
    std::copy_n(state, d.state_size, d.states);
    const auto at = [&](S* of_chunks, index_t m, index_t size) {
      return of_chunks + m / chunk * size;
    };
    for (index_t m = 0; m < n; m += chunk)
      solve<V>(d.rows_from(m * steps), std::min(chunk, n - m) * steps,
               at(d.states, m, d.state_size), at(d.answers, m, d.scores_size), m + chunk < n);
    for (index_t m = (n - 1) / chunk * chunk; m >= 0; m -= chunk) {
      const index_t tokens = std::min(chunk, n - m);
      reverse<V>(d.rows_from(m * steps), h, t + m, tokens, at(d.states, m, d.state_size),
                 at(d.answers, m, d.scores_size), carried);
    }
  }

  /// Errors and updates of n rows, what keys answer each other, and the state after them.
  template <class V>
  void solve(const rows& d, index_t n, S* state, S* answers, bool more) const noexcept {
    using L = lane<V>;
    matrix::transpose<V>(d.key, d.keys, n, K, d.key_by_row);
    d.template score<V>(d.key_by_row, d.key_by_row, K, n, answers);
    if constexpr (gated) {
      d.template find_decays<V>(n);
      d.template weigh<V>(answers, d.between, n);
    }
    const V zero = L::broadcast(S(0));
    d.template for_each_score<V>(n, [&](index_t at, index_t, index_t c) {
      L::store(d.corrections + at, L::load(answers + at) * (zero - L::load(d.beta + c)));
    });
    const auto errors = d.by_columns(d.error);
    simd::multiply<V>(errors, rows::lying(d.key_by_row, K).read(), rows::lying(state, K).read(),
                      {.nothing = true}, n, d.columns, K);
    for (index_t r = 0; r < n; ++r) {
      const V minus = L::broadcast(gated ? -d.prefix[r] : S(-1));
      for (index_t i = r * d.columns; i < (r + 1) * d.columns; i += L::width)
        L::store(d.error + i, L::fma(minus, L::load(d.error + i), L::load(d.value + i)));
    }
    simd::multiply<V, simd::terms::before>(errors, d.template turn<V>(d.corrections, n).read(),
                                           errors.read(), {}, n, d.columns);
    for (index_t r = 0; r < n; ++r)
      matrix::scale_row<V>(d.error + r * d.columns, d.beta[r], d.value + r * d.columns, d.columns);
    if (!more) return;
    const S* keys = d.key;
    if constexpr (gated) {
      d.template fade<V>(d.key, d.tail(n), n, d.faded);
      keys = d.faded;
    }
    simd::multiply<V>(rows::lying(state + d.state_size, K), rows::lying(state, K), d.by_keys(keys),
                      d.by_columns(d.value).read(), {.scale = gated ? d.kept : nullptr}, K,
                      d.columns, n);
  }

  /// `tokens` of head h.
  template <class V>
  void reverse(const rows& d, index_t h, index_t t, index_t tokens, S* state, S* answers,
               S* carried) const noexcept {
    const index_t n = tokens * steps;
    if constexpr (gated) d.template find_decays<V>(n);
    turn_rows<V>(d, n);
    d.template turn_state<V>(state, d.state_by_key);
    d.template turn_state<V>(carried, d.carried_by_key);
    find_updates<V>(d, n, answers, carried);
    weigh_scores<V>(d, n, answers);
    find_queries_and_keys<V>(d, n);
    if constexpr (gated)
      if (this->ddecay) {
        d.template cross<V>(n, d.template meeting_of<V>(state, carried));
        for (index_t m = 0; m < tokens; ++m)
          store<S>(this->ddecay.rows.at(t + m), d.crossed[m * steps], all_lanes<S>{},
                   this->accumulate);
      }
    update<V>(d, n, carried);
    put<V>(d, h, t, tokens);
  }

  template <class V>
  void turn_rows(const rows& d, index_t n) const noexcept {
    matrix::transpose<V>(d.query, d.keys, n, K, d.query_by_row);
    matrix::transpose<V>(d.key, d.keys, n, K, d.key_by_row);
    matrix::transpose<V>(d.value, d.columns, n, E, d.value_by_row);
    matrix::transpose<V>(d.dy, d.columns, n, E, d.dy_by_row);
  }

  /// w, in the place of dvalue, and corrected = -beta w, behind the place of dy in `arrived`.
  template <class V>
  void find_updates(const rows& d, index_t n, const S* answers, S* carried) const noexcept {
    using L = lane<V>;
    d.template score<V>(d.query_by_row, d.key_by_row, K, n, d.scores);
    if constexpr (gated) d.template weigh<V>(d.scores, d.between, n);
    d.template for_each_score<V>(n, [&](index_t at, index_t r, index_t) {
      L::store(d.corrections + at, L::load(answers + at) * L::broadcast(-d.beta[r]));
    });
    const auto found = d.by_columns(d.dvalue);
    simd::multiply<V>(found, rows::lying(d.key_by_row, K).read(), rows::lying(carried, K).read(),
                      {.nothing = true}, n, d.columns, K);
    simd::multiply<V, simd::terms::from>(found, d.square(d.scores).read(),
                                         d.by_columns(d.dy).read(),
                                         {.scale = gated ? d.tail(n) : nullptr}, n, d.columns, n);
    simd::multiply<V, simd::terms::after>(found, d.square(d.corrections).read(), found.read(), {},
                                          n, d.columns, n);
    S* const corrected = d.arrived + n * d.columns;
    for (index_t r = 0; r < n; ++r)
      matrix::scale_row<V>(d.dvalue + r * d.columns, -d.beta[r], corrected + r * d.columns,
                           d.columns);
    matrix::transpose<V>(corrected, d.columns, n, E, d.corrected_by_row);
  }

  /// What arrives at updates from outputs and from corrections, faded, and its products with scores
  /// where decays ask for them.
  template <class V>
  void weigh_scores(const rows& d, index_t n, const S* answers) const noexcept {
    using L = lane<V>;
    d.template score<V>(d.dy_by_row, d.value_by_row, E, n, d.arrivals);
    d.template score<V>(d.corrected_by_row, d.value_by_row, E, n, d.corrections);
    if constexpr (gated) {
      d.template for_each_score<V>(n, [&](index_t at, index_t, index_t) {
        const V read = L::load(d.scores + at) * L::load(d.arrivals + at);
        L::store(d.paths + at, L::fma(L::load(answers + at), L::load(d.corrections + at), read));
      });
      d.template weigh<V>(d.arrivals, d.between, n);
      d.template weigh<V>(d.corrections, d.between, n);
    }
    for (index_t r = 0; r < n; ++r) d.corrections[r * d.side + r] = 0;
  }

  /// to = S x of n rows x, then what they have of earlier keys by `scores`.
  template <class V>
  void read_keys(const rows& d, index_t n, S* by_row, const S* scores, const S* reader, S* to,
                 bool add) const noexcept {
    simd::multiply<V>(d.by_keys(to), rows::lying(by_row, E).read(),
                      rows::lying(d.state_by_key, E).read(), {.nothing = true}, n, K, E);
    if constexpr (gated) d.template dots<V>(reader, to, d.prefix, n, d.from_state, add);
    simd::multiply<V, simd::terms::through>(d.by_keys(to), d.template turn<V>(scores, n).read(),
                                            d.by_keys(d.key).read(),
                                            {.scale = gated ? d.prefix : nullptr}, n, K);
  }

  template <class V>
  void find_queries_and_keys(const rows& d, index_t n) const noexcept {
    using L = lane<V>;
    read_keys<V>(d, n, d.dy_by_row, d.arrivals, d.query, d.read, false);
    read_keys<V>(d, n, d.corrected_by_row, d.corrections, d.key, d.dkey, true);
    const auto written = d.by_keys(d.faded);
    const S* tail = gated ? d.tail(n) : nullptr;
    simd::multiply<V>(written, rows::lying(d.value_by_row, E).read(),
                      rows::lying(d.carried_by_key, E).read(), {.nothing = true}, n, K, E);
    if constexpr (gated) d.template dots<V>(d.key, d.faded, tail, n, d.to_state);
    simd::multiply<V, simd::terms::from>(written, d.square(d.arrivals).read(),
                                         d.by_keys(d.query).read(), {.scale = tail}, n, K, n);
    simd::multiply<V, simd::terms::from>(written, d.square(d.corrections).read(),
                                         d.by_keys(d.key).read(), {}, n, K, n);
    for (index_t r = 0; r < n; ++r)
      matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto lanes) {
        S* to = d.dkey + r * d.keys + i;
        L::store(to, L::load(to, lanes) + L::load(d.faded + r * d.keys + i, lanes), lanes);
      });
  }

  /// D of the row before n rows: one product with queries and keys, of dy and what is corrected.
  template <class V>
  void update(const rows& d, index_t n, S* carried) const noexcept {
    S* const keys = d.faded + n * d.keys;
    if constexpr (gated) {
      d.template fade<V>(d.query, d.prefix, n, d.faded);
      d.template fade<V>(d.key, d.prefix, n, keys);
    } else {
      std::copy_n(d.query, n * d.keys, d.faded);
      std::copy_n(d.key, n * d.keys, keys);
    }
    std::copy_n(d.dy, n * d.columns, d.arrived);
    simd::multiply<V>(rows::lying(carried, K), d.by_keys(d.faded).read(),
                      d.by_columns(d.arrived).read(), {.scale = gated ? d.kept : nullptr}, K,
                      d.columns, 2 * n);
  }

  template <class V>
  void put(const rows& d, index_t h, index_t t, index_t tokens) const noexcept {
    const index_t n = tokens * steps;
    for (index_t m = 0; m < n; ++m) {
      S* dv = d.dvalue + m * d.columns;
      if (this->dbeta) {
        const S* error = d.error + m * d.columns;
        store<S>(this->dbeta.rows.at(t + m / steps) + m % steps * this->dbeta.step,
                 recurrence::dot_row<V>(static_cast<const S*>(dv), error, E), all_lanes<S>{},
                 this->accumulate);
      }
      matrix::scale_row<V>(dv, d.beta[m], d.columns);
    }
    const S* read = d.read + (steps - 1) * d.keys;
    this->dquery.template put<V>(h, t, tokens, read, steps * d.keys, K, d.query_sum,
                                 this->accumulate);
    this->dkey.template put<V>(h, t, n, d.dkey, d.keys, K, d.key_sum, this->accumulate);
    this->dvalue.template put<V>(h, t, n, d.dvalue, d.columns, E, d.value_sum, this->accumulate);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
