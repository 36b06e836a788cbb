// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// exp, exp2, softplus, sigmoid, tanh and phi1 as fixed sequences of fma: the same bits on every
/// target of a family, for one lane or many. The polynomials are minimax fits made for these files.

#include <maslin/core/each.hpp>
#include <maslin/core/lane.hpp>

#include <bit>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::simd {

/// Coefficients of exp(r) = 1 + r + r^2 (c0 + c1 r + c2 r^2 + ...) on |r| <= ln(2) / 2, and the
/// split of ln 2 into a part whose small multiples are exact and the rest.
template <class S>
struct exp_constants;

template <>
struct exp_constants<float> {  // relative error of the polynomial 3.3e-9
  static constexpr float c[] = {0.4999999105930328369140625f, 0.16666521132119900387f,
                                4.16689626872539520264e-2f, 8.36867000907659530640e-3f,
                                1.37824646662920713425e-3f};
  static constexpr float log2e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f;  // 9 bits of mantissa
  static constexpr float ln2_low = -2.12194440054690583e-4f;
  static constexpr float magic = 12582912.0f + 127.0f;  // 1.5 * 2^23 + bias: low bits hold n + 127
  static constexpr float lowest = -88.0f;  // rounds to n = -127, whose 2^n reads as zero
  static constexpr float scaled_lowest = -104.0f, scaled_highest = 89.0f;
};

template <>
struct exp_constants<double> {  // relative error of the polynomial 3.8e-18
  static constexpr double c[] = {0.5000000000000011102230246251565404236316680908203125,
                                 0.166666666666664242679729568408220075070858001708984375,
                                 4.1666666666527067686143226410422357730567455291748046875e-2,
                                 8.3333333334870522690618344086033175699412822723388671875e-3,
                                 1.3888888944304325114009746044985149637795984745025634765625e-3,
                                 1.984126952244903599291425688733170318300835788249969482421875e-4,
                                 2.480149249563607180427485254803343650564784184098243713378906e-5,
                                 2.75575723291954258629336653452224226157341036014258861541748e-6,
                                 2.763043895704491005420582599994006045562855433672666549682617e-7,
                                 2.500446947687947721915582529380456255907461127208080142736435e-8};
  static constexpr double log2e = 1.4426950408889634074;
  static constexpr double ln2_high = 0.693147180369123816490;  // low 32 bits zero
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double magic = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52 + bias
  static constexpr double lowest = -709.0;                      // n = -1023
  static constexpr double scaled_lowest = -746.0, scaled_highest = 710.0;
};

/// exp(x) = scale (1 + rest) with scale a power of two.
template <class V>
struct exp_parts {
  V scale;  ///< 2^n; 0 for n below the smallest normal exponent
  V rest;   ///< exp(r) - 1, |r| <= ln(2) / 2
};

/// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2; `square` is r^2.
///
/// Coefficients are joined in pairs and the pairs by Horner's rule in r^2: no more operations than
/// Horner's rule in r, and two thirds of its latency.
template <class V>
[[nodiscard]] inline V exp_polynomial(V r, V square) noexcept {
  using L = lane<V>;
  using C = exp_constants<typename L::scalar>;
  constexpr int count = static_cast<int>(std::size(C::c));
  constexpr int pairs = (count + 1) / 2;
  const auto pair = [&](int k) {
    const V even = L::broadcast(C::c[2 * k]);
    return 2 * k + 1 < count ? L::fma(L::broadcast(C::c[2 * k + 1]), r, even) : even;
  };
  V p = pair(pairs - 1);
  each<pairs - 1>([&](int k) { p = L::fma(p, square, pair(pairs - 2 - k)); });
  return p;
}

/// exp(r) - 1 for |r| <= ln(2) / 2, with full relative precision near 0.
template <class V>
[[nodiscard]] inline V expm1_reduced(V r) noexcept {
  const V square = r * r;
  return lane<V>::fma(square, exp_polynomial(r, square), r);
}

