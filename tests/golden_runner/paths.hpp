// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Every way to run one mixer over one sequence. A mixer's type is a template argument only where
/// it must be: results leave as plain vectors, and all comparing is done elsewhere, once.

#include "check.hpp"
#include "support/poison.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace golden {

using maslin::view;

/// The inputs of one case in the library's axes, values in double.
struct problem {
  maslin::normalise kind = maslin::normalise::none;
  int order = 1;
  index_t batch = 0, steps = 0, width = 0;  // B, T, and D or G
  std::vector<double> gate{}, input{}, initial{};
  std::vector<double> dy{};  ///< what arrives at the outputs; empty where a case has no gradients
};

/// All paths, or only one call of the default policy (which gives a float run its reference).
enum class extent { all, one };

struct policy {
  enum class kind { scalar, sequential, chunked };
  kind which;
  int threads;
  index_t chunk;
  extent splits;  ///< whether decoding after part of the sequence is tried too

  [[nodiscard]] std::string name() const {
    const std::string suffix = threads == 1 ? "" : " x" + std::to_string(threads);
    switch (which) {
      case kind::scalar: return "scalar";
      case kind::sequential: return "sequential" + suffix;
      case kind::chunked: return "chunked(" + std::to_string(chunk) + ")" + suffix;
    }
    return "";
  }
  [[nodiscard]] walk time() const {
    return which == kind::chunked ? walk::chunked : walk::sequential;
  }
};

[[nodiscard]] inline std::vector<policy> policies(extent paths) {
  using enum policy::kind;
  std::vector<policy> all{{sequential, 1, 0, paths}};
  if (paths == extent::one) return all;
  all.push_back({scalar, 1, 0, extent::all});
  all.push_back({sequential, 2, 0, extent::all});
  for (const index_t chunk : {1, 3, 64, 0}) {
    for (const int threads : {1, 2}) all.push_back({chunked, threads, chunk, extent::all});
  }
  return all;
}

/// Prompt lengths after which the rest is decoded token by token; T stands for no decoding.
[[nodiscard]] inline std::set<index_t> splits(extent paths, int order, index_t steps) {
  if (paths == extent::one) return {steps};
  std::set<index_t> at{0, 1, order, steps / 2, steps - 1, steps};
  std::erase_if(at, [steps](index_t s) { return s < 0 || s > steps; });
  return at;
}

template <class S>
[[nodiscard]] std::vector<S> converted(const std::vector<double>& from) {
  std::vector<S> to(from.size());
  std::transform(from.begin(), from.end(), to.begin(), [](double x) { return static_cast<S>(x); });
  return to;
}

/// Room for n values that a kernel must write, or must not read: poison until then.
template <class S>
[[nodiscard]] std::vector<S> unwritten(index_t n) {
  std::vector<S> values(static_cast<std::size_t>(n));
  maslin::test::poison<S>::fill(values);
  return values;
}

