// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Linear attention in chunks of tokens: small matrix products in place of one update a token.
///
///   scores[r,c] = <q_r, k_c prod_{c < i <= r} a_i>,  c <= r
///   y_r = prod_{i <= r} a_i S^T q_r + sum_c scores[r,c] v_c
///   S  <- prod a_i S + sum_c (k_c prod_{c < i} a_i) v_c^T
///
/// Decays between two tokens are products of those in between, all of them at most 1 where the
/// tokens' own are, and never quotients: a decay of 0 is a product like any other.

#include <maslin/mixer/linear_kernel.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::detail {

/// One sequence of a call (scan/heads.hpp).
template <class S, decay_axis Axis, feature Map>
struct linear_chunks : linear_kernel<S, Axis, Map> {
  using base = linear_kernel<S, Axis, Map>;
  using base::E;
  using base::K;
  using base::normalised;
  using base::scratch;
  using panels = matrix::panels<S>;
  static constexpr index_t wide = matrix::panel_columns;

  /// Queries and keys need no rows of their own: they are not changed before they are transposed.
  static constexpr bool as_they_lie = Map == feature::given && Axis != decay_axis::key;
  /// Measured: shorter chunks load and store the state too often, longer ones pay for scores.
  static constexpr index_t default_chunk = 32;

  [[nodiscard]] linear_chunks shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  [[nodiscard]] index_t chunk_of(index_t asked) const noexcept {
    return asked == 0 ? default_chunk : std::min(asked, matrix::most_chunk);
  }

  /// The scratch of a task, for chunks of at most C tokens.
  struct desk {
    S *queries, *keys, *decays;  // rows [C][K], padded; decays of decay_axis::key alone
    panels query, key;           // their transposes
    panels products;             // scores before decays, of all heads with these queries and keys
    panels scores;               // transposed: row c, column r
    S* faded;                    // keys that have decayed to the end of the chunk
    panels values, result;       // rows are tokens
    S *prefix, *between;   // decays from the start; decays up to each token of what is at hand
    S *kept, *totals;      // decays of the rows of the state; of each 16 tokens
    S *divisors, *corner;  // one a token; a state of 16 columns
    S* made;               // scratch of the kernel that goes token by token
    index_t size;

    desk(S* memory, const linear_chunks& k, index_t C) noexcept {
      size = 0;
      const auto take = [&](index_t n) {
        S* const part = memory == nullptr ? nullptr : memory + size;
        size += n;
        return part;
      };
      const index_t rows = matrix::round_up(C), width = matrix::round_up(k.K);
      const bool per_key = Axis == decay_axis::key;
      queries = take(rows * width);
      keys = take(rows * width);
      decays = take(per_key ? rows * width : 0);
      query = {take(rows * k.K), wide, wide * k.K};
      key = {take(rows * k.K), wide, wide * k.K};
      scores = {take(rows * rows), wide, wide * rows};
      products = Axis == decay_axis::head ? panels{take(rows * rows), wide, wide * rows} : scores;
      faded = Axis == decay_axis::head ? take(rows * width) : keys;
      values = {take(rows * matrix::round_up(k.E)), wide, wide * rows};
      result = {take(rows * matrix::round_up(k.E)), wide, wide * rows};
      prefix = take(rows);
      between = take(per_key ? width : rows);
      kept = take(width);
      totals = take(per_key ? rows / wide * width : 0);
      divisors = take(rows);
      corner = take(per_key ? wide * k.K : 0);
      made = take(k.scratch());
    }
  };
  [[nodiscard]] index_t scratch(index_t chunk) const noexcept {
    return desk(nullptr, *this, chunk).size;
  }

