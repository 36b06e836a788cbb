// SPDX-License-Identifier: Apache-2.0
// exp, exp_nonpositive, sigmoid and tanh against the C library in a wider type, in units in the last
// place. The usual run takes every 4,099th float and dense stretches where errors are largest; the
// hidden test [.exhaustive] takes all 2^32.
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/config.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

using maslin::lane;
namespace simd = maslin::simd;

/// The C library's type for the truth: its error is far below a unit of S.
template <class S>
using real = std::conditional_t<std::is_same_v<S, float>, double, long double>;
template <class S>
using word = std::conditional_t<std::is_same_v<S, float>, std::uint32_t, std::uint64_t>;

/// The numbers of S in ascending order: key 0 is a NaN with the sign set, the last key one without.
template <class S>
S from_key(word<S> key) {
  constexpr word<S> sign = word<S>(1) << (sizeof(S) * 8 - 1);
  return std::bit_cast<S>(key < sign ? word<S>(~key) : word<S>(key - sign));
}
template <class S>
word<S> to_key(S x) {
  constexpr word<S> sign = word<S>(1) << (sizeof(S) * 8 - 1);
  const auto bits = std::bit_cast<word<S>>(x);
  return (bits & sign) != 0 ? word<S>(~bits) : word<S>(bits + sign);
}

/// |got - want| in units in the last place of S at `want`, of the subnormals below the normal
/// numbers. Infinity counts as the number after the largest.
template <class S>
double ulps(S got, real<S> want) {
  using limits = std::numeric_limits<S>;
  const real<S> beyond = std::ldexp(real<S>(1), limits::max_exponent);
  if (want > beyond) want = beyond;
  const real<S> value = std::isinf(got) ? std::copysign(beyond, real<S>(got)) : real<S>(got);
  const int exponent =
      std::max(want == 0 ? limits::min_exponent : std::ilogb(want) + 1, limits::min_exponent);
  return static_cast<double>(std::ldexp(std::abs(value - want), limits::digits - exponent));
}

struct exp_function {
  static constexpr bool monotone = true;
  static constexpr double limit = 1;
  template <class V>
  static V of(V x) {
    return simd::exp(x);
  }
  template <class R>
  static R truth(R x) {
    return std::exp(x);
  }
  template <class S>
  static bool defined(S) {
    return true;
  }
};
struct exp_nonpositive_function {
  static constexpr bool monotone = true;
  static constexpr double limit = 2;
  template <class V>
  static V of(V x) {
    return simd::exp_nonpositive(x);
  }
  template <class R>
  static R truth(R x) {
    return std::exp(x);
  }
  template <class S>
  static bool defined(S x) {
    return x <= 0 && x >= (sizeof(S) == 4 ? S(-87.3) : S(-708.3));
  }
};
struct sigmoid_function {
  // Outside the FMA family neighbours may be a unit out of order.
  static constexpr bool monotone = maslin::fused_family;
  static constexpr double limit = maslin::fused_family ? 2 : 3;
  template <class V>
  static V of(V x) {
    return simd::sigmoid(x);
  }
  template <class R>
  static R truth(R x) {
    return 1 / (1 + std::exp(-x));
  }
  /// Where the result is a normal number.
  template <class S>
  static bool defined(S x) {
    return x >= (sizeof(S) == 4 ? S(-87.3) : S(-708.3));
  }
};
struct tanh_function {
  static constexpr bool monotone = true;
  static constexpr double limit = 3;
  template <class V>
  static V of(V x) {
    return simd::tanh(x);
  }
  template <class R>
  static R truth(R x) {
    return std::tanh(x);
  }
  template <class S>
  static bool defined(S) {
    return true;
  }
};

/// What was seen of one function over many numbers in ascending order.
template <class S>
struct findings {
  double worst = 0;  // in units in the last place, where the function is defined
  S worst_at = 0;
  long compared = 0;
  long falls = 0;          // places where the result falls as x rises
  long unequal_lanes = 0;  // lanes whose bytes are not those of the scalar
  long escaped_nans = 0;   // NaN that did not stay NaN

  S before = -std::numeric_limits<S>::infinity();

  void add(S x, S got, S scalar, real<S> truth, bool defined) {
    if (std::memcmp(&got, &scalar, sizeof(S)) != 0 && !(std::isnan(got) && std::isnan(scalar)))
      ++unequal_lanes;
    if (std::isnan(x)) {
      escaped_nans += !std::isnan(got);
      return;
    }
    if (!defined) return;
    const double error = ulps(got, truth);
    if (!(error <= worst)) worst = error, worst_at = x;
    ++compared;
    falls += !(got >= before);
    before = got;
  }
};

