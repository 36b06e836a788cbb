// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The delta rule in chunks of tokens. With the decays a of the micro-steps and P[r,c] =
/// prod_{c < i <= r} a_i, the updates u_r of a chunk solve a unit triangular system,
///
///   u_r = beta_r (v_r - prod_{i <= r} a_i S^T k_r) - sum_{c < r} beta_r P[r,c] <k_r, k_c> u_c
///   y_r = scale (prod_{i <= r} a_i S^T q_r + sum_{c <= r} P[r,c] <q_r, k_c> u_c)
///   S  <- prod a_i S + sum_c P[last,c] k_c u_c^T
///
/// by forward substitution, a tile of rows at a time. A micro-step is a row; the query of a token is
/// that of all its rows, and read at the last.

#include <maslin/mixer/delta_kernel.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::detail {

/// One sequence of a call (scan/heads.hpp).
template <class S, decay_axis Axis>
struct delta_chunks : delta_kernel<S, Axis> {
  using base = delta_kernel<S, Axis>;
  using base::E;
  using base::K;
  using base::scratch;
  using base::steps;
  using panels = matrix::panels<S>;
  static constexpr index_t wide = matrix::panel_columns;

  /// Rows of a chunk, measured as in linear_chunks.hpp.
  static constexpr index_t default_rows = 32;

  [[nodiscard]] delta_chunks shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  [[nodiscard]] index_t chunk_of(index_t asked) const noexcept {
    const index_t rows = asked == 0 ? default_rows : matrix::most_chunk;
    const index_t most = std::max(rows / steps, index_t{1});
    return asked == 0 ? most : std::min(asked, most);
  }

  /// The scratch of a task, for chunks of at most C tokens. What keys and queries share lies side by
  /// side: queries begin at row `half`.
  struct desk {
    index_t half;         // rows of keys, rounded up
    S* rows;              // [2 half][K], padded
    panels transposed;    // [K, 2 half]
    panels scores;        // transposed: row c, column r
    panels result;        // rows of u, then of y
    S *prefix, *between;  // decays from the start; decays up to each row of what is at hand
    S *betas, *kept;
    index_t size;

    desk(S* memory, const delta_chunks& k, index_t C) noexcept {
      size = 0;
      const auto take = [&](index_t n) {
        S* const part = memory == nullptr ? nullptr : memory + size;
        size += n;
        return part;
      };
      half = matrix::round_up(C * k.steps);
      rows = take(2 * half * matrix::round_up(k.K));
      transposed = {take(2 * half * k.K), wide, wide * k.K};
      scores = {take(2 * half * half), wide, wide * half};
      result = {take(2 * half * matrix::round_up(k.E)), wide, 2 * half * wide};
      prefix = take(half);
      between = take(half);
      betas = take(half);
      kept = take(matrix::round_up(k.K));
    }
  };
  [[nodiscard]] index_t scratch(index_t chunk) const noexcept {
    return desk(nullptr, *this, chunk).size;
  }

  template <class V>
  void walk_chunks(const scan::head_span<S>& span, index_t chunk) const noexcept {
    for (index_t t = 0; t < span.length; t += chunk)
      for (index_t i = 0; i < span.heads; ++i) {
        const index_t n = std::min(chunk, span.length - t);
        delta_chunks head = *this;
        head.enter(span.head + i);
        head.template walk_chunk<V>(desk(span.scratch, *this, n), span.one(i), t, n);
      }
  }

 private:
  template <class V>
  void walk_chunk(const desk& d, const scan::head_span<S>& span, index_t t,
                  index_t n) const noexcept {
    const index_t count = n * steps, columns = (span.end - span.begin) * wide;
    const index_t first = span.begin * wide, next = t + n, more = std::min(n, span.length - next);
    load<V>(d, t, n);
    matrix::fetch(this->key, next, more, 0, K);
    score<V>(d, count);
    const auto state = matrix::matrix_of(span, K);
    simd::multiply<V>(d.result, d.transposed.read(), state.read(), {.nothing = true},
                      d.half + count, columns, K);
    matrix::fetch(this->query, next, more, 0, K);
    begin_updates<V>(d, span, t, n);
    simd::multiply<V, simd::terms::before>(d.result, d.scores.read(), d.result.read(), {}, count,
                                           columns);
    matrix::fetch(this->value, next, more, first, columns);
    matrix::fetch<matrix::access::write>(this->out, t, n, first, columns);
    read_out<V>(d, span, t, n);
    const panels keys{d.rows, matrix::round_up(K), wide};
    simd::multiply<V>(state, keys.read(), d.result.read(),
                      {.scale = base::gated ? d.kept : nullptr}, K, columns, count);
  }