  template <class V>
  void walk_chunks(const scan::head_span<S>& span, index_t chunk) const noexcept {
    const desk d(span.scratch, *this, chunk);
    for (index_t t = 0; t < span.length; t += chunk) {
      const index_t n = std::min(chunk, span.length - t);
      for (index_t i = 0; i < span.heads; ++i) {
        const linear_chunks head = entered(span.head + i);
        if (i == 0 || !head.shares_rows(entered(span.head + i - 1)))
          head.template prepare_rows<V>(d, t, n);
        head.template walk_chunk<V>(d, span.one(i), t, n, this->after(span, i, t, n));
      }
    }
  }

 private:
  using coming = typename base::coming;

  /// Columns that go through all products of a chunk before the next: a piece of the state stays in
  /// the first cache from its outputs to its update.
  template <class V>
  static constexpr index_t piece = std::max<index_t>(wide, 2 * lane<V>::width);
  /// Rows of the state that are updated between two turns of fetching: what is asked for in a turn has
  /// room in the queue of a cache.
  static constexpr index_t rows_between = 32;

  [[nodiscard]] linear_chunks entered(index_t h) const noexcept { return {base::entered(h)}; }
  /// Whether another head has the same queries and keys, and all that is made of these alone.
  [[nodiscard]] bool shares_rows(const linear_chunks& other) const noexcept {
    return Axis != decay_axis::key && this->query.at(0) == other.query.at(0) &&
           this->key.at(0) == other.key.at(0);
  }

  /// What n tokens have in common for all heads with these queries and keys.
  template <class V>
  void prepare_rows(const desk& d, index_t t, index_t n) const noexcept {
    load<V>(d, t, n);
    if constexpr (Axis == decay_axis::key)
      score_by_key<V>(d, n);
    else
      score<V>(d, t, n);
  }

  /// n tokens of one head.
  template <class V>
  void walk_chunk(const desk& d, const scan::head_span<S>& span, index_t t, index_t n,
                  const coming& next) const noexcept {
    const index_t columns = (span.end - span.begin) * wide;
    load_values<V>(d, span, t, n);
    if constexpr (Axis == decay_axis::head) fade<V>(d, t, n);
    const auto state = matrix::matrix_of(span, K);
    const panels keys{d.faded, matrix::round_up(K), wide};
    const index_t more = std::clamp(span.length - next.t, index_t{0}, n);
    const auto head = next.sequence.entered(next.head);
    index_t fetched = 0;
    // As many tokens as what is done is of all; outputs are about as much work as the state.
    const auto fetch = [&](index_t done) {
      const index_t until = more * done / (2 * K * columns);
      head.fetch(span, next.t + fetched, until - fetched, next.fresh);
      fetched = until;
    };
    for (index_t c = 0; c < columns; c += piece<V>) {
      const index_t count = std::min(piece<V>, columns - c);
      read_out<V>(d, span, t, n, c, count);
      const auto values = d.values.from(0, c).read();
      for (index_t i = 0; i < K; i += rows_between) {
        fetch(2 * K * c + (K + i) * count);
        const simd::begin_with<S> faded{.scale = Axis == decay_axis::none ? nullptr : d.kept + i};
        simd::multiply<V>(state.from(i, c), keys.from(0, i).read(), values, faded,
                          std::min(rows_between, K - i), count, n);
      }
      fetch(2 * K * (c + count));
    }
    if (normalised) divide<V>(d, span, t, n);
  }

  /// Outputs of n tokens, `count` columns of the span from c on.
  template <class V>
  void read_out(const desk& d, const scan::head_span<S>& span, index_t t, index_t n, index_t c,
                index_t count) const noexcept {
    panels y = d.result;
    if (!normalised) {
      y = {this->out.at(t) + span.begin * wide, this->out.rows.time, wide};
      count = std::min(count, matrix::columns_of(span, E) - c);
    }
    simd::multiply<V, simd::terms::through_after>(
        y.from(0, c), d.scores.read(), d.values.from(0, c).read(),
        {.nothing = true,
         .scale = Axis == decay_axis::head ? d.prefix : nullptr,
         .a = d.query.read(),
         .b = matrix::matrix_of(span, K).from(0, c).read(),
         .depth = K},
        n, count);
  }

