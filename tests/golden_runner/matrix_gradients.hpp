// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where the gradients of mixers with a matrix state go: of queries, keys, values, betas and
/// decays, as far as a case has them.

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/view.hpp>

#include <string>
#include <utility>
#include <vector>

namespace golden {

template <class N>
struct matrix_gradients {
  std::vector<N> query, key, value, beta, decay;

  /// Zeros.
  matrix_gradients(const problem& p, const matrix_sizes& n, bool has_beta) {
    using maslin::decay_axis;
    const index_t heads = p.batch * p.steps * n.H;
    const auto fill = [&](std::vector<N>& to, index_t width) {
      to.assign(static_cast<std::size_t>(heads * width), N(0));
    };
    fill(query, n.K);
    fill(key, n.K);
    fill(value, n.E);
    fill(beta, has_beta ? 1 : 0);
    fill(decay, n.axis == decay_axis::none ? 0 : n.axis == decay_axis::head ? 1 : n.K);
  }

  /// f(array) for each that there is, in the order of `matrix_gradient_names`.
  template <class F>
  void each(const F& f) const {
    for (const std::vector<N>* array : {&query, &key, &value, &beta, &decay})
      if (!array->empty()) f(*array);
  }
};

/// The names of a case's gradients, the initial state's last.
[[nodiscard]] inline std::vector<std::string> matrix_gradient_names(const matrix_sizes& n,
                                                                    bool has_beta, bool dual) {
  std::vector<std::string> names{"d_q", "d_k", "d_v"};
  if (dual) names = {"d_C", "d_B", "d_x"};
  if (has_beta) names.push_back("d_beta");
  if (n.axis != maslin::decay_axis::none) names.push_back("d_log_decay");
  names.push_back("d_initial_state");
  return names;
}

/// The same with their extents.
[[nodiscard]] inline std::vector<std::pair<std::string, shape>> matrix_gradient_shapes(
    const problem& p, const matrix_sizes& n, bool has_beta, bool dual) {
  using enum maslin::decay_axis;
  const index_t B = p.batch, T = p.steps;
  std::vector<shape> shapes{{B, T, n.H, n.K}, {B, T, n.H, n.K}, {B, T, n.H, n.E}};
  if (has_beta) shapes.push_back({B, T, n.H});
  if (n.axis == head) shapes.push_back({B, T, n.H});
  if (n.axis == key) shapes.push_back({B, T, n.H, n.K});
  shapes.push_back({B, n.H, n.K, n.E});
  const auto names = matrix_gradient_names(n, has_beta, dual);
  std::vector<std::pair<std::string, shape>> all;
  for (std::size_t k = 0; k < names.size(); ++k) all.push_back({names[k], shapes[k]});
  return all;
}

/// Runs the backward passes of a mixer over its tokens.
template <class Mixer>
void run_matrix_backward(const problem& p, const matrix_sizes& n, bool has_beta, const Mixer& mixer,
                         const typename Mixer::tokens& tokens, extent paths, const report& each) {
  using S = typename Mixer::scalar_type;
  if (p.dy.empty()) return;
  const index_t B = p.batch, T = p.steps;
  const std::vector<S> initial = converted<S>(p.initial), dy = converted<S>(p.dy);
  matrix_gradients<S> g(p, n, has_beta);
  const auto into = [&](auto& d) {
    for (std::vector<S>* array : {&g.query, &g.key, &g.value, &g.beta, &g.decay})
      maslin::test::poison<S>::fill(*array);
    d.query = maslin::row_major(g.query.data(), B, T, n.H, n.K);
    d.key = maslin::row_major(g.key.data(), B, T, n.H, n.K);
    d.value = maslin::row_major(g.value.data(), B, T, n.H, n.E);
    if constexpr (requires { d.beta; }) d.beta = maslin::row_major(g.beta.data(), B, T, n.H);
    if (g.decay.empty()) return;
    if constexpr (decltype(d.log_decay)::rank() == 4)
      d.log_decay = maslin::row_major(g.decay.data(), B, T, n.H, n.K);
    else
      d.log_decay = maslin::row_major(g.decay.data(), B, T, n.H);
  };
  const auto values = [&] {
    std::vector<std::vector<double>> all;
    g.each([&](const std::vector<S>& array) { all.emplace_back(array.begin(), array.end()); });
    return all;
  };
  run_backward_paths("", mixer, tokens, maslin::row_major(static_cast<S*>(nullptr), B, T, n.H, n.E),
                     maslin::row_major(initial.data(), B, n.H, n.K, n.E),
                     maslin::row_major(dy.data(), B, T, n.H, n.E), paths, into, values, each);
}

}  // namespace golden
