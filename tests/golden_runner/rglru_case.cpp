// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/rglru.hpp>

#include <vector>

namespace golden {

namespace {

using maslin::gate_form;
using maslin::row_major;

subject rglru_subject() {
  subject mixer;
  mixer.in_double = rglru_paths<double>;
  mixer.in_float = rglru_paths<float>;
  mixer.reference = [](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width, n = B * T * D;
    result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
    std::vector<bool> begun(static_cast<std::size_t>(B), false);
    maslin::reference::rglru(gate_form::probability, row_major(p.gate.data() + 2 * n, D),
                             row_major(p.gate.data(), B, T, D),
                             row_major(p.gate.data() + n, B, T, D),
                             row_major(p.input.data(), B, T, D), row_major(r.state.data(), B, D),
                             begun, row_major(r.y.data(), B, T, D));
    return r;
  };
  mixer.oracle = [](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width, n = B * T * D;
    const auto gate = converted<float>(p.gate), input = converted<float>(p.input);
    oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
    r.y = maslin::test::rglru_bounds<double, float>(
        gate_form::probability, row_major(gate.data() + 2 * n, D), row_major(gate.data(), B, T, D),
        row_major(gate.data() + n, B, T, D), row_major(input.data(), B, T, D), r.state);
    return r;
  };
  mixer.sequential_factor = maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = maslin::test::per_term(walk::chunked);
  return mixer;
}

}  // namespace

void run_rglru(const test_case& test, verdict& into) {
  test.allow_only({"x", "recurrent_gate", "input_gate", "Lambda", "h"});
  const shape size = test.extents("x", 3);
  const index_t B = size[0], T = size[1], D = size[2];
  problem p{.batch = B, .steps = T, .width = D};
  p.gate = test.values("recurrent_gate", size);
  for (const auto& [array, extents] : {std::pair{"input_gate", size}, {"Lambda", shape{D}}}) {
    const auto values = test.values(array, extents);
    p.gate.insert(p.gate.end(), values.begin(), values.end());
  }
  p.input = test.values("x", size);
  p.initial.assign(static_cast<std::size_t>(B * D), 0.0);

  result golden{.y = test.values("h", size), .state = {}, .lags = {}};
  refuse_vacuous(golden.y);
  const auto h = row_major(golden.y.data(), B, T, D);
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) golden.state.push_back(h(b, T - 1, d));
  }
  replay(test, p, rglru_subject(), golden, into);
}

}  // namespace golden