/// Runs `Function` over ascending numbers, in registers and as scalars.
template <class Function, class S>
void run(const std::vector<S>& ascending, findings<S>& seen) {
  using V = simd::native<S>;
  constexpr std::size_t W = std::size_t(lane<V>::width);
  S x[W], got[W];
  for (std::size_t i = 0; i < ascending.size(); i += W) {
    const std::size_t n = std::min(W, ascending.size() - i);
    for (std::size_t l = 0; l < W; ++l) x[l] = ascending[i + std::min(l, n - 1)];
    lane<V>::store(got, Function::of(lane<V>::load(x)));
    for (std::size_t l = 0; l < n; ++l)
      seen.add(x[l], got[l], Function::of(x[l]), Function::truth(real<S>(x[l])),
               Function::defined(x[l]));
  }
}

/// `count` neighbours in ascending order from `first` on.
template <class S>
std::vector<S> stretch(S first, int count) {
  std::vector<S> x;
  for (int i = 0; i < count; ++i) x.push_back(from_key<S>(word<S>(to_key(first) + word<S>(i))));
  return x;
}
/// Every `step`-th number of S, from a NaN over all of them to a NaN.
template <class S>
std::vector<S> every(word<S> step) {
  std::vector<S> x;
  word<S> key = 0;
  do {
    x.push_back(from_key<S>(key));
    key += step;
  } while (key >= step);
  return x;
}

/// Dense stretches around 0, around the ends of the domains, and where the reduction by multiples of
/// ln 2 changes its multiple.
template <class Function, class S>
void run_stretches(findings<S>& seen) {
  constexpr int count = 1024;
  const double ends = sizeof(S) == 4 ? 88 : 709;
  std::vector<double> places{0, 1e-30, -1e-30, 1, -1, ends, -ends, -ends + 0.5, -1.2 * ends};
  for (int n = 0; n < 128; ++n) places.push_back((n - 64 + 0.5) * 0.69314718055994531);
  for (const double place : places) {
    seen.before = -std::numeric_limits<S>::infinity();
    const auto key = word<S>(to_key(S(place)) - count / 2);
    run<Function>(stretch(from_key<S>(key), count), seen);
  }
}

template <class Function, class S>
void check(const findings<S>& seen) {
  CAPTURE(seen.worst, seen.worst_at, seen.compared);
  CHECK(seen.worst <= Function::limit);
  if (Function::monotone) CHECK(seen.falls == 0);
  CHECK(seen.unequal_lanes == 0);
  CHECK(seen.escaped_nans == 0);
  CHECK(seen.compared > 0);
}

