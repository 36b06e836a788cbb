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
#include <maslin/gradient/chunk_solve.hpp>
#include <maslin/gradient/delta_reverse.hpp>
#include <maslin/gradient/row_product.hpp>

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

  /// Rows of a chunk: scores are half the work of 32, but states are twice the traffic.
  [[nodiscard]] index_t default_rows() const noexcept {
    constexpr index_t small = 64 * 64;
    return K * E <= small ? 16 : 32;
  }

  [[nodiscard]] delta_chunks shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  /// In tokens.
  [[nodiscard]] index_t chunk_of(index_t asked) const noexcept {
    const index_t most = asked == 0 ? default_rows() : matrix::most_chunk;
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
  void walk_chunks(index_t b, index_t number, index_t length, scan::matrix_state<S>& dstate,
                   S* scratch, index_t chunk) const noexcept {
    const rows d(scratch, shape(chunk));
    const index_t first = number * group;
    for_each_segment(
        *this, b, number, length,
        [&](const delta_chunks& head, index_t j, index_t t, index_t n, const S* state) {
          delta_chunks next = *this;
          next.enter(first + std::min(j + 1, group - 1));
          head.template walk_pieces<V>(d, first + j, t, n, chunk, state,
                                       dstate.matrix(b, first + j),
                                       j + 1 < group ? &next : nullptr);
        });
  }

 private:
  /// What comes next, fetched a little at a time while the products of a chunk are made: queries and
  /// gradients of outputs of the chunk before, or where there is none keys and values of the next
  /// head and the state that it begins with.
  struct rows_ahead {
    const delta_chunks* of = nullptr;
    index_t t = 0, row = 0, end = 0;
    const S *state = nullptr, *state_end = nullptr;
    static constexpr index_t of_state = 128;

    [[gnu::always_inline]] void operator()() noexcept {
      if (row == end) return;
      if (state == nullptr) return of->fetch_read(t, row++);
      of->fetch_written(t, row++);
      if (state == state_end) return;
      const index_t count = std::min(of_state, static_cast<index_t>(state_end - state));
      matrix::fetch_row(state, count);
      state += count;
    }
  };

  /// Tokens t .. t + n - 1 of head h, a chunk after another; the state before them is given, and the
  /// head that comes next, if any.
  template <class V>
  void walk_pieces(const rows& d, index_t h, index_t t, index_t n, index_t chunk, const S* state,
                   S* carried, const delta_chunks* beside) const noexcept {
    this->template find_factors<V>(d.factor, t, n);
    for (index_t m = 0; m < n * steps; ++m) d.beta[m] = this->beta_at(t, m);
    // Before a chunk; that before the first is given.
    const auto state_of = [&](index_t m) {
      return m == 0 ? state : d.states + (m / chunk - 1) * d.state_size;
    };
    const auto answers_of = [&](index_t m) { return d.answers + m / chunk * d.scores_size; };
    for (index_t m = 0; m < n; m += chunk) {
      const rows of = chunk_from(d, m, chunk);
      const index_t count = std::min(chunk, n - m) * steps;
      this->template load_written<V>(of, t + m, count, (n - m) * steps);
      solve<V>(of, count, state_of(m), answers_of(m));
      if (m + chunk >= n) continue;
      advance<V>(of, count, state_of(m), d.states + m / chunk * d.state_size);
    }
    for (index_t m = (n - 1) / chunk * chunk; m >= 0; m -= chunk) {
      rows_ahead next;
      if (m > 0)
        next = {this, t + m - chunk, 0, chunk * steps};
      else if (beside != nullptr)
        next = {beside,
                t,
                0,
                n * steps,
                state + keep->head_size(),
                state + keep->head_size() + d.state_size};
      reverse<V>(chunk_from(d, m, chunk), h, t + m, std::min(chunk, n - m), state_of(m),
                 answers_of(m), carried, next);
    }
  }
  /// Rows of the chunk that begins with token m; queries and outputs are those of one chunk.
  [[nodiscard]] rows chunk_from(const rows& d, index_t m, index_t chunk) const noexcept {
    rows of = d.rows_from(m * steps);
    of.key_by_row += m / chunk * d.side * d.keys;
    of.query = d.query;
    of.dy = d.dy;
    return of;
  }

  /// Errors and updates of n rows, and what keys answer each other.
  template <class V>
  void solve(const rows& d, index_t n, const S* state, S* answers) const noexcept {
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
    chunk_solve<S>{.keys = rows::lying(d.key_by_row, K).read(),
                   .state = rows::lying(state, K),
                   .K = K,
                   .rows = n,
                   .columns = d.columns,
                   .scale = gated ? d.prefix : nullptr,
                   .links = d.template turn<V>(d.corrections, n).read(),
                   .found = d.by_columns(d.error)}
        .template forward<V>(d.by_columns(d.value), d.beta);
  }

  /// The state after n rows, from that before them.
  template <class V>
  void advance(const rows& d, index_t n, const S* before, S* after) const noexcept {
    const S* keys = d.key;
    if constexpr (gated) {
      d.template fade<V>(d.key, d.tail(n), n, d.faded);
      keys = d.faded;
    }
    simd::multiply<V>(rows::lying(after, K), rows::lying(before, K), d.by_keys(keys),
                      d.by_columns(d.value).read(), {.scale = gated ? d.kept : nullptr}, K,
                      d.columns, n);
  }

  /// `tokens` of head h.
  template <class V>
  void reverse(const rows& d, index_t h, index_t t, index_t tokens, const S* state,
               const S* answers, S* carried, rows_ahead& next) const noexcept {
    const index_t n = tokens * steps;
    this->template load_read<V>(d, t, n);
    if constexpr (gated) d.template find_decays<V>(n);
    turn_rows<V>(d, n);
    find_updates<V>(d, n, answers, carried);
    put_values<V>(d, h, t, n);
    weigh_scores<V>(d, n, answers);
    find_queries_and_keys<V>(d, n, state, carried, next);
    put_queries_and_keys<V>(d, h, t, tokens);
    if constexpr (gated)
      if (this->ddecay) {
        d.template cross<V>(n, d.template meeting_of<V>(state, carried));
        for (index_t m = 0; m < tokens; ++m)
          store<S>(this->ddecay.rows.at(t + m), d.crossed[m * steps], all_lanes<S>{},
                   this->accumulate);
      }
    update<V>(d, n, carried);
  }

  template <class V>
  void turn_rows(const rows& d, index_t n) const noexcept {
    matrix::transpose<V>(d.query, d.keys, n, K, d.query_by_row);
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
    const auto corrected = rows::lying(d.arrived, 2 * n).from(n, 0);
    chunk_solve<S>{.keys = rows::lying(d.key_by_row, K).read(),
                   .state = rows::lying(carried, K).read(),
                   .K = K,
                   .rows = n,
                   .columns = d.columns,
                   .scale = gated ? d.tail(n) : nullptr,
                   .links = d.square(d.corrections).read(),
                   .found = d.by_columns(d.dvalue)}
        .template backward<V>(d.square(d.scores).read(), d.by_columns(d.dy).read(), corrected,
                              d.beta);
    for (index_t r = 0; r < n; r += rows::wide)
      for (index_t e = 0; e < E; e += rows::wide)
        matrix::transpose<V>(corrected.at(r, e), rows::wide, std::min(rows::wide, n - r),
                             std::min(rows::wide, E - e),
                             rows::lying(d.corrected_by_row, E).at(e, r));
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
    for (index_t r = 0; r < n; ++r) {
      const index_t end = matrix::round_up(r + 1);
      std::fill(d.arrivals + r * d.side + r + 1, d.arrivals + r * d.side + end, S(0));
      std::fill(d.corrections + r * d.side + r, d.corrections + r * d.side + end, S(0));
    }
  }

  /// dq and dk, rows in lanes: what rows have of the first state and of earlier keys, then of the last
  /// D and of later queries and keys.
  template <class V>
  void find_queries_and_keys(const rows& d, index_t n, const S* state, const S* carried,
                             rows_ahead& next) const noexcept {
    const auto readers = d.by_keys(d.query).read(), writers = d.by_keys(d.key).read();
    const auto of_values = [&](S* by_row) { return rows::lying(by_row, E).read(); };
    const auto of_keys = [&](S* by_row) { return rows::lying(by_row, K).read(); };
    S *const read = d.faded, *const written = d.faded + d.side * d.keys;
    S *const from = gated ? d.from_state : nullptr, *const to = gated ? d.to_state : nullptr;
    const S *prefix = gated ? d.prefix : nullptr, *tail = gated ? d.tail(n) : nullptr;
    if constexpr (gated)
      for (S* sums : {from, to}) std::fill_n(sums, d.side, S(0));
    row_product<S> p{.out = rows::lying(read, d.keys),
                     .state = state,
                     .x = of_values(d.dy_by_row),
                     .K = K,
                     .E = E,
                     .rows = n,
                     .by = prefix,
                     .with = of_keys(d.query_by_row),
                     .dots = from};
    p.template run<V>(
        next, score_terms<S>{writers, d.template turn<V>(d.arrivals, n).read(), reach::earlier});
    p.out = rows::lying(written, d.keys);
    p.x = of_values(d.corrected_by_row);
    p.with = of_keys(d.key_by_row);
    p.template run<V>(next);
    p.state = carried;
    p.x = of_values(d.value_by_row);
    p.by = tail;
    p.dots = to;
    p.add = true;
    p.template run<V>(next, score_terms<S>{readers, d.square(d.arrivals).read(), reach::later},
                      score_terms<S>{writers, both_ways<V>(d, n).read(), reach::all});
    if constexpr (gated)
      for (index_t r = 0; r < n; ++r) {
        from[r] *= prefix[r];
        to[r] *= tail[r];
      }
    turn_back<V>(d, read, n, d.read);
    turn_back<V>(d, written, n, d.dkey);
  }

  /// Corrections of rows by each other, whichever comes first, by columns.
  template <class V>
  [[nodiscard]] matrix::panels<S> both_ways(const rows& d, index_t n) const noexcept {
    using L = lane<V>;
    const auto all = d.template turn<V>(d.corrections, n);
    for (index_t c = 0; c < n; ++c)
      for (index_t r = 0; r <= c; r += L::width) {
        const V later = L::load(d.corrections + c * d.side + r);
        S* const at = all.at(c, r);
        L::store(at, r / rows::wide == c / rows::wide ? L::load(at) + later : later);
      }
    return all;
  }

  /// Rows of keys, from lines of rows.
  template <class V>
  void turn_back(const rows& d, const S* lines, index_t n, S* to) const noexcept {
    using L = lane<V>;
    constexpr int piece = 8;
    const auto from = rows::lying(lines, d.keys);
    for (index_t r = 0; r < n; r += L::width)
      for (index_t i = 0; i < d.keys; i += piece) {
        V x[static_cast<std::size_t>(piece)];
        each<piece>([&](int k) { x[k] = L::load(from.at(i + k, r)); });
        simd::store_columns<V, piece>(to + r * d.keys + i, d.keys, all_lanes<V>{}, x);
      }
  }

  /// D of the row before n rows: one product with queries and keys, of dy and what is corrected.
  template <class V>
  void update(const rows& d, index_t n, S* carried) const noexcept {
    const auto faded = rows::lying(d.faded, 2 * n), arrived = rows::lying(d.arrived, 2 * n);
    for (index_t r = 0; r < n; ++r) {
      const S by = gated ? d.prefix[r] : S(1);
      matrix::load_row<V>(d.query + r * d.keys, d.keys, faded, r, by);
      matrix::load_row<V>(d.key + r * d.keys, d.keys, faded, n + r, by);
      matrix::load_row<V>(d.dy + r * d.columns, d.columns, arrived, r);
    }
    simd::multiply<V>(rows::lying(carried, K), faded.read(), arrived.read(),
                      {.scale = gated ? d.kept : nullptr}, K, d.columns, 2 * n);
  }

  // Gradients leave as soon as they are there: those that go past the cache take longer to get to memory
  // than to store, which products in between hide.

  /// dv and dbeta of n rows, from w.
  template <class V>
  void put_values(const rows& d, index_t h, index_t t, index_t n) const noexcept {
    for (index_t m = 0; m < n; ++m) {
      S* dv = d.dvalue + m * d.columns;
      if (this->dbeta) {
        const S* error = d.error + m * d.columns;
        store<S>(this->dbeta.at(t, m), recurrence::dot_row<V>(static_cast<const S*>(dv), error, E),
                 all_lanes<S>{}, this->accumulate);
      }
      matrix::scale_row<V>(dv, d.beta[m], d.columns);
    }
    this->dvalue.template put<V>(h, t, n, d.dvalue, d.columns, E, d.value_sum, this->accumulate);
  }
  template <class V>
  void put_queries_and_keys(const rows& d, index_t h, index_t t, index_t tokens) const noexcept {
    const S* read = d.read + (steps - 1) * d.keys;
    this->dquery.template put<V>(h, t, tokens, read, steps * d.keys, K, d.query_sum,
                                 this->accumulate);
    this->dkey.template put<V>(h, t, tokens * steps, d.dkey, d.keys, K, d.key_sum,
                               this->accumulate);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
