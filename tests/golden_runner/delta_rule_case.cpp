// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/matrix_bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/delta_rule.hpp>

#include <cmath>
#include <vector>

namespace golden {

namespace {

using maslin::row_major;

result by_reference(const problem& p, const matrix_sizes& n) {
  const auto a = matrix_parts(p, n, true, p.gate.data(), p.input.data());
  const index_t B = p.batch, T = p.steps;
  result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
  maslin::reference::delta_rule({.query = a.query,
                                 .key = row_major(a.key.data_handle(), B, T, 1, n.H, n.K),
                                 .value = row_major(a.value.data_handle(), B, T, 1, n.H, n.E),
                                 .beta = row_major(a.beta.data_handle(), B, T, 1, n.H),
                                 .log_decay = a.decay},
                                1 / std::sqrt(static_cast<double>(n.K)),
                                row_major(r.state.data(), B, n.H, n.K, n.E),
                                row_major(r.y.data(), B, T, n.H, n.E));
  return r;
}

oracle_result by_oracle(const problem& p, const matrix_sizes& n) {
  const auto numbers = converted<float>(p.gate), input = converted<float>(p.input);
  const auto a = matrix_parts(p, n, true, numbers.data(), input.data());
  maslin::test::matrix_numbers<double> state{maslin::test::exact_state<double, double>(p.initial),
                                             {}};
  oracle_result r;
  r.y = maslin::test::delta_bounds<double, float>({.query = a.query,
                                                   .key = a.key,
                                                   .value = a.value,
                                                   .beta = a.beta,
                                                   .log_decay = a.decay,
                                                   .log_decays = {},
                                                   .heads = n.H},
                                                  1, n.E, state);
  r.state = state.matrix;
  return r;
}

subject delta_subject(const matrix_sizes& n) {
  subject mixer;
  mixer.in_double = [n](const problem& p, extent paths, const report& each) {
    delta_rule_paths<double>(p, n, paths, each);
  };
  mixer.in_float = [n](const problem& p, extent paths, const report& each) {
    delta_rule_paths<float>(p, n, paths, each);
  };
  mixer.reference = [n](const problem& p) { return by_reference(p, n); };
  mixer.oracle = [n](const problem& p) { return by_oracle(p, n); };
  mixer.sequential_factor = maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = maslin::test::per_term(walk::chunked);
  return mixer;
}

}  // namespace

void run_delta_rule(const test_case& test, verdict& into) {
  test.allow_only({"q", "k", "v", "beta", "log_decay", "initial_state", "out", "state"});
  const shape keys = test.extents("k", 4), values = test.extents("v", 4);
  const index_t B = keys[0], T = keys[1];
  matrix_sizes n{.H = keys[2], .K = keys[3], .E = values[3]};
  problem p{.order = 1, .batch = B, .steps = T, .width = n.H * n.E};
  p.input = test.values("v", values);
  const auto append = [&](const char* name, const shape& size) {
    const auto part = test.values(name, size);
    p.gate.insert(p.gate.end(), part.begin(), part.end());
  };
  append("q", keys);
  append("k", keys);
  append("beta", {B, T, n.H});
  if (test.has("log_decay")) {
    n.axis = maslin::decay_axis::head;
    append("log_decay", {B, T, n.H});
  }
  const shape state{B, n.H, n.K, n.E};
  p.initial.resize(static_cast<std::size_t>(B * n.H * n.K * n.E), 0.0);
  if (test.has("initial_state")) p.initial = test.values("initial_state", state);
  const result golden{
      .y = test.values("out", values), .state = test.values("state", state), .lags = {}};
  refuse_vacuous(golden.y);
  replay(test, p, delta_subject(n), golden, into);
}

}  // namespace golden
