// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The memory in which the adjoints of mixers with a matrix state work on a segment of time in chunks
/// of rows, and what they have in common: scores between rows, decays between rows, and the gradient
/// of a decay from the paths that cross it.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/recurrence/weigh.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// Rows of a segment of one head, which are tokens or micro-steps, and of a chunk of them. Rows of
/// keys are `keys` numbers long, those of values `columns`; a normaliser is one more value, of ones.
template <class S>
struct chunk_desk {
  using panels = matrix::panels<S>;
  static constexpr index_t wide = matrix::panel_columns;

  struct shape {
    index_t K, E;
    index_t count, chunk;  // rows of the longest segment and of the longest chunk
    index_t heads = 1;     // of a task
    bool shared = false;   // whether heads have gradients in common
    bool normalised = false, delta = false;
    bool by_key = false;  // whether decays are those of keys (key_paths.hpp)
  };

  index_t K, keys, columns, lines;
  index_t side;  // of the scores of a chunk
  index_t state_size, scores_size;
  // Of a segment; `rows_from` makes them those of a chunk. Queries and dy of the delta rule are of a
  // chunk.
  S *query, *key;          // [count][keys]
  S *value, *dy, *error;   // [count][columns]; the delta rule's values are its updates
  S *factor, *beta;        // [count]
  S* decay;                // [count][keys], of keys
  S *query_sum, *key_sum;  // [count][keys], over heads that have one in common
  S* value_sum;            // [count][columns]
  S* states;               // [chunks][columns / 16][K][16]; delta: without the first
  S* answers;              // delta: [chunks][side][side]
  S* carried;              // [heads][columns / 16][K][16] where there is a normaliser
  // Of a chunk.
  S *read, *dkey;                // [side][keys]
  S* faded;                      // [side][keys], delta: of twice as many
  S* sums;                       // [side][keys]
  S* dvalue;                     // [side][columns]
  S* arrived;                    // delta: [2 side][columns], dy, then -beta w
  S *query_by_row, *key_by_row;  // [keys][side], transposed; delta: keys of all chunks
  S *value_by_row, *dy_by_row, *corrected_by_row;  // [columns][side]
  S *state_by_key, *carried_by_key;                // [lines][keys]
  S *between, *scores, *arrivals, *corrections;    // [side][side]
  S *paths, *turned;
  S *prefix, *inner, *crossed, *from_state, *to_state;  // [side], to_state by keys of rows
  S* kept;                                              // [keys]
  // By keys.
  S *faded_query, *ddecay;  // [side][keys]
  S* chains;                // of the scores of two rows
  index_t size = 0;         // numbers in all

  chunk_desk(S* memory, const shape& of) noexcept
      : K(of.K),
        keys(matrix::round_up(of.K)),
        columns(matrix::round_up(of.E + (of.normalised ? 1 : 0))),
        lines(of.E + (of.normalised ? 1 : 0)),
        side(matrix::round_up(of.chunk)),
        state_size(of.K * columns),
        scores_size(side * side) {
    const auto take = [&](index_t n, auto*... parts) {
      const auto one = [&](S*& part) {
        part = memory == nullptr ? nullptr : memory + size;
        size += matrix::round_up(n);
      };
      (one(*parts), ...);
    };
    const index_t chunks = (of.count + of.chunk - 1) / of.chunk;
    const index_t at_hand = of.delta ? side : of.count;
    take(at_hand * keys, &query);
    take(at_hand * columns, &dy);
    take(of.count * keys, &key);
    take(of.count * columns, &value);
    take(of.count, &factor);
    take(of.delta ? of.count * columns : 0, &error);
    take(of.delta ? of.count : 0, &beta);
    take(of.shared ? of.count * keys : 0, &query_sum, &key_sum);
    take(of.shared ? of.count * columns : 0, &value_sum);
    take((of.delta ? chunks - 1 : chunks) * state_size, &states);
    take(of.delta ? chunks * scores_size : 0, &answers);
    take(of.normalised ? of.heads * state_size : 0, &carried);
    take(side * keys, &read, &dkey, &query_by_row);
    take((of.delta ? chunks : 1) * side * keys, &key_by_row);
    take(of.delta ? 2 * side * keys : side * keys, &faded);
    take(of.normalised ? side * keys : 0, &sums);
    take(side * columns, &dvalue, &value_by_row, &dy_by_row);
    take(of.delta ? side * columns : 0, &corrected_by_row);
    take(of.delta ? 2 * side * columns : 0, &arrived);
    take(of.delta ? 0 : lines * keys, &state_by_key, &carried_by_key);
    take(scores_size, &between, &scores, &arrivals, &paths, &turned);
    take(of.delta ? scores_size : 0, &corrections);
    take(side, &prefix, &inner, &crossed);
    take(side, &from_state);
    take(of.by_key ? side * keys : side, &to_state);
    take(keys, &kept);
    take(of.by_key ? of.count * keys : 0, &decay);
    take(of.by_key ? side * keys : 0, &faded_query, &ddecay);
    take(of.by_key ? 2 * side * wide : 0, &chains);
  }

