// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::lane;

}  // namespace

TEMPLATE_TEST_CASE("a number is a lane of one", "[core][lane][words]", float, double, std::uint32_t,
                   std::uint64_t) {
  using S = TestType;
  using L = lane<S>;
  STATIC_REQUIRE(L::width == 1);
  STATIC_REQUIRE(maslin::all_lanes<S>::value == 1);
  const S numbers[] = {S(7), S(9)};
  S out[] = {S(1), S(2)};
  CHECK(L::broadcast(S(3)) == S(3));
  CHECK(L::load(numbers) == S(7));
  CHECK(L::load(numbers, 1) == S(7));
  L::store(out, S(5));
  CHECK(out[0] == S(5));
  L::store(out, S(6), 1);
  CHECK(out[0] == S(6));
  CHECK(out[1] == S(2));
  CHECK(L::fma(S(3), S(4), S(5)) == S(17));
  CHECK(L::max(S(3), S(4)) == S(4));
  CHECK(L::max(S(4), S(3)) == S(4));
  CHECK(L::min(S(3), S(4)) == S(3));
  CHECK(L::min(S(4), S(3)) == S(3));
  CHECK(L::select(true, S(1), S(2)) == S(1));
  CHECK(L::select(false, S(1), S(2)) == S(2));
  CHECK(L::any(true));
  CHECK_FALSE(L::any(false));
  CHECK(L::abs(S(8)) == S(8));
}

TEMPLATE_TEST_CASE("the larger of a NaN and a number is the second", "[core][lane][nan]", float,
                   double) {
  using S = TestType;
  using L = lane<S>;
  const S nan = std::numeric_limits<S>::quiet_NaN();
  CHECK(L::max(nan, S(1)) == S(1));
  CHECK(std::isnan(L::max(S(1), nan)));
  CHECK(std::isnan(L::min(S(1), nan)));
  CHECK(L::abs(S(-2)) == S(2));
  CHECK_FALSE(std::signbit(L::abs(S(-0.0))));
}

TEMPLATE_TEST_CASE("unsigned lanes wrap around", "[core][lane][ring]", std::uint32_t,
                   std::uint64_t) {
  const TestType most = std::numeric_limits<TestType>::max();
  CHECK(lane<TestType>::fma(most, most, 1) == 2);
  CHECK(maslin::carry_state<TestType>(most, 3, 5) == 2);
}

TEMPLATE_TEST_CASE("a multiply-add rounds once in the FMA family and twice elsewhere",
                   "[core][lane][fma]", float, double) {
  const TestType e = std::numeric_limits<TestType>::epsilon();
  CHECK(lane<TestType>::fma(1 + e, 1 + e, -1 - 2 * e) == (maslin::fused_family ? e * e : 0));
}

TEMPLATE_TEST_CASE("a step errs by no more than its family promises", "[core][lane][accuracy]",
                   float, double) {
  // u |a h + b| with one rounding, 2 u (|a h| + |b|) with two.
  using S = TestType;
  using real = wider_t<S>;
  maslin::test::random numbers(1);
  worst_ratio worst("carry_state");
  for (int trial = 0; trial < 200000; ++trial) {
    double a = 0;
    switch (trial % 5) {
      case 0: a = 1 - 2e-6 * numbers.uniform(); break;
      case 1: a = numbers.uniform(0.6, 0.7); break;  // around where the form changes
      case 2: a = numbers.uniform(1.9, 2.1); break;
      case 3: a = numbers.uniform(-2, 2); break;
      default: a = numbers.uniform(0.9, 1.1);
    }
    const S gate = S(a), h = S(numbers.normal()), b = S(numbers.normal());
    const real product = real(gate) * h, want = product + b;
    const real size = maslin::fused_family ? magnitude(want) : magnitude(product) + magnitude(b);
    const double factor = maslin::fused_family ? 1 : 2;
    const real error = magnitude(maslin::carry_state(gate, h, b) - want);
    // The wider type rounds the sum once itself.
    const real allowed = (factor * unit_roundoff<S> + 0x1p-52) * size;
    worst.add(error == 0 ? 0 : double(error / allowed),
              [&] { return "a " + std::to_string(a) + ", trial " + std::to_string(trial); });
  }
  CAPTURE(worst);
  CHECK(worst.value() <= 1);
}

TEST_CASE("a million steps with gates within 2e-6 of one err by at most 5e-5 of the largest",
          "[core][lane][accuracy]") {
  // The figure of the family with fma; a product and a sum would err by 1e-3.
  maslin::test::random numbers(1);
  float h = 0;
  double truth = 0, error = 0, largest = 0;
  for (int t = 0; t < 1000000; ++t) {
    const float a = float(1 - 2e-6 * numbers.uniform()), b = float(numbers.uniform());
    h = maslin::carry_state(a, h, b);
    truth = double(a) * truth + double(b);
    error = std::fmax(error, std::abs(h - truth));
    largest = std::fmax(largest, std::abs(truth));
  }
  CAPTURE(error / largest);
  CHECK(error <= 5e-5 * largest);
}

TEST_CASE("a small loop calls its body with each index in turn", "[core][each][loop]") {
  std::vector<int> seen;
  maslin::each<5>([&](int i) { seen.push_back(i); });
  CHECK(seen == std::vector<int>{0, 1, 2, 3, 4});
  maslin::each<0>([&](int i) { seen.push_back(i); });
  CHECK(seen.size() == 5);
  maslin::each<std::size_t{1}>([&](auto i) {
    STATIC_REQUIRE(std::is_same_v<decltype(i), std::size_t>);
    seen.push_back(int(i));
  });
  CHECK(seen.back() == 0);
  CHECK(seen.size() == 6);
}
