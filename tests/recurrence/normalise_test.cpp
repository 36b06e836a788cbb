// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <maslin/recurrence/normalise.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/twin.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::lane;
using maslin::normalise;
namespace simd = maslin::simd;

template <normalise N>
using kind = std::integral_constant<normalise, N>;
template <int K>
using row_size = std::integral_constant<int, K>;

/// Calls f(kind, K) for every normalisation and rows of K logits.
template <class F>
void for_each_row(F&& f) {
  const auto sizes = [&](auto n) { f(n, row_size<2>{}), f(n, row_size<3>{}), f(n, row_size<9>{}); };
  sizes(kind<normalise::none>{}), sizes(kind<normalise::softmax>{});
  sizes(kind<normalise::sigmoid_l1>{}), sizes(kind<normalise::relu_l1>{});
  sizes(kind<normalise::tanh_l1>{}), sizes(kind<normalise::lin_l1>{});
}

template <normalise N, class S, std::size_t K>
std::vector<S> normalised(const std::vector<S>& logits) {
  S z[K], p[K];
  std::memcpy(z, logits.data(), sizeof z);
  maslin::recurrence::normalise_row<N>(z, p);
  return {p, p + K};
}

/// Logits of the scale that `trial` picks, now and then 0 or far from the rest.
template <class S>
std::vector<S> logits(maslin::test::random& numbers, int count, int trial) {
  const double scales[] = {1e-6, 0.1, 1, 4, 20};
  std::vector<S> z;
  for (int k = 0; k < count; ++k) {
    const double x = scales[trial % 5] * numbers.normal();
    z.push_back(static_cast<S>(numbers.below(16) == 0 ? 0 : x));
  }
  return z;
}

}  // namespace

TEMPLATE_TEST_CASE("coefficients are within (K + 8) u of their formula, and what exponents round",
                   "[recurrence][normalise][accuracy]", float, double) {
  using S = TestType;
  using real = wider_t<S>;
  worst_ratio worst("normalise_row");
  for_each_row([&](auto n, auto k) {
    constexpr int K = k;
    constexpr normalise N = n;
    maslin::test::random numbers(K);
    for (int trial = 0; trial < 400; ++trial) {
      const auto z = logits<S>(numbers, K, trial);
      const auto p = normalised<N, S, std::size_t(K)>(z);
      const auto want = coefficients<real>(N, std::vector<real>(z.begin(), z.end()),
                                           double(std::numeric_limits<S>::min()));
      const S top = *std::max_element(z.begin(), z.end());
      for (std::size_t i = 0; i < std::size_t(K); ++i) {
        // The exponent z - max z is rounded once; exp makes an absolute error of it a relative one.
        const bool shifted = N == normalise::softmax || (N == normalise::sigmoid_l1 && top < 0);
        // In base 2 rounding log2(e) costs up to a quarter as much again (simd::exp_weights).
        const double roundings = N == normalise::softmax && maslin::fused_family ? 1.25 : 1;
        const double exponent = shifted ? roundings * std::abs(double(z[i]) - double(top)) : 0;
        // An exp below the smallest normal number is flushed to 0.
        const real allowed = real((K + 8 + exponent) * unit_roundoff<S>) * magnitude(want[i]) +
                             real(std::numeric_limits<S>::min());
        worst.add(double(magnitude(real(p[i]) - want[i]) / allowed), [&] {
          return "kind " + std::to_string(int(N)) + ", K " + std::to_string(K) + ", trial " +
                 std::to_string(trial);
        });
      }
    }
  });
  CAPTURE(worst);
  CHECK(worst.value() <= 1);
}

TEMPLATE_TEST_CASE("given gates are passed on as they are", "[recurrence][normalise][none]", float,
                   double) {
  using S = TestType;
  const std::vector<S> z{S(1.5), std::numeric_limits<S>::infinity(), S(-0.0)};
  const auto p = normalised<normalise::none, S, 3>(z);
  CHECK(std::memcmp(p.data(), z.data(), 3 * sizeof(S)) == 0);
}

