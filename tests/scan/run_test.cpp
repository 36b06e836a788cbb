// SPDX-License-Identifier: Apache-2.0
#include "array_kernel.hpp"
#include "executors.hpp"
#include "support/answer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
using maslin::lane;
namespace exec = maslin::exec;
namespace scan = maslin::scan;
namespace simd = maslin::simd;
namespace check = maslin::check;

template <class Algebra>
problem<std::uint32_t, Algebra> ring(index_t B, index_t T, index_t D, index_t gap = 0) {
  maslin::test::random numbers(std::uint64_t(B * 4096 + T * 64 + D));
  const auto draw = [&] { return std::uint32_t(numbers.bits()); };
  return problem<std::uint32_t, Algebra>(B, T, D, draw, draw, gap);
}

/// Runs all of it by one policy, in two calls.
template <class Policy, class Problem>
bool solves(const Policy& policy, Problem& p) {
  p.clear();
  auto h = p.initial();
  scan::run(policy, p.source(0, p.T / 3), h);
  scan::run(policy, p.source(p.T / 3, p.T), h);
  return p.solved(h);
}

/// A kernel that notes how many tokens ahead it is told to ask for what it reads.
struct asking_kernel : array_kernel<std::uint32_t, companion_algebra<2>> {
  static constexpr index_t run_bytes = 64;
  static inline index_t asked = -1;
  index_t fetch_tokens = 0;

