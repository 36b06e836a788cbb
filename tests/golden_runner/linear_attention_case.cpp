// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/matrix_bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/linear_attention.hpp>

#include <cmath>
#include <vector>

namespace golden {

namespace {

using maslin::decay_axis;
using maslin::row_major;

result by_reference(const problem& p, const matrix_sizes& n) {
  const auto a = matrix_parts(p, n, false, p.gate.data(), p.input.data());
  result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
  maslin::reference::linear_attention(
      {.query = a.query,
       .key = a.key,
       .value = a.value,
       .log_decay = a.decay,
       .log_decays = a.decays},
      {.scale = n.unscaled ? 1 : 1 / std::sqrt(static_cast<double>(n.K))},
      row_major(r.state.data(), p.batch, n.H, n.K, n.E), {},
      row_major(r.y.data(), p.batch, p.steps, n.H, n.E));
  return r;
}

oracle_result by_oracle(const problem& p, const matrix_sizes& n) {
  const auto numbers = converted<float>(p.gate), input = converted<float>(p.input);
  const auto a = matrix_parts(p, n, false, numbers.data(), input.data());
  maslin::test::matrix_numbers<double> state{maslin::test::exact_state<double, double>(p.initial),
                                             {}};
  oracle_result r;
  r.y = maslin::test::linear_bounds<double, float>({.query = a.query,
                                                    .key = a.key,
                                                    .value = a.value,
                                                    .beta = {},
                                                    .log_decay = a.decay,
                                                    .log_decays = a.decays,
                                                    .heads = n.H},
                                                   n.E, state);
  // The oracle reads with K^-1/2; the bound of another scale is as much larger.
  if (n.unscaled)
    for (auto& y : r.y) y.w *= std::sqrt(static_cast<double>(n.K));
  r.state = state.matrix;
  return r;
}

subject linear_subject(const matrix_sizes& n) {
  subject mixer;
  mixer.in_double = [n](const problem& p, extent paths, const report& each) {
    linear_attention_paths<double>(p, n, paths, each);
  };
  mixer.in_float = [n](const problem& p, extent paths, const report& each) {
    linear_attention_paths<float>(p, n, paths, each);
  };
  mixer.reference = [n](const problem& p) { return by_reference(p, n); };
  mixer.oracle = [n](const problem& p) { return by_oracle(p, n); };
  mixer.sequential_factor = maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = maslin::test::per_term(walk::chunked);
  return mixer;
}

/// [.., P, N] as [.., N, P].
std::vector<double> transposed(const std::vector<double>& from, index_t P, index_t N) {
  std::vector<double> to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto at = static_cast<index_t>(i);
    const index_t matrix = at / (P * N), row = at % (P * N) / N, column = at % N;
    to[static_cast<std::size_t>(matrix * P * N + column * P + row)] = from[i];
  }
  return to;
}

}  // namespace

void run_linear_attention(const test_case& test, verdict& into) {
  // The state-space dual names its arrays, and lays its state out, as its paper does.
  const bool dual = test.has("x");
  const char *query = dual ? "C" : "q", *key = dual ? "B" : "k", *value = dual ? "x" : "v";
  test.allow_only({query, key, value, "log_decay", "initial_state", "out", "state"});
  const shape keys = test.extents(key, 4), values = test.extents(value, 4);
  const index_t B = keys[0], T = keys[1];
  matrix_sizes n{.H = keys[2], .K = keys[3], .E = values[3], .unscaled = dual};
  problem p{.order = 1, .batch = B, .steps = T, .width = n.H * n.E};
  p.input = test.values(value, values);
  for (const char* name : {query, key}) {
    const auto part = test.values(name, keys);
    p.gate.insert(p.gate.end(), part.begin(), part.end());
  }
  if (test.has("log_decay")) {
    n.axis = test.rank("log_decay") == 3 ? decay_axis::head : decay_axis::key;
    const auto part =
        test.values("log_decay", n.axis == decay_axis::head ? shape{B, T, n.H} : keys);
    p.gate.insert(p.gate.end(), part.begin(), part.end());
  }
  const shape state{B, n.H, n.K, n.E};
  p.initial.resize(static_cast<std::size_t>(B * n.H * n.K * n.E), 0.0);
  if (test.has("initial_state")) p.initial = test.values("initial_state", state);
  result golden{.y = test.values("out", values), .state = {}, .lags = {}};
  golden.state = dual ? transposed(test.values("state", {B, n.H, n.E, n.K}), n.E, n.K)
                      : test.values("state", state);
  refuse_vacuous(golden.y);
  replay(test, p, linear_subject(n), golden, into);
}

}  // namespace golden
