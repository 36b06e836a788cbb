// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/diagonal.hpp>

#include <vector>

namespace golden {

template <class S>
void diagonal_paths(const problem& p, maslin::decay form, extent paths, const report& each) {
  using maslin::decay;
  const index_t B = p.batch, T = p.steps, D = p.width;
  const std::vector<S> gate = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial);
  const auto h = maslin::row_major(initial.data(), B, D);
  const auto y = maslin::row_major(static_cast<S*>(nullptr), B, T, D);
  const auto no_lags = [](const view<S, 3>&) { return std::vector<double>{}; };

  const auto run = [&]<decay Form>() {
    using mixer = maslin::diagonal<S, Form>;
    const typename mixer::tokens tokens{.gate = maslin::row_major(gate.data(), B, T, D),
                                        .input = maslin::row_major(input.data(), B, T, D)};
    run_paths("", mixer{.channels = D}, tokens, y, h, 1, paths, no_lags, each);
  };
  switch (form) {
    case decay::value: return run.template operator()<decay::value>();
    case decay::log: return run.template operator()<decay::log>();
    case decay::complement: return run.template operator()<decay::complement>();
  }
}

}  // namespace golden
