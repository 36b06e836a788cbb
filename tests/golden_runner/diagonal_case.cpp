// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/diagonal.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace golden {

namespace {

using maslin::decay;
using maslin::row_major;

/// The gate of a form that gives the decay exp(g).
std::vector<double> gate_of(decay form, std::vector<double> g) {
  for (double& x : g) {
    if (form == decay::value) x = std::exp(x);
    if (form == decay::complement) x = -std::expm1(x);
  }
  return g;
}

/// Gradients of gates, inputs and the initial state.
template <class N>
std::vector<std::vector<N>> backward(decay form, const problem& p) {
  const index_t B = p.batch, T = p.steps, D = p.width;
  const auto gate = numbers<N>(p.gate), input = numbers<N>(p.input),
             initial = numbers<N>(p.initial), dy = numbers<N>(p.dy);
  std::vector<N> y(input.size()), dgate(gate.size()), dinput(input.size()), dstate(initial.size());
  const auto of = [&](auto& v) { return row_major(v.data(), B, T, D); };
  maslin::reference::diagonal_backward<N>(form, of(gate), of(input),
                                          row_major(initial.data(), B, D), of(dy), of(y), of(dgate),
                                          of(dinput), row_major(dstate.data(), B, D));
  return {dgate, dinput, dstate};
}

/// The gradient of the gate of a form from that of the logarithm g of its decay a: dg = a da.
std::vector<double> gate_gradient(decay form, std::vector<double> dg,
                                  const std::vector<double>& g) {
  for (std::size_t i = 0; i < dg.size(); ++i) {
    if (form == decay::value) dg[i] /= std::exp(g[i]);
    if (form == decay::complement) dg[i] /= -std::exp(g[i]);
  }
  return dg;
}

subject diagonal_of(decay form, const std::string& name) {
  subject mixer;
  mixer.name = name + " ";
  mixer.in_double = [form](const problem& p, extent paths, const report& each) {
    diagonal_paths<double>(p, form, paths, each);
  };
  mixer.in_float = [form](const problem& p, extent paths, const report& each) {
    diagonal_paths<float>(p, form, paths, each);
  };
  mixer.reference = [form](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width;
    result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
    maslin::reference::diagonal(form, row_major(p.gate.data(), B, T, D),
                                row_major(p.input.data(), B, T, D), row_major(r.state.data(), B, D),
                                row_major(r.y.data(), B, T, D));
    return r;
  };
  mixer.oracle = [form](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width;
    const auto gate = converted<float>(p.gate), input = converted<float>(p.input);
    oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
    r.y = maslin::test::diagonal_bounds<double, float>(form, row_major(gate.data(), B, T, D),
                                                       row_major(input.data(), B, T, D), r.state);
    return r;
  };
  mixer.gradient_names = {"d_gate", "d_x", "d_initial_state"};
  mixer.gradients = [form](const problem& p) { return backward<double>(form, p); };
  mixer.gradient_bounds = [form](const problem& p) {
    return backward<maslin::test::tracked<double>>(form, p);
  };
  mixer.sequential_factor = maslin::test::error_factor(walk::sequential, form);
  mixer.chunked_factor = maslin::test::error_factor(walk::chunked, form);
  return mixer;
}

}  // namespace

void run_diagonal(const test_case& test, verdict& into) {
  if (test.is_complex()) return run_complex_diagonal(test, into);
  if (test.has("recurrent_gate")) return run_rglru(test, into);
  test.allow_only(
      {"x", "g", "h", "h_final", "initial_state", "d_out", "d_x", "d_g", "d_initial_state"});

  const shape size = test.extents("x", 3), state_size{size[0], size[2]};
  const index_t B = size[0], T = size[1], D = size[2];
  problem p{.batch = B, .steps = T, .width = D};
  p.input = test.values("x", size);
  p.initial.resize(static_cast<std::size_t>(B * D), 0.0);
  if (test.has("initial_state")) p.initial = test.values("initial_state", state_size);
  const std::vector<double> g = test.values("g", size);

  result golden{.y = test.values("h", size), .state = {}, .lags = {}};
  refuse_vacuous(golden.y);
  const auto h = row_major(golden.y.data(), B, T, D);
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) golden.state.push_back(h(b, T - 1, d));
  }
  if (test.has("h_final")) golden.state = test.values("h_final", state_size);

  read_gradients(test, "d_out", {{"d_g", size}, {"d_x", size}, {"d_initial_state", state_size}},
                 size, p, golden);
  const std::vector<std::vector<double>> stored = golden.gradients;

  for (const auto& [form, name] : {std::pair{decay::log, "log"}, std::pair{decay::value, "value"},
                                   std::pair{decay::complement, "complement"}}) {
    p.gate = gate_of(form, g);
    if (!p.dy.empty()) golden.gradients[0] = gate_gradient(form, stored[0], g);
    replay(test, p, diagonal_of(form, name), golden, into);
  }
}

}  // namespace golden
