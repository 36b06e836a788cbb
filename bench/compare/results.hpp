// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What was measured.

#include "machine.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace bench {

using run = benchmark::BenchmarkReporter::Run;

/// One round of one row.
struct sample {
  double seconds = 0;  ///< a call
  limit least;
  double fraction = 0;  ///< least.seconds() / seconds
  double speedup = 0;   ///< fastest plain loop of the round / seconds; 0: none was timed
};

/// One row with all its rounds.
struct outcome {
  row what;
  double error = 0;                ///< worst error over what is allowed; above 1 the row is refused
  std::string failure;             ///< empty, or why it was not timed
  stores fastest = stores::plain;  ///< what its limit is measured with
  std::vector<sample> samples;
  std::vector<run> runs;  ///< as Google Benchmark reported them, then its statistics

  [[nodiscard]] bool failed() const { return !failure.empty(); }
  [[nodiscard]] double seconds() const { return middle(&sample::seconds); }
  [[nodiscard]] double fraction() const { return middle(&sample::fraction); }
  [[nodiscard]] double speedup() const {
    auto all = values(&sample::speedup);
    std::erase(all, 0.0);  // rounds without a plain loop
    return median(std::move(all));
  }
  [[nodiscard]] double best() const {
    const auto all = values(&sample::seconds);
    return all.empty() ? 0 : *std::min_element(all.begin(), all.end());
  }
  /// Coefficient of variation of the times.
  [[nodiscard]] double spread() const {
    const auto all = values(&sample::seconds);
    return all.empty() ? 0 : deviation(all) / mean(all);
  }
  [[nodiscard]] limit least() const {
    limit found = samples.empty() ? limit{} : samples.front().least;
    std::vector<double> memory, compute;
    for (const auto& s : samples) {
      memory.push_back(s.least.memory);
      compute.push_back(s.least.compute);
    }
    found.memory = median(memory);
    found.compute = median(compute);
    return found;
  }
  [[nodiscard]] std::vector<double> values(double sample::*field) const {
    std::vector<double> all;
    for (const auto& s : samples) all.push_back(s.*field);
    return all;
  }

 private:
  [[nodiscard]] double middle(double sample::*field) const { return median(values(field)); }
};

/// One workload with the outcomes of its rows.
struct measured {
  workload what;
  std::vector<outcome> rows;
};

struct machine_limit {
  machine_row what;
  std::vector<double> seconds;
  std::vector<run> runs;
};

struct results {
  facts context;
  std::vector<machine_limit> machine;
  std::vector<measured> workloads;

  [[nodiscard]] int failures() const {
    int count = 0;
    for (const auto& w : workloads)
      for (const auto& r : w.rows) count += r.failed() ? 1 : 0;
    return count;
  }
};

}  // namespace bench
