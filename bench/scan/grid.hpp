// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The shapes and policies among which exec::automatic chooses: the grid of the bench of policies and
/// of the chart of `compare`.

#include "support/synthetic.hpp"

#include <maslin/scan/policy.hpp>

#include <initializer_list>
#include <string>

namespace bench {

namespace exec = maslin::exec;

/// f(T, D) for the shapes whose tokens and outputs are of at most `most_numbers`.
template <class Mixer, class F>
void for_shapes(std::initializer_list<index_t> lengths, std::initializer_list<index_t> widths,
                const F& f) {
  constexpr index_t most_numbers = index_t{12} << 20;
  using tokens = synthetic<Mixer>;
  for (const index_t D : widths)
    for (const index_t T : lengths)
      if (T * D * (tokens::gates + 2 * tokens::values) <= most_numbers) f(T, D);
}

/// f(name, policy, threads): exec::automatic for so many threads, then what it may choose.
template <class F>
void for_policies(int threads, const F& f) {
  f("automatic", exec::automatic{threads}, threads);
  f("sequential", exec::sequential{}, 1);
  f("chunked", exec::chunked{}, 1);
  if (threads == 1) return;
  f("sequential", exec::sequential{threads}, threads);
  f("chunked", exec::chunked{0, threads}, threads);
}

/// "chunked, 2 threads".
[[nodiscard]] inline std::string policy_title(const std::string& policy, int threads) {
  return policy + (threads > 1 ? ", " + std::to_string(threads) + " threads" : "");
}

}  // namespace bench
