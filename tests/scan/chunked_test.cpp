// SPDX-License-Identifier: Apache-2.0
// Chunks against the naive loop, exactly: over integers modulo 2^32, whose maps do not commute, and
// over floats of small whole numbers, whose maps are the doubles of every user.
#include "array_kernel.hpp"
#include "executors.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/aligned.hpp>
#include <maslin/scan/chunked.hpp>
#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
namespace scan = maslin::scan;
namespace simd = maslin::simd;

template <class Algebra>
problem<std::uint32_t, Algebra> ring(index_t T, index_t D) {
  maslin::test::random numbers(std::uint64_t(T * 64 + D));
  const auto draw = [&] { return std::uint32_t(numbers.bits()); };
  return problem<std::uint32_t, Algebra>(1, T, D, draw, draw);
}

/// Gates of -1, 0 and 1, one a row, and whole inputs: |h| grows by at most 8 a token, so that every
/// number of every schedule is exact, also the products of 500 tokens.
template <class Algebra, class S>
problem<S, Algebra> whole_numbers(index_t T, index_t D) {
  using p = problem<S, Algebra>;
  maslin::test::random numbers(std::uint64_t(T * 64 + D));
  constexpr int M = p::order, rows = p::outputs;
  static_assert(p::entries == rows * (M + 1));
  // Tokens are drawn entry by entry, each for all channels.
  std::vector<std::vector<int>> token(static_cast<std::size_t>(D));
  index_t entry = 0, channel = 0;
  const auto draw = [&] {
    auto& numbers_of_channel = token[std::size_t(channel)];
    if (entry == 0) {
      numbers_of_channel.assign(std::size_t(p::entries), 0);
      for (int row = 0; row < rows; ++row) {
        int* const gates = numbers_of_channel.data() + row * (M + 1);
        gates[numbers.below(M)] = int(numbers.between(-1, 1));
        gates[M] = int(numbers.between(-8, 8));
      }
    }
    const int x = numbers_of_channel[std::size_t(entry)];
    if (++channel == D) channel = 0, entry = (entry + 1) % p::entries;
    return x;
  };
  return p(1, T, D, draw, [&] { return numbers.between(-100, 100); });
}

/// Runs a problem in chunks; true if every byte is right.
template <class V, class S, class Algebra, class Executor>
bool solves(problem<S, Algebra>& p, index_t split, index_t chunk, index_t tasks, Executor& where) {
  using source = scan::source<typename problem<S, Algebra>::kernel>;
  using state = typename problem<S, Algebra>::state;
  p.clear();
  auto h = p.initial();
  for (const auto& [begin, end] : {std::pair{index_t{0}, split}, std::pair{split, p.T}})
    if (end > begin) {
      const source tokens = p.source(begin, end);
      scan::chunk_race<V, source, state> race(tokens, h, chunk, false);
      // Whatever was left in the scratch is never read.
      maslin::aligned_vector<double> memory(race.size(tasks),
                                            std::numeric_limits<double>::quiet_NaN());
      race.run(where, tasks, memory.data());
    }
  return p.solved(h);
}

/// All sizes of chunks and teams, in both orders of tasks; the first failure as text.
template <class V, class S, class Algebra>
std::string check(problem<S, Algebra>& p, const std::vector<index_t>& splits) {
  counting_executor forward;
  reverse_executor backward;
  for (const index_t split : splits)
    for (const index_t chunk : {1, 3, 64, 256, 1000})
      for (const index_t tasks : {1, 2, 7}) {
        if (chunk == 1 && split != 0 && p.T > 100) continue;  // as many chunks as tokens, once
        if (!solves<V>(p, split, chunk, tasks, forward) ||
            !solves<V>(p, split, chunk, tasks, backward))
          return "T " + std::to_string(p.T) + ", D " + std::to_string(p.D) + ", split " +
                 std::to_string(split) + ", chunk " + std::to_string(chunk) + ", tasks " +
                 std::to_string(tasks);
      }
  return {};
}

const std::vector<index_t> lengths{1, 2, 63, 64, 65, 500};

}  // namespace

TEMPLATE_TEST_CASE("chunks are the naive loop exactly, over integers", "[scan][chunked][ring]",
                   diagonal_algebra, complement_algebra, companion_algebra<1>, companion_algebra<5>,
                   block_algebra<3>, one_by_one<diagonal_algebra>, one_by_one<block_algebra<2>>) {
  using S = std::uint32_t;
  for (const index_t T : lengths)
    for (const index_t D : {1, 7, 17, 35}) {
      if (T == 500 && D > 7) continue;
      auto p = ring<TestType>(T, D);
      CHECK(check<simd::native<S>>(p, {0, T / 3}) == "");
    }
}

TEST_CASE("chunks are exact for every number of channels", "[scan][chunked][ring]") {
  using S = std::uint32_t;
  thread_executor threads;
  for (index_t D = 1; D <= 35; ++D) {
    auto p = ring<companion_algebra<3>>(65, D);
    CAPTURE(D);
    CHECK(solves<simd::native<S>>(p, 0, 16, 3, threads));
  }
}

TEST_CASE("a sequence may be split between any two tokens of a chunk", "[scan][chunked][ring]") {
  using S = std::uint32_t;
  reverse_executor backward;
  auto p = ring<companion_algebra<2>>(65, 9);
  auto q = ring<block_algebra<2>>(65, 9);
  for (index_t split = 0; split <= 65; ++split) {
    CAPTURE(split);
    CHECK(solves<S>(p, split, 16, 3, backward));
    CHECK(solves<S>(q, split, 16, 3, backward));
  }
}

