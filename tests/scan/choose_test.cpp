// SPDX-License-Identifier: Apache-2.0
#include "array_kernel.hpp"
#include "executors.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/scan/choose.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>

#include <cstdint>
#include <string>

namespace {

using namespace maslin::test;
using maslin::index_t;
namespace exec = maslin::exec;
namespace scan = maslin::scan;

/// One sequence of diagonal recurrences with 8 lanes.
constexpr scan::scan_shape diagonal_shape(index_t tokens, index_t channels, int threads) {
  return {.family = scan::cost_family::diagonal,
          .order = 1,
          .sequences = 1,
          .tokens = tokens,
          .channels = channels,
          .runs = channels >= 2048 ? channels / 1024 : 1,
          .bytes = 12 * tokens * channels,
          .chunk = scan::chunk_for(12 * channels),
          .lanes = 8,
          .turns = true,
          .threads = threads};
}

/// The array kernel, as one that the table knows.
template <scan::cost_family Family, class Algebra>
struct known : array_kernel<std::uint32_t, Algebra> {
  static constexpr auto costs = Family;
  [[nodiscard]] known shifted(index_t b, index_t t) const noexcept {
    return {array_kernel<std::uint32_t, Algebra>::shifted(b, t)};
  }
};

}  // namespace

TEST_CASE("the choice is a value of the shape", "[scan][choose]") {
  STATIC_REQUIRE(scan::choose(diagonal_shape(1 << 20, 1, 1)).chunks);
  STATIC_REQUIRE_FALSE(scan::choose(diagonal_shape(1 << 20, 2, 1)).chunks);
  // One thread that is bound by memory, or by the latency of a full register, keeps to the order.
  for (const index_t channels : {8, 64, 1024, 4096})
    CHECK_FALSE(scan::choose(diagonal_shape(1 << 16, channels, 1)).chunks);
  // A call that is shorter than the start of a thread stays on the caller.
  CHECK(scan::choose(diagonal_shape(16, 64, 16)).threads == 1);
  CHECK_FALSE(scan::choose(diagonal_shape(16, 64, 16)).chunks);
  // Many threads and one sequence of rows too short to be shared: time is cut.
  CHECK(scan::choose(diagonal_shape(1 << 16, 1024, 16)).chunks);
  CHECK(scan::choose(diagonal_shape(1 << 16, 1024, 16)).threads == 16);
  // Sequences come first.
  auto batch = diagonal_shape(1 << 20, 1024, 16);
  batch.sequences = 16;
  CHECK_FALSE(scan::choose(batch).chunks);
  CHECK(scan::choose(batch).threads == 16);
  // Nothing to do.
  CHECK(scan::choose(diagonal_shape(0, 1024, 16)).threads == 1);
}

TEST_CASE("gates are what runs of channels are cut by; wide orders take runs, narrow ones chunks",
          "[scan][choose]") {
  const auto companion = [](int order) {
    auto of = diagonal_shape(1 << 16, 1024, 16);
    of.family = scan::cost_family::companion;
    of.order = order;
    of.runs = order + 1;  // 4 KiB of gates each
    of.bytes = 4 * (order + 3) * of.tokens * of.channels;
    of.chunk = scan::chunk_for(4 * (order + 3) * of.channels);
    return of;
  };
  CHECK(scan::choose(companion(2)).chunks);
  CHECK(scan::choose(companion(4)).chunks);
  CHECK_FALSE(scan::choose(companion(8)).chunks);
  CHECK(scan::choose(companion(8)).threads == 16);
}

TEST_CASE("few channels go into lanes as long as that pays", "[scan][choose]") {
  const auto of = [](scan::cost_family family, int order, index_t numbers, index_t channels) {
    auto shape = diagonal_shape(1 << 16, channels, 1);
    shape.family = family;
    shape.order = order;
    shape.bytes = 4 * numbers * channels * shape.tokens;
    return shape;
  };
  struct last {
    scan::cost_family family;
    int order;
    index_t numbers, channels;  // a channel and token has so many; the most channels that are lanes
  };
  for (const last& l :
       {last{scan::cost_family::diagonal, 1, 3, 1}, last{scan::cost_family::companion, 2, 5, 2},
        last{scan::cost_family::companion_weighed, 2, 5, 3},
        last{scan::cost_family::block, 2, 10, 3},
        last{scan::cost_family::block_weighed, 4, 28, 2}}) {
    CHECK(scan::choose(of(l.family, l.order, l.numbers, l.channels)).chunks);
    CHECK_FALSE(scan::choose(of(l.family, l.order, l.numbers, l.channels + 1)).chunks);
  }
  // A unit of chunks that leaves the caches before its replay pays while all tokens are near.
  auto many = of(scan::cost_family::companion, 4, 7, 5);
  many.lanes = 16;
  CHECK_FALSE(scan::choose(many).chunks);
  many.tokens = 1 << 12;
  many.bytes = 140 * many.tokens;
  CHECK(scan::choose(many).chunks);
}

