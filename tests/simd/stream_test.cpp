// SPDX-License-Identifier: Apache-2.0
#include "guard_page.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"

#include <maslin/simd/stream.hpp>

#include <cstddef>
#include <cstring>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
namespace simd = maslin::simd;

}  // namespace

TEMPLATE_TEST_CASE("a streamed copy is a copy, at every alignment and length",
                   "[simd][stream][guard]", float, double) {
  using S = TestType;
  constexpr index_t longest = 200, band = 64;
  constexpr index_t phases = simd::cache_line / index_t(sizeof(S));
  std::vector<S> from(std::size_t(longest + phases));
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = S(i + 1);
  std::vector<S> room(std::size_t(longest + phases + 2 * band));
  bool copied = true, beside = true;
  for (index_t count = 0; count <= longest; ++count)
    for (index_t to_phase = 0; to_phase < phases; ++to_phase)
      for (index_t from_phase = 0; from_phase < phases; from_phase += 3) {
        poison<S>::fill(room);
        S* to = room.data() + band + to_phase;
        const S* source = from.data() + from_phase;
        simd::stream_copy(to, source, count);
        simd::stream_fence();
        copied = copied && std::memcmp(to, source, std::size_t(count) * sizeof(S)) == 0;
        for (const S& x : room)
          if (&x < to || &x >= to + count) beside = beside && poison<S>::is(x);
      }
  CHECK(copied);
  CHECK(beside);
}

TEMPLATE_TEST_CASE("a streamed copy stays inside its page", "[simd][stream][guard]", float,
                   double) {
  using S = TestType;
  const guarded source(1), target(1);
  bool copied = true;
  for (index_t count = 0; count <= 100; ++count) {
    for (index_t i = 0; i < count; ++i) source.back<S>(count)[i] = S(count + i);
    simd::stream_copy(target.back<S>(count), source.back<S>(count), count);
    simd::stream_copy(target.front<S>(), source.back<S>(count), count);
    simd::stream_fence();
    const std::size_t bytes = std::size_t(count) * sizeof(S);
    copied = copied && std::memcmp(target.back<S>(count), source.back<S>(count), bytes) == 0 &&
             std::memcmp(target.front<S>(), source.back<S>(count), bytes) == 0;
  }
  CHECK(copied);
}
