// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "paths.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <string>
#include <vector>

namespace golden {

// All paths of a mixer over a problem whose values are exact in S, each handed to `each`. Defined
// in one file per mixer and type, so that a build compiles them side by side.

/// gate, input [B, T, D]; initial [B, D].
template <class S>
void diagonal_paths(const problem& p, maslin::decay form, extent paths, const report& each);

/// gate [B, T, D, 2], input [B, T, D, 2], initial [B, D, 2]: real and imaginary parts.
template <class S>
void complex_paths(const problem& p, extent paths, const report& each);

/// gate: recurrence gates [B, T, D], input gates [B, T, D], decays [D]; input [B, T, D]; initial
/// [B, D].
template <class S>
void rglru_paths(const problem& p, extent paths, const report& each);

/// gate [B, T, D, M+1], input [B, T, D], initial [B, D, M]; in both orders of the gates.
template <class S>
void hlru_paths(const problem& p, extent paths, const report& each);

/// gate [B, T, G, M, M+1], input [B, T, G, M], initial [B, G, M]; in both orders of the gates.
template <class S>
void bdlru_paths(const problem& p, extent paths, const report& each);

/// A generalised mixer with given coefficients, one sequence of one head.
struct rows_problem {
  std::string pattern;
  index_t steps = 0, width = 0, slots = 0;      // T, E, S
  std::vector<double> self{}, past{}, input{};  // [T], [T, S], [T, E]
  std::vector<double> dy{};                     // [T, E]; empty where a case has no gradients
};
template <class S>
void generalized_paths(const rows_problem& p, extent paths, const report& each);
/// The arrays that `problem::gate` holds one after another for a selective state-space model.
template <class S>
struct selective_views {
  view<const S, 3> dt, gate;     // [B, T, D]
  view<const S, 4> write, read;  // [B, T, 1, N]
  view<const S, 2> decay;        // [D, N]
  view<const S, 1> skip, bias;   // [D]
};
template <class S>
[[nodiscard]] selective_views<S> selective_parts(const problem& p, const S* numbers) {
  const index_t B = p.batch, T = p.steps, D = p.width, N = p.order;
  const auto take = [&](index_t count) {
    const S* const part = numbers;
    numbers += count;
    return part;
  };
  selective_views<S> v;
  v.dt = maslin::row_major(take(B * T * D), B, T, D);
  v.gate = maslin::row_major(take(B * T * D), B, T, D);
  v.write = maslin::row_major(take(B * T * N), B, T, 1, N);
  v.read = maslin::row_major(take(B * T * N), B, T, 1, N);
  v.decay = maslin::row_major(take(D * N), D, N);
  v.skip = maslin::row_major(take(D), D);
  v.bias = maslin::row_major(take(D), D);
  return v;
}

/// gate as above, input [B, T, D]; initial [B, D, N], N being the problem's order.
template <class S>
void selective_ssm_paths(const problem& p, extent paths, const report& each);

/// Causal attention whose last T keys have queries.
struct attention_problem {
  index_t batch = 0, steps = 0, keys = 0, heads = 0, key_heads = 0;  // B, T, N, H, H'
  index_t key_dim = 0, value_dim = 0, window = 0;
  double scale = 0;
  std::vector<double> query{}, key{}, value{};  // [B, T, H, K], [B, N, H', K], [B, N, H', E]
  std::vector<double> dy{};                     // [B, T, H, E]; empty: no gradients
};
template <class S>
void attention_paths(const attention_problem& p, extent paths, const report& each);
/// Sizes of a mixer with a matrix state. Its `problem` holds, in `gate`, queries and keys [B, T, H, K],
/// then for the delta rule beta [B, T, H], then the decays, if any; in `input` values [B, T, H, E];
/// in `initial` the state [B, H, K, E].
struct matrix_sizes {
  index_t H = 0, K = 0, E = 0;
  maslin::decay_axis axis = maslin::decay_axis::none;
  bool unscaled = false;  ///< scale 1, not K^-1/2
};
template <class S>
struct matrix_views {
  view<const S, 4> query, key, value;
  view<const S, 3> beta, decay;  // [B, T, H]
  view<const S, 4> decays;       // [B, T, H, K]
};
template <class S>
[[nodiscard]] matrix_views<S> matrix_parts(const problem& p, const matrix_sizes& n, bool has_beta,
                                           const S* numbers, const S* input) {
  const index_t B = p.batch, T = p.steps, H = n.H;
  const auto take = [&](index_t count) {
    const S* const part = numbers;
    numbers += B * T * H * count;
    return part;
  };
  matrix_views<S> v;
  v.query = maslin::row_major(take(n.K), B, T, H, n.K);
  v.key = maslin::row_major(take(n.K), B, T, H, n.K);
  v.value = maslin::row_major(input, B, T, H, n.E);
  if (has_beta) v.beta = maslin::row_major(take(1), B, T, H);
  if (n.axis == maslin::decay_axis::head) v.decay = maslin::row_major(take(1), B, T, H);
  if (n.axis == maslin::decay_axis::key) v.decays = maslin::row_major(take(n.K), B, T, H, n.K);
  return v;
}

template <class S>
void linear_attention_paths(const problem& p, const matrix_sizes& n, extent paths,
                            const report& each);
template <class S>
void delta_rule_paths(const problem& p, const matrix_sizes& n, extent paths, const report& each);

/// Runs one case by all paths of its mixer.
/// throws    bad_case, skipped_case
void run_diagonal(const test_case& test, verdict& into);
void run_complex_diagonal(const test_case& test, verdict& into);
void run_rglru(const test_case& test, verdict& into);
void run_hlru(const test_case& test, verdict& into);
void run_bdlru(const test_case& test, verdict& into);
void run_generalized(const test_case& test, verdict& into);
void run_selective_ssm(const test_case& test, verdict& into);
void run_attention(const test_case& test, verdict& into);
void run_linear_attention(const test_case& test, verdict& into);
void run_delta_rule(const test_case& test, verdict& into);

}  // namespace golden