/// The same for r + tail, |tail| far below |r|.
template <class V>
[[nodiscard]] inline V expm1_reduced(V r, V tail) noexcept {
  const V square = r * r;
  return lane<V>::fma(square, exp_polynomial(r, square), tail) + r;
}

/// The parts of exp(x) for lowest <= x <= 0 (callers clamp). `Precise` adds what the reduction of x
/// to r rounds away, a quarter of an ulp.
template <bool Precise = false, class V>
[[nodiscard]] inline exp_parts<V> exp_split(V x) noexcept {
  using L = lane<V>;
  using C = exp_constants<typename L::scalar>;
  const V shifted = L::fma(x, L::broadcast(C::log2e), L::broadcast(C::magic));
  const V n = shifted - L::broadcast(C::magic);
  const V exact = L::fma(n, L::broadcast(-C::ln2_high), x);
  const V r = L::fma(n, L::broadcast(-C::ln2_low), exact);
  if constexpr (Precise) {
    const V tail = L::fma(n, L::broadcast(-C::ln2_low), exact - r);
    return {L::to_exponent(shifted), expm1_reduced(r, tail)};
  } else {
    return {L::to_exponent(shifted), expm1_reduced(r)};
  }
}

/// exp(x) for x <= 0, the form that gate rows use: x is a logit less the row's largest.
/// numerics  at most 2 ulp for x >= -87.3; below -87.7 exactly 0 (double: -708.3 and -708.8);
///           exp(-0) = 1; NaN stays NaN; not for x > 0
template <class V>
[[nodiscard]] inline V exp_nonpositive(V x) noexcept {
  using L = lane<V>;
  const auto [scale, rest] =
      exp_split(L::max(L::broadcast(exp_constants<typename L::scalar>::lowest), x));
  return L::fma(scale, rest, scale);
}

/// exp(x) for every x.
/// numerics  at most 1 ulp, gradual underflow included; exp(-inf) = 0, exp(inf) = inf, NaN stays
///           NaN
template <class V>
[[nodiscard]] inline V exp(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = exp_constants<S>;
  const V low = L::broadcast(C::scaled_lowest), high = L::broadcast(C::scaled_highest);
  x = L::max(low, x);
  x = L::select(x > high, high, x);
  // 2^n in two factors, since n alone may leave the range of normal exponents.
  const V shifted = L::fma(x, L::broadcast(C::log2e), L::broadcast(C::magic));
  const V n = shifted - L::broadcast(C::magic);
  const V exact = L::fma(n, L::broadcast(-C::ln2_high), x);
  const V r = L::fma(n, L::broadcast(-C::ln2_low), exact);
  const V tail = L::fma(n, L::broadcast(-C::ln2_low), exact - r);
  const V half = L::fma(n, L::broadcast(S(0.5)), L::broadcast(C::magic));
  const V n1 = half - L::broadcast(C::magic);
  const V s1 = L::to_exponent(half);
  const V s2 = L::to_exponent((n - n1) + L::broadcast(C::magic));
  return L::fma(s1, expm1_reduced(r, tail), s1) * s2;
}

/// Coefficients of 2^r = 1 + r (c0 + c1 r + ...) on |r| <= 1/2, and of
/// atanh(s) = s + s^3 (a0 + a1 s^2 + ...) on |s| <= 1/3.
template <class S>
struct exp2_constants;

template <>
struct exp2_constants<float> {  // relative errors of the polynomials 9.2e-8 and 4.5e-9
  static constexpr float c[] = {0.6931470036506653f, 0.24022242426872253f, 0.05550733581185341f,
                                0.009671512991189957f, 0.0013264731969684362f};
  static constexpr float a[] = {0.3333320915699005f, 0.2001076340675354f, 0.14000895619392395f,
                                0.14006023108959198f};
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: low bits hold n
  static constexpr float lowest = -126.0f, beyond = 128.0f;
};

