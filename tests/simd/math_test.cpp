// SPDX-License-Identifier: Apache-2.0
// exp, exp_nonpositive, sigmoid, softplus, silu, tanh and the parts of decays against the C library in a wider
// type, in units in the last place. The usual run takes every 4,099th float and dense stretches
// where errors are largest; the hidden test [.exhaustive] takes all 2^32.
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/config.hpp>
#include <maslin/simd/activation.hpp>
#include <maslin/simd/decay.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/twin.hpp>

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
/// What the adjoint of silu takes for it.
struct silu_gate_function : sigmoid_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 3;
  template <class V>
  static V of(V x) {
    return simd::silu_gate(x);
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

struct kept_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 2;
  template <class V>
  static V of(V x) {
    return simd::exp2_and_complement(x).kept;
  }
  template <class R>
  static R truth(R x) {
    return std::exp2(x);
  }
  template <class S>
  static bool defined(S x) {
    return x <= 0 && x >= S(std::numeric_limits<S>::min_exponent - 1);
  }
};
struct lost_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 3;
  template <class V>
  static V of(V x) {
    return simd::exp2_and_complement(x).lost;
  }
  template <class R>
  static R truth(R x) {
    return -std::expm1(x * R(0.693147180559945309417232121458L));
  }
  template <class S>
  static bool defined(S x) {
    // A subnormal product would be rounded to fewer digits.
    return x <= 0 && (x == 0 || x <= -4 * std::numeric_limits<S>::min());
  }
};
struct log1p_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 3;
  template <class V>
  static V of(V x) {
    return simd::log1p_of_unit(x);
  }
  template <class R>
  static R truth(R x) {
    return std::log1p(x);
  }
  template <class S>
  static bool defined(S x) {
    return x >= 0 && x <= 1;
  }
};