  /// Rows of queries and keys of n tokens, features made, and decays of decay_axis::key.
  template <class V>
  void load(const desk& d, index_t t, index_t n) const noexcept {
    const index_t width = matrix::round_up(K);
    for (index_t r = 0; r < n; ++r) {
      if constexpr (!as_they_lie)
        this->template feature_row<V>(this->query.at(t + r), d.queries + r * width);
      if constexpr (!as_they_lie || Axis == decay_axis::none)
        this->template feature_row<V>(this->key.at(t + r), d.keys + r * width);
      if constexpr (Axis == decay_axis::key)
        this->template map_row<V>(this->decay.at(t + r), d.decays + r * width,
                                  [](V g) { return simd::exp(g); });
    }
  }

  /// Values of n tokens, and their divisors.
  template <class V>
  void load_values(const desk& d, const scan::head_span<S>& span, index_t t,
                   index_t n) const noexcept {
    const index_t first = span.begin * wide, count = matrix::columns_of(span, E);
    for (index_t r = 0; r < n; ++r)
      matrix::load_row<V>(this->value.at(t + r) + first, count, d.values, r);
    if (!normalised) return;
    typename base::ready rows;
    auto token_span = span;
    token_span.scratch = d.made;
    for (index_t r = 0; r < n; r += base::block) {
      const index_t m = std::min(base::block, n - r);
      this->template prepare<V>(rows, token_span, t + r, m);
      std::copy_n(rows.divisor, m, d.divisors + r);
    }
  }

  template <class V>
  void divide(const desk& d, const scan::head_span<S>& span, index_t t, index_t n) const noexcept {
    for (index_t r = 0; r < n; ++r)
      matrix::store_row<V>(d.result.read(), r, d.divisors[r],
                           this->out.at(t + r) + span.begin * wide, matrix::columns_of(span, E));
  }

  /// Scores of keys from c on, `rows` of them, with queries from r on; both multiples of 16.
  template <class V>
  void score_block(const desk& d, index_t c, index_t r, index_t rows,
                   index_t columns) const noexcept {
    simd::multiply<V>(d.products.from(c, r), d.key.from(0, c).read(), d.query.from(0, r).read(),
                      {.nothing = true}, rows, columns, K);
  }

  /// Products of all queries and keys, c <= r.
  template <class V>
  void score(const desk& d, index_t t, index_t n) const noexcept {
    const index_t width = matrix::round_up(K), padded = matrix::round_up(n);
    const S *queries = d.queries, *keys = d.keys;
    index_t query_time = width, key_time = width;
    if constexpr (as_they_lie) {
      queries = this->query.at(t);
      query_time = this->query.rows.time;
      keys = this->key.at(t);
      key_time = this->key.rows.time;
    }
    matrix::transpose<V>(queries, query_time, n, K, d.query.data, this->scale);
    matrix::transpose<V>(keys, key_time, n, K, d.key.data);
    for (index_t c = 0; c < n; c += wide)
      score_block<V>(d, c, c, std::min(wide, n - c), padded - c);
  }

  /// Scores of a head with one decay a token; keys fade to the end of the chunk.
  template <class V>
  void fade(const desk& d, index_t t, index_t n) const noexcept {
    const index_t width = matrix::round_up(K), padded = matrix::round_up(n);
    const S* keys = as_they_lie ? this->key.at(t) : d.keys;
    const index_t key_time = as_they_lie ? this->key.rows.time : width;
    for (index_t r = 0; r < n; r += base::block)
      this->template head_decays<V>(d.prefix + r, t + r, std::min(base::block, n - r));
    matrix::fade<V>(d.prefix, d.between, n, [&](index_t c, const S* factors) {
      for (index_t r = c / wide * wide; r < padded; r += lane<V>::width)
        lane<V>::store(d.scores.at(c, r),
                       lane<V>::load(d.products.at(c, r)) * lane<V>::load(factors + r));
      matrix::scale_row<V>(keys + c * key_time, factors[n - 1], d.faded + c * width, K);
    });
    std::fill_n(d.kept, K, d.prefix[n - 1]);
  }

