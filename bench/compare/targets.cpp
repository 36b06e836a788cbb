// SPDX-License-Identifier: Apache-2.0

#include "targets.hpp"

#include <array>
#include <cmath>
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
    target{"rglru/D1024/fused/dram", measure::limit, 0.75},
    target{"hlru/M2/given/dram", measure::limit, 0.90},
    target{"hlru/M[48]/given/dram", measure::limit, 0.85},
    target{"bdlru/M[28]/given/dram", measure::limit, 0.90},
    target{"bdlru/M4/given/dram", measure::limit, 0.88},
    target{"bdlru/M4/given/(dram|l2)", measure::eigen, 1.5},
    target{"bdlru/M[248]/given/l2", measure::limit, 0.85},
    target{"bdlru/M[248]/given-natural/dram", measure::grouped, 0.85},
    target{"(bdlru|hlru)/M[1248]/fused/dram", measure::limit, 0.75},
    target{"bdlru/M4/fused/dram", measure::naive, 10},
    target{"(bdlru|hlru)/M[1248]/fused-l1/dram", measure::limit, 0.85},
    target{"(diag|hlru|bdlru)/.*/backward/dram", measure::scan, 2.5},
    target{"trimix/n(256|1024)/solve/compute", measure::limit, 0.65},
    target{"trimix/n(64|256|1024)/solve/compute", measure::blas, 1.0},
    target{"generalized/(cached-)?(power2|square1)/given", measure::limit, 0.70},
    target{"generalized/(cached-)?(power2|square1)/given", measure::naive, 1.0},
    target{"generalized/(cached-)?(power2|square1)/scores", measure::naive, 2.0},
    target{"generalized/(cached-)?power2/growth(/E16)?", measure::growth, 0.15},
    target{"generalized/(cached-)?square1/growth(/E16)?", measure::growth, 0.65},
    target{"mamba1/N16/prefill/compute", measure::limit, 0.60},
    target{"mamba1/N16/prefill/compute", measure::naive, 12},
    target{"mamba1/N16/decode/compute", measure::naive, 10},
    target{"(mamba1/N16|attn/d64)/prefill/compute/t2", measure::single, 1.8},
    target{"mamba1/N(16|64)/backward/compute", measure::scan, 3.5},
    target{"attn/d64/prefill/compute", measure::limit, 0.65},
    target{"attn/d64/prefill/compute", measure::blas, 2.0},
    target{"attn/d64/decode-f32/dram", measure::limit, 0.90},
    target{"attn/d64/decode-half/dram", measure::limit, 0.80},
    target{"attn/d64/decode-half/dram", measure::storage, 1.7},
    target{"ssd/N(64|128)/chunked/compute", measure::limit, 0.55},
    target{"gla/S64/prefill/compute", measure::limit, 0.50},
    target{"gdelta/d128/prefill/compute", measure::limit, 0.45},
    target{"gdelta/d128/prefill/compute", measure::naive, 2},
    target{"gdelta/d128/decode/l2", measure::limit, 0.70},
    target{"gla/S64/backward/compute", measure::scan, 3.5},
    target{"ssd/N64/backward/compute", measure::scan, 3.5},
    target{"gdelta/d(64|128)/backward/compute", measure::scan, 3.5},
};

/// The outcome of a workload whose row has this title; none if it was not timed.
const outcome* find(const measured& m, const std::string& title) {
  for (const auto& o : m.rows)
    if (o.what.title == title && !o.samples.empty()) return &o;
  return nullptr;
}

}  // namespace

double growth(const results& r, const measured& m, const std::string& title,
              double (*seconds)(const outcome&)) {
  std::vector<double> x, y;
  for (const auto& other : r.workloads) {
    const auto &a = m.what, &b = other.what;
    if (a.mixer != b.mixer || a.call != b.call || a.form != b.form || a.M != b.M || a.D != b.D ||
        a.B != b.B)
      continue;
    if (const outcome* o = find(other, title)) {
      x.push_back(std::log(static_cast<double>(b.T)));
      y.push_back(std::log(seconds(*o) / static_cast<double>(o->what.tokens)));
    }
  }
  if (x.size() < 2) return 0;
  const double centre_x = mean(x), centre_y = mean(y);
  double rise = 0, width = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    rise += (x[i] - centre_x) * (y[i] - centre_y);
    width += (x[i] - centre_x) * (x[i] - centre_x);
  }
  return width > 0 ? rise / width : 0;
}

namespace {

/// 0 if the results cannot say.
double ratio(const results& r, const measured& m, const outcome& o, measure what) {
  const auto against = [&](const std::string& title) {
    const outcome* other = find(m, title);
    return other == nullptr ? 0 : other->seconds() / o.seconds();
  };
  switch (what) {
    case measure::limit: return o.fraction();
    case measure::naive: return o.speedup();
    case measure::grouped: return against("sequential grouped");
    case measure::eigen: return against("eigen natural");
    case measure::single: return against("sequential");
    case measure::blas: return against("openblas");
    case measure::storage: {
      const double tokens = static_cast<double>(o.what.tokens);
      const outcome* whole = find(m, "sequential");
      return whole == nullptr ? 0
                              : whole->seconds() / static_cast<double>(whole->what.tokens) *
                                    tokens / o.seconds();
    }
    case measure::scan: {
      const double once = against("the scan that saves");
      return once > 0 ? 1 / once : 0;
    }
    case measure::growth: return growth(r, m, o.what.title, time_of);
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
    case measure::single: return "x one thread";
    case measure::blas: return "x OpenBLAS";
    case measure::storage: return "x float storage";
    case measure::scan: return "x the scan, at most";
    case measure::growth: return "exponent, at most";
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
        const double got = ratio(r, m, o, t.what);
        if (got != 0) found.push_back({o.what.target, t.what, t.wanted, got});
      }
    }
  return found;
}

}  // namespace bench