/// 2^(x b) with b = 1; the kernels' products reach every argument.
struct exp2_function {
  static constexpr bool monotone = false;  // two polynomials meet where the multiple changes
  static constexpr double limit = 2.6;
  template <class V>
  static V of(V x) {
    return simd::exp2(x, V(lane<V>::broadcast(1)));
  }
  template <class R>
  static R truth(R x) {
    return std::exp2(x);
  }
  /// Where the result is a normal number.
  template <class S>
  static bool defined(S x) {
    return x >= simd::exp2_constants<S>::lowest;
  }
};
struct softplus_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 3;
  template <class V>
  static V of(V x) {
    return simd::softplus(x);
  }
  template <class R>
  static R truth(R x) {
    return (x > 0 ? x : 0) + std::log1p(std::exp(-std::abs(x)));
  }
  template <class S>
  static bool defined(S x) {
    return x >= (sizeof(S) == 4 ? S(-87.3) : S(-708.3));
  }
};
struct silu_function {
  static constexpr bool monotone = false;
  static constexpr double limit = maslin::fused_family ? 3 : 4;
  template <class V>
  static V of(V x) {
    return simd::silu(x);
  }
  template <class R>
  static R truth(R x) {
    return x / (1 + std::exp(-x));
  }
  /// Where the sigmoid in it is a normal number.
  template <class S>
  static bool defined(S x) {
    return x >= (sizeof(S) == 4 ? S(-87.3) : S(-708.3)) && x <= std::numeric_limits<S>::max();
  }
};
struct phi1_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 6;
  template <class V>
  static V of(V x) {
    return simd::phi1(x, simd::exp(x));
  }
  template <class R>
  static R truth(R x) {
    return std::abs(x) > 0 ? std::expm1(x) / x : 1;
  }
  /// As far as exp(x) is finite.
  template <class S>
  static bool defined(S x) {
    return x >= -std::numeric_limits<S>::max() && x <= (sizeof(S) == 4 ? S(88.7) : S(709.7));
  }
};
struct phi1_slope_function {
  static constexpr bool monotone = false;
  static constexpr double limit = 10;
  template <class V>
  static V of(V x) {
    const V e = simd::exp(x);
    return simd::phi1_slope(x, e, simd::phi1(x, e));
  }
  template <class R>
  static R truth(R x) {
    if (std::abs(x) > 2) return (std::exp(x) - std::expm1(x) / x) / x;
    R sum = 0, term = R(0.5);
    for (int k = 0; k < 40; ++k) {
      sum += term;
      term *= x * (k + 2) / R((k + 1) * (k + 3));
    }
    return sum;
  }
  template <class S>
  static bool defined(S x) {
    return std::abs(x) < (sizeof(S) == 4 ? S(88) : S(700));
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

/// Dense stretches around 0, around the ends of the domains, and where the reduction by multiples
/// of ln 2 changes its multiple.
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
                   "[simd][math][ulp]", exp_function, exp_nonpositive_function, exp2_function,
                   softplus_function, silu_function, silu_gate_function, phi1_function,
                   phi1_slope_function, sigmoid_function, tanh_function, kept_function,
                   lost_function, log1p_function) {
  findings<float> sample, dense;
  run<TestType>(every<float>(4099), sample);
  check<TestType>(sample);
  run_stretches<TestType>(dense);
  check<TestType>(dense);
}

TEMPLATE_TEST_CASE("functions of double are within their limits over a sample of doubles",
                   "[simd][math][ulp]", exp_function, exp_nonpositive_function, exp2_function,
                   softplus_function, silu_function, silu_gate_function, phi1_function,
                   phi1_slope_function, sigmoid_function, tanh_function, kept_function,
                   lost_function, log1p_function) {
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
                   exp2_function, softplus_function, silu_function, silu_gate_function,
                   phi1_function, phi1_slope_function, sigmoid_function, tanh_function,
                   kept_function, lost_function, log1p_function) {
  findings<float> seen;
  constexpr std::uint32_t block = 1u << 16;
  for (std::uint32_t i = 0; i < 1u << 16; ++i)
    run<TestType>(stretch(from_key<float>(i * block), int(block)), seen);
  WARN("worst " << seen.worst << " at " << seen.worst_at << " of " << seen.compared);
  check<TestType>(seen);
}

TEMPLATE_TEST_CASE("exp2 has the relative error that kernels count with", "[simd][math][ulp]",
                   float, double) {
  using S = TestType;
  const double allowed = sizeof(S) == 4 ? 3 : 1.6;
  const real<S> unit = std::numeric_limits<S>::epsilon() / 2;
  maslin::test::random numbers(3);
  double worst = 0;
  for (int i = 0; i < 400000; ++i) {
    const S x = S(numbers.uniform(-1, 1));
    const real<S> truth = std::exp2(real<S>(x));
    worst = std::max(worst, double(std::abs(simd::exp2(x, S(1)) - truth) / (truth * unit)));
  }
  CAPTURE(worst);
  // Outside the FMA family the polynomial's products round too.
  CHECK(worst <= (maslin::fused_family ? allowed : allowed + 0.5));
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
  const S lowest = simd::exp2_constants<S>::lowest, beyond = simd::exp2_constants<S>::beyond;
  CHECK(simd::exp2(S(0), S(7)) == 1);
  CHECK(simd::exp2(S(0.5), S(-6)) == S(0.125));
  CHECK(simd::exp2(lowest, S(1)) == std::numeric_limits<S>::min());
  CHECK(simd::exp2(std::nextafter(lowest, -inf), S(1)) == 0);
  CHECK(simd::exp2(S(-1e4), S(20)) == 0);
  CHECK(simd::exp2(S(1), beyond) == inf);
  CHECK(simd::exp2(S(1), -inf) == 0);
  CHECK(simd::exp2(S(1), inf) == inf);
  CHECK(std::isnan(simd::exp2(nan, S(1))));
  CHECK(std::isnan(simd::exp2(S(0), inf)));
  CHECK(simd::softplus(below) == 0);
  CHECK(simd::softplus(-inf) == 0);
  CHECK(simd::softplus(S(100)) == S(100));
  CHECK(simd::softplus(inf) == inf);
  CHECK(std::isnan(simd::softplus(nan)));
  CHECK(simd::silu(S(0)) == 0);
  CHECK(simd::silu(std::numeric_limits<S>::lowest()) == 0);
  CHECK(simd::silu(S(1000)) == S(1000));
  CHECK(simd::silu(inf) == inf);
  CHECK(std::isnan(simd::silu(-inf)));
  CHECK(std::isnan(simd::silu(nan)));
  CHECK(simd::silu_gate(-inf) == 0);
  CHECK(simd::silu_gate(S(0)) == S(0.5));
  CHECK(simd::silu_gate(inf) == 1);
  CHECK(std::isnan(simd::silu_gate(nan)));
  CHECK(simd::silu_slope(S(0), S(0.5)) == S(0.5));
  CHECK(simd::phi1(S(0), S(1)) == 1);
  CHECK(simd::phi1(std::numeric_limits<S>::min(), S(1)) == 1);
  CHECK(simd::phi1(S(-4e5), S(0)) == S(2.5e-6));
  CHECK(std::isnan(simd::phi1(nan, nan)));
  CHECK(simd::phi1_slope(S(0), S(1), S(1)) == S(0.5));
  CHECK(std::isnan(simd::phi1_slope(nan, nan, nan)));
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
  const auto none = simd::exp2_and_complement(S(0)), all = simd::exp2_and_complement(-inf);
  CHECK((none.kept == 1 && none.lost == 0));
  CHECK((all.kept == 0 && all.lost == 1));
  CHECK(simd::exp2_and_complement(S(-3)).kept == S(0.125));
  CHECK(simd::exp2_and_complement(S(-3)).lost == S(0.875));
  CHECK(simd::log1p_of_unit(S(0)) == 0);
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
            same_lanes(V(simd::exp2(wide, V(lane<V>::broadcast(S(1.5))))), simd::exp2(x, S(1.5))) &&
            same_lanes(V(simd::softplus(wide)), simd::softplus(x)) &&
            same_lanes(V(simd::silu(wide)), simd::silu(x)) &&
            same_lanes(V(simd::silu_gate(wide)), simd::silu_gate(x)) &&
            same_lanes(V(simd::phi1(wide, V(simd::exp(wide)))), simd::phi1(x, simd::exp(x))) &&
            same_lanes(phi1_slope_function::of(wide), phi1_slope_function::of(x)) &&
            same_lanes(V(simd::sigmoid(wide)), simd::sigmoid(x)) &&
            same_lanes(V(simd::tanh(wide)), simd::tanh(x));
    const S decay = -std::abs(x);
    const auto parts = simd::exp2_and_complement(V(lane<V>::broadcast(decay)));
    const auto one = simd::exp2_and_complement(decay);
    equal = equal && same_lanes(parts.kept, one.kept) && same_lanes(parts.lost, one.lost);
  };
  for (int i = 0; i < 20000; ++i) {
    const S x = S(20 * numbers.normal());
    compare(std::type_identity<simd::native<S>>{}, x);
    compare(std::type_identity<middle>{}, x);
    compare(std::type_identity<narrow>{}, x);
    compare(std::type_identity<simd::twin<simd::native<S>>>{}, x);
  }
  CHECK(equal);
}

