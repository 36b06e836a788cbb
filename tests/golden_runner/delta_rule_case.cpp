// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "matrix_gradients.hpp"
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

/// Gradients of queries, keys, values, betas, decays and the initial state.
template <class N>
std::vector<std::vector<N>> backward(const problem& p, const matrix_sizes& n) {
  using std::sqrt;
  const index_t B = p.batch, T = p.steps, H = n.H;
  const auto tokens = numbers<N>(p.gate), input = numbers<N>(p.input), dy = numbers<N>(p.dy),
             initial = numbers<N>(p.initial);
  const auto a = matrix_parts(p, n, true, tokens.data(), input.data());
  matrix_gradients<N> g(p, n, true);
  std::vector<N> y(input.size()), final(initial.size()), dinitial(initial.size());
  const std::vector<N> dfinal(initial.size(), N(0));
  const auto of_state = [&](auto& v) { return row_major(v.data(), B, H, n.K, n.E); };
  maslin::reference::delta_call<N> u;
  u.scale = N(1) / sqrt(N(static_cast<double>(n.K)));
  u.query = a.query, u.log_decay = a.decay;
  u.key = row_major(a.key.data_handle(), B, T, 1, H, n.K);
  u.value = row_major(a.value.data_handle(), B, T, 1, H, n.E);
  u.beta = row_major(a.beta.data_handle(), B, T, 1, H);
  u.initial = of_state(initial), u.dfinal = of_state(dfinal);
  u.dy = row_major(dy.data(), B, T, H, n.E);
  maslin::reference::delta_answer<N> out;
  out.y = row_major(y.data(), B, T, H, n.E);
  out.final = of_state(final), out.dinitial = of_state(dinitial);
  out.dquery = row_major(g.query.data(), B, T, H, n.K);
  out.dkey = row_major(g.key.data(), B, T, 1, H, n.K);
  out.dvalue = row_major(g.value.data(), B, T, 1, H, n.E);
  out.dbeta = row_major(g.beta.data(), B, T, 1, H);
  if (!g.decay.empty()) out.dlog_decay = row_major(g.decay.data(), B, T, H);
  maslin::reference::delta_rule_backward(u, out);
  std::vector<std::vector<N>> all;
  g.each([&](const std::vector<N>& array) { all.push_back(array); });
  all.push_back(dinitial);
  return all;
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
  mixer.gradient_names = matrix_gradient_names(n, true, false);
  mixer.gradients = [n](const problem& p) { return backward<double>(p, n); };
  mixer.gradient_bounds = [n](const problem& p) {
    return backward<maslin::test::tracked<double>>(p, n);
  };
  mixer.sequential_factor = maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = maslin::test::per_term(walk::chunked);
  return mixer;
}

}  // namespace

void run_delta_rule(const test_case& test, verdict& into) {
  test.allow_only({"q", "k", "v", "beta", "log_decay", "initial_state", "out", "state", "d_out",
                   "d_q", "d_k", "d_v", "d_beta", "d_log_decay", "d_initial_state"});
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
  result golden{.y = test.values("out", values), .state = test.values("state", state), .lags = {}};
  refuse_vacuous(golden.y);
  read_gradients(test, "d_out", matrix_gradient_shapes(p, n, true, false), values, p, golden);
  replay(test, p, delta_subject(n), golden, into);
}

}  // namespace golden
