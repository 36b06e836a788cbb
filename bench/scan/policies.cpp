// SPDX-License-Identifier: Apache-2.0

/// \file
/// What the table of scan/choose.hpp is made of, and what it is worth: `policies table` measures its
/// rows, `policies` holds exec::automatic beside every fixed policy on a grid of shapes and prints
/// the ratio to the best of them, with 1, 2, 4 ... threads (`policies grid FAMILY [THREADS]` one family
/// of the table, or `all`, with 1 thread or so many); `policies T D` measures the wide shapes of so many
/// tokens and channels with 1 thread and all.

#include "grid.hpp"
#include "support/clock.hpp"
#include "support/origin.hpp"
#include "support/synthetic.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using bench::synthetic, maslin::decay, maslin::index_t, maslin::normalise;
namespace exec = maslin::exec;

struct contender {
  std::string name;
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();
};

/// The best of many calls in turn, so that a slow moment of the machine meets all alike. Each is timed
/// after itself: what a call left in the caches, and has yet to write to memory, is then its own. The
/// order changes from round to round: a third-level cache and threads that still look for work remember
/// more than one call.
void race(std::vector<contender>& all, double budget) {
  static std::mt19937 random(7);
  std::vector<contender*> order;
  for (contender& c : all) {
    c.run();
    order.push_back(&c);
  }
  const double begin = bench::now();
  for (int round = 0; round < 5 || (bench::now() - begin < budget && round < 4000); ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (contender* c : order) {
      c->run();
      const double from = bench::now();
      c->run();
      c->seconds = std::min(c->seconds, bench::now() - from);
    }
  }
}

template <class Mixer, class Policy>
contender timed(synthetic<Mixer>& p, typename Mixer::state& h, const std::string& name,
                const Policy& policy) {
  return {name, [&p, &h, policy] { p.mixer().scan(policy, p.tokens(), p.out(), h); }};
}

/// ns a token of both one-threaded policies.
struct pair_of_times {
  double in_order, in_chunks;
};
template <class Mixer>
pair_of_times one_thread(index_t T, index_t D) {
  synthetic<Mixer> p(T, D);
  auto h = p.mixer().make_state(1);
  std::vector<contender> all{timed(p, h, "", exec::sequential{}), timed(p, h, "", exec::chunked{})};
  race(all, 0.3);
  return {all[0].seconds / static_cast<double>(T) * 1e9,
          all[1].seconds / static_cast<double>(T) * 1e9};
}

template <class Mixer>
void print_row(const char* family) {
  constexpr index_t lanes = maslin::simd::native_width<float>;
  constexpr index_t many = 8 * lanes, T = 8192;
  // One and two registers of channels come from a second-level cache.
  constexpr index_t token = 2 * lanes * (synthetic<Mixer>::gates + 2 * synthetic<Mixer>::values);
  constexpr index_t near = std::min(T, (index_t{384} << 10) / (4 * token));
  const auto few = one_thread<Mixer>(T, 1), one = one_thread<Mixer>(near, lanes);
  const auto two = one_thread<Mixer>(near, 2 * lanes);
  const auto wide = one_thread<Mixer>(T / 16, many);
  std::printf("    {cost_family::%s, %d, %.3g, %.3g, %.3g, %.3g, %.3g, %.3g},\n", family,
              synthetic<Mixer>::order * static_cast<int>(synthetic<Mixer>::parts), few.in_order,
              one.in_order, two.in_order, wide.in_order / many,
              (wide.in_chunks - wide.in_order) / many, few.in_chunks);
  std::fflush(stdout);
}

/// Ratios of the automatic policy to the best fixed one.
struct verdict {
  double log_sum = 0, worst = 0;
  int points = 0;
  std::string worst_name;
};

