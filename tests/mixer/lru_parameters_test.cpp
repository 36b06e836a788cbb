// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/view.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/lru_parameters.hpp>

#include <cmath>
#include <complex>
#include <vector>

using namespace maslin;
using maslin::test::unit_roundoff;

TEMPLATE_TEST_CASE("decays of a ring lie on it", "[mixer][lru][parameters]", float, double) {
  using S = TestType;
  maslin::test::random from(1);
  const S r_min = S(0.5), r_max = S(0.999), max_phase = S(0.6);
  double area = 0;
  constexpr int trials = 3000;
  for (int i = 0; i < trials; ++i) {
    const auto p = lru_ring(r_min, r_max, max_phase, static_cast<S>(from.uniform()),
                            static_cast<S>(from.uniform()));
    const auto decay = lru_decay(p);
    const double modulus = std::abs(std::complex<double>(decay)), u = unit_roundoff<S>;
    REQUIRE(modulus >= double{r_min} * (1 - 16 * u));
    REQUIRE(modulus <= double{r_max} * (1 + 16 * u));
    REQUIRE(std::arg(std::complex<double>(decay)) <= double{max_phase} * (1 + 16 * u));
    REQUIRE(decay.imag() >= 0);
    // The scale is that of the rounded modulus but for its condition, 1 / (1 - |decay|^2).
    const double scale = double{lru_input_scale(p)};
    REQUIRE(std::abs(scale * scale - (1 - modulus * modulus)) <= 16 * u);
    area += modulus * modulus;
  }
  // Uniform in area: the mean of |decay|^2 is the middle of the ring's squares.
  const double middle = (0.25 + 0.998001) / 2;
  CHECK(std::abs(area / trials - middle) <= 6 * 0.75 / std::sqrt(12.0 * trials));
}

TEST_CASE("known polar parameters", "[mixer][lru][parameters]") {
  // exp(nu) = ln 2 and exp(theta) = pi / 2: the decay is i / 2.
  const lru_parameters<double> p{std::log(std::log(2.0)), std::log(std::acos(0.0)), 0};
  const auto decay = lru_decay(p);
  CHECK(std::abs(decay.real()) <= 1e-16);
  CHECK(std::abs(decay.imag() - 0.5) <= 1e-16);
  CHECK(lru_input_scale(p) == 1);
  // Next to one, where 1 - |decay|^2 would cancel: gamma^2 = 2 exp(nu).
  const auto slow = lru_ring(1.0, 1.0 - 1e-12, 1.0, 1.0, 0.5);
  CHECK(std::abs(std::exp(2 * slow.gamma_log) / (2 * std::exp(slow.nu)) - 1) <= 1e-11);
}

TEST_CASE("steps of a continuous system compose, and hold a constant input",
          "[mixer][s4d][parameters]") {
  using number = std::complex<double>;
  for (const number A : {number(-0.5, 3), number(-1e-9, 1e-9), number(-20, 400), number(0, 1)}) {
    const double step = 0.01;
    const number once = continuous_decay(A, step), twice = continuous_decay(A, 2 * step);
    CHECK(std::abs(once * once - twice) <= 1e-15);
    // Two steps of a constant input are one of twice the length.
    const number held = continuous_input_scale(A, step);
    const number together = once * held + held;
    CHECK(std::abs(together - continuous_input_scale(A, 2 * step)) <= 1e-15 * std::abs(together));
  }
  CHECK(continuous_input_scale(number(), 0.25) == 0.25);
  // A small step is no difference of nearly equal numbers.
  const number tiny = continuous_input_scale(number(-1, 2), 1e-12);
  CHECK(std::abs(tiny / 1e-12 - 1.0) <= 3e-12);
}

TEST_CASE("an LRU answers an impulse with the powers of its decay", "[mixer][lru]") {
  using number = std::complex<double>;
  constexpr index_t D = 3, T = 40;
  std::vector<number> decay, input(static_cast<std::size_t>(T * D)), y(input.size());
  std::vector<double> scale;
  maslin::test::random from(2);
  for (index_t d = 0; d < D; ++d) {
    const auto p = lru_ring(0.8, 0.999, 3.1, from.uniform(), from.uniform());
    decay.push_back(lru_decay(p));
    scale.push_back(lru_input_scale(p));
    input[static_cast<std::size_t>(d)] = scale.back();
  }
  const diagonal<number> mixer{.channels = D, .decay = row_major(std::as_const(decay).data(), D)};
  auto state = mixer.make_state();
  mixer.scan(exec::sequential{},
             {.gate = {}, .input = row_major(std::as_const(input).data(), 1, T, D)},
             row_major(y.data(), 1, T, D), state);
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      const auto c = static_cast<std::size_t>(d);
      const number want = scale[c] * std::pow(decay[c], static_cast<double>(t));
      CHECK(std::abs(y[static_cast<std::size_t>(t * D + d)] - want) <=
            8 * static_cast<double>(t + 1) * unit_roundoff<double> * std::abs(want));
    }
}
