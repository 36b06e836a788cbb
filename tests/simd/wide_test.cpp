// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/simd/lane.hpp>
#include <maslin/simd/wide.hpp>

#include <cstdint>
#include <limits>
#include <type_traits>

namespace simd = maslin::simd;
using maslin::lane;

TEST_CASE("a wide value has the lanes of its register, in double", "[simd][wide]") {
  using V = simd::native<float>;
  STATIC_REQUIRE(std::is_same_v<simd::wide<float>, double>);
  STATIC_REQUIRE(std::is_same_v<simd::wide<double>, double>);
  STATIC_REQUIRE(std::is_same_v<simd::wide<std::uint32_t>, std::uint32_t>);
  if constexpr (simd::widens<V>) {
    using W = simd::wide<V>;
    STATIC_REQUIRE(lane<W>::width == lane<V>::width);
    STATIC_REQUIRE(std::is_same_v<lane<W>::scalar, double>);
    constexpr int n = lane<V>::width;
    maslin::test::random numbers(1);
    float from[n];
    double wide[n];
    for (float& x : from) x = float(numbers.uniform(-1, 1));
    from[0] = std::numeric_limits<float>::denorm_min();
    from[1] = -std::numeric_limits<float>::infinity();
    lane<W>::store(wide, simd::widened(lane<V>::load(from)));
    for (int l = 0; l < n; ++l) CHECK(wide[l] == double(from[l]));
  }
}

TEST_CASE("a wide value is rounded once on its way back", "[simd][wide]") {
  using V = simd::native<float>;
  if constexpr (simd::widens<V>) {
    using W = simd::wide<V>;
    constexpr int n = lane<V>::width;
    maslin::test::random numbers(2);
    double from[n];
    float back[n];
    for (double& x : from) x = numbers.uniform(-1, 1);
    from[0] = 1 + 0x1p-24;    // a tie: to even
    from[1] = 1 + 0x1.8p-23;  // a tie the other way
    lane<V>::store(back, simd::narrowed<V>(lane<W>::load(from)));
    for (int l = 0; l < n; ++l) CHECK(back[l] == float(from[l]));
  }
  CHECK(simd::narrowed<float>(1 + 0x1p-24) == 1.0f);
}
