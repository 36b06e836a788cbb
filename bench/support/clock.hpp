// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Time and order statistics.

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

namespace bench {

/// Seconds since an arbitrary start.
[[nodiscard]] inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds that this thread has spent on a core. On a quiet machine it runs as `now` does; on a
/// shared one it leaves out the time in which another process had the core, for contender and limit
/// alike.
[[nodiscard]] inline double thread_now() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec spent{};
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent) == 0)
    return static_cast<double>(spent.tv_sec) + 1e-9 * static_cast<double>(spent.tv_nsec);
#endif
  return now();
}

/// The clock of a row: the thread's own for one thread, the wall's for more.
[[nodiscard]] inline double now_of(int threads) { return threads == 1 ? thread_now() : now(); }

/// The middle of `values`, between the two middle ones for an even count; 0 for none.
[[nodiscard]] inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

[[nodiscard]] inline double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// Standard deviation of a sample.
[[nodiscard]] inline double deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - centre) * (v - centre);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

}  // namespace bench
