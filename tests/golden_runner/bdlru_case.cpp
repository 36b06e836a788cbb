// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "orders.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/bdlru.hpp>

#include <vector>

namespace golden {

namespace {

using maslin::row_major;

result by_reference(const problem& p) {
  const index_t B = p.batch, T = p.steps, G = p.width, M = p.order;
  result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
  maslin::reference::bdlru(p.kind, row_major(p.gate.data(), B, T, G, M, M + 1),
                           row_major(p.input.data(), B, T, G, M),
                           row_major(r.state.data(), B, G, M), row_major(r.y.data(), B, T, G, M));
  return r;
}

oracle_result by_oracle(const problem& p) {
  const index_t B = p.batch, T = p.steps, G = p.width, M = p.order;
  const auto gate = converted<float>(p.gate), input = converted<float>(p.input);
  oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
  r.y = maslin::test::bdlru_bounds<double, float>(p.kind, row_major(gate.data(), B, T, G, M, M + 1),
                                                  row_major(input.data(), B, T, G, M), r.state);
  return r;
}

/// Gradients of gates, inputs and the initial state.
template <class N>
std::vector<std::vector<N>> backward(const problem& p) {
  const index_t B = p.batch, T = p.steps, G = p.width, M = p.order;
  const auto gate = numbers<N>(p.gate), input = numbers<N>(p.input),
             initial = numbers<N>(p.initial), dy = numbers<N>(p.dy);
  std::vector<N> y(input.size()), dgate(gate.size()), dinput(input.size()), dstate(initial.size());
  const auto of = [&](auto& v) { return row_major(v.data(), B, T, G, M); };
  maslin::reference::bdlru_backward<N>(p.kind, row_major(gate.data(), B, T, G, M, M + 1), of(input),
                                       row_major(initial.data(), B, G, M), of(dy), of(y),
                                       row_major(dgate.data(), B, T, G, M, M + 1), of(dinput),
                                       row_major(dstate.data(), B, G, M));
  return {dgate, dinput, dstate};
}

}  // namespace

void run_bdlru(const test_case& test, verdict& into) {
  test.allow_only({"gates", "v", "h", "initial_state", "d_h", "d_gates", "d_v", "d_initial_state"});
  problem p{.kind = test.normalisation(), .order = test.order()};
  require_order(p.order);
  const shape size = test.extents("v", 4);
  const index_t B = size[0], T = size[1], G = size[2], M = p.order;
  p.batch = B;
  p.steps = T;
  p.width = G;
  p.gate = test.values("gates", {B, T, G, M, M + 1});
  p.input = test.values("v", {B, T, G, M});
  p.initial.resize(static_cast<std::size_t>(B * G * M), 0.0);
  if (test.has("initial_state")) p.initial = test.values("initial_state", {B, G, M});

  result golden{.y = test.values("h", {B, T, G, M}), .state = {}, .lags = {}};
  refuse_vacuous(golden.y);
  const auto h = row_major(golden.y.data(), B, T, G, M);
  for (index_t b = 0; b < B; ++b) {
    for (index_t g = 0; g < G; ++g) {
      for (index_t i = 0; i < M; ++i) golden.state.push_back(h(b, T - 1, g, i));
    }
  }

  read_gradients(test, "d_h",
                 {{"d_gates", {B, T, G, M, M + 1}}, {"d_v", size}, {"d_initial_state", {B, G, M}}},
                 size, p, golden);

  replay(test, p,
         {.name = {},
          .in_double = bdlru_paths<double>,
          .in_float = bdlru_paths<float>,
          .reference = by_reference,
          .oracle = by_oracle,
          .lags = nullptr,
          .sequential_factor = maslin::test::error_factor(walk::sequential, p.order, p.kind),
          .chunked_factor = maslin::test::error_factor(walk::chunked, p.order, p.kind),
          .gradient_names = {"d_gates", "d_v", "d_initial_state"},
          .gradients = backward<double>,
          .gradient_bounds = backward<maslin::test::tracked<double>>},
         golden, into);
}

}  // namespace golden