template <>
struct exp2_constants<double> {  // relative errors of the polynomials 3.4e-18 and 4.9e-17
  static constexpr double c[] = {
      0.6931471805599453,     0.2402265069591013,    0.055504108664820084,   0.00961812910759412,
      0.0013333558146774584,  0.0001540353045711177, 1.5252733493162957e-05, 1.321543528245539e-06,
      1.0178199557072967e-07, 7.073783225001668e-09, 4.434773523149006e-10};
  static constexpr double a[] = {0.3333333333333885,  0.19999999998024984, 0.14285714528985324,
                                 0.1111109645301361,  0.09091407016105772, 0.07682148108634086,
                                 0.06793153688210339, 0.04951428687497815, 0.08869839707016787};
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double lowest = -1022.0, beyond = 1024.0;
};

/// out[k] = 2^(a[k] b[k]) where that is a normal number, K of them side by side: no chain waits for
/// its own latency. For products from exp2_constants' lowest to below its beyond.
///
/// The product is rounded to an integer by adding and taking away a large number; what is left of
/// it is formed anew, so that the product itself is never rounded. The exponent is put in by an
/// addition of integers: in float eight slots of the fma pipes in all.
/// numerics  relative error at most 3 u in float, 1.6 u in double, and |log(2) a b| u more
///           outside the FMA family; exact for integers
template <int K, class V>
[[gnu::always_inline]] inline void exp2_normal(const V (&a)[static_cast<std::size_t>(K)],
                                               const V (&b)[static_cast<std::size_t>(K)],
                                               V (&out)[static_cast<std::size_t>(K)]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = exp2_constants<S>;
  constexpr int last = static_cast<int>(std::size(C::c)) - 1;
  const V magic = L::broadcast(C::magic);
  V shifted[static_cast<std::size_t>(K)], r[static_cast<std::size_t>(K)],
      p[static_cast<std::size_t>(K)];
  unrolled<K>([&](auto k) { shifted[k] = L::fma(a[k], b[k], magic); });
  unrolled<K>([&](auto k) { r[k] = L::fma(a[k], b[k], magic - shifted[k]); });
  unrolled<K>([&](auto k) { p[k] = L::broadcast(C::c[last]); });
  unrolled<last>([&](auto i) {
    unrolled<K>([&](auto k) { p[k] = L::fma(p[k], r[k], L::broadcast(C::c[last - 1 - i])); });
  });
  unrolled<K>([&](auto k) { p[k] = L::fma(p[k], r[k], L::broadcast(S(1))); });
  unrolled<K>([&](auto k) { out[k] = L::add_exponent(p[k], shifted[k]); });
}

/// 2^(a b) for every a and b; the bits of `exp2_normal` where that is defined.
/// numerics  as above; 0 where the result is below the smallest normal number, inf above the
///           largest; a product that is NaN gives NaN
template <class V>
[[nodiscard]] inline V exp2(V a, V b) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = exp2_constants<S>;
  const V x = a * b;
  const V as[] = {a}, bs[] = {b};
  V inside[1];
  exp2_normal<1>(as, bs, inside);
  const auto normal = L::both(x >= L::broadcast(C::lowest), x < L::broadcast(C::beyond));
  // NaN takes this way too: an exponent added to its bits could make a number of it.
  const V outside = L::select(x < L::broadcast(S(0)), L::broadcast(S(0)),
                              x * L::broadcast(std::numeric_limits<S>::infinity()));
  return L::select(normal, inside[0], outside);
}

