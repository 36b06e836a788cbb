// SPDX-License-Identifier: Apache-2.0
// The oracle is tested against what can be known without it, and against maslin::reference, which
// is written apart from it: each checks the other.
#include "support/bound.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/bdlru.hpp>
#include <maslin/reference/diagonal.hpp>
#include <maslin/reference/hlru.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::decay;
using maslin::index_t;
using maslin::normalise;
using maslin::row_major;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr normalise kinds[] = {normalise::none,    normalise::softmax, normalise::sigmoid_l1,
                               normalise::relu_l1, normalise::tanh_l1, normalise::lin_l1};

template <class S>
std::vector<S> normal(maslin::test::random& numbers, index_t count, double deviation) {
  std::vector<S> values(static_cast<std::size_t>(count));
  numbers.fill_normal<S>(values, deviation);
  return values;
}

/// The worst ratio of a reference result to the bounds of the oracle.
double worst(const std::vector<double>& y, const std::vector<bounded<binary128>>& want,
             double factor) {
  REQUIRE(y.size() == want.size());
  worst_ratio ratio("reference");
  for (std::size_t i = 0; i < y.size(); ++i) {
    ratio.add(error_ratio(y[i], want[i], factor), [i] { return std::to_string(i); });
  }
  return ratio.value();
}

}  // namespace

TEST_CASE("the oracle's exponential is right far beyond double", "[support][bound]") {
  // ln 2 to 159 bits as three doubles, so exp(it) is 2.
  const binary128 ln2 =
      static_cast<binary128>(0x1.62e42fefa39efp-1) + 0x1.abc9e3b39803fp-56 + 0x1.7b57a079a1934p-111;
  CHECK(static_cast<double>(magnitude(exponential(ln2) - 2)) < 0x1p-105);
  for (double x = -700; x < 700; x += 3.7) {
    const binary128 e = exponential(static_cast<binary128>(x));
    CHECK(static_cast<double>(magnitude(e * exponential(static_cast<binary128>(-x)) - 1)) <
          0x1p-95);
    // The standard function is within a unit in the last place, the oracle has none to speak of.
    CHECK(std::abs(static_cast<double>(e / static_cast<binary128>(std::exp(x)) - 1)) < 0x1p-52);
  }
  CHECK(static_cast<double>(exponential(static_cast<binary128>(inf))) == inf);
  CHECK(static_cast<double>(exponential(static_cast<binary128>(-inf))) == 0);
  for (double x = 1e-300; x < 100; x *= 3.3) {
    const binary128 t = hyperbolic_tangent(static_cast<binary128>(x));
    CHECK(std::abs(static_cast<double>(t / static_cast<binary128>(std::tanh(x)) - 1)) < 0x1p-50);
    CHECK(hyperbolic_tangent(static_cast<binary128>(-x)) == -t);
  }
}

TEST_CASE("S and W of a scalar recurrence are those of the error bound", "[support][bound]") {
  const std::vector<float> a{0.5f, -0.25f, 2}, x{-1, 3, 4}, h0{8};
  auto state = exact_state<double, float>(h0);
  const auto y = diagonal_bounds<double, float>(decay::value, row_major(a.data(), 1, 3, 1),
                                                row_major(x.data(), 1, 3, 1), state);
  // S = |a| S + |x|, W = |a| (W + S before) + |x|
  const double values[] = {3, 2.25, 8.5}, s[] = {5, 4.25, 12.5}, w[] = {5, 5.5, 23.5};
  for (std::size_t t = 0; t < 3; ++t) {
    CHECK(y[t].value == values[t]);
    CHECK(y[t].s == s[t]);
    CHECK(y[t].w == w[t]);
  }
  CHECK(state[0].value == 8.5);
}

TEST_CASE("a result is held to the bound, no further and no less", "[support][bound]") {
  const bounded<double> want{.value = 1, .s = 1, .w = 4, .lost = 0};
  const float above = 1 + 2 * std::numeric_limits<float>::epsilon();  // 4 u away
  CHECK(error_ratio(above, want, 1) == 1);
  CHECK(error_ratio(above, want, 0.5) == 2);
  CHECK(error_ratio(1.0f, want, 1) == 0);
  CHECK(error_ratio(std::numeric_limits<float>::quiet_NaN(), want, 1) == inf);
  const bounded<double> infinite{.value = inf, .s = inf, .w = inf, .lost = 0};
  CHECK(error_ratio(1.0f, infinite, 1) == inf);
  CHECK(error_ratio(-std::numeric_limits<float>::infinity(), infinite, 1) == 0);
}