namespace {

/// Whether rows of K logits in V have the bytes of rows alone, special ones beside ordinary ones.
template <normalise N, std::size_t K, class V>
bool lanes_have_scalar_bytes() {
  using S = typename lane<V>::scalar;
  constexpr int W = lane<V>::width;
  constexpr S inf = std::numeric_limits<S>::infinity(), nan = std::numeric_limits<S>::quiet_NaN();
  constexpr S huge = std::numeric_limits<S>::max(), tiny = std::numeric_limits<S>::denorm_min();
  const S special[] = {inf, -inf, nan, huge, -huge, tiny, 0, S(-0.0)};
  maslin::test::random numbers(K);
  bool equal = true;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<std::vector<S>> z;
    for (int l = 0; l < W; ++l) {
      z.push_back(logits<S>(numbers, int(K), trial));
      // Special rows beside ordinary ones: what one lane needs must not change another.
      if (trial % 2 == 0 && numbers.below(3) == 0)
        for (S& x : z.back())
          if (numbers.below(2) == 0) x = special[numbers.below(8)];
    }
    V wide[K], p[K];
    alignas(64) S column[std::size_t(W)];
    for (std::size_t i = 0; i < K; ++i) {
      for (int l = 0; l < W; ++l) column[l] = z[std::size_t(l)][i];
      wide[i] = lane<V>::load(column);
    }
    maslin::recurrence::normalise_row<N>(wide, p);
    for (std::size_t l = 0; l < std::size_t(W); ++l) {
      const auto want = normalised<N, S, K>(z[l]);
      for (std::size_t i = 0; i < K; ++i) {
        lane<V>::store(column, p[i]);
        // Which NaN it is is not promised.
        equal = equal && ((std::isnan(want[i]) && std::isnan(column[l])) ||
                          std::memcmp(&want[i], &column[l], sizeof(S)) == 0);
      }
    }
  }
  return equal;
}

}  // namespace

TEMPLATE_TEST_CASE("every lane of a row has the bytes of a scalar", "[recurrence][normalise][bits]",
                   float, double) {
  using V = simd::native<TestType>;
  for_each_row([&](auto n, auto k) {
    constexpr std::size_t K = k;
    constexpr normalise N = n;
    CAPTURE(int(N), K);
    CHECK(lanes_have_scalar_bytes<N, K, V>());
  });
  CHECK(lanes_have_scalar_bytes<normalise::softmax, 2, simd::twin<V>>());
}

TEMPLATE_TEST_CASE("a NaN logit makes its whole row NaN, wherever it stands",
                   "[recurrence][normalise][nan]", float, double) {
  using S = TestType;
  constexpr S inf = std::numeric_limits<S>::infinity(), nan = std::numeric_limits<S>::quiet_NaN();
  for_each_row([&](auto n, auto k) {
    constexpr std::size_t K = k;
    constexpr normalise N = n;
    if constexpr (N != normalise::none) {
      for (const S other : {S(0), S(1), inf, S(-inf)})
        for (std::size_t at = 0; at < K; ++at) {
          std::vector<S> z(K, other);
          z[at] = nan;
          CAPTURE(int(N), K, other, at);
          bool all = true;
          for (const S p : normalised<N, S, K>(z)) all = all && std::isnan(p);
          CHECK(all);
        }
    }
  });
}