TEMPLATE_TEST_CASE("weights of a softmax err by 3 u and what rounding the logarithm of e costs",
                   "[simd][math][ulp]", float, double) {
  using S = TestType;
  using V = simd::native<S>;
  const double u = std::ldexp(0.5, 1 - std::numeric_limits<S>::digits);
  const S lowest = sizeof(S) == 4 ? S(-87.3) : S(-708.3);
  double worst = 0;
  for (int i = 0; i <= 200000; ++i) {
    const S x = lowest * static_cast<S>(i) / S(200000);
    const real<S> want = std::exp(real<S>(x));
    const S got = simd::exp_weight(x);
    const double size = std::abs(static_cast<double>(x)) * (maslin::fused_family ? 0.25 : 1.25);
    const double error = std::abs(static_cast<double>((got - want) / want));
    worst = std::max(worst, error / (u * (3 + size)));
    S lanes[64];
    lane<V>::store(lanes, simd::exp_weight(lane<V>::broadcast(x)));
    if (lanes[0] != got) FAIL("registers and numbers differ at " << x);
  }
  CHECK(worst <= 1);
  constexpr S infinity = std::numeric_limits<S>::infinity();
  CHECK(simd::exp_weight(S(0)) == 1);
  CHECK(simd::exp_weight(-infinity) == 0);
  CHECK(simd::exp_weight(sizeof(S) == 4 ? S(-89) : S(-710)) == 0);
  // Any payload of a NaN stays a NaN.
  for (const word<S> payload : {word<S>(1), word<S>(0xdead), word<S>(0x1ff)}) {
    const auto bits = std::bit_cast<word<S>>(std::numeric_limits<S>::quiet_NaN()) | payload;
    CHECK(std::isnan(simd::exp_weight(std::bit_cast<S>(static_cast<word<S>>(bits)))));
  }
}

TEMPLATE_TEST_CASE("log is within 3 ulp from the smallest number to the largest",
                   "[simd][math][ulp]", float, double) {
  using S = TestType;
  double worst = 0;
  maslin::test::random r(9);
  for (int i = 0; i < 200000; ++i) {
    const int range = std::numeric_limits<S>::max_exponent;
    const int e = static_cast<int>(r.between(-range - 20, range - 1));
    const S x = std::ldexp(static_cast<S>(r.uniform(1, 2)), i % 3 == 0 ? 0 : e);
    if (x == 0) continue;
    worst = std::max(worst, ulps(simd::log(x), std::log(real<S>(x))));
  }
  CHECK(worst <= 3);
  constexpr S infinity = std::numeric_limits<S>::infinity();
  CHECK(simd::log(S(1)) == 0);
  CHECK(simd::log(S(0)) == -infinity);
  CHECK(simd::log(infinity) == infinity);
  CHECK(std::isnan(simd::log(S(-1))));
  CHECK(std::isnan(simd::log(std::numeric_limits<S>::quiet_NaN())));
}
