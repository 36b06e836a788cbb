// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The memory in which the adjoints of mixers with a matrix state work on a segment of time.

#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/recurrence/weigh.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// What a backward call of such a mixer has to find, beside the gradients of values and states.
struct matrix_wanted {
  bool replay = false;   // states: for dq, da, and the delta rule's dk
  bool reverse = false;  // D by keys: for dk and da
  bool decay = false;    // da
};

/// The rows of a segment of one head, and what every head of a task carries from a segment to the
/// one before. Rows of keys are `keys` numbers long, those of values `columns`, both whole panels.
template <class S>
struct matrix_desk {
  struct shape {
    index_t K, E;
    index_t count;        // rows of the longest segment
    index_t heads = 1;    // of a task
    bool shared = false;  // whether heads have gradients in common
    bool normalised = false, delta = false;
    bool grouped = true;  // whether rows go by fours
    matrix_wanted wanted;
  };

  index_t K, E, keys, columns;
  index_t lines;            // of a transposed matrix: E, and one where there is a normaliser
  index_t state_step;       // from the states of a group of rows to the next; 0: not kept
  S *query, *key, *decay;   // [count][keys]
  S* factor;                // [count], the decays of heads
  S *value, *dy, *dvalue;   // [count][columns]; the delta rule's values are its updates
  S *error, *corrected;     // [count][columns], delta: update / beta, and -beta dupdate
  S *read, *answer;         // [count][keys]: S dy, and delta: S~ times `corrected`
  S *dkey, *ddecay, *sums;  // [count][keys]
  S *query_sum, *key_sum;   // [count][keys], over heads that have one in common
  S* value_sum;             // [count][columns]
  S *states, *carried;      // transposed: [groups + 1], [heads]
  S* matrix;                // delta: a state as it lies
  S* zero;                  // a row of them
  index_t size = 0;         // numbers in all

  matrix_desk(S* memory, const shape& of) noexcept
      : K(of.K),
        E(of.E),
        keys(matrix::round_up(of.K)),
        columns(matrix::round_up(of.E + (of.normalised ? 1 : 0))),
        lines(of.E + (of.normalised ? 1 : 0)),
        state_step(of.wanted.decay ? keys * lines : 0) {
    const auto take = [&](index_t n, bool needed = true) -> S* {
      if (!needed) return nullptr;
      S* const part = memory == nullptr ? nullptr : memory + size;
      size += matrix::round_up(n);
      return part;
    };
    const index_t of_keys = of.count * keys, of_columns = of.count * columns;
    for (S** rows : {&query, &key, &decay, &read, &dkey, &ddecay}) *rows = take(of_keys);
    for (S** rows : {&value, &dy, &dvalue}) *rows = take(of_columns);
    for (S** rows : {&error, &corrected}) *rows = take(of_columns, of.delta);
    answer = take(of_keys, of.delta);
    sums = take(of_keys, of.normalised);
    for (S** rows : {&query_sum, &key_sum}) *rows = take(of_keys, of.shared);
    value_sum = take(of_columns, of.shared);
    factor = take(of.count);
    zero = take(keys);
    const index_t groups = of.grouped ? of.count / 4 + 3 : of.count;
    states = take(keys * lines + groups * state_step, of.wanted.replay);
    carried = take(of.heads * keys * lines, of.wanted.reverse);
    matrix = take(of.K * columns, of.delta);
  }

  [[nodiscard]] S* carried_by(index_t head) const noexcept { return carried + head * keys * lines; }
  /// The sum of the K numbers of a row: 16 chains, added by halves.
  template <class V>
  [[nodiscard]] S sum_of_keys(S* row) const noexcept {
    std::fill(row + K, row + keys, S(0));
    return recurrence::detail::sum_of_row<V>(row, keys,
                                             [](const S* p) { return lane<V>::load(p); });
  }
  /// A transposed matrix: lines of keys.
  [[nodiscard]] matrix::panels<S> transposed(S* data) const noexcept {
    return {data, matrix::panel_columns, matrix::panel_columns * lines};
  }
  /// Transposes the matrix of a state; the vector beside it becomes the last line.
  template <class V>
  void transpose(const S* from, const S* vector, S* to) const noexcept {
    constexpr index_t wide = matrix::panel_columns;
    for (index_t i = 0; i < K; i += wide) {
      for (index_t e = 0; e < E; e += wide)
        matrix::transpose<V>(from + e * K + i * wide, wide, std::min(wide, K - i),
                             std::min(wide, E - e), transposed(to).at(e, i));
      if (lines > E) std::copy_n(vector + i, wide, transposed(to).at(E, i));
    }
  }
  /// The last line of a transposed matrix back to the vector of a state.
  void copy_sums(S* from, S* vector) const noexcept {
    constexpr index_t wide = matrix::panel_columns;
    for (index_t i = 0; i < K; i += wide) std::copy_n(transposed(from).at(E, i), wide, vector + i);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
