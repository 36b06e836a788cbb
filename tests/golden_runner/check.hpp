// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "support/bound.hpp"
#include "support/tolerance.hpp"
#include "support/tracked.hpp"

#include <array>
#include <functional>
#include <string>
#include <vector>

namespace golden {

using maslin::test::walk;

/// One run of a mixer over a whole case, its results in double (exactly) and in row-major order.
struct outcome {
  std::string path;  ///< which call made it, for the report
  walk time = walk::sequential;
  std::vector<double> y;
  std::vector<double> state;
  std::vector<double> lags;  ///< hlru only: all lags of every step, else empty
  /// Of a backward pass: the gradients, as the subject names them; y, state and lags are then empty.
  std::vector<std::vector<double>> gradients{};
};
using report = std::function<void(const outcome&)>;

/// What one array should be, and how far from it a run may be.
struct target {
  std::vector<double> value;
  /// By walk: sequential, chunked. Entrywise.
  std::array<std::vector<double>, 2> allowed;

  /// The same distance everywhere: `tolerance` times the largest finite value.
  static target within(std::vector<double> value, double tolerance, double largest);
};

/// Collects the comparisons of one case.
class verdict {
 public:
  /// Compares entry by entry. What should be finite must be; what is not must not be.
  void compare(const std::string& path, const std::string& array, const std::vector<double>& got,
               const target& want, walk time = walk::sequential);
  /// Counts a run that has been compared.
  void count_path() { ++paths_; }
  void fail(std::string reason);

  [[nodiscard]] bool passed() const { return reason_.empty() && paths_ > 0 && worst_.value() <= 1; }
  [[nodiscard]] std::string text() const;

 private:
  maslin::test::worst_ratio worst_{""};
  std::string worst_path_;
  std::string reason_;
  long paths_ = 0;
};

/// Checks that the runs of one case agree as the policies promise: all those of the default policy,
/// `scalar` included, give the same bytes.
class same_bytes {
 public:
  void check(const outcome& run, verdict& into);

 private:
  void check_gradients(const outcome& run, verdict& into);

  bool has_first_ = false;
  outcome first_, backward_;
};

[[nodiscard]] double largest_finite(const std::vector<double>& values);
/// Each value rounded to float.
[[nodiscard]] std::vector<double> to_float(std::vector<double> values);
/// 1e-12 (or what the case's source allows), more for long sequences.
[[nodiscard]] double relative_tolerance(const test_case& test, index_t steps);
/// Refuses a reference of which more than 90 % is zero or not finite: anything would pass.
/// throws    bad_case
void refuse_vacuous(const std::vector<double>& reference);

/// The target of a gradient in float: the value of the double kernel, and the bound that the reference
/// carried along.
template <class Real>
[[nodiscard]] target tracked_target(std::vector<double> value,
                                    const std::vector<maslin::test::tracked<Real>>& bounds) {
  target want{.value = std::move(value), .allowed = {}};
  constexpr double chunked_factor = 3;
  for (const auto& b : bounds) {
    const double lost = double(b.lost) * double(std::numeric_limits<float>::min());
    const double unit = double(b.roundings()) * maslin::test::unit_roundoff<float>;
    want.allowed[0].push_back(unit + lost);
    want.allowed[1].push_back(chunked_factor * unit + lost);
  }
  return want;
}

/// The target of a float run: the value of the double kernel, and the bound of the oracle.
template <class Real>
[[nodiscard]] target bounded_target(std::vector<double> value,
                                    const std::vector<maslin::test::bounded<Real>>& bounds,
                                    double sequential_factor, double chunked_factor) {
  target want{.value = std::move(value), .allowed = {}};
  for (const auto& b : bounds) {
    const double lost = double(b.lost) * double(std::numeric_limits<float>::min());
    const double unit = double(b.w) * maslin::test::unit_roundoff<float>;
    want.allowed[0].push_back(sequential_factor * unit + lost);
    want.allowed[1].push_back(chunked_factor * unit + lost);
  }
  return want;
}

}  // namespace golden
