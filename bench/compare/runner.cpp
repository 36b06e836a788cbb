// SPDX-License-Identifier: Apache-2.0

#include "runner.hpp"

#include <cmath>
#include <cstdio>

namespace bench {
namespace {

/// A repeat lasts at least this long, so that the clock and a stray interrupt do not count.
constexpr double least_repeat = 2e-3;

/// Keeps what Google Benchmark reports.
class collector final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& reported) override {
    runs.insert(runs.end(), reported.begin(), reported.end());
  }
  std::vector<Run> runs;
};

/// The parts that Google Benchmark appends to a name say how it was called, which is the same for
/// all.
void clean(run& r, std::size_t family, std::size_t round) {
  const std::string name = r.run_name.function_name;
  r.run_name = {};
  r.run_name.function_name = name;
  r.family_index = static_cast<std::int64_t>(family);
  r.per_family_instance_index = 0;
  r.repetition_index = static_cast<std::int64_t>(round);
}

double per_call(const run& r, double run::*field) {
  return r.*field / static_cast<double>(std::max<benchmark::IterationCount>(r.iterations, 1));
}

using statistic = double (*)(const std::vector<double>&);

double smallest(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double largest(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
double variation(const std::vector<double>& v) {
  const double centre = mean(v);
  return centre == 0 ? 0 : deviation(v) / std::abs(centre);
}
double middle(const std::vector<double>& v) { return median(v); }

/// One of Google Benchmark's aggregates over the rounds. `of_counter` differs for the best: the
/// best time is the smallest, the best rate the largest.
run aggregate(const std::vector<run>& rounds, const std::string& name, statistic of_time,
              statistic of_counter, benchmark::StatisticUnit unit) {
  run out = rounds.front();
  out.run_type = run::RT_Aggregate;
  out.aggregate_name = name;
  out.aggregate_unit = unit;
  out.repetition_index = run::no_repetition_index;
  out.iterations = static_cast<benchmark::IterationCount>(rounds.size());
  const auto times = [&](double run::*field) {
    std::vector<double> all;
    for (const auto& r : rounds) all.push_back(per_call(r, field));
    // Times are divided by `iterations` when they are printed; percentages are not.
    const double scale = unit == benchmark::kPercentage ? 1.0 : static_cast<double>(out.iterations);
    return of_time(all) * scale;
  };
  out.real_accumulated_time = times(&run::real_accumulated_time);
  out.cpu_accumulated_time = times(&run::cpu_accumulated_time);
  for (auto& [counter, value] : out.counters) {
    std::vector<double> all;
    for (const auto& r : rounds)
      if (const auto found = r.counters.find(counter); found != r.counters.end())
        all.push_back(found->second.value);
    value = benchmark::Counter(of_counter(all));
  }
  return out;
}

void add_aggregates(std::vector<run>& runs) {
  if (runs.empty()) return;
  const std::vector<run> rounds = runs;
  for (auto& r : runs) r.repetitions = static_cast<std::int64_t>(rounds.size());
  const auto add = [&](const char* name, statistic time, statistic counter,
                       benchmark::StatisticUnit unit) {
    runs.push_back(aggregate(rounds, name, time, counter, unit));
    runs.back().repetitions = static_cast<std::int64_t>(rounds.size());
  };
  add("mean", mean, mean, benchmark::kTime);
  add("median", middle, middle, benchmark::kTime);
  add("stddev", deviation, deviation, benchmark::kTime);
  add("cv", variation, variation, benchmark::kPercentage);
  add("best", smallest, largest, benchmark::kTime);
}

/// Runs one measurement under Google Benchmark: `body` makes `calls` calls and returns their
/// seconds.
void submit(const std::string& name, index_t calls,
            const std::function<double(benchmark::State&)>& body) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 while (state.KeepRunningBatch(calls))
                                   state.SetIterationTime(body(state));
                               })
      ->UseManualTime()
      ->Iterations(calls)
      ->Unit(benchmark::kMicrosecond);
}

std::string title_of(const workload& w) {
  return w.mixer + " " + w.call + ", " + w.form + ", M " + std::to_string(w.M) + ", T " +
         std::to_string(w.T) + ", D " + std::to_string(w.D);
}

/// Seconds that a row takes in one round, limit included.
double cost_of_round(const row& r) {
  const double memory = r.least.bytes() / 25e9;
  return std::max(r.estimate, least_repeat) + 2 * std::max(memory, least_repeat) + 3e-3;
}

double planned_seconds(const workload& w, int rounds) {
  double seconds = w.preparation;
  for (const auto& r : w.rows) seconds += 2 * r.estimate + rounds * cost_of_round(r);
  return seconds;
}