/// x[k] <- exp(x[k]) for x <= 0 as the weights of a softmax, K of them side by side: x is a score less the
/// largest one, which rounding may leave a little above 0. The product x log2(e) is formed twice and never
/// rounded, as in `exp2_normal`; the power of two is a factor here, so that every NaN stays one: eight
/// slots of the fma pipes in float.
/// numerics  relative error at most 3 u + |x| u / 4 in float (log2(e) itself is rounded; |x| u more
///           outside the FMA family), 2 u + |x| u / 4 in double; exp(0) = 1; 0 below -88 (double:
///           -709); NaN stays NaN
template <int K, class V>
[[gnu::always_inline]] inline void exp_weights(V (&x)[static_cast<std::size_t>(K)]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  using C = exp2_constants<S>;
  constexpr int last = static_cast<int>(std::size(C::c)) - 1;
  const V magic = L::broadcast(exp_constants<S>::magic);
  const V log2e = L::broadcast(exp_constants<S>::log2e);
  const V lowest = L::broadcast(exp_constants<S>::lowest);
  V scale[static_cast<std::size_t>(K)], p[static_cast<std::size_t>(K)];
  unrolled<K>([&](auto k) { x[k] = L::max(lowest, x[k]); });
  unrolled<K>([&](auto k) { scale[k] = L::fma(x[k], log2e, magic); });
  unrolled<K>([&](auto k) { x[k] = L::fma(x[k], log2e, magic - scale[k]); });
  unrolled<K>([&](auto k) { scale[k] = L::to_exponent(scale[k]); });
  unrolled<K>([&](auto k) { p[k] = L::broadcast(C::c[last]); });
  unrolled<last>([&](auto i) {
    unrolled<K>([&](auto k) { p[k] = L::fma(p[k], x[k], L::broadcast(C::c[last - 1 - i])); });
  });
  unrolled<K>([&](auto k) { x[k] = L::fma(p[k], x[k], L::broadcast(S(1))) * scale[k]; });
}
/// One of them.
template <class V>
[[nodiscard, gnu::always_inline]] inline V exp_weight(V x) noexcept {
  V one[1] = {x};
  exp_weights<1>(one);
  return one[0];
}

/// c[0] + c[1] x + ... by Horner's rule.
template <class V, class S, std::size_t Count>
[[nodiscard]] inline V horner(const S (&c)[Count], V x) noexcept {
  using L = lane<V>;
  V p = L::broadcast(c[Count - 1]);
  each<Count - 1>([&](std::size_t k) { p = L::fma(p, x, L::broadcast(c[Count - 2 - k])); });
  return p;
}

/// exp(-|x|), what sigmoid is made of: 0 for |x| above 88 (double: 709).
template <class V>
[[nodiscard, gnu::always_inline]] inline V exp_of_negated_size(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V floor = L::broadcast(exp_constants<S>::lowest);
  const auto [scale, rest] = exp_split<true>(L::max(floor, L::broadcast(S(0)) - L::abs(x)));
  return L::fma(scale, rest, scale);
}

/// The natural logarithm of one number: x = 2^n f with f in [sqrt(1/2), sqrt(2)), and log f =
/// 2 atanh((f - 1) / (f + 1)).
/// numerics  at most 3 ulp; exact at 1; log(0) = -inf, log(inf) = inf; NaN below 0, NaN stays NaN
template <std::floating_point S>
[[nodiscard]] inline S log(S x) noexcept {
  constexpr S infinity = std::numeric_limits<S>::infinity();
  if (x == 0) return -infinity;
  if (!(x > 0)) return std::numeric_limits<S>::quiet_NaN();
  if (x == infinity) return x;
  using word = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  constexpr int mantissa = std::numeric_limits<S>::digits - 1;
  constexpr int bias = std::numeric_limits<S>::max_exponent - 1;
  int n = 0;
  if (x < std::numeric_limits<S>::min()) {
    x = x * static_cast<S>(word{1} << mantissa);
    n = -mantissa;
  }
  // What is added carries into the exponent where the mantissa is at least that of sqrt(2).
  constexpr word root_half = std::bit_cast<word>(static_cast<S>(0.70710678118654752440));
  const word bits = std::bit_cast<word>(x) + (std::bit_cast<word>(S(1)) - root_half);
  n += static_cast<int>(bits >> mantissa) - bias;
  const S f = std::bit_cast<S>((bits & ((word{1} << mantissa) - 1)) + root_half);
  using L = lane<S>;
  const S s = (f - 1) / (f + 1), square = s * s, twice = s + s;
  const S tail = L::fma(twice * square, horner(exp2_constants<S>::a, square),
                        static_cast<S>(n) * exp_constants<S>::ln2_low);
  return L::fma(static_cast<S>(n), exp_constants<S>::ln2_high, twice + tail);
}

