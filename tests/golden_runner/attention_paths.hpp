// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "paths.hpp"
#include "runs.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/gradient/attention.hpp>

#include <algorithm>

namespace golden {

/// Gradients of queries, keys and values by every policy; those of the keys without queries are in the
/// state's.
template <class S>
void attention_backward_paths(const attention_problem& p, const maslin::attention<S>& mixer,
                              const typename maslin::attention<S>::tokens& tokens,
                              const typename maslin::attention<S>::tokens& cached, extent paths,
                              const report& each) {
  namespace exec = maslin::exec;
  const index_t B = p.batch, T = p.steps, N = p.keys, H = p.heads, G = p.key_heads, K = p.key_dim,
                E = p.value_dim, before = N - T;
  const auto dy = converted<S>(p.dy);
  for (const policy& how : policies(paths))
    for (const bool ring : {false, true}) {
      auto out = unwritten<S>(B * T * H * E), query = unwritten<S>(B * T * H * K),
           keys = unwritten<S>(B * N * G * K), values = unwritten<S>(B * N * G * E);
      auto state = ring ? mixer.make_state(B) : mixer.make_state(B, N);
      auto dstate = ring ? mixer.make_state(B) : mixer.make_state(B, before);
      mixer.append(cached, state);
      auto keep = mixer.make_saved(B, T);
      mixer.scan(exec::sequential{}, tokens, maslin::row_major(out.data(), B, T, H, E), state,
                 keep);
      const auto dkey = maslin::row_major(keys.data(), B, N, G, K);
      const auto dvalue = maslin::row_major(values.data(), B, N, G, E);
      const auto run = [&](const auto& policy) {
        mixer.backward(policy, tokens, keep, maslin::row_major(dy.data(), B, T, H, E),
                       {.query = maslin::row_major(query.data(), B, T, H, K),
                        .key = maslin::time_range(dkey, before, N),
                        .value = maslin::time_range(dvalue, before, N)},
                       dstate);
      };
      switch (how.which) {
        case policy::kind::scalar: run(exec::scalar{}); break;
        case policy::kind::sequential: run(exec::sequential{.threads = how.threads}); break;
        case policy::kind::chunked:
          run(exec::chunked{.chunk = how.chunk, .threads = how.threads});
          break;
      }
      for (index_t b = 0; b < B; ++b) {
        // A ring has forgotten what no query sees.
        const index_t kept = dstate.first_needed(before);
        for (index_t j = 0; j < kept; ++j) {
          std::fill_n(&dkey(b, j, 0, 0), G * K, S(0));
          std::fill_n(&dvalue(b, j, 0, 0), G * E, S(0));
        }
        dstate.copy_to(b, kept, maslin::slice(maslin::time_range(dkey, kept, before), 0, b),
                       maslin::slice(maslin::time_range(dvalue, kept, before), 0, b));
      }
      each({.path = how.name() + (ring ? " ring" : "") + " backward",
            .time = walk::sequential,
            .y = {},
            .state = {},
            .lags = {},
            .gradients = {{query.begin(), query.end()},
                          {keys.begin(), keys.end()},
                          {values.begin(), values.end()}}});
    }
}

template <class S>
void attention_paths(const attention_problem& p, extent paths, const report& each) {
  using mixer_t = maslin::attention<S>;
  namespace exec = maslin::exec;
  const auto query = converted<S>(p.query), key = converted<S>(p.key),
             value = converted<S>(p.value);
  const index_t B = p.batch, T = p.steps, N = p.keys, H = p.heads, E = p.value_dim;
  const mixer_t mixer{.heads = H,
                      .key_heads = p.key_heads,
                      .key_dim = p.key_dim,
                      .value_dim = E,
                      .window = p.window,
                      .scale = static_cast<S>(p.scale)};
  const typename mixer_t::tokens all{
      .query = maslin::row_major(query.data(), B, T, H, p.key_dim),
      .key = maslin::row_major(key.data(), B, N, p.key_heads, p.key_dim),
      .value = maslin::row_major(value.data(), B, N, p.key_heads, E)};
  // The first keys have no queries.
  const index_t before = N - T;
  typename mixer_t::tokens tokens = all, cached = all;
  tokens.key = maslin::time_range(all.key, before, N);
  tokens.value = maslin::time_range(all.value, before, N);
  cached.key = maslin::time_range(all.key, 0, before);
  cached.value = maslin::time_range(all.value, 0, before);

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
    for (const index_t split : splits(how.splits, 3, T))
      for (const bool ring : {false, true}) {
        auto out = unwritten<S>(B * T * H * E);
        const auto y = maslin::row_major(out.data(), B, T, H, E);
        // A window has a ring of its own beside the cache of every key.
        auto state = ring ? mixer.make_state(B) : mixer.make_state(B, N);
        mixer.append(cached, state);
        prefill(how, split, y, state);
        for (index_t t = split; t < T; ++t) mixer.step(tokens[t], maslin::time_at(y, t), state);
        // Time is never cut, so that chunks owe the bytes of the default policy.
        each({.path = how.name() + (ring ? " ring" : "") + " split " + std::to_string(split) + "/" +
                      std::to_string(T),
              .time = walk::sequential,
              .y = {out.begin(), out.end()},
              .state = {},
              .lags = {}});
      }
  if (!p.dy.empty()) attention_backward_paths(p, mixer, tokens, cached, paths, each);
}

}  // namespace golden
