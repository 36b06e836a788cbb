// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Contenders from a mixer of the library and from a plain loop.

#include "plan.hpp"

#include <maslin/core/view.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <memory>
#include <type_traits>

namespace bench {

/// A policy under which time may be cut into chunks, which have bounds of their own.
template <class Policy>
inline constexpr bool may_chunk = std::is_same_v<Policy, maslin::exec::chunked> ||
                                  std::is_same_v<Policy, maslin::exec::automatic>;

/// Extents of one case.
struct extents {
  index_t B = 1, T = 0, D = 0;
};

/// `scan` under a policy, or one token of `step` again and again: what a user calls, checks
/// included.
template <call Call, class Mixer, class Tokens, class View, class Policy>
[[nodiscard]] contender library_contender(const Mixer& mix, const Tokens& tokens, const View& y,
                                          const extents& e, const Policy& policy) {
  auto state = std::make_shared<typename Mixer::state>(mix.make_state(e.B, policy));
  if constexpr (Call == call::step) {
    return {.repeat =
                [=, token = tokens[0], out = maslin::time_at(y, 0)](index_t calls) {
                  for (index_t i = 0; i < calls; ++i) {
                    mix.step(token, out, *state);
                    benchmark::ClobberMemory();
                  }
                },
            .fresh =
                [=] {
                  state->reset();
                  for (index_t t = 0; t < e.T; ++t)
                    mix.step(tokens[t], maslin::time_at(y, t), *state);
                }};
  } else {
    return {.repeat =
                [=](index_t calls) {
                  for (index_t i = 0; i < calls; ++i) {
                    mix.scan(policy, tokens, y, *state);
                    benchmark::ClobberMemory();
                  }
                },
            .fresh =
                [=] {
                  state->reset();
                  mix.scan(policy, tokens, y, *state);
                }};
  }
}

/// `call` again and again; for the comparison once, after `reset`.
template <class F, class Reset>
[[nodiscard]] contender contender_of(const F& call, const Reset& reset) {
  return {.repeat =
              [call](index_t calls) {
                for (index_t i = 0; i < calls; ++i) {
                  call();
                  benchmark::ClobberMemory();
                }
              },
          .fresh =
              [call, reset] {
                reset();
                call();
              }};
}

/// A loop over T tokens: (T, D, gate, input, state, y).
using plain_call = void (*)(index_t, index_t, const float*, const float*, float*, float*);

/// `loop` over the first T tokens of each sequence; all of them when it is compared.
[[nodiscard]] inline contender loop_contender(plain_call loop, const extents& e, index_t T,
                                              const float* gate, index_t gate_width,
                                              const float* input, float* y, index_t state_size) {
  auto state = std::make_shared<buffer>(e.B * state_size);
  const auto run = [=](index_t tokens) {
    for (index_t b = 0; b < e.B; ++b) {
      const index_t first = b * e.T;
      loop(tokens, e.D, gate + first * gate_width, input + first * e.D,
           state->data() + b * state_size, y + first * e.D);
    }
  };
  return {.repeat =
              [=](index_t calls) {
                for (index_t i = 0; i < calls; ++i) {
                  run(T);
                  benchmark::ClobberMemory();
                }
              },
          .fresh =
              [=] {
                std::fill_n(state->data(), state->size(), 0.0f);
                run(e.T);
              }};
}

}  // namespace bench