TEST_CASE("registers of 16 lanes have costs of their own", "[scan][choose]") {
  // Four channels fill half of 8 lanes, and a quarter of 16.
  auto of = diagonal_shape(1 << 16, 4, 1);
  of.family = scan::cost_family::companion_weighed;
  of.order = 4;
  CHECK_FALSE(scan::choose(of).chunks);
  of.lanes = 16;
  CHECK(scan::choose(of).chunks);
  // A row of order 8 is measured, not scaled: two channels of it are worth one unit of chunks.
  of = diagonal_shape(1 << 12, 2, 1);
  of.family = scan::cost_family::companion;
  of.order = 8;
  of.lanes = 16;
  CHECK(scan::choose(of).chunks);
}

TEST_CASE("short runs of channels are worth their threads where enough of them share memory",
          "[scan][choose]") {
  // H-LRU on 16 threads as measured there: 18 and 7.9 ms in order, 19 and 5.5 in chunks at order 4, where
  // 256 channels are runs for 8 threads; 8.9 and 15 at order 8, where they are for 16.
  const auto of = [](int order, index_t channels, index_t runs) {
    auto shape = diagonal_shape(1 << 16, channels, 16);
    shape.family = scan::cost_family::companion;
    shape.order = order;
    shape.runs = runs;
    shape.bytes = 4 * (order + 3) * shape.tokens * channels;
    shape.chunk = scan::chunk_for(4 * (order + 3) * channels);
    shape.lanes = 16;
    return shape;
  };
  CHECK_FALSE(scan::choose(of(4, 1024, 40)).chunks);
  CHECK(scan::choose(of(4, 256, 10)).chunks);
  CHECK_FALSE(scan::choose(of(8, 256, 18)).chunks);
  CHECK(scan::choose(of(8, 256, 18)).threads == 16);
}

TEST_CASE("orders between and past the rows of the table are scaled from them", "[scan][choose]") {
  auto of = diagonal_shape(1 << 16, 64, 1);
  for (const auto family : {scan::cost_family::companion, scan::cost_family::companion_weighed,
                            scan::cost_family::block, scan::cost_family::block_weighed}) {
    of.family = family;
    double before = 0;
    for (const int order : {2, 4, 8, 16}) {
      of.order = order;
      const double ns = scan::choose(of).ns;
      CHECK(ns > before);
      before = ns;
    }
  }
  of.family = scan::cost_family::unknown;
  CHECK_FALSE(scan::choose(of).chunks);
}

TEST_CASE("a choice can be read", "[scan][choose]") {
  const std::string text = scan::explain(diagonal_shape(1 << 20, 1, 2));
  CHECK(text.rfind("chunked{.threads = 2} of sequential{.threads = 1} ", 0) == 0);
  CHECK(scan::explain(diagonal_shape(0, 1, 2)) == "sequential{.threads = 1}");
}

TEMPLATE_TEST_CASE("whatever is chosen, the naive loop is what comes out", "[scan][choose][ring]",
                   diagonal_algebra, companion_algebra<2>, block_algebra<3>) {
  using algebra = TestType;
  using kernel = known<scan::cost_family::companion, algebra>;
  maslin::test::random numbers(7);
  const auto draw = [&] { return std::uint32_t(numbers.bits()); };
  thread_executor team;
  reverse_executor backward;
  for (const index_t B : {1, 3})
    for (const index_t T : {0, 5, 3000})
      for (const index_t D : {1, 9}) {
        CAPTURE(B, T, D);
        problem<std::uint32_t, algebra> p(B, T, D, draw, draw);
        const auto solves = [&](const auto& policy) {
          const auto plain = p.source();
          const scan::source<kernel> source{.first = kernel{p.first()},
                                            .batch = plain.batch,
                                            .length = plain.length,
                                            .channel_count = plain.channel_count,
                                            .moved_bytes = 100 * B * T * D};
          p.clear();
          auto h = p.initial();
          scan::run(policy, source, h);
          return p.solved(h);
        };
        for (const int threads : {0, 1, 7}) {
          CHECK(solves(exec::automatic{threads}));
          CHECK(solves(exec::on(team, exec::automatic{threads})));
          CHECK(solves(exec::on(backward, exec::automatic{threads})));
        }
      }
}