template <class S, class V>
bool same_lanes(V wide, S scalar) {
  S lanes[std::size_t(lane<V>::width)];
  lane<V>::store(lanes, wide);
  for (const S x : lanes)
    if (std::memcmp(&x, &scalar, sizeof x) != 0) return false;
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("functions of float are within their limits over a sample of all floats",
                   "[simd][math][ulp]", exp_function, exp_nonpositive_function, sigmoid_function,
                   tanh_function) {
  findings<float> sample, dense;
  run<TestType>(every<float>(4099), sample);
  check<TestType>(sample);
  run_stretches<TestType>(dense);
  check<TestType>(dense);
}

TEMPLATE_TEST_CASE("functions of double are within their limits over a sample of doubles",
                   "[simd][math][ulp]", exp_function, exp_nonpositive_function, sigmoid_function,
                   tanh_function) {
  findings<double> sample, dense, usual;
  run<TestType>(every<double>(std::uint64_t(1) << 47 | 12345), sample);
  check<TestType>(sample);
  run_stretches<TestType>(dense);
  check<TestType>(dense);
  // Evenly spaced where the functions vary.
  std::vector<double> x;
  for (int i = 0; i < 300000; ++i) x.push_back(-745 + i * 0.00485);
  run<TestType>(x, usual);
  check<TestType>(usual);
}

TEMPLATE_TEST_CASE("functions of float are within their limits over all 2^32 floats",
                   "[.exhaustive][simd][math][ulp]", exp_function, exp_nonpositive_function,
                   sigmoid_function, tanh_function) {
  findings<float> seen;
  constexpr std::uint32_t block = 1u << 16;
  for (std::uint32_t i = 0; i < 1u << 16; ++i)
    run<TestType>(stretch(from_key<float>(i * block), int(block)), seen);
  WARN("worst " << seen.worst << " at " << seen.worst_at << " of " << seen.compared);
  check<TestType>(seen);
}

TEMPLATE_TEST_CASE("exact results are exact", "[simd][math][exact]", float, double) {
  using S = TestType;
  constexpr S inf = std::numeric_limits<S>::infinity(), nan = std::numeric_limits<S>::quiet_NaN();
  constexpr S huge = std::numeric_limits<S>::max();
  const S below = sizeof(S) == 4 ? S(-87.7) : S(-708.8);
  CHECK(simd::exp(S(0)) == 1);
  CHECK(simd::exp(S(-0.0)) == 1);
  CHECK(simd::exp(-inf) == 0);
  CHECK(simd::exp(-huge) == 0);
  CHECK(simd::exp(inf) == inf);
  CHECK(simd::exp(huge) == inf);
  CHECK(std::isnan(simd::exp(nan)));
  CHECK(simd::exp_nonpositive(S(0)) == 1);
  CHECK(simd::exp_nonpositive(S(-0.0)) == 1);
  CHECK(simd::exp_nonpositive(below) == 0);
  CHECK(simd::exp_nonpositive(-huge) == 0);
  CHECK(simd::exp_nonpositive(-inf) == 0);
  CHECK(std::isnan(simd::exp_nonpositive(nan)));
  CHECK(simd::sigmoid(S(0)) == S(0.5));
  CHECK(simd::sigmoid(S(-0.0)) == S(0.5));
  CHECK(simd::sigmoid(-inf) == 0);
  CHECK(simd::sigmoid(inf) == 1);
  CHECK(simd::sigmoid(huge) == 1);
  CHECK(std::isnan(simd::sigmoid(nan)));
  CHECK(simd::tanh(S(0)) == 0);
  CHECK(simd::tanh(inf) == 1);
  CHECK(simd::tanh(-inf) == -1);
  CHECK(simd::tanh(huge) == 1);
  CHECK(std::isnan(simd::tanh(nan)));
  CHECK(simd::tanh(std::numeric_limits<S>::min()) == std::numeric_limits<S>::min());
}

TEMPLATE_TEST_CASE("sigmoid and tanh stay within their ranges where they saturate",
                   "[simd][math][range]", float, double) {
  using S = TestType;
  maslin::test::random numbers(1);
  bool within = true, odd = true;
  for (int i = 0; i < 100000; ++i) {
    const S x = S(numbers.uniform(-1, 1) * std::pow(10, numbers.uniform(-3, 3.5)));
    const S s = simd::sigmoid(x), t = simd::tanh(x), e = simd::exp_nonpositive(-std::abs(x));
    within = within && s >= 0 && s <= 1 && t >= -1 && t <= 1 && e >= 0 && e <= 1;
    odd = odd && simd::tanh(S(-x)) == -t;
  }
  CHECK(within);
  CHECK(odd);
}

TEMPLATE_TEST_CASE("registers of every width give the scalar's bytes", "[simd][math][bits]", float,
                   double) {
  using S = TestType;
  constexpr int quarter = 16 / int(sizeof(S));
  using narrow = typename simd::sized<S, quarter>::type;
  using middle = typename simd::sized<S, 2 * quarter>::type;
  maslin::test::random numbers(2);
  bool equal = true;
  const auto compare = [&]<class V>(std::type_identity<V>, S x) {
    const V wide = lane<V>::broadcast(x);
    equal = equal && same_lanes(V(simd::exp(wide)), simd::exp(x)) &&
            same_lanes(V(simd::exp_nonpositive(V(lane<V>::broadcast(-std::abs(x))))),
                       simd::exp_nonpositive(S(-std::abs(x)))) &&
            same_lanes(V(simd::sigmoid(wide)), simd::sigmoid(x)) &&
            same_lanes(V(simd::tanh(wide)), simd::tanh(x));
  };
  for (int i = 0; i < 20000; ++i) {
    const S x = S(20 * numbers.normal());
    compare(std::type_identity<simd::native<S>>{}, x);
    compare(std::type_identity<middle>{}, x);
    compare(std::type_identity<narrow>{}, x);
  }
  CHECK(equal);
}