/// (exp(x) - 1) / x, and 1 at 0; `e` is exp(x), which its callers have.
/// numerics  at most 6 ulp, near 0 too, where nothing is subtracted; NaN stays NaN
template <class V>
[[nodiscard]] inline V phi1(V x, V e) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V one = L::broadcast(S(1));
  const V near = L::fma(x, exp_polynomial(x, x * x), one);
  const auto small = L::abs(x) <= L::broadcast(S(0.34657359));
  return L::select(small, near, L::div(e - one, x));
}

/// The derivative of phi1, (exp(x) - phi1(x)) / x, 1/2 at 0; `e` is exp(x) and `phi` is phi1(x). The
/// difference cancels where |x| is small: up to 1 this is the series sum_k (k + 1) x^k / (k + 2)!
/// numerics  at most 10 ulp; NaN stays NaN
template <class V>
[[nodiscard]] inline V phi1_slope(V x, V e, V phi) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  // The first term left out is below a tenth of an ulp at |x| = 1.
  constexpr int terms = sizeof(S) == 4 ? 11 : 19;
  struct series {
    S c[static_cast<std::size_t>(terms)];
    constexpr series() : c() {
      double term = 0.5;
      for (int k = 0; k < terms; ++k) {
        c[k] = static_cast<S>(term);
        term = term * (k + 2) / ((k + 1) * (k + 3));
      }
    }
  };
  static constexpr series taylor;
  const auto small = L::abs(x) <= L::broadcast(S(1));
  // By fma, since phi may be a product, which a compiler would contract with a difference.
  const V difference = L::fma(L::broadcast(S(-1)), phi, e);
  return L::select(small, horner(taylor.c, x), L::div(difference, x));
}

/// 1 / (1 + exp(-x)); `e` is what `exp_of_negated_size` gives.
/// numerics  at most 2 ulp where the result is normal (3 outside the FMA family); sigmoid(-inf) =
///           0, sigmoid(inf) = 1, NaN stays NaN
template <class V>
[[nodiscard, gnu::always_inline]] inline V sigmoid(V x, V e) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  // For negative x the quotient e / (1 + e), which does not cancel.
  const V numerator = L::select(x < zero, e, one);
  const V sum = one + e;
  const V quotient = L::div(numerator, sum);
  if constexpr (!fused_family) {
    return quotient;
  } else {
    // What the sum and the division rounded away, put back: 3/2 - sum / 2 is 1 / sum to 12 %.
    const V lost = e - (sum - one);
    const V residual = L::fma(zero - quotient, lost, L::fma(zero - quotient, sum, numerator));
    return L::fma(residual, L::fma(L::broadcast(S(-0.5)), sum, L::broadcast(S(1.5))), quotient);
  }
}
template <class V>
[[nodiscard, gnu::always_inline]] inline V sigmoid(V x) noexcept {
  return sigmoid(x, exp_of_negated_size(x));
}

/// tanh x = -m / (m + 2) for x >= 0, with m = exp(-2 x) - 1; odd.
/// numerics  at most 3 ulp, near 0 too; tanh(+-inf) = +-1; tanh(0) is
///           a zero of either sign; NaN stays NaN
template <class V>
[[nodiscard]] inline V tanh(V x) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  // tanh is 1 to the last bit long before -2|x| reaches this, which keeps 2^n normal.
  const V floor = L::broadcast(S(-80));
  const V twice = L::abs(x) * L::broadcast(S(-2));
  const auto [scale, rest] = exp_split(L::max(floor, twice));
  const V m = L::fma(scale, rest, scale - L::broadcast(S(1)));
  const V t = L::div(m, m + L::broadcast(S(2)));  // <= 0, the sign of -|x|
  return L::select(x > L::broadcast(S(0)), L::broadcast(S(0)) - t, t);
}

}  // namespace maslin::inline MASLIN_ABI::simd
