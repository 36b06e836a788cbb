// SPDX-License-Identifier: Apache-2.0
// The schedules of the default policy over the exact ring: no tolerance anywhere.
#include "array_kernel.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/scan/sequential.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
using maslin::lane;
namespace scan = maslin::scan;
namespace simd = maslin::simd;

/// A problem of ring elements, no two tokens the same.
template <class Algebra, class S>
problem<S, Algebra> ring(index_t B, index_t T, index_t D, index_t gap = 0, index_t shift = 0) {
  maslin::test::random numbers(std::uint64_t(T * 64 + D));
  const auto draw = [&] { return S(numbers.bits()); };
  return problem<S, Algebra>(B, T, D, draw, draw, gap, shift);
}

/// The first disagreement, or nothing.
struct disagreement {
  std::string text;
  void unless(bool agreed, const char* schedule, index_t T, index_t D, index_t split) {
    if (!agreed && text.empty())
      text = std::string(schedule) + ": T " + std::to_string(T) + ", D " + std::to_string(D) +
             ", split " + std::to_string(split);
  }
};

/// Outputs past the cache, whatever rows are like.
template <class V, class Kernel, class S>
void walk_streaming(const Kernel& kernel, S* state, index_t first, index_t last, index_t D) {
  if (!scan::walk_past_cache<V>(kernel, state, first, last, 0, D))
    scan::walk_staged<V>(kernel, state, first, last, 0, D);
}

enum class schedule { rows, streaming, in_register, few, chosen };

/// Tokens [first, last) of all channels by one schedule.
template <class V, class Kernel, class S>
void walk_by(schedule which, const Kernel& kernel, S* state, index_t first, index_t last,
             index_t D) {
  switch (which) {
    case schedule::rows:
      return scan::walk_rows<V>(kernel, state, first, last, 0, D,
                                scan::rows_of(kernel, first, last, 0));
    case schedule::streaming: return walk_streaming<V>(kernel, state, first, last, D);
    case schedule::in_register: {
      constexpr index_t width = lane<V>::width;
      for (index_t c = 0; c < D; c += width)
        if (c + width <= D)
          scan::walk_register<V>(kernel, state, first, last, c, maslin::all_lanes<V>{},
                                 scan::rows_of(kernel, first, last, c));
        else
          scan::walk_register<V>(kernel, state, first, last, c, int(D - c),
                                 scan::rows_of(kernel, first, last, c));
      return;
    }
    case schedule::few: return scan::walk_few<V>(kernel, state, first, last, 0, D);
    case schedule::chosen: return scan::walk<V>(kernel, state, first, last, 0, D, false);
  }
}

template <class Algebra, class S, class V>
void check_schedules(disagreement& found) {
  for (const index_t T : {0, 1, 2, 63, 64, 65, 500})
    for (index_t D = 1; D <= 35; D += T == 500 ? 8 : 1) {
      auto p = ring<Algebra, S>(1, T, D, D % 3, D % 5);
      const index_t split = T / 3;
      for (const auto& [which, name] :
           {std::pair{schedule::rows, "rows"}, std::pair{schedule::streaming, "streaming"},
            std::pair{schedule::in_register, "register"}, std::pair{schedule::few, "few"},
            std::pair{schedule::chosen, "walk"}}) {
        p.clear();
        auto h = p.initial();
        walk_by<V>(which, p.first(), h.row(0), 0, split, D);
        walk_by<V>(which, p.first(), h.row(0), split, T, D);
        found.unless(p.solved(h), name, T, D, split);
      }
    }
}

}  // namespace

TEMPLATE_TEST_CASE("every schedule of the default policy is the naive loop, exactly",
                   "[scan][sequential][ring]", diagonal_algebra, complement_algebra,
                   companion_algebra<2>, companion_algebra<5>, block_algebra<1>, block_algebra<3>,
                   showing<diagonal_algebra>, showing<companion_algebra<3>>) {
  disagreement found;
  check_schedules<TestType, std::uint64_t, std::uint64_t>(found);
  check_schedules<TestType, std::uint64_t, simd::native<std::uint64_t>>(found);
  check_schedules<TestType, std::uint32_t, simd::native<std::uint32_t>>(found);
  CHECK(found.text == "");
}