/// That a row failed, and why. Google Benchmark 1.8 gave both other names.
template <class Run>
void mark_failed(Run& r, const std::string& why) {
  if constexpr (requires { r.error_occurred; }) {
    r.error_occurred = true;
    r.error_message = why;
  } else {
    r.skipped = decltype(r.skipped)::SkippedWithError;
    r.skip_message = why;
  }
}

}  // namespace

runner::runner(const settings& s, const corpus& text, double deadline)
    : settings_(s),
      text_(text),
      deadline_(now() + deadline),
      most_rounds_(s.quick ? 5 : 21),
      random_(std::random_device{}()) {}

results runner::go(std::vector<workload> plan, std::vector<machine_row> machine) {
  results found;
  constexpr double machine_round = 8e-3;
  double total = static_cast<double>(machine.size()) * machine_round * 3;
  std::vector<double> planned;
  for (const auto& w : plan) {
    planned.push_back(planned_seconds(w, most_rounds_));
    total += planned.back();
  }
  progress_.begin(total);

  double done = 0;
  progress_.step("limits of the machine", done);
  for (auto& m : machine) {
    found.machine.push_back({std::move(m), {}, {}});
    measure(found.machine.back());
    done += machine_round * 3;
  }
  for (std::size_t i = 0; i < plan.size(); ++i) {
    progress_.step(title_of(plan[i]), done);
    measured m{std::move(plan[i]), {}};
    // What is left of the time, shared by what is left of the plan.
    const double left = deadline_ - now();
    measure(m, std::min(2 * planned[i], left * planned[i] / (total - done)));
    found.workloads.push_back(std::move(m));
    done += planned[i];
  }
  progress_.end();

  std::size_t family = 0;
  for (auto& m : found.machine) {
    for (auto& r : m.runs) r.family_index = static_cast<std::int64_t>(family);
    ++family;
  }
  for (auto& w : found.workloads)
    for (auto& o : w.rows) {
      for (auto& r : o.runs) r.family_index = static_cast<std::int64_t>(family);
      ++family;
    }
  return found;
}

void runner::measure(machine_limit& m) {
  for (std::size_t round = 0; round < 3; ++round) {
    benchmark::ClearRegisteredBenchmarks();
    submit(m.what.name, 1, [&](benchmark::State& state) {
      const double seconds = m.what.seconds(roofline_);
      m.seconds.push_back(seconds);
      if (m.what.bytes > 0) state.counters["bytes_per_second"] = m.what.bytes / seconds;
      if (m.what.slots > 0) state.counters["slots_per_second"] = m.what.slots / seconds;
      return seconds;
    });
    collector seen;
    benchmark::RunSpecifiedBenchmarks(&seen, ".");
    for (auto& r : seen.runs) {
      clean(r, 0, round);
      m.runs.push_back(r);
    }
  }
  add_aggregates(m.runs);
}

double runner::verify(problem& data, outcome& o, contender& c) {
  data.spoil();
  c = o.what.bind(data);
  const double start = now_of(o.what.least.threads);
  c.fresh();
  const double spent = now_of(o.what.least.threads) - start;
  o.error = data.worst(o.what.tolerance);
  if (o.error <= 1) return spent;
  char text[160];
  std::snprintf(text, sizeof text,
                "differs from the reference: worst error is %.3g times what is allowed (%.3g u W)",
                o.error, o.what.tolerance);
  o.failure = text;
  return spent;
}

