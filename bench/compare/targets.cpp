// SPDX-License-Identifier: Apache-2.0

#include "targets.hpp"

#include <array>
#include <regex>

namespace bench {
namespace {

struct target {
  const char* pattern;
  measure what;
  double wanted;
};

const std::array targets{
    target{"diag/D1024/given/dram", measure::limit, 0.90},
    target{"diag/D1024/given/dram/t2", measure::limit, 0.85},
    target{"diag/D256/given/l[23]", measure::limit, 0.80},
    target{"diag/D8/given/latency", measure::limit, 0.90},
    target{"hlru/M2/given/dram", measure::limit, 0.90},
    target{"hlru/M[48]/given/dram", measure::limit, 0.85},
    target{"bdlru/M[28]/given/dram", measure::limit, 0.90},
    target{"bdlru/M4/given/dram", measure::limit, 0.88},
    target{"bdlru/M4/given/dram", measure::eigen, 1.5},
    target{"bdlru/M[248]/given/l2", measure::limit, 0.85},
    target{"bdlru/M[248]/given-natural/dram", measure::grouped, 0.85},
    target{"(bdlru|hlru)/M[1248]/fused/dram", measure::limit, 0.75},
    target{"bdlru/M4/fused/dram", measure::naive, 10},
    target{"(bdlru|hlru)/M[1248]/fused-l1/dram", measure::limit, 0.85},
};

/// The outcome of a workload whose row has this title; none if it was not timed.
const outcome* find(const measured& m, const std::string& title) {
  for (const auto& o : m.rows)
    if (o.what.title == title && !o.samples.empty()) return &o;
  return nullptr;
}

/// 0 if the results cannot say.
double ratio(const measured& m, const outcome& o, measure what) {
  const auto against = [&](const std::string& title) {
    const outcome* other = find(m, title);
    return other == nullptr ? 0 : other->seconds() / o.seconds();
  };
  switch (what) {
    case measure::limit: return o.fraction();
    case measure::naive: return o.speedup();
    case measure::grouped: return against("sequential grouped");
    case measure::eigen: return against("eigen natural");
  }
  return 0;
}

}  // namespace

std::string name_of(measure what) {
  switch (what) {
    case measure::limit: return "of the limit";
    case measure::grouped: return "of grouped gates";
    case measure::naive: return "x the plain loop";
    case measure::eigen: return "x Eigen";
  }
  return {};
}

std::vector<verdict> judge(const results& r) {
  std::vector<verdict> found;
  for (const auto& m : r.workloads)
    for (const auto& o : m.rows) {
      if (o.what.target.empty() || o.samples.empty()) continue;
      for (const auto& t : targets) {
        if (!std::regex_match(o.what.target, std::regex(t.pattern))) continue;
        const double got = ratio(m, o, t.what);
        if (got > 0) found.push_back({o.what.target, t.what, t.wanted, got});
      }
    }
  return found;
}

}  // namespace bench
