// SPDX-License-Identifier: Apache-2.0

/// \file
/// Times of mixers at 1 thread and at all, at the sizes of pytorch.py beside this file; with
/// `--recurrences [REGEX]` those of jax_scans.py instead, verified, with limits. `compare` is where kernels
/// are verified and measured against limits.

#include "recurrences.hpp"
#include "support/buffer.hpp"
#include "support/clock.hpp"
#include "support/origin.hpp"

#include <maslin/maslin.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using maslin::index_t, maslin::row_major;
namespace exec = maslin::exec;

constexpr index_t H = 16;

/// Numbers in [-1, 1), by a linear congruential generator.
bench::buffer numbers(index_t n) {
  static unsigned seed = 1;
  bench::buffer b(n);
  for (index_t i = 0; i < n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    b[i] = static_cast<float>(seed >> 8) * 0x1p-23f - 1;
  }
  return b;
}
const float* constant(const bench::buffer& b) { return b.data(); }

/// Milliseconds a call, the median of `rounds` after one more.
template <class F>
double median_of(int rounds, const F& f) {
  f();
  std::vector<double> all;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::now();
    f();
    all.push_back(bench::now() - begin);
  }
  std::sort(all.begin(), all.end());
  return all[all.size() / 2] * 1e3;
}
int rounds_for(int threads) { return threads == 1 ? 5 : 15; }

void prefill(index_t T, int threads) {
  constexpr index_t K = 64;
  const auto q = numbers(T * H * K), k = numbers(T * H * K), v = numbers(T * H * K);
  auto y = numbers(T * H * K);
  const maslin::attention<float> mixer{.heads = H, .key_dim = K, .value_dim = K};
  const maslin::attention<float>::tokens u{.query = row_major(constant(q), 1, T, H, K),
                                           .key = row_major(constant(k), 1, T, H, K),
                                           .value = row_major(constant(v), 1, T, H, K)};
  auto cache = mixer.make_state(1, T);
  const double ms = median_of(rounds_for(threads), [&] {
    cache.reset();
    mixer.scan(exec::sequential{.threads = threads}, u, row_major(y.data(), 1, T, H, K), cache);
  });
  std::printf("attention, T = %td, threads %d: %.3f ms\n", T, threads, ms);
}

/// One token over 4096 keys, caches of 256 MiB and more in turn.
template <class Storage>
void decode(const char* storage, int threads) {
  constexpr index_t T = 4096, K = 64;
  const auto q = numbers(T * H * K), k = numbers(T * H * K), v = numbers(T * H * K);
  auto y = numbers(H * K);
  using mixer_t = maslin::attention<float, Storage>;
  const mixer_t mixer{.heads = H, .key_dim = K, .value_dim = K};
  const typename mixer_t::tokens u{.query = row_major(constant(q), 1, T, H, K),
                                   .key = row_major(constant(k), 1, T, H, K),
                                   .value = row_major(constant(v), 1, T, H, K)};
  constexpr int calls = 64;
  std::vector<typename mixer_t::state> caches(8, mixer.make_state(1, T + calls));
  for (auto& cache : caches) mixer.append(u.range(0, T - 1), cache);
  std::size_t next = 0;
  const auto last = u.range(T - 1, T);
  const double ms = median_of(calls, [&] {
    mixer.scan(exec::sequential{.threads = threads}, last, row_major(y.data(), 1, 1, H, K),
               caches[next++ % caches.size()]);
  });
  std::printf("attention, one token over 4096 keys, %s, threads %d: %.1f us\n", storage, threads,
              ms * 1e3);
}

void gated_delta(index_t T, int threads) {
  constexpr index_t K = 128;
  const auto q = numbers(T * H * K), v = numbers(T * H * K);
  auto k = numbers(T * H * K), beta = numbers(T * H), decay = numbers(T * H),
       y = numbers(T * H * K);
  for (index_t i = 0; i < T * H; ++i) {
    beta[i] = 0.5f + 0.4f * beta[i];
    decay[i] = -0.05f * (1.1f + decay[i]);
    float norm = 0;
    for (index_t j = 0; j < K; ++j) norm += k[i * K + j] * k[i * K + j];
    for (index_t j = 0; j < K; ++j) k[i * K + j] /= std::sqrt(norm);
  }
  using mixer_t = maslin::delta_rule<float, maslin::decay_axis::head>;
  const mixer_t mixer{.heads = H, .key_dim = K, .value_dim = K};
  const mixer_t::tokens u{.query = row_major(constant(q), 1, T, H, K),
                          .key = row_major(constant(k), 1, T, H, K),
                          .value = row_major(constant(v), 1, T, H, K),
                          .beta = row_major(constant(beta), 1, T, H),
                          .log_decay = row_major(constant(decay), 1, T, H)};
  auto state = mixer.make_state(1);
  const double ms = median_of(rounds_for(threads), [&] {
    state.reset();
    mixer.scan(exec::chunked{.threads = threads}, u, row_major(y.data(), 1, T, H, K), state);
  });
  std::printf("gated delta rule, T = %td, threads %d: %.3f ms\n", T, threads, ms);
}

void selective_scan(index_t T, int threads) {
  constexpr index_t D = 1024, N = 16;
  const auto input = numbers(T * D), gate = numbers(T * D), write = numbers(T * N),
             read = numbers(T * N), skip = numbers(D);
  auto dt = numbers(T * D), decay = numbers(D * N), y = numbers(T * D);
  for (index_t i = 0; i < T * D; ++i) dt[i] -= 3.5f;
  for (index_t i = 0; i < D * N; ++i) decay[i] = -static_cast<float>(i % N + 1);
  const maslin::selective_ssm<float> mixer{.channels = D,
                                           .state_dim = N,
                                           .decay = row_major(constant(decay), D, N),
                                           .skip = row_major(constant(skip), D)};
  const maslin::selective_ssm<float>::tokens u{.dt = row_major(constant(dt), 1, T, D),
                                               .input = row_major(constant(input), 1, T, D),
                                               .write = row_major(constant(write), 1, T, 1, N),
                                               .read = row_major(constant(read), 1, T, 1, N),
                                               .output_gate = row_major(constant(gate), 1, T, D)};
  auto state = mixer.make_state();
  const double ms = median_of(9, [&] {
    mixer.scan(exec::sequential{.threads = threads}, u, row_major(y.data(), 1, T, D), state);
  });
  std::printf("selective scan, T = %td, threads %d: %.3f ms\n", T, threads, ms);
}

}  // namespace

int main(int count, char** words) {
  bench::print_origin();
  if (count > 1 && count < 4 && std::strcmp(words[1], "--recurrences") == 0)
    return bench::compare_recurrences(count == 3 ? words[2] : "") ? 0 : 1;
  if (count > 1) {
    std::fprintf(stderr, "usage: side_by_side [--recurrences [REGEX]]\n");
    return 2;
  }
  const int all = exec::default_threads();
  for (const int threads : {1, all}) {
    for (const index_t T : {1024, 4096}) prefill(T, threads);
    decode<float>("float", threads);
    decode<maslin::bf16>("bf16", threads);
    gated_delta(4096, threads);
    selective_scan(4096, threads);
  }
}
