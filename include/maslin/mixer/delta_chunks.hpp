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
    for (index_t t = 0; t < span.length; t += chunk) {
      const index_t n = std::min(chunk, span.length - t);
      walk_chunk<V>(desk(span.scratch, *this, n), span, t, n);
    }
  }

 private:
  template <class V>
  void walk_chunk(const desk& d, const scan::head_span<S>& span, index_t t,
                  index_t n) const noexcept {
    const index_t count = n * steps, columns = (span.end - span.begin) * wide;
    const index_t next = t + n, more = std::min(n, span.length - next);
    const auto fetch = [&]<int Write>(std::integral_constant<int, Write>, const auto& from,
                                      index_t at, index_t rows, index_t first, index_t size) {
      if (rows > 0)
        matrix::fetch_rows<Write>(from.at(at, span.head) + first, from.rows.time, rows, size);
    };
    using R0 = std::integral_constant<int, 0>;
    load<V>(d, span.head, t, n);
    fetch(R0{}, this->value, t, n, span.begin * wide, columns);
    score<V>(d, count);
    fetch(R0{}, this->key, next, more, 0, K);
    const auto state = matrix::matrix_of(span, K);
    simd::multiply<V>(d.result, d.transposed.read(), state.read(), {.nothing = true},
                      d.half + count, columns, K);
    fetch(std::integral_constant<int, 1>{}, this->out, t, n, span.begin * wide, columns);
    begin_updates<V>(d, span, t, n);
    simd::multiply<V, simd::terms::before>(d.result, d.scores.read(), d.result.read(), {}, count,
                                           columns);
    fetch(R0{}, this->query, next, more, 0, K);
    const panels read = d.result.from(d.half, 0);
    simd::multiply<V, simd::terms::through>(read, d.scores.from(0, d.half).read(), d.result.read(),
                                            {.scale = base::gated ? d.prefix : nullptr}, count,
                                            columns);
    for (index_t r = 0; r < n; ++r)
      matrix::store_row<V>(read.read(), (r + 1) * steps - 1, this->scale, S(1),
                           this->out.at(t + r, span.head) + span.begin * wide,
                           matrix::columns_of(span, E));
    const panels keys{d.rows, matrix::round_up(K), wide};
    simd::multiply<V>(state, keys.read(), d.result.read(),
                      {.scale = base::gated ? d.kept : nullptr}, K, columns, count);
  }

  /// Keys, queries, betas and decays of n tokens.
  template <class V>
  void load(const desk& d, index_t head, index_t t, index_t n) const noexcept {
    const index_t width = matrix::round_up(K), count = n * steps;
    for (index_t m = 0; m < count; ++m) {
      const index_t at = t + m / steps, r = m % steps;
      std::copy_n(this->key.at(at, head) + r * this->key_step, K, d.rows + m * width);
      std::copy_n(this->query.at(at, head), K, d.rows + (d.half + m) * width);
      d.betas[m] = *(this->beta.at(at, head) + r * this->beta_step);
      d.prefix[m] = 1;
    }
    if constexpr (base::gated) {
      alignas(64) S factors[base::block];
      for (index_t j = 0; j < n; j += base::block) {
        const index_t m = std::min(base::block, n - j);
        this->template find_decays<V>(factors, head, t + j, m);
        for (index_t i = 0; i < m; ++i) d.prefix[(j + i) * steps] = factors[i];
      }
    }
    matrix::transpose<V>(d.rows, width, count, K, d.transposed.data);
    matrix::transpose<V>(d.rows + d.half * width, width, count, K, d.transposed.at(0, d.half));
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
      const S* v = this->value.at(t + m / steps, span.head) + m % steps * this->value_step +
                   span.begin * wide;
      const V by = L::broadcast(d.betas[m]), faded = L::broadcast(-d.prefix[m]);
      matrix::for_each_piece<V, 1>(columns, [&](auto, index_t c, auto lanes) {
        S* u = d.result.at(m, c);
        L::store(u, by * L::fma(faded, L::load(u), L::load(v + c, lanes)));
      });
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::detail
