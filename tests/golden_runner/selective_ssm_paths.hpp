// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/selective_ssm.hpp>

#include <vector>

namespace golden {

template <class S>
void selective_ssm_paths(const problem& p, extent paths, const report& each) {
  const std::vector<S> numbers = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial), dy = converted<S>(p.dy);
  const auto a = selective_parts(p, numbers.data());
  const index_t B = p.batch, T = p.steps, D = p.width, N = p.order;
  using mixer = maslin::selective_ssm<S>;
  const typename mixer::tokens tokens{.dt = a.dt,
                                      .input = maslin::row_major(input.data(), B, T, D),
                                      .write = a.write,
                                      .read = a.read,
                                      .output_gate = a.gate};
  const mixer ssm{
      .channels = D, .state_dim = N, .decay = a.decay, .skip = a.skip, .dt_bias = a.bias};
  const auto y = maslin::row_major(static_cast<S*>(nullptr), B, T, D);
  const auto h = maslin::row_major(initial.data(), B, D, N);
  run_paths(
      "", ssm, tokens, y, h, 1, paths, [](const view<S, 3>&) { return std::vector<double>{}; },
      each);
  std::vector<S> of_u, of_delta, of_z, of_write, of_read, of_decay, of_skip, of_bias;
  const auto room = [](std::vector<S>& to, auto... extents) {
    to = unwritten<S>((extents * ...));
    return maslin::row_major(to.data(), extents...);
  };
  run_backward_paths(
      "", ssm, tokens, y, h, maslin::row_major(dy.data(), B, T, D), paths,
      [&](auto& d) {
        d = {.dt = room(of_delta, B, T, D),
             .input = room(of_u, B, T, D),
             .write = room(of_write, B, T, index_t{1}, N),
             .read = room(of_read, B, T, index_t{1}, N),
             .output_gate = room(of_z, B, T, D),
             .decay = room(of_decay, D, N),
             .skip = room(of_skip, D),
             .dt_bias = room(of_bias, D)};
      },
      [&] {
        std::vector<std::vector<double>> all;
        for (const auto* d :
             {&of_u, &of_delta, &of_z, &of_write, &of_read, &of_decay, &of_skip, &of_bias})
          all.emplace_back(d->begin(), d->end());
        return all;
      },
      each);
}

}  // namespace golden
