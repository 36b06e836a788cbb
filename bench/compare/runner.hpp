// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Verifies and times workloads.

#include "options.hpp"
#include "progress.hpp"
#include "results.hpp"

#include <random>

namespace bench {

/// Goes through a plan. Each workload is prepared, each of its rows compared with the reference,
/// and those that agree are timed in rounds, in a new random order each round; every timed call has
/// its limit measured right before or after it. Google Benchmark runs and records each measurement.
class runner {
 public:
  /// `deadline`: seconds from now at which no further round begins.
  runner(const settings& s, const corpus& text, double deadline);

  [[nodiscard]] results go(std::vector<workload> plan, std::vector<machine_row> machine);

 private:
  void measure(machine_limit& m);
  void measure(measured& m, double share);
  /// Seconds of the verified call; sets `o.failure` if it is refused.
  double verify(problem& data, outcome& o, contender& c);
  void round(std::vector<outcome*>& order, const std::vector<contender>& bound,
             const std::vector<index_t>& calls, const std::vector<outcome>& all);
  static void compare_with_naive(std::vector<outcome>& rows);

  settings settings_;
  corpus text_;
  double deadline_;
  int most_rounds_;
  roofline roofline_;
  progress progress_;
  std::mt19937 random_;
};

}  // namespace bench