TEST_CASE("oracle and reference agree within the bound of double", "[support][bound][reference]") {
  maslin::test::random numbers(1);
  const index_t B = 2, T = 60, G = 3;
  for (const decay form : {decay::value, decay::log, decay::complement}) {
    const auto x = normal<double>(numbers, B * T * G, 1);
    auto gate = normal<double>(numbers, B * T * G, 0.4), h = normal<double>(numbers, B * G, 1),
         y = x;
    auto state = exact_state<binary128, double>(h);
    const auto z = row_major(gate.data(), B, T, G);
    const auto v = row_major(x.data(), B, T, G);
    maslin::reference::diagonal(form, z, v, row_major(h.data(), B, G),
                                row_major(y.data(), B, T, G));
    const auto want = diagonal_bounds<binary128, double>(form, z, v, state);
    // The reference has a product and a sum, which the compiler may or may not fuse.
    const double factor = error_factor(walk::sequential, form) + 1;
    CHECK(worst(y, want, factor) <= 1);
    CHECK(worst(h, state, factor) <= 1);
  }
  for (const normalise kind : kinds) {
    for (const index_t M : {1, 2, 5, 8}) {
      CAPTURE(static_cast<int>(kind), M);
      const double deviation = kind == normalise::none ? 0.3 / static_cast<double>(M) : 2;
      const auto gate = normal<double>(numbers, B * T * G * M * (M + 1), deviation);
      const auto x = normal<double>(numbers, B * T * G * M, 1);
      const auto h0 = normal<double>(numbers, B * G * M, 1);
      const double factor =
          error_factor(walk::sequential, static_cast<int>(M), kind) + static_cast<double>(M + 1);

      std::vector<double> h = h0, y(static_cast<std::size_t>(B * T * G));
      auto state = exact_state<binary128, double>(h0);
      const auto z = row_major(gate.data(), B, T, G, M + 1);
      const auto v = row_major(x.data(), B, T, G);
      maslin::reference::hlru(kind, z, v, row_major(h.data(), B, G, M),
                              row_major(y.data(), B, T, G));
      CHECK(worst(y, hlru_bounds<binary128, double>(kind, z, v, state), factor) <= 1);
      CHECK(worst(h, state, factor) <= 1);

      h = h0;
      y.resize(x.size());
      state = exact_state<binary128, double>(h0);
      const auto block_z = row_major(gate.data(), B, T, G, M, M + 1);
      const auto block_v = row_major(x.data(), B, T, G, M);
      maslin::reference::bdlru(kind, block_z, block_v, row_major(h.data(), B, G, M),
                               row_major(y.data(), B, T, G, M));
      CHECK(worst(y, bdlru_bounds<binary128, double>(kind, block_z, block_v, state), factor) <= 1);
      CHECK(worst(h, state, factor) <= 1);
    }
  }
}

TEST_CASE("oracle and reference decide special rows alike", "[support][bound][guards]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::vector<double>> rows{
      {-inf, -inf, -inf},   {inf, 2, inf},          {inf, -inf, 2},     {nan, 1, 2},   {0, 0, 0},
      {1e-310, -1e-310, 0}, {1e308, 1e308, -1e308}, {-800, -801, -900}, {-1, -2, -inf}};
  for (const normalise kind : kinds) {
    for (const auto& z : rows) {
      CAPTURE(static_cast<int>(kind), z);
      std::vector<double> p = z;
      maslin::reference::normalise_row(kind, p);
      const auto want =
          coefficients<binary128>(kind, {z.begin(), z.end()}, std::numeric_limits<double>::min());
      for (std::size_t k = 0; k < p.size(); ++k) {
        const double exact = static_cast<double>(want[k]);
        CHECK((std::isnan(p[k]) == std::isnan(exact)));
        if (!std::isnan(exact) && exact != p[k]) {
          CHECK(std::abs(p[k] - exact) <= 10 * 0x1p-53 * std::abs(exact));
        }
      }
    }
  }
}
