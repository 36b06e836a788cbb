// SPDX-License-Identifier: Apache-2.0
#include "guard_page.hpp"
#include "support/catch.hpp"

#include <maslin/core/each.hpp>
#include <maslin/simd/spread.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

using maslin::lane;
namespace simd = maslin::simd;

namespace {

/// True if every lane holds the bits of `want`.
template <class V, class S>
bool all_are(V x, S want) {
  using word = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  std::array<S, std::size_t(lane<V>::width)> lanes;
  lane<V>::store(lanes.data(), x);
  bool good = true;
  for (const S x_l : lanes) good = good && std::bit_cast<word>(x_l) == std::bit_cast<word>(want);
  return good;
}

template <class V>
void check_spread(const typename lane<V>::scalar* p) {
  const simd::spread<V> numbers(p);
  maslin::unrolled<simd::spread<V>::count>([&](auto j) {
    CAPTURE(j());
    CHECK(all_are(numbers.template at<static_cast<int>(j())>(), p[j]));
  });
}

}  // namespace

TEMPLATE_TEST_CASE("each of the neighbours is in all lanes, and nothing past them is read",
                   "[simd][spread]", float, double) {
  using S = TestType;
  constexpr int count = simd::spread<S>::count;
  // No two alike, and of bits that arithmetic would not keep.
  constexpr std::array<S, 4> numbers{S(1.5), std::numeric_limits<S>::quiet_NaN(), S(-0.0),
                                     -std::numeric_limits<S>::infinity()};
  SECTION("at the end of readable memory") {
    const maslin::test::guarded memory(sizeof(S) * std::size_t(count));
    S* const last = memory.back<S>(count);
    for (int i = 0; i < count; ++i) last[i] = numbers[std::size_t(i)];
    check_spread<simd::native<S>>(last);
    check_spread<S>(last);
  }
  SECTION("at any address") {
    std::array<S, 12> memory;
    for (std::size_t first = 0; first + std::size_t(count) <= memory.size(); ++first) {
      for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = S(i + 1);
      check_spread<simd::native<S>>(memory.data() + first);
    }
  }
}