template <class Mixer>
void hold(const std::string& title, index_t T, index_t D, int threads, verdict& so_far) {
  synthetic<Mixer> p(T, D);
  auto h = p.mixer().make_state(1);
  std::vector<contender> all;
  bench::for_policies(threads, [&](const char* name, const auto& policy, int team) {
    all.push_back(timed(p, h, bench::policy_title(name, team), policy));
  });
  // A slow moment of a shared machine is no fault of a policy: what looks lost is raced again.
  auto best = all.begin();
  double ratio = 0;
  for (int times = 0; times == 0 || (times < 20 && ratio > 1.05); ++times) {
    race(all, 0.15);
    best = std::min_element(all.begin() + 1, all.end(),
                            [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    ratio = all[0].seconds / best->seconds;
  }
  so_far.log_sum += std::log(ratio);
  ++so_far.points;
  const std::string name = title + ", T " + std::to_string(T) + ", D " + std::to_string(D) +
                           ", threads " + std::to_string(threads);
  if (ratio > so_far.worst) so_far.worst = ratio, so_far.worst_name = name;
  std::printf("%-52s %.3f of %s;", name.c_str(), ratio, best->name.c_str());
  for (const contender& c : all) std::printf(" %.1f", c.seconds * 1e6);
  std::printf(" us\n");
  std::fflush(stdout);
}

template <class Mixer>
void grid(const std::string& title, int threads, verdict& so_far) {
  bench::for_shapes<Mixer>(
      {256, 4096, 65536, 1048576}, {1, 2, 4, 6, 8, 16, 64, 256, 1024},
      [&](index_t T, index_t D) { hold<Mixer>(title, T, D, threads, so_far); });
}

/// GB/s of one shape, all policies.
template <class Mixer>
void wide(const std::string& title, index_t T, index_t D) {
  synthetic<Mixer> p(T, D);
  auto h = p.mixer().make_state(1);
  const int threads = exec::default_threads();
  std::vector<contender> all{timed(p, h, "sequential, 1 thread", exec::sequential{}),
                             timed(p, h, "sequential, all threads", exec::sequential{threads})};
  for (const index_t chunk : {0, 16, 32, 64, 128})
    all.push_back(timed(p, h, "chunked{" + std::to_string(chunk) + "}, all threads",
                        exec::chunked{chunk, threads}));
  all.push_back(timed(p, h, "automatic", exec::automatic{threads}));
  race(all, 2);
  const double bytes = static_cast<double>(p.numbers_read.size() + p.y.size()) * 4;
  for (const contender& c : all)
    std::printf("%s, %d threads: %-28s %8.3f ms %6.1f GB/s\n", title.c_str(), threads,
                c.name.c_str(), c.seconds * 1e3, bytes / c.seconds * 1e-9);
}

/// a + k b past the cache and through it, by all threads.
void triad() {
  const index_t n = index_t{48} << 20;
  bench::buffer a(n), b(n), c(n);
  std::fill_n(a.data(), n, 1.0f), std::fill_n(b.data(), n, 1.0f), std::fill_n(c.data(), n, 1.0f);
  const int threads = exec::default_threads();
  const exec::default_executor where{threads};
  using V = maslin::simd::native<float>;
  using L = maslin::lane<V>;
  const auto pass = [&](bool past) {
    where.run(threads, [&](index_t i) {
      const index_t begin = n / threads * i / 16 * 16, end = n / threads * (i + 1) / 16 * 16;
      for (index_t k = begin; k < end; k += L::width) {
        const V x = L::fma(L::broadcast(0.5f), L::load(a.data() + k), L::load(b.data() + k));
        if (past)
          maslin::simd::stream_register(c.data() + k, x);
        else
          L::store(c.data() + k, x);
      }
      maslin::simd::stream_fence();
    });
  };
  std::vector<contender> all{{"triad", [&] { pass(false); }},
                             {"triad, streaming", [&] { pass(true); }}};
  race(all, 2);
  for (const contender& x : all)
    std::printf("%s, %d threads: %.1f GB/s\n", x.name.c_str(), threads,
                static_cast<double>(n) * 12 / x.seconds * 1e-9);
}

using maslin::bdlru, maslin::diagonal, maslin::hlru;

/// f<Mixer>(family) for every row of the table.
template <class F>
void for_rows(const F& f) {
  f.template operator()<diagonal<float>>("diagonal");
  f.template operator()<diagonal<float, decay::log>>("diagonal_exp");
  f.template operator()<diagonal<std::complex<float>>>("complex_diagonal");
  f.template operator()<hlru<float, 2, normalise::none>>("companion");
  f.template operator()<hlru<float, 4, normalise::none>>("companion");
  f.template operator()<hlru<float, 8, normalise::none>>("companion");
  f.template operator()<hlru<float, 2>>("companion_weighed");
  f.template operator()<hlru<float, 4>>("companion_weighed");
  f.template operator()<bdlru<float, 2, normalise::none>>("block");
  f.template operator()<bdlru<float, 4, normalise::none>>("block");
  f.template operator()<bdlru<float, 8, normalise::none>>("block");
  f.template operator()<bdlru<float, 2>>("block_weighed");
  f.template operator()<bdlru<float, 4>>("block_weighed");
}

}  // namespace

int main(int count, char** words) {
  bench::print_origin();
  if (count == 2 && std::strcmp(words[1], "table") == 0) {
    for_rows([]<class Mixer>(const char* family) { print_row<Mixer>(family); });
    return 0;
  }
  const bool part = count >= 3 && std::strcmp(words[1], "grid") == 0;
  if (count == 3 && !part) {
    const index_t T = std::atol(words[1]), D = std::atol(words[2]);
    triad();
    wide<diagonal<float>>("diagonal", T, D);
    wide<bdlru<float, 4, normalise::none>>("bdlru, M 4", T / 4, D / 4);
    return 0;
  }
  const bool every = !part || std::strcmp(words[2], "all") == 0;
  const int least = part && count == 4 ? std::atoi(words[3]) : 1;
  const int most = part ? least : exec::default_threads();
  verdict all;
  for (int threads = least; threads <= most; threads *= 2)
    for_rows([&]<class Mixer>(const char* family) {
      if (!every && std::strcmp(family, words[2]) != 0) return;
      grid<Mixer>(std::string(family) + ", M " + std::to_string(synthetic<Mixer>::order), threads,
                  all);
    });
  std::printf(
      "automatic against the best fixed policy: %d points, geometric mean %.3f, worst %.3f (%s)\n",
      all.points, std::exp(all.log_sum / all.points), all.worst, all.worst_name.c_str());
}
