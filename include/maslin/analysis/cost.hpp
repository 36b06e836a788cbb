// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What mixing T tokens of one sequence costs, counted from the formulas: arithmetic, numbers
/// moved, and the state that decode keeps. A model, to be held against measurements.

#include <maslin/core/types.hpp>
#include <maslin/pattern/reads.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::analysis {

/// Sizes of a mixer, those that it has.
struct sizes {
  index_t T = 0;       ///< tokens
  index_t groups = 1;  ///< channels D, blocks G or heads H
  index_t order = 1;   ///< M
  index_t state = 1;   ///< N, states a channel
  index_t key = 0;     ///< K, key channels a head
  index_t value = 1;   ///< E, value channels a head
};

/// Counts for all T tokens, in numbers of the mixer's type.
struct cost {
  double multiply_adds = 0;
  double exps = 0;      ///< exponentials, and functions made of one (sigmoid, softplus, ...)
  double read = 0;      ///< numbers of the tokens
  double written = 0;   ///< numbers of y
  double gathered = 0;  ///< numbers of earlier keys, values and outputs that are read again
  double state = 0;     ///< numbers that decode keeps after the last token

  /// Floating-point operations, an exp charged as `per_exp` of them.
  [[nodiscard]] double flops(double per_exp = 1) const {
    return 2 * multiply_adds + per_exp * exps;
  }
  /// Bytes that a prefill must move where outputs stay in cache until they are read again.
  [[nodiscard]] double bytes(index_t of_a_number) const {
    return (read + written) * static_cast<double>(of_a_number);
  }
  friend bool operator==(const cost&, const cost&) = default;
};

namespace detail {

[[nodiscard]] inline double number(index_t n) { return static_cast<double>(n); }

/// A recurrence with `terms` products a number of state, one row of gates each.
[[nodiscard]] inline cost gated(index_t T, index_t values, index_t terms, bool fused,
                                index_t state) {
  const double outputs = number(T) * number(values), m = number(terms);
  // Of two coefficients with sum 1 one exp gives both.
  const double exps = !fused ? 0 : terms == 2 ? 1 : m;
  return {.multiply_adds = outputs * m,
          .exps = outputs * exps,
          .read = outputs * (m + 1),
          .written = outputs,
          .state = number(state)};
}

}  // namespace detail

/// h = a h + x in each of D channels; `exps` where gates are logarithms of decays.
[[nodiscard]] inline cost diagonal_cost(const sizes& n, bool exps = false) {
  const double outputs = detail::number(n.T) * detail::number(n.groups);
  return {.multiply_adds = outputs,
          .exps = exps ? outputs : 0,
          .read = 2 * outputs,
          .written = outputs,
          .state = detail::number(n.groups)};
}

/// Order M in each of D channels, gates normalised by the way (`fused`) or given.
[[nodiscard]] inline cost hlru_cost(const sizes& n, bool fused = true) {
  return detail::gated(n.T, n.groups, n.order + 1, fused, n.groups * n.order);
}

/// G blocks of M x M, gates normalised by the way (`fused`) or given.
[[nodiscard]] inline cost bdlru_cost(const sizes& n, bool fused = true) {
  return detail::gated(n.T, n.groups * n.order, n.order + 1, fused, n.groups * n.order);
}

/// RG-LRU in D channels.
[[nodiscard]] inline cost rglru_cost(const sizes& n) {
  const double outputs = detail::number(n.T) * detail::number(n.groups);
  return {.multiply_adds = 3 * outputs,
          .exps = 2 * outputs,
          .read = 3 * outputs,
          .written = outputs,
          .state = detail::number(n.groups)};
}

/// S6 with N states in each of D channels, output gate included; write and read vectors are shared
/// by all channels.
[[nodiscard]] inline cost selective_ssm_cost(const sizes& n) {
  const double T = detail::number(n.T), D = detail::number(n.groups), N = detail::number(n.state);
  return {.multiply_adds = 3 * T * D * N,
          .exps = T * D * (N + 2),
          .read = T * (3 * D + 2 * N),
          .written = T * D,
          .state = D * N};
}

/// Causal softmax attention of H heads, each with its keys and values, over the last `window`
/// positions, itself included; 0: all.
[[nodiscard]] inline cost attention_cost(const sizes& n, index_t window = 0) {
  const index_t w = window == 0 ? n.T : std::min(window, n.T);
  // The first w tokens see 1, 2, ..., w positions.
  const double pairs =
      detail::number(w) * (detail::number(w) + 1) / 2 + detail::number(n.T - w) * detail::number(w);
  const double T = detail::number(n.T), H = detail::number(n.groups), K = detail::number(n.key),
               E = detail::number(n.value);
  return {.multiply_adds = pairs * H * (K + E),
          .exps = pairs * H,
          .read = T * H * (2 * K + E),
          .written = T * H * E,
          .gathered = pairs * H * (K + E),
          .state = detail::number(w) * H * (K + E)};
}

/// Linear attention of H heads with a scalar decay: K x E numbers of state a head.
[[nodiscard]] inline cost linear_attention_cost(const sizes& n) {
  const double T = detail::number(n.T), H = detail::number(n.groups), K = detail::number(n.key),
               E = detail::number(n.value);
  return {.multiply_adds = 3 * T * H * K * E,
          .exps = T * H,
          .read = T * H * (2 * K + E + 1),
          .written = T * H * E,
          .state = H * K * E};
}

/// The gated delta rule of H heads: K x E numbers of state a head.
[[nodiscard]] inline cost delta_rule_cost(const sizes& n) {
  const double T = detail::number(n.T), H = detail::number(n.groups), K = detail::number(n.key),
               E = detail::number(n.value);
  return {.multiply_adds = 4 * T * H * K * E,
          .exps = T * H,
          .read = T * H * (2 * K + E + 2),
          .written = T * H * E,
          .state = H * K * E};
}

/// The generalized mixer of H heads along a pattern, sum_t (|R_t| + 1) terms a head; `key` > 0: its
/// coefficients are made of scores, otherwise they are given.
/// throws    shape_error where `p` is no pattern for T tokens
template <pattern::any_pattern P>
[[nodiscard]] cost generalized_cost(P p, const sizes& n) {
  const double reads = detail::number(pattern::read_total(p, n.T)), T = detail::number(n.T);
  const double H = detail::number(n.groups), K = detail::number(n.key), E = detail::number(n.value);
  const bool scored = n.key > 0;
  return {.multiply_adds = (reads + T) * H * (E + K),
          .exps = scored ? (reads + T) * H : 0,
          .read = H * (T * E + (scored ? 2 * T * K : reads + T)),
          .written = T * H * E,
          .gathered = reads * H * (E + K),
          .state = detail::number(pattern::cache_entries(p, n.T)) * H * (E + K)};
}

}  // namespace maslin::inline MASLIN_ABI::analysis