  /// The same with a decay for each number of a key. Between 16 tokens and earlier ones scores meet
  /// at the last token of the earlier 16; within the 16, a state of one column a key is walked.
  template <class V>
  void score_by_key(const desk& d, index_t n) const noexcept {
    const index_t width = matrix::round_up(K);
    for (index_t c = 0; c < n; c += wide) {
      const index_t rows = std::min(wide, n - c);
      score_corner<V>(d, c, rows);
      fade_block<V>(d, c, rows);
    }
    matrix::transpose<V>(d.queries, width, n, K, d.query.data, this->scale);
    matrix::transpose<V>(d.keys, width, n, K, d.key.data);
    for (index_t r = wide; r < n; r += wide)
      for (index_t c = r - wide; c >= 0; c -= wide) {
        score_block<V>(d, c, r, wide, wide);
        const S* total = d.totals + c / wide * width;
        for (index_t i = 0; i < K; ++i) matrix::scale_row<V>(d.query.at(i, r), total[i], wide);
      }
    std::fill_n(d.kept, K, S(1));
    for (index_t c = (n - 1) / wide * wide; c >= 0; c -= wide) {
      for (index_t r = c; r < std::min(c + wide, n); ++r)
        multiply_row<V>(d.keys + r * width, d.kept);
      multiply_row<V>(d.kept, d.totals + c / wide * width);
    }
  }

  /// Queries fade from the first of `rows` tokens from c on, keys to the last.
  template <class V>
  void fade_block(const desk& d, index_t c, index_t rows) const noexcept {
    const index_t width = matrix::round_up(K);
    std::fill_n(d.between, K, S(1));
    for (index_t r = c; r < c + rows; ++r) {
      multiply_row<V>(d.between, d.decays + r * width);
      multiply_row<V>(d.queries + r * width, d.between);
    }
    S* total = d.totals + c / wide * width;
    std::fill_n(total, K, S(1));
    for (index_t r = c + rows - 1; r >= c; --r) {
      multiply_row<V>(d.keys + r * width, total);
      multiply_row<V>(total, d.decays + r * width);
    }
  }

  template <class V>
  void multiply_row(S* row, const S* by) const noexcept {
    matrix::for_each_piece<V, 1>(K, [&](auto, index_t i, auto n) {
      lane<V>::store(row + i, lane<V>::load(row + i, n) * lane<V>::load(by + i, n), n);
    });
  }

  /// Scores among `rows` tokens from c on: what a state answers to which each token writes its key
  /// into a column of its own.
  template <class V>
  void score_corner(const desk& d, index_t c, index_t rows) const noexcept {
    typename base::ready at;
    at.apart = matrix::round_up(K);
    at.query = d.queries + c * at.apart;
    at.key = d.keys + c * at.apart;
    at.decay = d.decays + c * at.apart;
    std::fill_n(d.corner, wide * K, S(0));
    const panels state{d.corner, wide, wide * K};
    matrix::for_each_piece<V, base::tile_registers, 1>(wide, [&](auto registers, index_t e, auto) {
      typename base::template strip<V, registers()> x;
      std::fill_n(x.value, rows * x.columns, S(0));
      std::fill_n(x.out, rows * x.columns, S(0));
      const index_t end = std::min(e + x.columns, rows);
      for (index_t k = e; k < end; ++k) x.value[k * x.columns + k - e] = 1;
      this->walk_strip(x, at, state, rows, e, [](index_t) {});
      for (index_t k = e; k < end; ++k)
        for (index_t r = k; r < rows; ++r)
          *d.scores.at(c + k, c + r) = this->scale * x.out[r * x.columns + k - e];
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
