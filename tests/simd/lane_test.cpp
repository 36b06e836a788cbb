// SPDX-License-Identifier: Apache-2.0
#include "guard_page.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/core/lane.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/twin.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::lane;
namespace simd = maslin::simd;

template <class S>
using quarter = typename simd::sized<S, 16 / sizeof(S)>::type;
template <class S>
using half = typename simd::sized<S, 32 / sizeof(S)>::type;

template <class V>
using numbers = std::vector<typename lane<V>::scalar>;

template <class V>
numbers<V> lanes_of(V x) {
  numbers<V> out(static_cast<std::size_t>(lane<V>::width));
  lane<V>::store(out.data(), x);
  return out;
}
template <class V>
V register_of(const numbers<V>& x) {
  return lane<V>::load(x.data());
}
template <class S>
bool same_bytes(S a, S b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

/// Ordinary and special numbers, in any combination.
template <class S>
S any_number(maslin::test::random& from) {
  using limits = std::numeric_limits<S>;
  const S special[] = {0,
                       S(-0.0),
                       1,
                       S(-1),
                       limits::infinity(),
                       -limits::infinity(),
                       limits::quiet_NaN(),
                       limits::denorm_min(),
                       limits::max(),
                       limits::lowest()};
  return from.below(4) == 0 ? special[from.below(10)] : S(from.normal());
}

}  // namespace

TEMPLATE_TEST_CASE("a part of a register is loaded and stored without touching its neighbours",
                   "[simd][lane][guard]", simd::native<float>, simd::native<double>, quarter<float>,
                   quarter<double>, half<float>, half<double>, float, double,
                   simd::native<std::uint32_t>, simd::native<std::uint64_t>) {
  using V = TestType;
  using L = lane<V>;
  using S = typename L::scalar;
  const guarded memory(1);
  numbers<V> all;
  for (int i = 0; i < L::width; ++i) all.push_back(S(i + 1));
  for (int n = L::width > 1 ? 0 : 1; n <= L::width; ++n) {
    CAPTURE(n);
    for (S* p : {memory.front<S>(), memory.back<S>(n)}) {
      std::memcpy(p, all.data(), std::size_t(n) * sizeof(S));
      const auto loaded = lanes_of(L::load(p, n));
      bool right = true;
      for (int i = 0; i < L::width; ++i)
        right = right && loaded[std::size_t(i)] == (i < n ? S(i + 1) : S(0));
      CHECK(right);
      std::memset(p, 0, std::size_t(n) * sizeof(S));
      L::store(p, register_of<V>(all), n);
      CHECK(std::memcmp(p, all.data(), std::size_t(n) * sizeof(S)) == 0);
    }
    // Inside a page, what follows stays.
    std::vector<S> inside(std::size_t(L::width) + 1, S(99));
    L::store(inside.data(), register_of<V>(all), n);
    for (std::size_t i = std::size_t(n); i < inside.size(); ++i) CHECK(inside[i] == S(99));
  }
  const maslin::all_lanes<V> whole;
  S* p = memory.back<S>(L::width);
  L::store(p, register_of<V>(all), whole);
  CHECK(lanes_of(L::load(p, whole)) == all);
}

TEMPLATE_TEST_CASE("every word of a lane means the same in registers and in scalars",
                   "[simd][lane][bits]", simd::native<float>, simd::native<double>, quarter<float>,
                   quarter<double>, half<float>, half<double>, simd::twin<simd::native<float>>,
                   simd::twin<simd::native<double>>) {
  using V = TestType;
  using L = lane<V>;
  using S = typename L::scalar;
  using scalar = lane<S>;
  maslin::test::random from(1);
  const auto same = [](S x, S y) { return same_bytes(x, y) || (std::isnan(x) && std::isnan(y)); };
  bool fma = true, max = true, abs = true, select = true, any = true, carried = true;
  bool div = true, sqrt = true, negative = true, cleared = true, nan = true;
  for (int trial = 0; trial < 5000; ++trial) {
    numbers<V> a, b, c;
    for (int l = 0; l < L::width; ++l) {
      a.push_back(any_number<S>(from));
      b.push_back(any_number<S>(from));
      c.push_back(any_number<S>(from));
    }
    const V x = register_of<V>(a), y = register_of<V>(b), z = register_of<V>(c);
    const auto fmas = lanes_of(L::fma(x, y, z)), maxima = lanes_of(L::max(x, y)),
               minima = lanes_of(L::min(x, y));
    const auto magnitudes = lanes_of(L::abs(x)), selected = lanes_of(L::select(x < y, y, z));
    const auto steps = lanes_of(maslin::carry_state(x, y, z));
    const auto quotients = lanes_of(L::div(x, y)), roots = lanes_of(L::sqrt(x));
    const auto chosen = lanes_of(L::select_negative(x, y, z)),
               kept = lanes_of(L::clear_negative(x));
    bool some = false, some_nan = false;
    for (std::size_t l = 0; l < a.size(); ++l) {
      fma = fma && same(fmas[l], scalar::fma(a[l], b[l], c[l]));
      carried = carried && same(steps[l], maslin::carry_state(a[l], b[l], c[l]));
      // Of a NaN and a number some targets take the NaN in either order.
      if (!std::isnan(a[l]))
        max = max && same(maxima[l], scalar::max(a[l], b[l])) &&
              same(minima[l], scalar::min(a[l], b[l]));
      div = div && same(quotients[l], a[l] / b[l]);
      sqrt = sqrt && same(roots[l], std::sqrt(a[l])) && same(roots[l], scalar::sqrt(a[l]));
      abs = abs && same(magnitudes[l], scalar::abs(a[l]));
      select = select && same(selected[l], a[l] < b[l] ? b[l] : c[l]);
      if (a[l] < 0 || a[l] > 0)
        negative = negative && same(chosen[l], scalar::select_negative(a[l], b[l], c[l]));
      cleared = cleared && same(kept[l], a[l] < 0 ? S(0) : a[l]);
      some = some || a[l] < b[l];
      some_nan = some_nan || scalar::any_nan(a[l]);
    }
    nan = nan && L::any_nan(x) == some_nan;
    any = any && L::any(x < y) == some;
  }
  CHECK(fma);
  CHECK(carried);
  CHECK(max);
  CHECK(div);
  CHECK(sqrt);
  CHECK(abs);
  CHECK(select);
  CHECK(any);
  CHECK(negative);
  CHECK(cleared);
  CHECK(nan);
}

