// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the project asks of its kernels, as ratios that hold on any machine. A row names its
/// target; a program that asserts them should ask for half, since machines are shared and noisy.

#include "results.hpp"

#include <string>
#include <vector>

namespace bench {

/// What a target's figure is a ratio of.
enum class measure {
  limit,    ///< limit / time
  grouped,  ///< time of the grouped layout in the same workload / time
  naive,    ///< time of the plain loop / time
  eigen,    ///< time of Eigen / time
  single,   ///< time of the same call on one thread / time
  blas,     ///< time of OpenBLAS / time
  storage,  ///< time a token of the cache in float / time a token
  scan,     ///< time / time of the scan that saves; at most what is wanted
  growth,   ///< exponent of the time a token against T; at most what is wanted
};

struct verdict {
  std::string target;
  measure what = measure::limit;
  double wanted = 0, got = 0;

  [[nodiscard]] bool met() const {
    return what == measure::growth || what == measure::scan ? got <= wanted : got >= wanted;
  }
};

/// The verdicts on all targets that the results answer, in the order of the rows.
[[nodiscard]] std::vector<verdict> judge(const results& r);

[[nodiscard]] std::string name_of(measure what);

/// The exponent with which the time a token of these rows grows with the length: the slope of its
/// logarithm over the workloads that differ from `m` in T alone. 0 if there are fewer than two.
/// `seconds` is the time of a row, or its limit.
[[nodiscard]] double growth(const results& r, const measured& m, const std::string& title,
                            double (*seconds)(const outcome&));
[[nodiscard]] inline double time_of(const outcome& o) { return o.seconds(); }
[[nodiscard]] inline double limit_of(const outcome& o) { return o.least().seconds(); }

}  // namespace bench
