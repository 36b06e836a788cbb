// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/generalized.hpp>

namespace golden {

namespace detail {

/// A scan that saves and its backward by every policy: the gradients of self, past and input.
template <class S, class Pattern>
void run_pattern_back(const maslin::generalized<S, Pattern>& mixer,
                      const typename maslin::generalized<S, Pattern>::tokens& tokens,
                      const rows_problem& p, extent paths, const report& each) {
  namespace exec = maslin::exec;
  const index_t T = p.steps, E = p.width;
  const auto dy = converted<S>(p.dy);
  auto y = unwritten<S>(T * E);
  auto state = mixer.make_state(1, T);
  auto keep = mixer.make_saved(1, T);
  mixer.scan(exec::sequential{}, tokens, maslin::row_major(y.data(), 1, T, 1, E), state, keep);
  for (const policy& how : policies(paths)) {
    auto dself = unwritten<S>(T), dpast = unwritten<S>(T * p.slots), dinput = unwritten<S>(T * E);
    auto dstate = mixer.make_state(1, T);
    const auto run = [&](const auto& by) {
      mixer.backward(by, tokens, keep, maslin::row_major(dy.data(), 1, T, 1, E),
                     {.self = maslin::row_major(dself.data(), 1, T, 1),
                      .past = maslin::row_major(dpast.data(), 1, T, 1, p.slots),
                      .input = maslin::row_major(dinput.data(), 1, T, 1, E)},
                     dstate);
    };
    if (how.which == policy::kind::scalar)
      run(exec::scalar{});
    else if (how.which == policy::kind::sequential)
      run(exec::sequential{.threads = how.threads});
    else
      run(exec::chunked{.chunk = how.chunk, .threads = how.threads});
    each({.path = how.name() + " backward",
          .time = walk::sequential,
          .y = {},
          .state = {},
          .lags = {},
          .gradients = {{dself.begin(), dself.end()},
                        {dpast.begin(), dpast.end()},
                        {dinput.begin(), dinput.end()}}});
  }
}

template <class S, class Pattern>
void run_pattern(const Pattern& pattern, const rows_problem& p, extent paths, const report& each) {
  using mixer_t = maslin::generalized<S, Pattern>;
  namespace exec = maslin::exec;
  const index_t T = p.steps, E = p.width;
  const auto self = converted<S>(p.self), past = converted<S>(p.past),
             input = converted<S>(p.input);
  const typename mixer_t::tokens tokens{.self = maslin::row_major(self.data(), 1, T, 1),
                                        .past = maslin::row_major(past.data(), 1, T, 1, p.slots),
                                        .input = maslin::row_major(input.data(), 1, T, 1, E)};
  const mixer_t mixer{.heads = 1, .value_dim = E, .pattern = pattern};

  const auto prefill = [&](const policy& how, index_t end, const typename mixer_t::output& y,
                           typename mixer_t::state& state) {
    const auto prompt = tokens.range(0, end);
    const auto out = maslin::time_range(y, 0, end);
    switch (how.which) {
      case policy::kind::scalar: return mixer.scan(exec::scalar{}, prompt, out, state);
      case policy::kind::sequential:
        return mixer.scan(exec::sequential{.threads = how.threads}, prompt, out, state);
      case policy::kind::chunked:
        return mixer.scan(exec::chunked{.chunk = how.chunk, .threads = how.threads}, prompt, out,
                          state);
    }
  };
  for (const policy& how : policies(paths))
    for (const index_t split : splits(how.splits, 3, T)) {
      auto out = unwritten<S>(T * E);
      const auto y = maslin::row_major(out.data(), 1, T, 1, E);
      auto state = mixer.make_state(1, T);
      prefill(how, split, y, state);
      for (index_t t = split; t < T; ++t) mixer.step(tokens[t], maslin::time_at(y, t), state);
      // Time is never cut, so that chunks owe the bytes of the default policy.
      each({.path = how.name() + " split " + std::to_string(split) + "/" + std::to_string(T),
            .time = walk::sequential,
            .y = {out.begin(), out.end()},
            .state = {},
            .lags = {}});
    }
  if (!p.dy.empty()) run_pattern_back(mixer, tokens, p, paths, each);
}

}  // namespace detail

template <class S>
void generalized_paths(const rows_problem& p, extent paths, const report& each) {
  namespace pattern = maslin::pattern;
  const auto run = [&](const auto& of) { detail::run_pattern<S>(of, p, paths, each); };
  if (p.pattern == "order3") return run(pattern::order{3});
  if (p.pattern == "power2") return run(pattern::power2{});
  if (p.pattern == "square1") return run(pattern::square1{});
  if (p.pattern == "dense") return run(pattern::dense{});
  if (p.pattern == "power2_cached") return run(pattern::cached{pattern::power2{}});
  if (p.pattern == "square1_cached") return run(pattern::cached{pattern::square1{}});
  throw bad_case("meta.json: unknown pattern '" + p.pattern + "'");
}

}  // namespace golden
