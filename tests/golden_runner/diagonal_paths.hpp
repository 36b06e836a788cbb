// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/diagonal.hpp>

#include <complex>
#include <vector>

namespace golden {

template <class S>
void diagonal_paths(const problem& p, maslin::decay form, extent paths, const report& each) {
  using maslin::decay;
  const index_t B = p.batch, T = p.steps, D = p.width;
  const std::vector<S> gate = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial), dy = converted<S>(p.dy);
  const auto h = maslin::row_major(initial.data(), B, D);
  const auto y = maslin::row_major(static_cast<S*>(nullptr), B, T, D);
  const auto no_lags = [](const view<S, 3>&) { return std::vector<double>{}; };

  const auto run = [&]<decay Form>() {
    using mixer = maslin::diagonal<S, Form>;
    const typename mixer::tokens tokens{.gate = maslin::row_major(gate.data(), B, T, D),
                                        .input = maslin::row_major(input.data(), B, T, D)};
    run_paths("", mixer{.channels = D}, tokens, y, h, 1, paths, no_lags, each);
    if (dy.empty()) return;
    std::vector<S> dgate, dinput;
    run_backward_paths(
        "", mixer{.channels = D}, tokens, y, h, maslin::row_major(dy.data(), B, T, D), paths,
        [&](auto& d) {
          dgate = unwritten<S>(B * T * D);
          dinput = unwritten<S>(B * T * D);
          d.gate = maslin::row_major(dgate.data(), B, T, D);
          d.input = maslin::row_major(dinput.data(), B, T, D);
        },
        [&] {
          return std::vector<std::vector<double>>{{dgate.begin(), dgate.end()},
                                                  {dinput.begin(), dinput.end()}};
        },
        each);
  };
  switch (form) {
    case decay::value: return run.template operator()<decay::value>();
    case decay::log: return run.template operator()<decay::log>();
    case decay::complement: return run.template operator()<decay::complement>();
  }
}

template <class S>
void complex_paths(const problem& p, extent paths, const report& each) {
  using number = std::complex<S>;
  const index_t B = p.batch, T = p.steps, D = p.width;
  const std::vector<S> gate = converted<S>(p.gate), input = converted<S>(p.input),
                       initial = converted<S>(p.initial);
  const auto rows = [&](const std::vector<S>& v) {
    return maslin::row_major(reinterpret_cast<const number*>(v.data()), B, T, D);
  };
  using mixer = maslin::diagonal<number>;
  const auto no_lags = [](const view<number, 3>&) { return std::vector<double>{}; };
  run_paths("", mixer{.channels = D, .decay = {}},
            typename mixer::tokens{.gate = rows(gate), .input = rows(input)},
            maslin::row_major(static_cast<number*>(nullptr), B, T, D),
            maslin::row_major(initial.data(), B, D, 2), 1, paths, no_lags, each);
  // The first row of gates as decays fixed in time: those of the case, which is time-invariant.
  run_paths("fixed", mixer{.channels = D, .decay = {rows(gate).data_handle(), {D}, {1}}},
            typename mixer::tokens{.gate = {}, .input = rows(input)},
            maslin::row_major(static_cast<number*>(nullptr), B, T, D),
            maslin::row_major(initial.data(), B, D, 2), 1, paths, no_lags, each);
}

}  // namespace golden
