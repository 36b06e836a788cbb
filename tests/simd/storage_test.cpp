// SPDX-License-Identifier: Apache-2.0
#include "guard_page.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/simd/storage.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using maslin::bf16;
using maslin::fp16;

namespace {

/// The number that 16 bits stand for, from the definition: sign, exponent, mantissa.
double meaning(std::uint16_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * HUGE_VAL : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

template <class C>
constexpr int exponent_bits = std::is_same_v<C, bf16> ? 8 : 5;

template <class C>
C of_bits(std::uint16_t bits) {
  C x;
  x.bits = bits;
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("all numbers of 16 bits are what their bits say, and come back",
                   "[simd][storage]", bf16, fp16) {
  long wrong = 0;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto x = of_bits<TestType>(static_cast<std::uint16_t>(bits));
    const auto f = static_cast<float>(x);
    const double want = meaning(x.bits, exponent_bits<TestType>);
    if (std::isnan(want) ? !std::isnan(f) : !(f == want && std::signbit(f) == std::signbit(want)))
      ++wrong;
    // A signalling NaN becomes quiet; everything else returns bit by bit.
    const int quiet = 1 << (14 - exponent_bits<TestType>);
    const auto back = static_cast<std::uint16_t>(std::isnan(want) ? x.bits | quiet : x.bits);
    if (TestType(f).bits != back) ++wrong;
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("floats round to the nearest number of 16 bits, ties to the even one",
                   "[simd][storage]", bf16, fp16) {
  // Between neighbours: the midpoint, exact in float, and the floats on either side of it.
  long wrong = 0;
  for (unsigned bits = 0; bits < 0x7fff; ++bits) {
    const auto low = of_bits<TestType>(static_cast<std::uint16_t>(bits));
    const auto high = of_bits<TestType>(static_cast<std::uint16_t>(bits + 1));
    if (std::isnan(meaning(high.bits, exponent_bits<TestType>))) break;
    const double below = meaning(low.bits, exponent_bits<TestType>);
    double above = meaning(high.bits, exponent_bits<TestType>);
    // What would follow the largest number stands for infinity.
    if (std::isinf(above)) above = std::ldexp(1.0, std::is_same_v<TestType, bf16> ? 128 : 16);
    const auto middle = static_cast<float>((below + above) / 2);
    const auto up = std::nextafter(middle, std::numeric_limits<float>::infinity());
    const auto down = std::nextafter(middle, 0.0f);
    for (const float sign : {1.0f, -1.0f}) {
      const auto rounded = [&](float x) { return TestType(sign * x).bits & 0x7fff; };
      const bool even = bits % 2 == 0;
      // In the smallest bf16 numbers the midpoint of the first two is a float; below, all is 0.
      if (rounded(middle) != (even ? low.bits : high.bits)) ++wrong;
      if (rounded(up) != high.bits) ++wrong;
      if (rounded(down) != low.bits) ++wrong;
      if ((TestType(sign * middle).bits >> 15 != 0) != (sign < 0)) ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(TestType(std::numeric_limits<float>::infinity()) ==
        of_bits<TestType>(std::is_same_v<TestType, bf16> ? 0x7f80 : 0x7c00));
  CHECK(std::isnan(static_cast<float>(TestType(std::bit_cast<float>(0x7f800001u)))));
  CHECK(std::isnan(static_cast<float>(TestType(std::bit_cast<float>(0xffffffffu)))));
}

TEMPLATE_TEST_CASE("registers load what single numbers are, and no byte beside them",
                   "[simd][storage]", bf16, fp16) {
  using V = maslin::simd::native<float>;
  using L = maslin::lane<V>;
  const auto check = []<class W>(std::type_identity<W>) {
    constexpr int width = maslin::lane<W>::width;
    const maslin::test::guarded memory(width * sizeof(TestType));
    auto* const stored = memory.template back<TestType>(width);
    long wrong = 0;
    for (unsigned first = 0; first + width <= 0x10000; first += width) {
      for (int i = 0; i < width; ++i)
        stored[i].bits = static_cast<std::uint16_t>(first + static_cast<unsigned>(i));
      std::array<float, static_cast<std::size_t>(width)> got{};
      maslin::lane<W>::store(got.data(), maslin::simd::load_stored<W>(stored));
      for (int i = 0; i < width; ++i) {
        const float want = static_cast<float>(stored[i]);
        // Conversions of the machine make NaNs quiet; bf16 is a shift, which keeps them as they are.
        if (std::bit_cast<std::uint32_t>(want) !=
            std::bit_cast<std::uint32_t>(got[static_cast<std::size_t>(i)]))
          ++wrong;
      }
    }
    CHECK(wrong == 0);
  };
  check(std::type_identity<float>{});
  check(std::type_identity<V>{});
  check(std::type_identity<typename maslin::simd::sized<float, 4>::type>{});
  const std::array<float, 16> plain{1, 2, 3, 4, 5, 6, 7, 8};
  std::array<float, 16> copied{};
  L::store(copied.data(), maslin::simd::load_stored<V>(plain.data()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(L::width); ++i) CHECK(copied[i] == plain[i]);
}
