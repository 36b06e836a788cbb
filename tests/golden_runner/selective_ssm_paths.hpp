// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/selective_ssm.hpp>

#include <vector>

namespace golden {

template <class S>
void selective_ssm_paths(const problem& p, extent paths, const report& each) {
  const std::vector<S> numbers = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial);
  const auto a = selective_parts(p, numbers.data());
  const index_t B = p.batch, T = p.steps, D = p.width, N = p.order;
  using mixer = maslin::selective_ssm<S>;
  const typename mixer::tokens tokens{.dt = a.dt,
                                      .input = maslin::row_major(input.data(), B, T, D),
                                      .write = a.write,
                                      .read = a.read,
                                      .output_gate = a.gate};
  run_paths(
      "", mixer{.channels = D, .state_dim = N, .decay = a.decay, .skip = a.skip, .dt_bias = a.bias},
      tokens, maslin::row_major(static_cast<S*>(nullptr), B, T, D),
      maslin::row_major(initial.data(), B, D, N), 1, paths,
      [](const view<S, 3>&) { return std::vector<double>{}; }, each);
}

}  // namespace golden
