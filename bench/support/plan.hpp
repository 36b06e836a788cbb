// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What is timed: a workload is one problem on one set of buffers, its rows are the contenders that
/// solve it, the library's policies and layouts as well as the baselines.

#include "corpus.hpp"
#include "roofline.hpp"
#include "sizes.hpp"

#include <cctype>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bench {

/// The call of a mixer that is timed.
enum class call { scan, step };

/// A contender bound to its buffers.
struct contender {
  /// Makes the call so many times, the state going on from call to call.
  std::function<void(index_t)> repeat;
  /// Fills the output from a fresh state, for comparison with the reference.
  std::function<void()> fresh;
};

/// Buffers of a workload with the truth about it. Lives while its rows are verified and timed.
class problem {
 public:
  virtual ~problem() = default;
  /// Forgets the output, so that a contender cannot pass on that of another.
  virtual void spoil() = 0;
  /// The output's worst error as a fraction of `tolerance` u W; not a number counts as infinite.
  [[nodiscard]] virtual double worst(double tolerance) const = 0;
};

/// One contender, one line of the table.
struct row {
  std::string name;      ///< hlru/scan/sequential/M:4/T:4096/D:1024/given/grouped
  std::string title;     ///< sequential grouped
  std::string target;    ///< hlru/M4/given/dram, or empty
  bool naive = false;    ///< counts for speedup_vs_naive
  double tolerance = 0;  ///< of the error, in u W (bound.hpp)
  work least;
  index_t tokens = 0;       ///< tokens a call
  index_t cache_bytes = 0;  ///< of the state
  double gathered = 0;      ///< earlier rows that a call reads; 0 where a mixer reads none
  double estimate = 0;      ///< seconds a call, roughly: for planning
  std::function<contender(problem&)> bind;
};

/// Rows that share one problem and are timed in turn.
struct workload {
  std::string mixer, call, form, regime;
  int M = 1;
  index_t B = 1, T = 0, D = 0;
  std::vector<row> rows;
  double preparation = 0;  ///< seconds to prepare and verify, roughly
  std::function<std::unique_ptr<problem>(const corpus&)> prepare;
};

/// The name of a row: hlru/scan/sequential/M:4/T:4096/D:1024/given/grouped, then /B:2 and /threads:2
/// where they are not 1. What is no letter, digit or sign of these becomes a hyphen.
[[nodiscard]] inline std::string row_name(const workload& w, const std::string& contender,
                                          const std::string& order = {}, int threads = 1) {
  const auto word = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      const bool kept = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
      if (kept || (!out.empty() && out.back() != '-')) out += kept ? c : '-';
    }
    return out;
  };
  std::string name = w.mixer + "/" + w.call + "/" + word(contender) + "/M:" + std::to_string(w.M) +
                     "/T:" + std::to_string(w.T) + "/D:" + std::to_string(w.D) + "/" + word(w.form);
  if (!order.empty()) name += "/" + order;
  if (w.B > 1) name += "/B:" + std::to_string(w.B);
  if (threads > 1) name += "/threads:" + std::to_string(threads);
  return name;
}

/// The form of workloads that hold time in order beside time in chunks (scan/crossover.hpp).
inline constexpr const char* crossover_form = "crossover";

/// What is asked for, and the machine it is asked of.
struct settings {
  bool quick = false;
  caches sizes;
  int cores = 1;
  bool threads = false;  ///< the library was compiled with threads
};

/// Numbers of threads to time calls with: 1, 2, 4 and so on, then all; in a quick run 1 and all.
[[nodiscard]] inline std::vector<int> thread_counts(const settings& s) {
  std::vector<int> counts{1};
  if (!s.threads) return counts;
  for (int n = 2; n < s.cores && !s.quick; n *= 2) counts.push_back(n);
  if (s.cores > 1) counts.push_back(s.cores);
  return counts;
}

/// Workloads of each mixer (bench/mixer/<name>_bench.cpp).
[[nodiscard]] std::vector<workload> diagonal_workloads(const settings& s);
[[nodiscard]] std::vector<workload> complex_diagonal_workloads(const settings& s);
[[nodiscard]] std::vector<workload> complex_readout_workloads(const settings& s);
[[nodiscard]] std::vector<workload> hlru_workloads(const settings& s);
[[nodiscard]] std::vector<workload> bdlru_workloads(const settings& s);
[[nodiscard]] std::vector<workload> generalized_workloads(const settings& s);
[[nodiscard]] std::vector<workload> generalized_scores_workloads(const settings& s);
[[nodiscard]] std::vector<workload> selective_ssm_workloads(const settings& s);
[[nodiscard]] std::vector<workload> causal_conv_workloads(const settings& s);
[[nodiscard]] std::vector<workload> rglru_workloads(const settings& s);
[[nodiscard]] std::vector<workload> attention_workloads(const settings& s);
[[nodiscard]] std::vector<workload> linear_attention_workloads(const settings& s);
[[nodiscard]] std::vector<workload> delta_rule_workloads(const settings& s);

}  // namespace bench
