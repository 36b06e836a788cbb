// SPDX-License-Identifier: Apache-2.0

#include "recurrences.hpp"

#include "support/clock.hpp"
#include "support/roofline.hpp"
#include "support/synthetic.hpp"

#include <maslin/scan/policy.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace bench {
namespace {

using maslin::bdlru, maslin::diagonal, maslin::gates, maslin::hlru, maslin::normalise;
namespace exec = maslin::exec;

/// A scan, or a limit: something that tells the seconds of one call of it.
struct contender {
  std::string name;
  std::function<double()> call;
  double error = 0;               ///< of a scan, as a fraction of what is allowed
  std::vector<double> seconds{};  ///< of every call
  std::vector<double> turns{};    ///< the median of each turn

  /// Calls that follow each other for a while, as jax_scans.py times JAX's, so that each finds in the
  /// caches what it left there itself: the first is not counted, unless it is long and leaves nothing.
  void take_turn() {
    constexpr double enough = 0.03, lasting = 0.05;
    std::vector<double> times;
    const double first = call();
    if (first > lasting) times.push_back(first);
    for (double spent = 0; first <= lasting && spent < enough; spent += times.back())
      times.push_back(call());
    seconds.insert(seconds.end(), times.begin(), times.end());
    turns.push_back(median(std::move(times)));
  }
  /// The time of `other` as a fraction of this one's, turn by turn: a shared machine's memory is fast
  /// now and slow then.
  [[nodiscard]] double fraction(const contender& other) const {
    std::vector<double> all;
    for (std::size_t i = 0; i < turns.size(); ++i) all.push_back(other.turns[i] / turns[i]);
    return median(std::move(all));
  }
};

class comparison {
 public:
  explicit comparison(const std::string& only) : only_(only) {}

