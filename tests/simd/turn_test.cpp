// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/simd/lane.hpp>
#include <maslin/simd/turn.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using maslin::all_lanes;
using maslin::index_t;
using maslin::lane;
namespace simd = maslin::simd;

/// True if rows of `count` numbers, `apart` from each other, are turned and turned back; nothing but
/// `n` rows is written.
template <class V, class N>
bool turns(index_t count, index_t apart, N n) {
  using S = typename lane<V>::scalar;
  constexpr index_t width = lane<V>::width;
  const auto rows = static_cast<index_t>(static_cast<int>(n));
  // As long as the n rows: a read or write past them would leave the memory.
  std::vector<S> from(std::size_t((rows - 1) * apart + count)), back(from.size(), S(77));
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = S(i + 1);
  std::vector<S> turned(std::size_t(count * width), S(99));
  simd::turn_rows<V>(turned.data(), from.data(), apart, count, n);
  simd::turn_back<V>(back.data(), apart, turned.data(), count, n);
  bool good = true;
  for (index_t l = 0; l < rows; ++l)
    for (index_t j = 0; j < apart && l * apart + j < index_t(from.size()); ++j) {
      const auto i = std::size_t(l * apart + j);
      if (j < count) good = good && turned[std::size_t(j * width + l)] == from[i];
      good = good && back[i] == (j < count ? from[i] : S(77));
    }
  return good;
}

}  // namespace

TEMPLATE_TEST_CASE("rows of any length are turned and turned back", "[simd][turn]", float, double,
                   std::uint32_t) {
  using V = simd::native<TestType>;
  for (index_t count = 1; count <= 19; ++count)
    for (const index_t gap : {0, 3}) {
      CAPTURE(count, gap);
      CHECK(turns<V>(count, count + gap, all_lanes<V>{}));
      CHECK(turns<TestType>(count, count + gap, all_lanes<TestType>{}));
      for (int n = 1; n <= lane<V>::width; ++n) CHECK(turns<V>(count, count + gap, n));
    }
}