/// Runs `mixer` over `tokens` by every policy, then by every split into a scan and single steps.
/// `initial` is the state before the first token; `lags_of(y)` makes the lags of an output, or is
/// null. `name` says which tokens these are.
template <class Mixer, class Output, class Initial, class Lags>
void run_paths(const std::string& name, const Mixer& mixer, const typename Mixer::tokens& tokens,
               const Output& y_shape, const Initial& initial, int order, extent paths,
               Lags&& lags_of, const report& each) {
  using S = typename Mixer::scalar_type;
  namespace exec = maslin::exec;
  const index_t B = y_shape.extent(0), T = y_shape.extent(1);

  const auto prefill = [&](const policy& p, index_t end, const Output& y) {
    const auto prompt = tokens.range(0, end);
    const auto out = maslin::time_range(y, 0, end);
    const auto start = [&](typename Mixer::state state) {
      state.copy_from(initial);
      return state;
    };
    if (p.which == policy::kind::scalar) {
      auto state = start(mixer.make_state(B, exec::scalar{}));
      mixer.scan(exec::scalar{}, prompt, out, state);
      return state;
    }
    if (p.which == policy::kind::sequential) {
      const exec::sequential in_order{.threads = p.threads};
      auto state = start(mixer.make_state(B, in_order));
      mixer.scan(in_order, prompt, out, state);
      return state;
    }
    const exec::chunked in_chunks{.chunk = p.chunk, .threads = p.threads};
    auto state = start(mixer.make_state(B, in_chunks));
    mixer.scan(in_chunks, prompt, out, state);
    return state;
  };

  for (const policy& p : policies(paths)) {
    for (const index_t split : splits(p.splits, order, T)) {
      // A complex number is an array of two real ones.
      using number = typename Output::value_type;
      constexpr auto parts = static_cast<index_t>(sizeof(number) / sizeof(S));
      std::vector<S> y_values = unwritten<S>(parts * y_shape.size());
      const Output y(reinterpret_cast<number*>(y_values.data()), y_shape.extents(),
                     y_shape.strides());
      auto state = prefill(p, split, y);
      for (index_t t = split; t < T; ++t) mixer.step(tokens[t], maslin::time_at(y, t), state);

      std::vector<S> state_values = unwritten<S>(initial.size());
      state.copy_to({state_values.data(), initial.extents(), initial.strides()});
      each({.path = name + (name.empty() ? "" : " ") + p.name() + " split " +
                    std::to_string(split) + "/" + std::to_string(T),
            .time = p.time(),
            .y = {y_values.begin(), y_values.end()},
            .state = {state_values.begin(), state_values.end()},
            .lags = lags_of(y)});
    }
  }
}

/// Runs a scan that saves and its backward by every policy; dstate begins as zeros. `into(d)` gives
/// gradients of a mixer somewhere to go, all poison before the call; `values()` reads them, as
/// the subject names them but for the last, that of the initial state.
template <class Mixer, class Output, class Initial, class Dy, class Into, class Values>
void run_backward_paths(const std::string& name, const Mixer& mixer,
                        const typename Mixer::tokens& tokens, const Output& y_shape,
                        const Initial& initial, const Dy& dy, extent paths, Into&& into,
                        Values&& values, const report& each) {
  using S = typename Mixer::scalar_type;
  namespace exec = maslin::exec;
  using number = typename Output::value_type;
  constexpr auto parts = static_cast<index_t>(sizeof(number) / sizeof(S));
  const index_t B = y_shape.extent(0), T = y_shape.extent(1);
  std::vector<S> y_values = unwritten<S>(parts * y_shape.size());
  const Output y(reinterpret_cast<number*>(y_values.data()), y_shape.extents(), y_shape.strides());
  auto state = mixer.make_state(B);
  state.copy_from(initial);
  auto keep = mixer.make_saved(B, T);
  mixer.scan(exec::sequential{}, tokens, y, state, keep);

  for (const policy& p : policies(paths)) {
    typename Mixer::gradients d;
    into(d);
    auto dstate = mixer.make_state(B);
    if (p.which == policy::kind::scalar)
      mixer.backward(exec::scalar{}, tokens, keep, dy, d, dstate);
    else if (p.which == policy::kind::sequential)
      mixer.backward(exec::sequential{.threads = p.threads}, tokens, keep, dy, d, dstate);
    else
      mixer.backward(exec::chunked{.chunk = p.chunk, .threads = p.threads}, tokens, keep, dy, d,
                     dstate);
    std::vector<S> of_state = unwritten<S>(initial.size());
    dstate.copy_to({of_state.data(), initial.extents(), initial.strides()});
    outcome run{.path = name + (name.empty() ? "" : " ") + p.name() + " backward",
                .time = p.time(),
                .y = {},
                .state = {},
                .lags = {},
                .gradients = values()};
    run.gradients.emplace_back(of_state.begin(), of_state.end());
    each(run);
  }
}

}  // namespace golden
