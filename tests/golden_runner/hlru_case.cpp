// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "orders.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/hlru.hpp>

#include <utility>
#include <vector>

namespace golden {

namespace {

using maslin::row_major;

std::vector<double> all_lags(const problem& p, const std::vector<double>& y,
                             const std::vector<double>& initial) {
  const index_t B = p.batch, T = p.steps, D = p.width, M = p.order;
  std::vector<double> lags(y.size() * static_cast<std::size_t>(M));
  maslin::reference::hlru_lags(row_major(y.data(), B, T, D), row_major(initial.data(), B, D, M),
                               row_major(lags.data(), B, T, D, M));
  return lags;
}

result by_reference(const problem& p) {
  const index_t B = p.batch, T = p.steps, D = p.width, M = p.order;
  result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
  maslin::reference::hlru(p.kind, row_major(p.gate.data(), B, T, D, M + 1),
                          row_major(p.input.data(), B, T, D), row_major(r.state.data(), B, D, M),
                          row_major(r.y.data(), B, T, D));
  r.lags = all_lags(p, r.y, p.initial);
  return r;
}

oracle_result by_oracle(const problem& p) {
  const index_t B = p.batch, T = p.steps, D = p.width, M = p.order;
  const auto gate = converted<float>(p.gate), input = converted<float>(p.input);
  oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
  r.y = maslin::test::hlru_bounds<double, float>(p.kind, row_major(gate.data(), B, T, D, M + 1),
                                                 row_major(input.data(), B, T, D), r.state);
  return r;
}

/// Gradients of gates, inputs and the initial state, from those of all lags.
template <class N>
std::vector<std::vector<N>> backward(const problem& p) {
  const index_t B = p.batch, T = p.steps, D = p.width, M = p.order;
  const auto gate = numbers<N>(p.gate), input = numbers<N>(p.input), dlags = numbers<N>(p.dy);
  std::vector<N> y(input.size()), dgate(gate.size()), dinput(input.size()), dy(input.size()),
      state = numbers<N>(p.initial), dstate(state.size()), unused(state.size());
  maslin::reference::hlru_lags_backward<N>(row_major(dlags.data(), B, T, D, M),
                                           row_major(dy.data(), B, T, D),
                                           row_major(unused.data(), B, D, M));
  maslin::reference::hlru_backward<N>(
      maslin::gate_side::read, p.kind, row_major(gate.data(), B, T, D, M + 1),
      row_major(input.data(), B, T, D), row_major(state.data(), B, D, M),
      row_major(std::as_const(dy).data(), B, T, D), row_major(y.data(), B, T, D),
      row_major(dgate.data(), B, T, D, M + 1), row_major(dinput.data(), B, T, D),
      row_major(dstate.data(), B, D, M));
  return {dgate, dinput, dstate};
}

/// The state after the last of T >= 1 tokens: h[T-1], ..., h[T-M].
std::vector<double> last_lags(const problem& p, const std::vector<double>& lags) {
  const index_t B = p.batch, T = p.steps, D = p.width, M = p.order;
  const auto all = row_major(lags.data(), B, T, D, M);
  std::vector<double> last;
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) {
      for (index_t k = 0; k < M; ++k) last.push_back(all(b, T - 1, d, k));
    }
  }
  return last;
}

/// Given coefficients [D, M] and inputs [D, T], the same for every token: written out as gates
/// [1, T, D, M+1] with an input gate of 1.
void expand_constant(const test_case& test, problem& p, result& golden) {
  test.allow_only({"coeff", "x", "h"});
  const shape size = test.extents("x", 2);
  const index_t D = size[0], T = size[1], M = p.order;
  if (p.kind != maslin::normalise::none) {
    throw bad_case("meta.json: coefficients are given, so 'normalisation' must be 'given'");
  }
  const auto coeff = test.values("coeff", {D, M}), x = test.values("x", size),
             h = test.values("h", size);
  p.batch = 1;
  p.steps = T;
  p.width = D;
  for (index_t t = 0; t < T; ++t) {
    for (index_t d = 0; d < D; ++d) {
      for (index_t k = 0; k < M; ++k) p.gate.push_back(row_major(coeff.data(), D, M)(d, k));
      p.gate.push_back(1);
      p.input.push_back(row_major(x.data(), D, T)(d, t));
      golden.y.push_back(row_major(h.data(), D, T)(d, t));
    }
  }
}

/// Gates [B, T, D, M+1], inputs [B, T, D], outputs with all lags [B, T, D, M] or without [B, T, D].
void read_selective(const test_case& test, problem& p, result& golden) {
  test.allow_only({"gates", "v", "h", "initial_state", "d_h", "d_gates", "d_v", "d_initial_state"});
  const shape size = test.extents("v", 3);
  const index_t B = size[0], T = size[1], D = size[2], M = p.order;
  p.batch = B;
  p.steps = T;
  p.width = D;
  p.gate = test.values("gates", {B, T, D, M + 1});
  p.input = test.values("v", size);
  if (test.has("initial_state")) p.initial = test.values("initial_state", {B, D, M});
  const shape all = {B, T, D, M};
  read_gradients(test, "d_h",
                 {{"d_gates", {B, T, D, M + 1}}, {"d_v", size}, {"d_initial_state", {B, D, M}}},
                 test.rank("h") == 3 ? size : all, p, golden);
  if (test.rank("h") == 3) {
    // What arrives at y alone arrives at lag 0.
    std::vector<double> lags;
    for (const double d : p.dy) {
      lags.push_back(d);
      lags.resize(lags.size() + static_cast<std::size_t>(M) - 1, 0.0);
    }
    p.dy = lags;
    golden.y = test.values("h", size);
    return;
  }
  golden.lags = test.values("h", {B, T, D, M});
  for (std::size_t i = 0; i < golden.lags.size(); i += static_cast<std::size_t>(M)) {
    golden.y.push_back(golden.lags[i]);
  }
}

}  // namespace

void run_hlru(const test_case& test, verdict& into) {
  problem p{.kind = test.normalisation(), .order = test.order()};
  require_order(p.order);
  result golden;
  test.has("coeff") ? expand_constant(test, p, golden) : read_selective(test, p, golden);
  refuse_vacuous(golden.y);
  p.initial.resize(static_cast<std::size_t>(p.batch * p.width * p.order), 0.0);
  if (golden.lags.empty()) golden.lags = all_lags(p, golden.y, p.initial);
  golden.state = last_lags(p, golden.lags);

  replay(test, p,
         {.name = {},
          .in_double = hlru_paths<double>,
          .in_float = hlru_paths<float>,
          .reference = by_reference,
          .oracle = by_oracle,
          .lags = all_lags,
          .sequential_factor = maslin::test::error_factor(walk::sequential, p.order, p.kind),
          .chunked_factor = maslin::test::error_factor(walk::chunked, p.order, p.kind),
          .gradient_names = {"d_gates", "d_v", "d_initial_state"},
          .gradients = backward<double>,
          .gradient_bounds = backward<maslin::test::tracked<double>>},
         golden, into);
}

}  // namespace golden