TEMPLATE_TEST_CASE("rows without an ordinary norm have the coefficients of their limit",
                   "[recurrence][normalise][limits]", float, double) {
  using S = TestType;
  using row = std::vector<S>;
  constexpr S inf = std::numeric_limits<S>::infinity();
  constexpr S huge = std::numeric_limits<S>::max(), tiny = std::numeric_limits<S>::denorm_min();
  const S half = S(0.5), third = S(1) / S(3);
  const auto softmax = [](const row& z) { return normalised<normalise::softmax, S, 3>(z); };
  const auto sigmoid = [](const row& z) { return normalised<normalise::sigmoid_l1, S, 3>(z); };
  const auto relu = [](const row& z) { return normalised<normalise::relu_l1, S, 3>(z); };
  const auto tanh = [](const row& z) { return normalised<normalise::tanh_l1, S, 3>(z); };
  const auto lin = [](const row& z) { return normalised<normalise::lin_l1, S, 3>(z); };
  const row dead{-inf, -inf, -inf}, zeros{0, 0, 0};

  CHECK(softmax(dead) == zeros);
  CHECK(sigmoid(dead) == zeros);
  CHECK(relu(dead) == zeros);
  CHECK(tanh(dead) == row{-third, -third, -third});
  CHECK(lin(dead) == row{-third, -third, -third});

  CHECK(softmax({inf, 7, inf}) == row{half, 0, half});
  CHECK(sigmoid({inf, 0, -inf}) == row{S(1) / S(1.5), half / S(1.5), 0});
  CHECK(relu({inf, 7, inf}) == row{half, 0, half});
  CHECK(lin({inf, 7, -inf}) == row{half, 0, -half});

  CHECK(tanh(zeros) == zeros);
  CHECK(lin(zeros) == zeros);
  CHECK(lin({tiny, 0, -tiny}) == zeros);
  CHECK(lin({huge, -huge, 0}) == row{half, -half, 0});
  CHECK(relu({huge, huge, -huge}) == row{half, half, 0});

  // Weights far apart leave one.
  CHECK(softmax({1000, -1000, -1000}) == row{1, 0, 0});
  CHECK(softmax({S(1e30), S(1e30), -S(1e30)}) == row{half, half, 0});
  // Sigmoids of very negative logits keep their ratios, like the softmax that they tend to.
  const auto p = sigmoid({-1000, -1001, -2000});
  CHECK(std::abs(double(p[0] / p[1]) - std::exp(1.0)) <= 2 * (3 + 8) * unit_roundoff<S> * 3);
  CHECK(p[2] == 0);
}

TEMPLATE_TEST_CASE("softmax and sigmoid rows are not negative and sum to 1",
                   "[recurrence][normalise][bound]", float, double) {
  using S = TestType;
  for_each_row([&](auto n, auto k) {
    constexpr int K = k;
    constexpr normalise N = n;
    if constexpr (N != normalise::none) {
      maslin::test::random numbers(K);
      double largest = 0, smallest = 2, lowest = 0;
      for (int trial = 0; trial < 300; ++trial) {
        double norm = 0;
        for (const S p : normalised<N, S, std::size_t(K)>(logits<S>(numbers, K, trial))) {
          norm += std::abs(double(p));
          lowest = std::fmin(lowest, double(p));
        }
        largest = std::fmax(largest, norm);
        smallest = std::fmin(smallest, norm);
      }
      CAPTURE(int(N), K, largest, smallest);
      const double rounded = (K + 8) * unit_roundoff<S>;
      CHECK(largest <= 1 + rounded);
      constexpr bool sums_to_one = N != normalise::relu_l1;
      if (sums_to_one) CHECK(smallest >= 1 - rounded);
      if (N == normalise::softmax || N == normalise::sigmoid_l1 || N == normalise::relu_l1)
        CHECK(lowest == 0);
    }
  });
}

TEMPLATE_TEST_CASE("a row of a step is its gates and its gated input",
                   "[recurrence][normalise][interface]", float, double) {
  using S = TestType;
  const S z[] = {S(0.25), S(-1), S(3)};
  S p[3];
  maslin::recurrence::normalise_row<normalise::softmax>(z, p);
  const auto row =
      maslin::recurrence::normalised_row<normalise::softmax, S, 2>(z, [] { return S(5); });
  CHECK(row.gate[0] == p[0]);
  CHECK(row.gate[1] == p[1]);
  CHECK(row.input == p[2] * S(5));
}