TEMPLATE_TEST_CASE("a sequence may be split between any two tokens", "[scan][sequential][ring]",
                   companion_algebra<3>, block_algebra<2>) {
  using V = simd::native<std::uint32_t>;
  disagreement found;
  for (const index_t D : {1, 7, 8, 9, 33})
    for (const index_t T : {1, 2, 65, 500}) {
      auto p = ring<TestType, std::uint32_t>(1, T, D);
      for (index_t split = 0; split <= T; ++split) {
        p.clear();
        auto h = p.initial();
        scan::walk<V>(p.first(), h.row(0), 0, split, 0, D, false);
        scan::walk<V>(p.first(), h.row(0), split, T, 0, D, false);
        found.unless(p.solved(h), "walk", T, D, split);
      }
    }
  CHECK(found.text == "");
}

TEMPLATE_TEST_CASE("runs of channels may be walked in any order", "[scan][sequential][ring]",
                   companion_algebra<3>, block_algebra<2>) {
  using V = simd::native<std::uint32_t>;
  auto p = ring<TestType, std::uint32_t>(1, 20, 100);
  for (const bool streaming : {false, true}) {
    p.clear();
    auto h = p.initial();
    for (index_t begin = 96; begin >= 0; begin -= 16)
      scan::walk<V>(p.first(), h.row(0), 0, 20, begin, std::min<index_t>(begin + 16, 100),
                    streaming);
    CHECK(p.solved(h));
  }
}

TEMPLATE_TEST_CASE("streaming writes the plain bytes at odd widths and any alignment",
                   "[scan][sequential][streaming]", companion_algebra<2>, block_algebra<3>,
                   showing<diagonal_algebra>, showing<companion_algebra<2>>) {
  // Rows of several pieces of 4 KiB, on every alignment of the first number to a cache line.
  using V = simd::native<std::uint32_t>;
  for (const index_t D : {1, 5, 341, 1000, 1023, 1024, 1025, 2500})
    for (index_t shift = 0; shift < 16; shift += D == 2500 ? 1 : 5) {
      CAPTURE(D, shift);
      auto p = ring<TestType, std::uint32_t>(1, 3, D, shift % 4, shift);
      auto h = p.initial();
      walk_streaming<V>(p.first(), h.row(0), 0, 3, D);
      CHECK(p.solved(h));
    }
}

TEMPLATE_TEST_CASE("outputs copied from a state that ages are the plain bytes",
                   "[scan][sequential][streaming]", showing<diagonal_algebra>,
                   showing<companion_algebra<2>>, showing<companion_algebra<3>>,
                   showing<companion_algebra<8>>, showing<companion_algebra<9>>) {
  // Rows that begin lines, of whole lines and not, walked from every age of the state.
  const auto check = [&]<class S>(S) {
    using V = simd::native<S>;
    constexpr index_t line = simd::cache_line / index_t{sizeof(S)};
    for (const index_t D : {index_t{1}, line - 1, line, line + 3, 2 * line + line / 2, 5 * line})
      for (const index_t T : {1, 2, 3, 7, 8, 9, 40}) {
        auto p = ring<TestType, S>(1, T, D, (line - D % line) % line);
        for (index_t split = 0; split <= T && split < 10; ++split) {
          CAPTURE(D, T, split);
          p.clear();
          auto h = p.initial();
          REQUIRE(simd::begins_line(p.first().out));
          walk_streaming<V>(p.first(), h.row(0), 0, split, D);
          walk_streaming<V>(p.first(), h.row(0), split, T, D);
          CHECK(p.solved(h));
        }
      }
  };
  check(std::uint32_t{});
  check(std::uint64_t{});
}

TEST_CASE("nothing is done for no channels or no tokens", "[scan][sequential][empty]") {
  using V = simd::native<std::uint32_t>;
  auto p = ring<companion_algebra<2>, std::uint32_t>(1, 4, 20);
  auto h = p.initial();
  const auto before = p.out();
  scan::walk<V>(p.first(), h.row(0), 0, 4, 16, 16, false);
  scan::walk<V>(p.first(), h.row(0), 2, 2, 0, 20, false);
  scan::walk<V>(p.first(), h.row(0), 3, 1, 0, 20, true);
  CHECK(h == p.initial());
  CHECK(p.out() == before);
}

TEST_CASE("lanes of a state lie in groups of 16, lag by lag", "[scan][sequential][layout]") {
  std::vector<int> state(16 * 3 * 3);
  for (const index_t c : {0, 1, 15, 16, 17, 47})
    CHECK(scan::state_of(state.data(), c, 3) - state.data() == c / 16 * 48 + c % 16);
}
