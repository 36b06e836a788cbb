// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/rglru.hpp>

#include <vector>

namespace golden {

template <class S>
void rglru_paths(const problem& p, extent paths, const report& each) {
  const index_t B = p.batch, T = p.steps, D = p.width, n = B * T * D;
  const std::vector<S> gate = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial);
  using mixer = maslin::rglru<S>;
  const typename mixer::tokens tokens{.recurrence_gate = maslin::row_major(gate.data(), B, T, D),
                                      .input_gate = maslin::row_major(gate.data() + n, B, T, D),
                                      .input = maslin::row_major(input.data(), B, T, D)};
  run_paths(
      "", mixer{.channels = D, .decay = maslin::row_major(gate.data() + 2 * n, D)}, tokens,
      maslin::row_major(static_cast<S*>(nullptr), B, T, D), maslin::row_major(initial.data(), B, D),
      1, paths, [](const view<S, 3>&) { return std::vector<double>{}; }, each);
}

}  // namespace golden