TEMPLATE_TEST_CASE("chunks are the naive loop exactly, in the doubles of their maps",
                   "[scan][chunked][whole]", diagonal_algebra, companion_algebra<2>,
                   block_algebra<3>) {
  for (const index_t T : lengths)
    for (const index_t D : {1, 9, 35}) {
      if (T == 500 && D > 9) continue;
      auto in_float = whole_numbers<TestType, float>(T, D);
      auto in_double = whole_numbers<TestType, double>(T, D);
      CHECK(check<simd::native<float>>(in_float, {0}) == "");
      CHECK(check<simd::native<double>>(in_double, {T / 2}) == "");
    }
}

namespace {

/// Outputs and final state of a problem in chunks.
template <class V, class Algebra>
std::pair<std::vector<float>, std::vector<float>> outcome_of(index_t T, index_t D, index_t chunk,
                                                             int tasks) {
  maslin::test::random numbers(std::uint64_t(T * 64 + D));
  // Gates below 1 / M, of which few forget.
  constexpr float most = 1.0f / float(Algebra::order);
  const auto draw = [&] {
    return numbers.below(4) == 0 ? float(numbers.uniform(-1, 1)) * most : most;
  };
  problem<float, Algebra> p(1, T, D, draw, [&] { return float(numbers.uniform(-1, 1)); });
  reverse_executor where;
  (void)solves<V>(p, T / 5, chunk, tasks, where);
  auto h = p.initial();
  const auto source = p.source();
  scan::chunk_race<V, std::remove_const_t<decltype(source)>, decltype(h)> race(source, h, chunk,
                                                                               false);
  maslin::aligned_vector<double> memory(race.size(tasks), 0.0);
  race.run(where, tasks, memory.data());
  std::vector<float> state(std::size_t(D * Algebra::order));
  h.copy_to(maslin::row_major(state.data(), 1, D, Algebra::order));
  return {std::vector<float>(p.out().begin(), p.out().end()), state};
}

}  // namespace

TEMPLATE_TEST_CASE("lanes of channels, lanes of chunks and single channels give the same bytes",
                   "[scan][chunked][lanes]", diagonal_algebra, complement_algebra,
                   companion_algebra<2>, companion_algebra<4>, block_algebra<2>, block_algebra<4>) {
  using V = simd::native<float>;
  for (const index_t D : {1, 2, 3, 7, 9})
    for (const index_t chunk : {5, 16, 31}) {
      CAPTURE(D, chunk);
      const auto want = outcome_of<float, one_by_one<TestType>>(333, D, chunk, 1);
      CHECK(outcome_of<V, one_by_one<TestType>>(333, D, chunk, 2) == want);
      CHECK(outcome_of<V, TestType>(333, D, chunk, 2) == want);
      CHECK(outcome_of<float, TestType>(333, D, chunk, 1) == want);
    }
}

TEMPLATE_TEST_CASE("a run of tokens is appended as one after another, bit for bit",
                   "[scan][chunked][lanes]", companion_algebra<3>, block_algebra<3>,
                   block_algebra<8>) {
  using R = typename TestType::template at<double>;
  maslin::test::random numbers(1);
  typename R::token tokens[5];
  std::vector<double> entries(5 * (sizeof(typename R::token) / sizeof(double)));
  for (double& x : entries) x = numbers.uniform(-1, 1);
  std::memcpy(static_cast<void*>(tokens), entries.data(), sizeof tokens);
  auto one = R::identity(), run = R::identity();
  for (const auto& u : tokens) R::append(one, u);
  R::append_run(run, tokens, 5);
  CHECK(std::memcmp(&one, &run, sizeof one) == 0);
}

namespace {

/// A kernel that walks its own way and leaves its summaries to us.
template <class Algebra>
struct walking_kernel : array_kernel<std::uint32_t, one_by_one<Algebra>> {
  using base = array_kernel<std::uint32_t, one_by_one<Algebra>>;
  [[nodiscard]] walking_kernel shifted(index_t b, index_t t) const noexcept {
    return {base::shifted(b, t)};
  }
  template <class V>
  void walk(std::uint32_t* state, index_t first, index_t last, index_t begin,
            index_t end) const noexcept {
    scan::walk_in_order<V>(base(*this), state, first, last, begin, end, false);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a kernel may walk its own way and leave summaries to us",
                   "[scan][chunked][ring]", diagonal_algebra, companion_algebra<3>) {
  using kernel = walking_kernel<TestType>;
  maslin::test::random numbers(3);
  const auto draw = [&] { return std::uint32_t(numbers.bits()); };
  thread_executor where;
  for (const index_t D : {1, 9, 20}) {
    problem<std::uint32_t, one_by_one<TestType>> p(3, 65, D, draw, draw);
    const auto plain = p.source();
    const scan::source<kernel> source{.first = kernel{p.first()},
                                      .batch = plain.batch,
                                      .length = plain.length,
                                      .channel_count = plain.channel_count};
    auto h = p.initial();
    scan::run(maslin::exec::on(where, maslin::exec::chunked{7, 3}), source, h);
    CHECK(p.solved(h));
  }
}

TEST_CASE("threads decide no byte of a chunked scan", "[scan][chunked][threads]") {
  using S = std::uint32_t;
  auto p = ring<companion_algebra<3>>(500, 20);
  for (const int count : {1, 2, 7}) {
    thread_executor threads{count};
    for (const index_t tasks : {1, 4, 14}) CHECK(solves<simd::native<S>>(p, 0, 16, tasks, threads));
  }
}

TEST_CASE("a call is one run of tasks, no more than there are chunks", "[scan][chunked][work]") {
  using S = std::uint32_t;
  counting_executor where;
  auto p = ring<companion_algebra<2>>(50, 3);
  CHECK(solves<S>(p, 0, 20, 2, where));
  CHECK(where.counts == std::vector<index_t>{2});
}
