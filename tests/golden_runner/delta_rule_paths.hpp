// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "matrix_gradients.hpp"
#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/delta_rule.hpp>

#include <vector>

namespace golden {

namespace detail {

template <class S, maslin::decay_axis Axis>
void delta_rule_paths(const problem& p, const matrix_sizes& n, extent paths, const report& each) {
  const std::vector<S> numbers = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial);
  const auto a = matrix_parts(p, n, true, numbers.data(), input.data());
  using mixer_t = maslin::delta_rule<S, Axis>;
  const typename mixer_t::tokens tokens{
      .query = a.query, .key = a.key, .value = a.value, .beta = a.beta, .log_decay = a.decay};
  const mixer_t mixer{.heads = n.H, .key_dim = n.K, .value_dim = n.E};
  run_paths(
      "", mixer, tokens, maslin::row_major(static_cast<S*>(nullptr), p.batch, p.steps, n.H, n.E),
      maslin::row_major(initial.data(), p.batch, n.H, n.K, n.E), 1, paths,
      [](const view<S, 4>&) { return std::vector<double>{}; }, each);
  run_matrix_backward(p, n, true, mixer, tokens, paths, each);
}

}  // namespace detail

template <class S>
void delta_rule_paths(const problem& p, const matrix_sizes& n, extent paths, const report& each) {
  using enum maslin::decay_axis;
  if (n.axis == none) return detail::delta_rule_paths<S, none>(p, n, paths, each);
  detail::delta_rule_paths<S, head>(p, n, paths, each);
}

}  // namespace golden