TEMPLATE_TEST_CASE("a multiply-add rounds once in the FMA family and twice elsewhere, at any width",
                   "[simd][lane][fma]", float, double, simd::native<float>, simd::native<double>,
                   quarter<float>, quarter<double>, half<float>, half<double>) {
  using V = TestType;
  using L = lane<V>;
  using S = typename L::scalar;
  // (1 + e)^2 = 1 + 2 e + e^2, whose last term a product of S loses.
  const S e = std::numeric_limits<S>::epsilon();
  const V x = L::broadcast(1 + e);
  for (const S residue : lanes_of<V>(L::fma(x, x, L::broadcast(-1 - 2 * e))))
    CHECK(residue == (maslin::fused_family ? e * e : 0));
}

TEMPLATE_TEST_CASE("unsigned lanes wrap: the exact ring of the tests", "[simd][lane][ring]",
                   std::uint32_t, std::uint64_t) {
  using V = simd::native<TestType>;
  using L = lane<V>;
  maslin::test::random from(1);
  bool right = true;
  for (int trial = 0; trial < 1000; ++trial) {
    numbers<V> a, b, c;
    for (int l = 0; l < L::width; ++l) {
      a.push_back(TestType(from.bits()));
      b.push_back(TestType(from.bits()));
      c.push_back(TestType(from.bits()));
    }
    const auto got = lanes_of(L::fma(register_of<V>(a), register_of<V>(b), register_of<V>(c)));
    const auto magnitudes = lanes_of(L::abs(register_of<V>(a)));
    for (std::size_t l = 0; l < a.size(); ++l)
      right = right && got[l] == TestType(a[l] * b[l] + c[l]) && magnitudes[l] == a[l];
  }
  CHECK(right);
}

TEMPLATE_TEST_CASE("a biased exponent in the low bits becomes a power of two",
                   "[simd][lane][exponent]", float, double, simd::native<float>,
                   simd::native<double>, quarter<float>) {
  using V = TestType;
  using L = lane<V>;
  using S = typename L::scalar;
  constexpr S magic = sizeof(S) == 4 ? S(12582912) : S(6755399441055744.0);
  constexpr int bias = std::numeric_limits<S>::max_exponent - 1;
  for (const int n : {-bias + 1, -17, -1, 0, 1, 30, bias})
    for (const S x : lanes_of<V>(L::to_exponent(L::broadcast(magic + S(bias + n)))))
      CHECK(x == std::ldexp(S(1), n));
  for (const S x : lanes_of<V>(L::to_exponent(L::broadcast(magic)))) CHECK(x == 0);
}

TEST_CASE("registers have the width that was asked for, or are numbers", "[simd][lane][width]") {
  CHECK(lane<simd::native<float>>::width == simd::native_width<float>);
  CHECK(lane<simd::native<double>>::width == simd::native_width<double>);
  CHECK(simd::native_width<float> == 2 * simd::native_width<double>);
  CHECK(lane<simd::sized<float, 1024>::type>::width == 1);
  CHECK(std::is_same_v<simd::sized<float, 1024>::type, float>);
  CHECK(lane<half<float>>::width == (simd::native_width<float> >= 8 ? 8 : 1));
}