  [[nodiscard]] asking_kernel shifted(index_t b, index_t t) const noexcept {
    asking_kernel k = *this;
    static_cast<array_kernel&>(k) = array_kernel::shifted(b, t);
    return k;
  }
  template <class V, class N>
  [[nodiscard]] auto token(index_t t, index_t c, N n) const noexcept {
    asked = fetch_tokens;
    return array_kernel::token<V>(t, c, n);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("every policy with any threads is the naive loop exactly",
                   "[scan][run][ring][threads]", companion_algebra<2>, block_algebra<3>) {
  for (const index_t B : {1, 2, 7})
    for (const index_t T : {0, 1, 2, 65})
      for (const index_t D : {1, 7, 8, 9, 35}) {
        CAPTURE(B, T, D);
        auto p = ring<TestType>(B, T, D, 3);
        CHECK(solves(exec::scalar{}, p));
        for (const int threads : {0, 1, 2, 7}) {
          CAPTURE(threads);
          CHECK(solves(exec::sequential{threads}, p));
          CHECK(solves(exec::sequential{threads, exec::stores::streaming}, p));
          CHECK(solves(exec::automatic{threads}, p));
          for (const index_t chunk : {0, 1, 16}) CHECK(solves(exec::chunked{chunk, threads}, p));
        }
      }
}

TEST_CASE("a user's executor gives the bytes of our own", "[scan][run][threads]") {
  reverse_executor reverse;
  thread_executor threads;
  // Wide enough for several runs of channels.
  for (const index_t D : {35, 4100}) {
    auto p = ring<companion_algebra<2>>(3, 20, D);
    CHECK(solves(exec::on(reverse, exec::scalar{}), p));
    CHECK(solves(exec::on(reverse, exec::sequential{7}), p));
    CHECK(solves(exec::on(reverse, exec::chunked{8, 7}), p));
    CHECK(solves(exec::on(threads, exec::scalar{}), p));
    CHECK(solves(exec::on(threads, exec::sequential{7}), p));
    CHECK(solves(exec::on(threads, exec::sequential{7, exec::stores::streaming}), p));
    CHECK(solves(exec::on(threads, exec::chunked{8, 7}), p));
  }
}

TEMPLATE_TEST_CASE("decoding token by token is the scan", "[scan][run][ring]", companion_algebra<2>,
                   block_algebra<3>) {
  for (const index_t D : {1, 8, 35}) {
    auto p = ring<TestType>(3, 20, D);
    auto h = p.initial();
    for (index_t t = 0; t < p.T; ++t) scan::run_step(p.source(t, t + 1), h);
    CHECK(p.solved(h));
  }
}

TEST_CASE("packed sequences are scans of their own", "[scan][run][ring]") {
  // One long sequence, cut; sequence b of the state owns tokens offsets[b] .. offsets[b + 1] - 1.
  const std::vector<index_t> offsets{0, 3, 3, 10, 11, 40};
  constexpr index_t D = 9;
  const auto sequences = index_t(offsets.size()) - 1;
  using algebra = companion_algebra<2>;
  using state = problem<std::uint32_t, algebra>::state;
  auto p = ring<algebra>(1, 40, D);
  maslin::test::random numbers(1);
  std::vector<std::uint32_t> start(std::size_t(sequences * D * 2));
  for (auto& x : start) x = std::uint32_t(numbers.bits());
  state initial("array", sequences, D, 2);
  initial.copy_from(maslin::row_major(std::as_const(start).data(), sequences, D, 2));

  // Each alone, in scalars.
  state want = initial;
  for (index_t b = 0; b < sequences; ++b)
    scan::walk<std::uint32_t>(p.first().shifted(0, offsets[std::size_t(b)]), want.row(b), 0,
                              offsets[std::size_t(b) + 1] - offsets[std::size_t(b)], 0, D, false);
  const auto want_out = p.out();

  const auto same = [&](const auto& policy) {
    p.clear();
    state h = initial;
    scan::run(policy, p.packed(offsets), h);
    return h == want && p.out() == want_out;
  };
  thread_executor threads;
  CHECK(same(exec::scalar{}));
  CHECK(same(exec::sequential{}));
  CHECK(same(exec::sequential{7}));
  CHECK(same(exec::chunked{4, 2}));
  CHECK(same(exec::on(threads, exec::chunked{4, 2})));
  const std::vector<index_t> none{0};
  state empty("array", 0, D, 2);
  CHECK_NOTHROW(scan::run(exec::sequential{}, p.packed(none), empty));
  CHECK_NOTHROW(scan::run(exec::chunked{}, p.packed(none), empty));
}

TEST_CASE("threads take sequences first, then runs of channels of at least 4 KiB",
          "[scan][run][runs]") {
  using algebra = companion_algebra<1>;
  const auto tasks = [](index_t B, index_t D, int threads) {
    auto p = ring<algebra>(B, 1, D);
    counting_executor where;
    auto h = p.initial();
    scan::run(exec::on(where, exec::sequential{threads}), p.source(), h);
    REQUIRE(where.counts.size() == 1);
    CHECK(p.solved(h));
    return where.counts[0];
  };
  constexpr index_t shortest = 4096 / sizeof(std::uint32_t);
  CHECK(tasks(5, 100, 1) == 5);
  CHECK(tasks(5, 8 * shortest, 3) == 5);
  CHECK(tasks(1, 8 * shortest, 1) == 1);
  CHECK(tasks(1, 2 * shortest - 1, 7) == 1);
  CHECK(tasks(1, 2 * shortest, 7) == 2);
  CHECK(tasks(1, 7 * shortest, 7) == 7);
  CHECK(tasks(1, 20 * shortest, 7) == 7);
  CHECK(tasks(3, 20 * shortest, 7) == 9);
  CHECK(tasks(2, 2 * shortest, 7) == 4);
}

TEST_CASE("a task a thread races through the chunks, if there are so many", "[scan][run][runs]") {
  const auto tasks = [](index_t T, int threads) {
    counting_executor where;
    auto p = ring<companion_algebra<2>>(1, T, 35);
    auto h = p.initial();
    scan::run(exec::on(where, exec::chunked{10, threads}), p.source(), h);
    CHECK(p.solved(h));
    REQUIRE(where.counts.size() == 1);
    return where.counts[0];
  };
  CHECK(tasks(70, 1) == 1);
  CHECK(tasks(70, 2) == 2);
  CHECK(tasks(70, 9) == 7);
  CHECK(tasks(71, 9) == 8);
}

TEST_CASE("registers are used where groups of lanes allow them", "[scan][run][lanes]") {
  const auto width = [](index_t multiple) {
    int chosen = 0;
    scan::detail::with_lanes<float>(
        multiple, [&]<class V>(std::type_identity<V>) { chosen = lane<V>::width; });
    return chosen;
  };
  constexpr int native = simd::native_width<float>;
  CHECK(width(16) == native);
  CHECK(width(64) == native);
  CHECK(width(8) == (native <= 16 ? native : 1));
  CHECK(width(4) == (native <= 4 ? native : 1));
  CHECK(width(1) == 1);
  CHECK(width(7) == 1);
}

TEST_CASE("a kernel may say how many lanes it has at most", "[scan][run][lanes]") {
  const auto width = []<int Most>(std::integral_constant<int, Most>, index_t multiple) {
    int chosen = 0;
    scan::detail::with_lanes<float, Most>(
        multiple, [&]<class V>(std::type_identity<V>) { chosen = lane<V>::width; });
    return chosen;
  };
  constexpr int native = simd::native_width<float>;
  CHECK(width(std::integral_constant<int, 64>{}, 64) == native);
  CHECK(width(std::integral_constant<int, native>{}, 64) == native);
  CHECK(width(std::integral_constant<int, 4>{}, 64) == std::min(native, 4));
  CHECK(width(std::integral_constant<int, 4>{}, 4) == std::min(native, 4));
  CHECK(width(std::integral_constant<int, 4>{}, 2) == 1);
  CHECK(width(std::integral_constant<int, 1>{}, 64) == 1);
}

TEST_CASE("every lane multiple gives the same bytes", "[scan][run][lanes]") {
  for (const index_t multiple : {1, 2, 4, 8, 16, 64}) {
    auto p = ring<companion_algebra<3>>(2, 9, 35);
    auto source = p.source();
    source.lane_multiple = multiple;
    auto h = p.initial();
    scan::run(exec::sequential{}, source, h);
    CHECK(p.solved(h));
  }
}

TEST_CASE("large calls stream on their own, where they may", "[scan][run][streaming]") {
  auto p = ring<companion_algebra<1>>(1, 3, 1000);
  for (const bool may : {false, true})
    for (const index_t bytes : {index_t{0}, exec::streaming_bytes}) {
      p.clear();
      auto source = p.source();
      source.moved_bytes = bytes;
      source.may_stream = may;
      auto h = p.initial();
      scan::run(exec::sequential{}, source, h);
      CHECK(p.solved(h));
    }
}

TEST_CASE("one thread streams from fewer bytes on where registers are wide",
          "[scan][run][streaming]") {
  auto p = ring<companion_algebra<1>>(1, 3, 5);
  auto source = p.source();
  source.may_stream = true;
  const auto streams = [&](index_t bytes, bool is_alone) {
    source.moved_bytes = bytes;
    return scan::detail::streams(source, is_alone);
  };
  constexpr index_t alone = simd::native_width<float> == 16 ? index_t{16} << 20 : index_t{32} << 20;
  constexpr index_t all = index_t{32} << 20;
  CHECK_FALSE(streams(alone - 1, true));
  CHECK(streams(alone, true));
  CHECK_FALSE(streams(all - 1, false));
  CHECK(streams(all, false));
  source.may_stream = false;
  CHECK_FALSE(streams(all, true));
}

TEST_CASE("a run of channels asks for its own of tokens to come", "[scan][run][runs]") {
  CHECK(scan::fetched_tokens(index_t{1} << 16) == 0);
  CHECK(scan::fetched_tokens((index_t{1} << 16) - 1) == 1);
  CHECK(scan::fetched_tokens(8192) == 1);
  CHECK(scan::fetched_tokens(4096) == 2);
  CHECK(scan::fetched_tokens(1792) == 4);
  CHECK(scan::fetched_tokens(1) == 16);
  CHECK(scan::fetched_tokens(0) == 16);

  auto p = ring<companion_algebra<2>>(1, 8, 128);
  const scan::source<asking_kernel> source{.first = {p.first()},
                                           .batch = 1,
                                           .length = 8,
                                           .channel_count = 128,
                                           .moved_bytes = 8 * 128 * 4 * 4};
  reverse_executor where;
  for (const auto& [threads, tokens] :
       {std::pair{1, index_t{0}}, std::pair{2, index_t{8}}, std::pair{4, index_t{16}}}) {
    auto h = p.initial();
    scan::run(exec::on(where, exec::sequential{.threads = threads}), source, h);
    CHECK(asking_kernel::asked == tokens);
    CHECK(p.solved(h));
  }
}

TEST_CASE("numbers of a policy that make no sense are refused", "[scan][run][errors]") {
  constexpr check::caller who{"hlru", "scan"};
  const auto says = [&](const auto& policy) {
    return answer([&] { scan::check_policy(who, policy); });
  };
  reverse_executor where;
  CHECK(says(exec::scalar{}) == "");
  CHECK(says(exec::sequential{}) == "");
  CHECK(says(exec::sequential{0}) == "");
  CHECK(says(exec::chunked{0, 0}) == "");
  CHECK(says(exec::on(where, exec::sequential{2})) == "");
  CHECK(says(exec::sequential{-1}) ==
        "hlru::scan: threads of exec::sequential must be 0 or more, got -1");
  CHECK(says(exec::chunked{8, -2}) ==
        "hlru::scan: threads of exec::chunked must be 0 or more, got -2");
  CHECK(says(exec::chunked{-8, 2}) ==
        "hlru::scan: chunk of exec::chunked must be 0 or more, got -8");
  CHECK(says(exec::automatic{-1}) ==
        "hlru::scan: threads of exec::automatic must be 0 or more, got -1");
  CHECK(says(exec::on(where, exec::sequential{-1})) ==
        "hlru::scan: threads of exec::sequential must be 0 or more, got -1");
}