  /// y of n tokens; of micro-steps, of which only the last is asked for, by way of the desk.
  template <class V>
  void read_out(const desk& d, const scan::head_span<S>& span, index_t t,
                index_t n) const noexcept {
    const panels read = d.result.from(d.half, 0);
    panels y{this->out.at(t) + span.begin * wide, this->out.rows.time, wide};
    index_t columns = matrix::columns_of(span, E);
    if (steps > 1) {
      y = read;
      columns = (span.end - span.begin) * wide;
    }
    simd::multiply<V, simd::terms::through>(
        y, read.read(), d.scores.from(0, d.half).read(), d.result.read(),
        {.scale = base::gated ? d.prefix : nullptr}, n * steps, columns);
    if (steps == 1) return;
    for (index_t r = 0; r < n; ++r)
      matrix::store_row<V>(read.read(), (r + 1) * steps - 1, S(1),
                           this->out.at(t + r) + span.begin * wide, matrix::columns_of(span, E));
  }

  /// Keys, queries, betas and decays of n tokens.
  template <class V>
  void load(const desk& d, index_t t, index_t n) const noexcept {
    const index_t width = matrix::round_up(K), count = n * steps;
    for (index_t m = 0; m < count; ++m) {
      const index_t at = t + m / steps, r = m % steps;
      std::copy_n(this->key.at(at) + r * this->key_step, K, d.rows + m * width);
      std::copy_n(this->query.at(at), K, d.rows + (d.half + m) * width);
      d.betas[m] = *(this->beta.at(at) + r * this->beta_step);
      d.prefix[m] = 1;
    }
    if constexpr (base::gated) {
      alignas(64) S factors[base::block];
      for (index_t j = 0; j < n; j += base::block) {
        const index_t m = std::min(base::block, n - j);
        this->template find_decays<V>(factors, t + j, m);
        for (index_t i = 0; i < m; ++i) d.prefix[(j + i) * steps] = factors[i];
      }
    }
    matrix::transpose<V>(d.rows, width, count, K, d.transposed.data);
    matrix::transpose<V>(d.rows + d.half * width, width, count, K, d.transposed.at(0, d.half),
                         this->scale);
  }

  /// -beta_r P[r,c] <k_r, k_c> and P[r,c] <q_r, k_c>; keys fade to the end of the chunk.
  template <class V>
  void score(const desk& d, index_t n) const noexcept {
    using L = lane<V>;
    const index_t width = matrix::round_up(K);
    for (index_t c = 0; c < n; c += wide)
      for (const index_t first : {index_t{0}, d.half})
        simd::multiply<V>(d.scores.from(c, first + c), d.transposed.from(0, c).read(),
                          d.transposed.from(0, first + c).read(), {.nothing = true},
                          std::min(wide, n - c), d.half - c, K);
    const V zero = L::broadcast(S(0));
    matrix::fade<V>(d.prefix, d.between, n, [&](index_t c, const S* factors) {
      for (index_t r = c / wide * wide; r < d.half; r += L::width) {
        const V factor = L::load(factors + r);
        S *solved = d.scores.at(c, r), *read = d.scores.at(c, d.half + r);
        L::store(solved, L::load(solved) * (factor * (zero - L::load(d.betas + r))));
        L::store(read, L::load(read) * factor);
      }
      if constexpr (base::gated) matrix::scale_row<V>(d.rows + c * width, factors[n - 1], K);
    });
    std::fill_n(d.kept, K, d.prefix[n - 1]);
  }

  /// u_r = beta_r (v_r - prod a S^T k_r), of which S^T k_r is there.
  template <class V>
  void begin_updates(const desk& d, const scan::head_span<S>& span, index_t t,
                     index_t n) const noexcept {
    using L = lane<V>;
    const index_t columns = matrix::columns_of(span, E);
    for (index_t m = 0; m < n * steps; ++m) {
      const S* v = this->value.at(t + m / steps) + m % steps * this->value_step + span.begin * wide;
      const V by = L::broadcast(d.betas[m]), faded = L::broadcast(-d.prefix[m]);
      matrix::for_each_piece<V, 1>(columns, [&](auto, index_t c, auto lanes) {
        S* u = d.result.at(m, c);
        L::store(u, by * L::fma(faded, L::load(u), L::load(v + c, lanes)));
      });
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