  /// The same, rows of a segment counted from m on, which begins a chunk.
  [[nodiscard]] chunk_desk rows_from(index_t m) const noexcept {
    chunk_desk d = *this;
    for (S** p : {&d.query, &d.key, &d.decay, &d.query_sum, &d.key_sum}) *p += m * keys;
    for (S** p : {&d.value, &d.dy, &d.error, &d.value_sum}) *p += m * columns;
    for (S** p : {&d.factor, &d.beta}) *p += m;
    return d;
  }

  // Rows of keys, of values and of scores as panels; a transposed matrix of n lines, and a state of n
  // keys.
  template <class T>
  [[nodiscard]] simd::panels<T> by_keys(T* rows) const noexcept {
    return {rows, keys, wide};
  }
  template <class T>
  [[nodiscard]] simd::panels<T> by_columns(T* rows) const noexcept {
    return {rows, columns, wide};
  }
  template <class T>
  [[nodiscard]] simd::panels<T> square(T* rows) const noexcept {
    return {rows, side, wide};
  }
  template <class T>
  [[nodiscard]] static simd::panels<T> lying(T* data, index_t n) noexcept {
    return {data, wide, wide * n};
  }

  /// A state [columns / 16][K][16] by keys.
  template <class V>
  void turn_state(const S* from, S* to) const noexcept {
    for (index_t i = 0; i < K; i += wide)
      for (index_t e = 0; e < lines; e += wide)
        matrix::transpose<V>(from + e * K + i * wide, wide, std::min(wide, K - i),
                             std::min(wide, lines - e), lying(to, lines).at(e, i));
  }
  /// <a_r, b_c> of the rows of a chunk for c <= r, from their transposes of `depth` lines. Of the first
  /// tile of a panel's rows one register of that panel's columns is all that is asked for.
  template <class V>
  void score(S* a, S* b, index_t depth, index_t n, S* to) const noexcept {
    constexpr index_t width = lane<V>::width;
    constexpr index_t tile = std::min<index_t>(simd::detail::tile_rows, width);
    const auto score_rows = [&](index_t r, index_t count, index_t end) {
      const panels out = square(to + r * side);
      simd::multiply<V>(out, out.read(), {lying(a, depth).at(0, r), wide, wide * depth},
                        lying(b, depth).read(), {.nothing = true}, count, end, depth);
    };
    for (index_t r = 0; r < n; r += wide) {
      const index_t end = std::min(r + wide, n), first = std::min(tile, end - r);
      score_rows(r, first, r + width);
      if (r + first < end) score_rows(r + first, end - r - first, end);
    }
  }
  /// Scores by columns: what rows that come later have of this one.
  template <class V>
  [[nodiscard]] panels turn(const S* from, index_t n) const noexcept {
    matrix::transpose<V>(from, side, n, n, turned);
    return lying(turned, n);
  }

  /// f(place in a [side][side], place in its row) for the registers that hold c <= r.
  template <class V, class F>
  void for_each_score(index_t n, const F& f) const noexcept {
    for (index_t r = 0; r < n; ++r)
      for (index_t c = 0; c <= r; c += lane<V>::width) f(r * side + c, r, c);
  }
  /// to <- to a
  template <class V>
  void weigh(S* to, const S* a, index_t n) const noexcept {
    using L = lane<V>;
    for_each_score<V>(n, [&](index_t at, index_t, index_t) {
      L::store(to + at, L::load(to + at) * L::load(a + at));
    });
  }

  /// From the decays of n rows: between[r][c] = prod_{c < i <= r} a_i for c <= r and 0 after,
  /// prefix[r] = prod_{i <= r} a_i, kept = the last of these.
  template <class V>
  void find_decays(index_t n) const noexcept {
    using L = lane<V>;
    alignas(64) S one[2 * wide] = {};
    one[wide] = 1;
    for (index_t r = 0; r < n; ++r) {
      S *const row = between + r * side, *const before = row - side;
      const index_t block = r / wide * wide;
      const V by = L::broadcast(factor[r]);
      for (index_t c = 0; c < block; c += L::width) L::store(row + c, by * L::load(before + c));
      for (index_t c = block; c < block + wide; c += L::width) {
        const V own = L::load(one + wide - r + c);
        L::store(row + c, r > block ? L::fma(by, L::load(before + c), own) : own);
      }
      std::fill(row + block + wide, row + side, S(0));
      prefix[r] = r > 0 ? prefix[r - 1] * factor[r] : factor[r];
    }
    std::fill_n(kept, K, prefix[n - 1]);
  }
  /// Decays from each of n rows to the last.
  [[nodiscard]] const S* tail(index_t n) const noexcept { return between + (n - 1) * side; }

