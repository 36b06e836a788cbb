// SPDX-License-Identifier: Apache-2.0
#include "check.hpp"

#include "support/bits.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

namespace golden {

using maslin::test::equal_bytes;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double ratio(double got, double want, double allowed) {
  if (!std::isfinite(want)) return std::isfinite(got) ? infinity : 0;
  if (!std::isfinite(got)) return infinity;
  return got == want ? 0 : std::abs(got - want) / allowed;
}

}  // namespace

target target::within(std::vector<double> value, double tolerance, double largest) {
  const std::vector<double> allowed(value.size(), tolerance * largest);
  return {.value = std::move(value), .allowed = {allowed, allowed}};
}

void verdict::compare(const std::string& path, const std::string& array,
                      const std::vector<double>& got, const target& want, walk time) {
  const std::vector<double>& allowed = want.allowed[time == walk::chunked ? 1 : 0];
  if (got.size() != want.value.size() || got.size() != allowed.size()) {
    return fail(path + ": " + array + " has " + std::to_string(got.size()) + " values, want " +
                std::to_string(want.value.size()));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst_.add(ratio(got[i], want.value[i], allowed[i]), [&] {
      char values[96];
      std::snprintf(values, sizeof values, ": got %.17g, want %.17g", got[i], want.value[i]);
      worst_path_ = path;
      return array + "[" + std::to_string(i) + "]" + values;
    });
  }
}

void verdict::fail(std::string reason) {
  if (reason_.empty()) reason_ = std::move(reason);
}

std::string verdict::text() const {
  if (!reason_.empty()) return reason_;
  if (paths_ == 0) return "nothing was run";
  char numbers[80];
  std::snprintf(numbers, sizeof numbers, "%ld paths, worst error/allowed %.3g", paths_,
                worst_.value());
  const std::string text = numbers + (" (" + worst_path_ + ")");
  return passed() ? text : text + ": " + worst_.where();
}

void same_bytes::check(const outcome& run, verdict& into) {
  if (run.time != walk::sequential) return;
  if (!run.gradients.empty()) return check_gradients(run, into);
  if (!has_first_) {
    first_ = run;
    has_first_ = true;
  } else if (!equal_bytes(first_.y, run.y) || !equal_bytes(first_.state, run.state)) {
    into.fail("not the same bytes: " + first_.path + " and " + run.path);
  }
}

void same_bytes::check_gradients(const outcome& run, verdict& into) {
  if (backward_.gradients.empty()) {
    backward_ = run;
    return;
  }
  for (std::size_t k = 0; k < run.gradients.size(); ++k) {
    if (!equal_bytes(backward_.gradients[k], run.gradients[k]))
      into.fail("not the same bytes of gradients: " + backward_.path + " and " + run.path);
  }
}

double largest_finite(const std::vector<double>& values) {
  double largest = 0;
  for (const double x : values) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  return largest;
}

std::vector<double> to_float(std::vector<double> values) {
  for (double& x : values) x = static_cast<double>(static_cast<float>(x));
  return values;
}

double relative_tolerance(const test_case& test, index_t steps) {
  constexpr double steps_per_unit = 256;
  return test.tolerance() * std::max(1.0, static_cast<double>(steps) / steps_per_unit);
}

void refuse_vacuous(const std::vector<double>& reference) {
  constexpr double share = 0.9;
  const auto empty = std::count_if(reference.begin(), reference.end(),
                                   [](double x) { return x == 0 || !std::isfinite(x); });
  if (reference.empty() ||
      static_cast<double>(empty) > share * static_cast<double>(reference.size())) {
    throw bad_case("vacuous: " + std::to_string(empty) + " of " + std::to_string(reference.size()) +
                   " values of the reference are zero or not finite");
  }
}

}  // namespace golden
