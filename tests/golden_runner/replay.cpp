// SPDX-License-Identifier: Apache-2.0
#include "replay.hpp"

#include <algorithm>
#include <utility>

namespace golden {

namespace {

struct targets {
  target y, state, lags;
};

targets around(const result& want, double tolerance) {
  const double largest = largest_finite(want.y);
  return {.y = target::within(want.y, tolerance, largest),
          .state = target::within(want.state, tolerance, largest),
          .lags = target::within(want.lags, tolerance, largest)};
}

void compare(const std::string& path, const outcome& run, const targets& want, verdict& into) {
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
    compare(mixer.name + type + " " + run.path, run, want, into);
    bytes.check(run, into);
  });
}

void run_reference(const std::string& path, const subject& mixer, const problem& p,
                   const targets& want, verdict& into) {
  const result plain = mixer.reference(p);
  compare(mixer.name + path, {.path = {}, .y = plain.y, .state = plain.state, .lags = plain.lags},
          want, into);
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
  return bound;
}

}  // namespace

void replay(const test_case& test, const problem& p, const subject& mixer, const result& golden,
            verdict& into) {
  const double tolerance = relative_tolerance(test, p.steps);
  const targets want = around(golden, tolerance);
  run_reference("reference", mixer, p, want, into);
  run_all("double", mixer, p, want, into);

  problem rounded = p;
  for (std::vector<double>* values : {&rounded.gate, &rounded.input, &rounded.initial}) {
    *values = to_float(std::move(*values));
  }
  result in_double;
  mixer.in_double(rounded, extent::one, [&](const outcome& run) {
    in_double = {.y = run.y, .state = run.state, .lags = run.lags};
  });
  run_reference("reference on rounded inputs", mixer, rounded, around(in_double, tolerance), into);
  run_all("float", mixer, rounded, within_bound(rounded, mixer, in_double), into);
}

}  // namespace golden