  /// to[r] = by[r] <a_r, b_r>, or `to` and that.
  template <class V>
  void dots(const S* a, const S* b, const S* by, index_t n, S* to,
            bool add = false) const noexcept {
    for (index_t r = 0; r < n; ++r) {
      const S x = recurrence::dot_row<V>(a + r * keys, b + r * keys, K);
      to[r] = lane<S>::fma(by[r], x, add ? to[r] : S(0));
    }
  }
  /// to_r = by[r] from_r
  template <class V>
  void fade(const S* from, const S* by, index_t n, S* to) const noexcept {
    for (index_t r = 0; r < n; ++r) matrix::scale_row<V>(from + r * keys, by[r], to + r * keys, K);
  }

  /// crossed: the gradient of the logarithm of each decay is the sum of all paths that cross it: from a row
  /// before to one at it or after (`paths`[later][earlier]), from the first state to the latter
  /// (`from_state`), from the former to the last state (`to_state`), and from state to state,
  /// which is `meeting` times all decays. Nothing is added and taken away again: a decay of 0 has a
  /// gradient of 0.
  template <class V>
  void cross(index_t n, S meeting) const noexcept {
    using L = lane<V>;
    for (index_t t = n - 1; t > 0; --t) {
      const S *row = paths + t * side, *later = turned + (t + 1) * side;
      for (index_t c = 0; c < t; c += L::width)
        L::store(turned + t * side + c,
                 t + 1 < n ? L::load(later + c) + L::load(row + c) : L::load(row + c));
    }
    sum_before<V>(n);
    S later = 0, earlier = 0;
    for (index_t t = n - 1; t >= 0; --t) {
      later += from_state[t];
      crossed[t] = inner[t] + later;
    }
    for (index_t t = 0; t < n; ++t) {
      crossed[t] += lane<S>::fma(kept[0], meeting, earlier);
      earlier += to_state[t];
    }
  }
  /// inner[t] = the sum over c < t of `turned`[t][c], rows in lanes.
  template <class V>
  void sum_before(index_t n) const noexcept {
    using L = lane<V>;
    constexpr int piece = 4;
    for (index_t t = 0; t < n; ++t)
      std::fill(turned + t * side + t, turned + t * side + matrix::round_up(t + 1), S(0));
    for (index_t t = 0; t < n; t += L::width) {
      V sum = L::broadcast(S(0));
      for (index_t c = 0; c < matrix::round_up(t + 1); c += piece) {
        V x[static_cast<std::size_t>(piece)];
        simd::load_columns<V, piece>(turned + t * side + c, side, all_lanes<V>{}, x);
        each<piece>([&](int k) { sum = sum + x[k]; });
      }
      L::store(inner + t, sum);
    }
  }

  /// The sum of all D S of a state and its gradient.
  template <class V>
  [[nodiscard]] S meeting_of(const S* state, const S* d) const noexcept {
    using L = lane<V>;
    constexpr int turns = 4, registers = static_cast<int>(wide / L::width);
    constexpr auto count = static_cast<std::size_t>(registers);
    V sum[static_cast<std::size_t>(turns)][count];
    unrolled<turns>(
        [&](auto s) { unrolled<registers>([&](auto k) { sum[s][k] = L::broadcast(S(0)); }); });
    const auto add = [&](auto s, index_t at) {
      unrolled<registers>([&](auto k) {
        const index_t i = at + static_cast<index_t>(k()) * L::width;
        sum[s][k] = L::fma(L::load(d + i), L::load(state + i), sum[s][k]);
      });
    };
    index_t at = 0;
    for (; at + turns * wide <= state_size; at += turns * wide)
      unrolled<turns>([&](auto s) { add(s, at + static_cast<index_t>(s()) * wide); });
    for (; at < state_size; at += wide) add(std::integral_constant<std::size_t, 0>{}, at);
    V all[count];
    unrolled<registers>(
        [&](auto k) { all[k] = (sum[0][k] + sum[1][k]) + (sum[2][k] + sum[3][k]); });
    return recurrence::detail::fold_lanes<V>(all, [](auto a, auto b) { return a + b; });
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
