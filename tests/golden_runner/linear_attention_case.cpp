// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "matrix_gradients.hpp"
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

/// Gradients of queries, keys, values, decays and the initial state.
template <class N>
std::vector<std::vector<N>> backward(const problem& p, const matrix_sizes& n) {
  using std::sqrt;
  const index_t B = p.batch, T = p.steps;
  const auto tokens = numbers<N>(p.gate), input = numbers<N>(p.input), dy = numbers<N>(p.dy),
             initial = numbers<N>(p.initial);
  const auto a = matrix_parts(p, n, false, tokens.data(), input.data());
  matrix_gradients<N> g(p, n, false);
  std::vector<N> y(input.size()), final(initial.size()), dinitial(initial.size());
  const std::vector<N> dfinal(initial.size(), N(0));
  const auto of_state = [&](auto& v) { return row_major(v.data(), B, n.H, n.K, n.E); };
  maslin::reference::linear_call<N> u;
  u.scale = n.unscaled ? N(1) : N(1) / sqrt(N(static_cast<double>(n.K)));
  u.query = a.query, u.key = a.key, u.value = a.value;
  u.log_decay = a.decay, u.log_decays = a.decays;
  u.initial = of_state(initial), u.dfinal = of_state(dfinal);
  u.dy = row_major(dy.data(), B, T, n.H, n.E);
  maslin::reference::linear_answer<N> out;
  out.y = row_major(y.data(), B, T, n.H, n.E);
  out.final = of_state(final), out.dinitial = of_state(dinitial);
  out.dquery = row_major(g.query.data(), B, T, n.H, n.K);
  out.dkey = row_major(g.key.data(), B, T, n.H, n.K);
  out.dvalue = row_major(g.value.data(), B, T, n.H, n.E);
  if (n.axis == decay_axis::head) out.dlog_decay = row_major(g.decay.data(), B, T, n.H);
  if (n.axis == decay_axis::key) out.dlog_decays = row_major(g.decay.data(), B, T, n.H, n.K);
  maslin::reference::linear_attention_backward(u, out);
  std::vector<std::vector<N>> all;
  g.each([&](const std::vector<N>& array) { all.push_back(array); });
  all.push_back(dinitial);
  return all;
}

subject linear_subject(const matrix_sizes& n, bool dual) {
  subject mixer;
  mixer.in_double = [n](const problem& p, extent paths, const report& each) {
    linear_attention_paths<double>(p, n, paths, each);
  };
  mixer.in_float = [n](const problem& p, extent paths, const report& each) {
    linear_attention_paths<float>(p, n, paths, each);
  };
  mixer.reference = [n](const problem& p) { return by_reference(p, n); };
  mixer.oracle = [n](const problem& p) { return by_oracle(p, n); };
  mixer.gradient_names = matrix_gradient_names(n, false, dual);
  mixer.gradients = [n](const problem& p) { return backward<double>(p, n); };
  mixer.gradient_bounds = [n](const problem& p) {
    return backward<maslin::test::tracked<double>>(p, n);
  };
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
  test.allow_only({query, key, value, "log_decay", "initial_state", "out", "state", "d_out",
                   std::string("d_") + query, std::string("d_") + key, std::string("d_") + value,
                   "d_log_decay", "d_initial_state"});
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
  read_gradients(test, "d_out", matrix_gradient_shapes(p, n, false, dual), values, p, golden);
  replay(test, p, linear_subject(n, dual), golden, into);
}

}  // namespace golden
