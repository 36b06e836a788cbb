// SPDX-License-Identifier: Apache-2.0

#include "curves.hpp"

#include "targets.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <sstream>

namespace bench {
namespace {

std::string fixed(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}
std::string microseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", seconds * 1e6);
  return text;
}

/// Name of a stream and its level, from machine/triad/streaming/dram/threads:2.
struct stream_name {
  std::string kind, level;
};

stream_name split(const std::string& name) {
  stream_name found;
  const std::string threads = "threads:";
  std::istringstream in(name);
  std::string part;
  std::getline(in, part, '/');
  while (std::getline(in, part, '/')) {
    if (part == "l1" || part == "l2" || part == "l3" || part == "dram")
      found.level = part;
    else if (part.rfind(threads, 0) == 0)
      found.level = part.substr(threads.size()) + " x " + found.level;
    else if (part == "streaming")
      found.kind += " NT";
    else if (part != "plain")
      found.kind += part;
  }
  return found;
}

/// mixer, call, form and order of a workload.
std::string kind_of(const workload& w) {
  return w.mixer + " " + w.call + ", " + w.form + (w.M > 1 ? ", M " + std::to_string(w.M) : "");
}
std::string shape_of(const workload& w) {
  return "T " + std::to_string(w.T) + " D " + std::to_string(w.D) +
         (w.B > 1 ? " B " + std::to_string(w.B) : "");
}
/// The title of a row without its number of threads.
std::string contender_of(const outcome& o) {
  const auto tail = o.what.title.find(", " + std::to_string(o.what.least.threads) + " threads");
  return o.what.title.substr(0, tail);
}

/// Rows of one workload that differ in their number of threads alone.
sheet scaling(const results& r) {
  sheet out{"Threads",
            "speedup over one thread; the limit is that of as many threads",
            {"call", "shape", "contender", "threads", "us", "speedup", "of the limit"},
            {}};
  for (const measured& m : r.workloads) {
    if (m.what.form == crossover_form) continue;
    std::set<std::string> seen;
    for (const outcome& first : m.rows) {
      const std::string contender = contender_of(first);
      if (first.what.least.threads != 1 || first.samples.empty() || !seen.insert(contender).second)
        continue;
      std::vector<const outcome*> all{&first};
      for (const outcome& o : m.rows)
        if (o.what.least.threads > 1 && !o.samples.empty() && contender_of(o) == contender)
          all.push_back(&o);
      if (all.size() < 2) continue;
      for (const outcome* o : all)
        out.lines.push_back({kind_of(m.what), shape_of(m.what), contender,
                             std::to_string(o->what.least.threads), microseconds(o->seconds()),
                             fixed(first.seconds() / o->seconds(), 2), fixed(o->fraction(), 2)});
    }
  }
  return out;
}

/// One line for a shape: the fastest of what exec::automatic may choose, beside what it took.
std::vector<std::string> crossing(const measured& m) {
  const outcome *automatic = nullptr, *best = nullptr;
  double in_order = 0, in_chunks = 0;
  for (const outcome& o : m.rows) {
    if (o.samples.empty()) continue;
    const std::string contender = contender_of(o);
    if (contender == "automatic") {
      automatic = &o;
      continue;
    }
    if (best == nullptr || o.best() < best->best()) best = &o;
    if (o.what.least.threads == 1) (contender == "chunked" ? in_chunks : in_order) = o.best();
  }
  if (automatic == nullptr || best == nullptr || in_order == 0 || in_chunks == 0) return {};
  return {m.what.mixer + (m.what.M > 1 ? " M " + std::to_string(m.what.M) : ""),
          std::to_string(m.what.T),
          std::to_string(m.what.D),
          microseconds(in_order),
          microseconds(in_chunks),
          fixed(in_order / in_chunks, 2),
          best->what.title,
          microseconds(best->best()),
          fixed(automatic->best() / best->best(), 2)};
}

sheet crossovers(const results& r) {
  sheet out{"Time in order or in chunks",
            "best us; `gain` is sequential / chunked on one thread; `automatic` is its time over "
            "the best",
            {"mixer", "T", "D", "sequential", "chunked", "gain", "best", "its time", "automatic"},
            {}};
  for (const measured& m : r.workloads) {
    if (m.what.form != crossover_form) continue;
    if (auto line = crossing(m); !line.empty()) out.lines.push_back(std::move(line));
  }
  return out;
}

/// Lengths of the workloads that differ from `m` in T alone.
std::set<index_t> lengths_like(const results& r, const measured& m) {
  std::set<index_t> found;
  for (const measured& other : r.workloads)
    if (kind_of(other.what) == kind_of(m.what) && other.what.D == m.what.D &&
        other.what.B == m.what.B)
      found.insert(other.what.T);
  return found;
}

sheet growths(const results& r) {
  sheet out{"Growth with the length",
            "the exponent e of time a token ~ T^e, by least squares; that of the limit tells what "
            "slower caches and memory add to it",
            {"call", "D", "contender", "from T", "to T", "exponent", "of the limit"},
            {}};
  std::set<std::string> seen;
  for (const measured& m : r.workloads) {
    if (m.what.form == crossover_form) continue;
    const auto lengths = lengths_like(r, m);
    constexpr std::size_t fewest = 3;
    if (lengths.size() < fewest) continue;
    for (const outcome& o : m.rows) {
      const std::string key = kind_of(m.what) + std::to_string(m.what.D) + "/" +
                              std::to_string(m.what.B) + "/" + o.what.title;
      if (o.samples.empty() || !seen.insert(key).second) continue;
      out.lines.push_back({kind_of(m.what), std::to_string(m.what.D), o.what.title,
                           std::to_string(*lengths.begin()), std::to_string(*lengths.rbegin()),
                           fixed(growth(r, m, o.what.title, time_of), 2),
                           fixed(growth(r, m, o.what.title, limit_of), 2)});
    }
  }
  return out;
}

}  // namespace

sheet machine_sheet(const results& r) {
  sheet out{"Limits of this machine", "GB/s, median of 3 (NT: non-temporal stores)", {"level"}, {}};
  std::map<std::string, std::map<std::string, double>> cells;
  std::vector<std::string> levels;
  for (const auto& m : r.machine) {
    const double seconds = median(m.seconds);
    if (m.what.slots > 0)
      out.note += "; FMA pipes " + fixed(m.what.slots / seconds * 1e-9, 1) + " G lane slots/s";
    else if (m.what.bytes == 0)
      out.note += "; a dependent fma " + fixed(seconds * 1e9, 2) + " ns";
    if (m.what.bytes == 0) continue;
    const auto [kind, level] = split(m.what.name);
    if (std::find(out.heads.begin(), out.heads.end(), kind) == out.heads.end())
      out.heads.push_back(kind);
    if (std::find(levels.begin(), levels.end(), level) == levels.end()) levels.push_back(level);
    cells[level][kind] = m.what.bytes / seconds * 1e-9;
  }
  for (const auto& level : levels) {
    std::vector<std::string> line{level};
    for (std::size_t i = 1; i < out.heads.size(); ++i)
      line.push_back(fixed(cells[level][out.heads[i]], 1));
    out.lines.push_back(std::move(line));
  }
  return out;
}

std::vector<sheet> sheets_of(const results& r) {
  std::vector<sheet> found;
  for (auto make : {scaling, crossovers, growths})
    if (sheet s = make(r); !s.lines.empty()) found.push_back(std::move(s));
  return found;
}

}  // namespace bench
