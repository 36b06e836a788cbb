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
#include <string>
#include <vector>

namespace bench {
namespace {

using maslin::bdlru, maslin::diagonal, maslin::gates, maslin::hlru, maslin::normalise;
namespace exec = maslin::exec;

struct timed_call {
  std::string policy;
  std::function<void()> call;
  double error = 0;
  std::vector<double> seconds{};
};

/// Seconds of one pass over what a call must move, and of triads over as many bytes.
struct ceilings {
  std::vector<double> limit, triad, streaming;

  void measure(roofline& r, const work& w) {
    limit.push_back(r.measure(w, r.fastest(w)).memory);
    const auto elements = static_cast<index_t>(w.bytes()) / (3 * index_t{sizeof(float)});
    triad.push_back(r.triad(elements, stores::plain, w.threads));
    streaming.push_back(r.triad(elements, stores::streaming, w.threads));
  }
};

class comparison {
 public:
  /// One recurrence at T tokens of `numbers` numbers of state, with 1 thread and all.
  template <class Mixer>
  void add(const char* name, index_t T, index_t numbers) {
    using problem = synthetic<Mixer>;
    const index_t D = numbers / problem::values;
    // Gates, inputs and outputs here, and as much for the limits.
    const double bytes = 2 * static_cast<double>(T * numbers) * (problem::rows_read + 1) * 4;
    const double memory =
        static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    if (bytes > memory / 2) {
      std::fprintf(stderr, "%s, M %d, T %td, D %td: left out for want of memory\n", name,
                   problem::order, T, numbers);
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
    std::vector<timed_call> calls;
    const auto with = [&](const char* policy_name, const auto& policy) {
      calls.push_back({policy_name, [&data, &h, policy] {
                         data.mixer().scan(policy, data.tokens(), data.out(), h);
                       }});
    };
    with("automatic", exec::automatic{.threads = threads});
    with("sequential", exec::sequential{.threads = threads});
    with("chunked", exec::chunked{.chunk = 0, .threads = threads});
    for (timed_call& c : calls) {
      std::fill_n(data.y.data(), data.y.size(), -1.0f);
      h.reset();
      c.call();
      for (const index_t channel : {index_t{0}, data.D / 2, data.D - 1})
        c.error = std::max(c.error, data.error(channel));
      if (c.error > 1) {
        std::fprintf(stderr, "%s, M %d, T %td, %s: wrong, %.3g of what is allowed\n", name,
                     data.order, data.T, c.policy.c_str(), c.error);
        good_ = false;
      }
    }
    std::erase_if(calls, [](const timed_call& c) { return c.error > 1; });
    std::vector<timed_call*> order;
    for (timed_call& c : calls) order.push_back(&c);
    const work moved{.elements = data.T * numbers, .rows_read = data.rows_read, .threads = threads};
    ceilings found;
    constexpr double budget = 0.3;
    const double begin = now();
    for (int round = 0; round < 3 || (now() - begin < budget && round < 50); ++round) {
      if (round < 3) found.measure(limits_, moved);
      // In another order each time: a third-level cache remembers more than one call.
      std::shuffle(order.begin(), order.end(), random_);
      for (timed_call* c : order) {
        // Finds in the caches what it leaves there itself; long calls leave nothing there.
        if (c->seconds.empty() || c->seconds.back() < 0.05) c->call();
        const double from = now();
        c->call();
        c->seconds.push_back(now() - from);
      }
    }
    for (const timed_call& c : calls) print(data, name, numbers, threads, c, found);
  }

  template <class Mixer>
  static void print(const synthetic<Mixer>& data, const char* name, index_t numbers, int threads,
                    const timed_call& c, const ceilings& of) {
    using shape = shape_of<Mixer>;
    const char* layout = shape::grouped ? "grouped" : "natural";
    const double seconds = median(c.seconds), bytes = data.bytes();
    std::printf("%s,%d,%td,%td,%d,%s,%s,%.4f,%.4f,%.1f,%.1f,%.1f,%.3f,%.3f,%.3f,%.2g\n", name,
                data.order, data.T, numbers, threads, layout, c.policy.c_str(), seconds * 1e3,
                *std::min_element(c.seconds.begin(), c.seconds.end()) * 1e3, bytes / seconds * 1e-9,
                bytes / median(of.triad) * 1e-9, bytes / median(of.streaming) * 1e-9,
                median(of.limit) / seconds, median(of.triad) / seconds,
                median(of.streaming) / seconds, c.error);
    std::fflush(stdout);
  }

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

bool compare_recurrences() {
  std::printf(
      "recurrence,M,T,D,threads,layout,policy,ms,best_ms,gb_per_s,triad_gb_per_s,"
      "streaming_triad_gb_per_s,of_limit,of_triad,of_streaming_triad,error\n");
  comparison all;
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
