// SPDX-License-Identifier: Apache-2.0
#include "replay.hpp"

#include <algorithm>
#include <utility>

namespace golden {

namespace {

struct targets {
  target y, state, lags;
  std::vector<target> gradients{};
};

targets around(const result& want, double tolerance) {
  const double largest = largest_finite(want.y);
  targets all{.y = target::within(want.y, tolerance, largest),
              .state = target::within(want.state, tolerance, largest),
              .lags = target::within(want.lags, tolerance, largest)};
  for (const std::vector<double>& d : want.gradients)
    all.gradients.push_back(target::within(d, tolerance, largest_finite(d)));
  return all;
}

void compare(const std::string& path, const subject& mixer, const outcome& run, const targets& want,
             verdict& into) {
  if (!run.gradients.empty()) {
    if (run.gradients.size() != want.gradients.size())
      return into.fail(path + ": the case has other gradients than the mixer");
    for (std::size_t k = 0; k < run.gradients.size(); ++k)
      into.compare(path, mixer.gradient_names[k], run.gradients[k], want.gradients[k], run.time);
    return into.count_path();
  }
  into.compare(path, "y", run.y, want.y, run.time);
  into.compare(path, "state", run.state, want.state, run.time);
  into.compare(path, "lags", run.lags, want.lags, run.time);
  into.count_path();
}

void run_all(const std::string& type, const subject& mixer, const problem& p, const targets& want,
             verdict& into) {
  same_bytes bytes;
  const auto& paths = type == "float" ? mixer.in_float : mixer.in_double;
  paths(p, extent::all, [&](const outcome& run) {
    compare(mixer.name + type + " " + run.path, mixer, run, want, into);
    bytes.check(run, into);
  });
}

void run_reference(const std::string& path, const subject& mixer, const problem& p,
                   const targets& want, verdict& into) {
  const result plain = mixer.reference(p);
  compare(mixer.name + path, mixer,
          {.path = {}, .y = plain.y, .state = plain.state, .lags = plain.lags}, want, into);
  if (p.dy.empty()) return;
  compare(mixer.name + path, mixer,
          {.path = {}, .y = {}, .state = {}, .lags = {}, .gradients = mixer.gradients(p)}, want,
          into);
}

targets within_bound(const problem& p, const subject& mixer, const result& want) {
  const oracle_result oracle = mixer.oracle(p);
  targets bound{
      .y = bounded_target(want.y, oracle.y, mixer.sequential_factor, mixer.chunked_factor),
      .state =
          bounded_target(want.state, oracle.state, mixer.sequential_factor, mixer.chunked_factor),
      .lags = {}};
  bound.lags.value = want.lags;
  if (mixer.lags) {
    // Lags are copies: those of y may be as far off as y, those of the initial state not at all.
    const std::vector<double> exact(p.initial.size(), 0.0);
    for (const std::size_t time : {0u, 1u}) {
      bound.lags.allowed[time] = mixer.lags(p, bound.y.allowed[time], exact);
    }
  }
  if (!p.dy.empty()) {
    const auto numbers = mixer.gradient_bounds(p);
    for (std::size_t k = 0; k < numbers.size(); ++k)
      bound.gradients.push_back(tracked_target(want.gradients[k], numbers[k]));
  }
  return bound;
}

}  // namespace

void read_gradients(const test_case& test, const std::string& dy,
                    const std::vector<std::pair<std::string, shape>>& gradients, const shape& size,
                    problem& p, result& golden) {
  if (!test.has(dy)) return;
  p.dy = test.values(dy, size);
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    const auto& [name, extents] = gradients[k];
    // The initial state's gradient may be missing, the others may not.
    if (k + 1 < gradients.size() || test.has(name)) {
      golden.gradients.push_back(test.values(name, extents));
      refuse_vacuous(golden.gradients.back());
    }
  }
}

void replay(const test_case& test, const problem& p, const subject& mixer, const result& golden,
            verdict& into) {
  const double tolerance = relative_tolerance(test, p.steps);
  result known = golden;
  if (!p.dy.empty() && known.gradients.size() + 1 == mixer.gradient_names.size())
    known.gradients.push_back(mixer.gradients(p).back());
  const targets want = around(known, tolerance);
  run_reference("reference", mixer, p, want, into);
  run_all("double", mixer, p, want, into);

  problem rounded = p;
  for (std::vector<double>* values :
       {&rounded.gate, &rounded.input, &rounded.initial, &rounded.dy}) {
    *values = to_float(std::move(*values));
  }
  result in_double;
  mixer.in_double(rounded, extent::one, [&](const outcome& run) {
    if (run.gradients.empty())
      in_double = {.y = run.y, .state = run.state, .lags = run.lags};
    else
      in_double.gradients = run.gradients;
  });
  run_reference("reference on rounded inputs", mixer, rounded, around(in_double, tolerance), into);
  run_all("float", mixer, rounded, within_bound(rounded, mixer, in_double), into);
}

}  // namespace golden