  /// One recurrence at T tokens of `numbers` numbers of state, with 1 thread and all.
  template <class Mixer>
  void add(const char* name, index_t T, index_t numbers) {
    using problem = synthetic<Mixer>;
    const std::string full = std::string(name) + " M" + std::to_string(problem::order) + " T" +
                             std::to_string(T) + " D" + std::to_string(numbers);
    if (!std::regex_search(full, only_)) return;
    const index_t D = numbers / problem::values;
    // Gates, inputs and outputs here, and as much for triads.
    const double bytes = 2 * static_cast<double>(T * numbers) * (problem::rows_read + 1) * 4;
    const double memory =
        static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    if (bytes > memory / 2) {
      std::fprintf(stderr, "%s: left out for want of memory\n", full.c_str());
      return;
    }
    problem data(T, D);
    std::vector<int> counts{1};
    if (exec::default_threads() > 1) counts.push_back(exec::default_threads());
    for (const int threads : counts) take(data, name, numbers, threads);
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  template <class Mixer>
  void take(synthetic<Mixer>& data, const char* name, index_t numbers, int threads) {
    auto h = data.mixer().make_state(1);
    std::vector<contender> scans;
    const auto with = [&](const char* policy_name, const auto& policy) {
      scans.push_back({policy_name, [&data, &h, policy, threads] {
                         const double begin = now_of(threads);
                         data.mixer().scan(policy, data.tokens(), data.out(), h);
                         return now_of(threads) - begin;
                       }});
    };
    with("automatic", exec::automatic{.threads = threads});
    with("sequential", exec::sequential{.threads = threads});
    with("chunked", exec::chunked{.chunk = 0, .threads = threads});
    // Outputs of smaller calls stay in the cache by default; limits may be faster past it.
    with("streaming", exec::sequential{.threads = threads, .store = exec::stores::streaming});
    for (contender& c : scans) {
      std::fill_n(data.y.data(), data.y.size(), -1.0f);
      h.reset();
      c.call();
      for (const index_t channel : {index_t{0}, data.D / 2, data.D - 1})
        c.error = std::max(c.error, data.error(channel));
      if (c.error > 1) {
        std::fprintf(stderr, "%s, M %d, T %td, %s: wrong, %.3g of what is allowed\n", name,
                     data.order, data.T, c.name.c_str(), c.error);
        good_ = false;
      }
    }
    std::erase_if(scans, [](const contender& c) { return c.error > 1; });

    // What a call must move in the pattern of the recurrence, in its own arrays, and as many bytes in
    // triads.
    const work moved{.elements = data.T * numbers, .rows_read = data.rows_read, .threads = threads};
    const auto triad = static_cast<index_t>(moved.bytes()) / (3 * index_t{sizeof(float)});
    const arrays same{data.numbers_read.data(), data.y.data()};
    const stores best = limits_.fastest(moved, same);
    contender limit{"limit", [&, this] { return limits_.mix(moved, best, same); }};
    contender plain{"triad", [&, this] { return limits_.triad(triad, stores::plain, threads); }};
    contender streaming{"NT triad",
                        [&, this] { return limits_.triad(triad, stores::streaming, threads); }};

    std::vector<contender*> order{&limit, &plain, &streaming};
    for (contender& c : scans) order.push_back(&c);
    constexpr double budget = 1;
    const double begin = now();
    for (int round = 0; round < 9 || (now() - begin < budget && round < 12); ++round) {
      // In another order each time: a third-level cache remembers more than one contender.
      std::shuffle(order.begin(), order.end(), random_);
      for (contender* c : order) c->take_turn();
    }
    for (const contender& c : scans)
      print(data, name, numbers, threads, c, {limit, plain, streaming});
  }

  /// The limits of a call.
  struct ceilings {
    const contender &limit, &triad, &streaming;
  };

  template <class Mixer>
  static void print(const synthetic<Mixer>& data, const char* name, index_t numbers, int threads,
                    const contender& c, const ceilings& of) {
    using shape = shape_of<Mixer>;
    const char* layout = shape::grouped ? "grouped" : "natural";
    const double seconds = median(c.seconds), bytes = data.bytes();
    std::printf("%s,%d,%td,%td,%d,%s,%s,%.4f,%.4f,%.1f,%.1f,%.1f,%.3f,%.3f,%.3f,%.2g\n", name,
                data.order, data.T, numbers, threads, layout, c.name.c_str(), seconds * 1e3,
                *std::min_element(c.seconds.begin(), c.seconds.end()) * 1e3, bytes / seconds * 1e-9,
                bytes / median(of.triad.seconds) * 1e-9,
                bytes / median(of.streaming.seconds) * 1e-9, c.fraction(of.limit),
                c.fraction(of.triad), c.fraction(of.streaming), c.error);
    std::fflush(stdout);
  }

  std::regex only_;
  roofline limits_;
  std::mt19937 random_{7};
  bool good_ = true;
};

template <int M>
void add_orders(comparison& all, index_t T) {
  constexpr index_t state = 1024;
  all.add<bdlru<float, M, normalise::none, gates::grouped>>("bdlru", T, state);
  for (const index_t D : {256, 1024})
    all.add<hlru<float, M, normalise::none, gates::grouped>>("hlru", T, D);
}

}  // namespace

bool compare_recurrences(const std::string& only) {
  std::printf(
      "recurrence,M,T,D,threads,layout,policy,ms,best_ms,gb_per_s,triad_gb_per_s,"
      "streaming_triad_gb_per_s,of_limit,of_triad,of_streaming_triad,error\n");
  comparison all(only);
  all.add<diagonal<float>>("diagonal", 4096, 1024);
  all.add<diagonal<float>>("diagonal", 65536, 256);
  all.add<diagonal<float>>("diagonal", 65536, 1024);
  for (const index_t T : {4096, 65536}) {
    add_orders<2>(all, T);
    add_orders<4>(all, T);
    add_orders<8>(all, T);
  }
  return all.good();
}

}  // namespace bench