void runner::measure(measured& m, double share) {
  const double begin = now();
  const std::unique_ptr<problem> data = m.what.prepare(text_);
  for (auto& r : m.what.rows) {
    outcome o;
    o.what = r;
    m.rows.push_back(std::move(o));
  }
  std::vector<contender> bound(m.rows.size());
  std::vector<index_t> calls(m.rows.size(), 1);
  std::vector<double> once(m.rows.size(), 0);
  for (std::size_t i = 0; i < m.rows.size(); ++i) {
    progress_.detail("verifying " + m.rows[i].what.title);
    once[i] = verify(*data, m.rows[i], bound[i]);
    if (m.rows[i].failed()) continue;
    // Doubling finds how many calls fill a repeat, and warms what they use. A verification of several
    // repeats has already told; a shorter one was the first to touch its pages and says too much.
    double spent = once[i] >= 4 * least_repeat ? once[i] : 0;
    const int threads = m.rows[i].what.least.threads;
    for (; spent < least_repeat; calls[i] *= 2) {
      const double start = now_of(threads);
      bound[i].repeat(calls[i]);
      spent = now_of(threads) - start;
      if (spent >= least_repeat) break;
    }
    once[i] = spent / static_cast<double>(calls[i]);
    m.rows[i].fastest = roofline_.fastest(m.rows[i].what.least);
  }

  constexpr int least_rounds = 3;
  for (int done = 0; done < most_rounds_; ++done) {
    const double spent = now() - begin;
    const bool late = spent > share || now() > deadline_;
    if (done >= (now() > deadline_ ? 1 : least_rounds) && late) break;
    std::vector<outcome*> order;
    for (std::size_t i = 0; i < m.rows.size(); ++i) {
      // A slow baseline may not eat the time of the others.
      const bool slow = once[i] * (done + 1) > share / 4;
      if (!m.rows[i].failed() && (done < 2 || !slow)) order.push_back(&m.rows[i]);
    }
    if (order.empty()) break;
    progress_.detail("round " + std::to_string(done + 1));
    std::shuffle(order.begin(), order.end(), random_);
    round(order, bound, calls, m.rows);
  }
  compare_with_naive(m.rows);
  for (auto& o : m.rows) {
    if (o.failed()) {
      run r;
      r.run_name.function_name = o.what.name;
      r.report_label = o.what.target;
      mark_failed(r, o.failure);
      r.repetitions = 0;
      r.repetition_index = 0;
      r.per_family_instance_index = 0;
      o.runs.push_back(r);
    } else {
      add_aggregates(o.runs);
    }
  }
  // The contenders point into the problem, which ends here.
  for (auto& o : m.rows) o.what.bind = nullptr;
}

void runner::round(std::vector<outcome*>& order, const std::vector<contender>& bound,
                   const std::vector<index_t>& calls, const std::vector<outcome>& all) {
  benchmark::ClearRegisteredBenchmarks();
  for (outcome* o : order) {
    const auto i = static_cast<std::size_t>(o - all.data());
    const bool limit_first = random_() % 2 == 0;
    submit(o->what.name, calls[i], [this, o, i, limit_first, &bound, &calls](auto& state) {
      sample s;
      if (limit_first) s.least = roofline_.measure(o->what.least, o->fastest);
      // Measuring the limit has emptied the caches of what a call finds there.
      if (calls[i] > 1) bound[i].repeat(1);
      const int threads = o->what.least.threads;
      const double start = now_of(threads);
      bound[i].repeat(calls[i]);
      const double seconds = now_of(threads) - start;
      if (!limit_first) s.least = roofline_.measure(o->what.least, o->fastest);
      s.seconds = seconds / static_cast<double>(calls[i]);
      s.fraction = s.least.seconds() / s.seconds;
      o->samples.push_back(s);

      state.counters["fraction_of_limit"] = s.fraction;
      state.counters["limit_us"] = s.least.seconds() * 1e6;
      state.counters["tokens_per_second"] = static_cast<double>(o->what.tokens) / s.seconds;
      state.counters["bytes_per_second"] = o->what.least.bytes() / s.seconds;
      state.counters["slots_per_second"] = o->what.least.slots / s.seconds;
      state.counters["cache_bytes"] = static_cast<double>(o->what.cache_bytes);
      if (o->what.gathered > 0)
        state.counters["ns_per_row_read"] = s.seconds * 1e9 / o->what.gathered;
      state.counters["error_of_bound"] = o->error;
      state.SetLabel(o->what.target);
      return seconds;
    });
  }
  collector seen;
  benchmark::RunSpecifiedBenchmarks(&seen, ".");
  for (std::size_t k = 0; k < seen.runs.size(); ++k) {
    clean(seen.runs[k], 0, order[k]->runs.size());
    order[k]->runs.push_back(seen.runs[k]);
  }
}

void runner::compare_with_naive(std::vector<outcome>& rows) {
  // Of the two loop orders the faster one is the baseline, the same one in every round.
  const outcome* naive = nullptr;
  for (const auto& o : rows)
    if (o.what.naive && !o.samples.empty() && (naive == nullptr || o.seconds() < naive->seconds()))
      naive = &o;
  if (naive == nullptr) return;
  for (auto& o : rows)
    for (std::size_t k = 0; k < std::min(o.samples.size(), naive->samples.size()); ++k)
      o.samples[k].speedup = naive->samples[k].seconds / o.samples[k].seconds;
  for (auto& o : rows) {
    const double usual = o.speedup();
    if (usual == 0) continue;
    for (std::size_t k = 0; k < o.runs.size(); ++k) {
      // A round in which the plain loop was left out is given the row's usual figure.
      const double own = o.samples[k].speedup;
      o.runs[k].counters["speedup_vs_naive"] = own > 0 ? own : usual;
    }
  }
}

}  // namespace bench
