// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "orders.hpp"
#include "paths.hpp"
#include "runs.hpp"
#include "support/poison.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/hlru.hpp>
#include <maslin/mixer/layout.hpp>

#include <type_traits>
#include <utility>

namespace golden {

template <class S>
void hlru_paths(const problem& p, extent paths, const report& each) {
  using maslin::gates;
  with_order_and_normalisation(p.order, p.kind, [&](auto m, auto n) {
    constexpr int M = decltype(m)::value;
    constexpr index_t L = maslin::default_group;
    const index_t B = p.batch, T = p.steps, D = p.width, groups = (D + L - 1) / L;
    const std::vector<S> gate = converted<S>(p.gate), input = converted<S>(p.input),
                         initial = converted<S>(p.initial), dlags = converted<S>(p.dy);
    const auto x = maslin::row_major(input.data(), B, T, D);
    const auto h = maslin::row_major(initial.data(), B, D, M);
    const auto y = maslin::row_major(static_cast<S*>(nullptr), B, T, D);
    const auto natural_gate = maslin::row_major(gate.data(), B, T, D, M + 1);

    const auto backward = [&](const std::string& name, const auto& mixer, const auto& tokens) {
      std::vector<S> dy = unwritten<S>(x.size()), dgate, dinput;
      auto unused = mixer.make_state(B);
      mixer.lags_backward(maslin::row_major(dlags.data(), B, T, D, M),
                          maslin::row_major(dy.data(), B, T, D), unused);
      run_backward_paths(
          name, mixer, tokens, y, h, maslin::row_major(std::as_const(dy).data(), B, T, D), paths,
          [&](auto& d) {
            dgate = unwritten<S>(tokens.gate.size());
            dinput = unwritten<S>(x.size());
            d.gate = {dgate.data(), tokens.gate.extents(), tokens.gate.strides()};
            d.input = maslin::row_major(dinput.data(), B, T, D);
          },
          [&] {
            return std::vector<std::vector<double>>{{dgate.begin(), dgate.end()},
                                                    {dinput.begin(), dinput.end()}};
          },
          each);
    };
    const auto run = [&](const std::string& name, const auto& mixer, const auto& tokens) {
      auto first = mixer.make_state(B);
      first.copy_from(h);
      const auto lags = [&](const view<S, 3>& out) {
        std::vector<S> all = unwritten<S>(B * T * D * M);
        mixer.lags(out, first, maslin::row_major(all.data(), B, T, D, M));
        return std::vector<double>(all.begin(), all.end());
      };
      run_paths(name, mixer, tokens, y, h, M, paths, lags, each);
      // Grouped gradients are compared by the tests of their room.
      if constexpr (std::remove_cvref_t<decltype(mixer)>::gate_rank == 4)
        if (!dlags.empty()) backward(name, mixer, tokens);
    };

    using natural = maslin::hlru<S, M, decltype(n)::value, gates::natural>;
    run("natural", natural{.channels = D},
        typename natural::tokens{.gate = natural_gate, .input = x});
    // The order of gates and their normalisation do not meet: one of them is enough for the other.
    if constexpr (decltype(n)::value == maslin::normalise::softmax) {
      if (paths == extent::one) return;

      std::vector<S> regrouped(static_cast<std::size_t>(B * T * groups * (M + 1) * L));
      const auto grouped_gate = maslin::row_major(regrouped.data(), B, T, groups, M + 1, L);
      maslin::regroup_gate(natural_gate, grouped_gate);
      // Lanes of the last group that hold no channel must not be read: they become poison.
      for (index_t i = 0; i < grouped_gate.size(); ++i) {
        if (i / L / (M + 1) % groups * L + i % L >= D) {
          maslin::test::poison<S>::fill({&regrouped[static_cast<std::size_t>(i)], 1});
        }
      }
      using grouped = maslin::hlru<S, M, decltype(n)::value, gates::grouped>;
      run("grouped", grouped{.channels = D},
          typename grouped::tokens{.gate = grouped_gate, .input = x});
    }
  });
}

}  // namespace golden
