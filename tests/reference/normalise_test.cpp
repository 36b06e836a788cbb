// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/types.hpp>
#include <maslin/reference/normalise.hpp>

#include <cfloat>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace {

using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;
using maslin::normalise;
using row = std::vector<double>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double unit = DBL_EPSILON / 2;

row normalised(normalise kind, row z, double smallest_normal = DBL_MIN) {
  maslin::reference::normalise_row(kind, z, smallest_normal);
  return z;
}

/// The relative error that a computed coefficient may have: M + 8 units, here M + 1 = entries.
double row_error(const row& z) { return (static_cast<double>(z.size()) + 7) * unit; }

void check_row(const row& got, const row& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    CAPTURE(k);
    CHECK_THAT(got[k], WithinRel(want[k], row_error(want)) || WithinAbs(want[k], 0));
  }
}

double l1(const row& p) {
  double sum = 0;
  for (const double x : p) sum += std::abs(x);
  return sum;
}

row logits(maslin::test::random& numbers, std::size_t entries) {
  row z(entries);
  numbers.fill_normal<double>(z, 3);
  return z;
}

}  // namespace

TEST_CASE("each normalisation gives the coefficients worked out by hand",
          "[reference][normalise]") {
  const double ln2 = std::log(2.0), ln3 = std::log(3.0);
  check_row(normalised(normalise::none, {3, -4, 0.5}), {3, -4, 0.5});
  check_row(normalised(normalise::softmax, {ln2, 0, 0}), {0.5, 0.25, 0.25});
  // sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(-ln 3) = 1/4.
  check_row(normalised(normalise::sigmoid_l1, {ln3, 0, -ln3}), {1.0 / 2, 1.0 / 3, 1.0 / 6});
  check_row(normalised(normalise::relu_l1, {1, -2, 3}), {1 / 4.003, 0, 3 / 4.003});
  // tanh(ln 3) = 4/5, tanh(ln(3) / 2) = 1/2.
  check_row(normalised(normalise::tanh_l1, {ln3, -ln3 / 2, 0}), {0.8 / 1.3, -0.5 / 1.3, 0});
  check_row(normalised(normalise::lin_l1, {1, -2, 3}), {1.0 / 6, -2.0 / 6, 3.0 / 6});
}

TEST_CASE("the coefficients of a row have the sum and the signs of its normalisation",
          "[reference][normalise]") {
  maslin::test::random numbers(1);
  for (const std::size_t entries : {2u, 3u, 5u, 9u, 17u}) {
    const row z = logits(numbers, entries);
    CAPTURE(entries);
    for (const normalise kind :
         {normalise::softmax, normalise::sigmoid_l1, normalise::tanh_l1, normalise::lin_l1}) {
      CHECK_THAT(l1(normalised(kind, z)), WithinAbs(1, row_error(z)));
    }
    for (const normalise kind : {normalise::softmax, normalise::sigmoid_l1}) {
      for (const double p : normalised(kind, z)) CHECK(p > 0);
    }
    for (const normalise kind : {normalise::tanh_l1, normalise::lin_l1}) {
      const row p = normalised(kind, z);
      for (std::size_t k = 0; k < entries; ++k) CHECK(std::signbit(p[k]) == std::signbit(z[k]));
    }
    const double floor = 0.001 * static_cast<double>(entries);
    double n = floor;
    for (const double x : z) n += std::fmax(x, 0);
    CHECK_THAT(l1(normalised(normalise::relu_l1, z)), WithinAbs(1 - floor / n, row_error(z)));
  }
}

TEST_CASE("softmax does not see a shift of all logits, lin_l1 no positive factor",
          "[reference][normalise]") {
  maslin::test::random numbers(2);
  for (const std::size_t entries : {2u, 5u, 17u}) {
    const row z = logits(numbers, entries);
    row shifted = z, scaled = z;
    // Multiples of 2^-8 within +-2^10: adding the shift is exact.
    for (double& x : shifted) x = std::round(x * 256) / 256;
    const row plain = normalised(normalise::softmax, shifted);
    for (double& x : shifted) x += 777.5;
    CHECK(normalised(normalise::softmax, shifted) == plain);
    for (double& x : scaled) x *= 0x1p40;
    CHECK(normalised(normalise::lin_l1, scaled) == normalised(normalise::lin_l1, z));
  }
}

TEST_CASE("a softmax row of two is a sigmoid of the difference", "[reference][normalise]") {
  for (const double difference : {-30.0, -1.5, 0.0, 0.25, 7.0, 40.0}) {
    const row p = normalised(normalise::softmax, {difference, 0});
    check_row(p, {1 / (1 + std::exp(-difference)), 1 / (1 + std::exp(difference))});
  }
}

TEST_CASE("a row without weight gives zeros", "[reference][normalise][guards]") {
  const row zeros{0, 0, 0};
  CHECK(normalised(normalise::softmax, {-inf, -inf, -inf}) == zeros);
  CHECK(normalised(normalise::sigmoid_l1, {-inf, -inf, -inf}) == zeros);
  CHECK(normalised(normalise::relu_l1, {-1, -inf, 0}) == zeros);
  CHECK(normalised(normalise::tanh_l1, {0, -0.0, 0}) == zeros);
  CHECK(normalised(normalise::lin_l1, {0, -0.0, 0}) == zeros);
}

TEST_CASE("a norm below the smallest normal number gives zeros, one above does not",
          "[reference][normalise][guards]") {
  for (const normalise kind : {normalise::tanh_l1, normalise::lin_l1}) {
    CHECK(normalised(kind, {DBL_MIN / 4, -DBL_MIN / 4, 0}) == row{0, 0, 0});
    check_row(normalised(kind, {DBL_MIN, -DBL_MIN, 0}), {0.5, -0.5, 0});
    const double float_min = FLT_MIN;
    CHECK(normalised(kind, {float_min / 4, float_min / 2}, FLT_MIN) == row{0, 0});
    check_row(normalised(kind, {float_min, -float_min}, FLT_MIN), {0.5, -0.5});
    check_row(normalised(kind, {float_min / 4, float_min / 4}), {0.5, 0.5});
  }
}

TEST_CASE("infinite logits share the row", "[reference][normalise][guards]") {
  CHECK(normalised(normalise::softmax, {inf, 3, inf, -inf}) == row{0.5, 0, 0.5, 0});
  CHECK(normalised(normalise::relu_l1, {inf, 3, inf, -inf}) == row{0.5, 0, 0.5, 0});
  CHECK(normalised(normalise::lin_l1, {inf, 3, 0, -inf}) == row{0.5, 0, 0, -0.5});
  // The functions have limits, and finite logits keep their weight beside them.
  CHECK(normalised(normalise::sigmoid_l1, {inf, 0, -inf, -inf}) == row{1 / 1.5, 0.5 / 1.5, 0, 0});
  CHECK(normalised(normalise::tanh_l1, {inf, 0, -inf, 0}) == row{0.5, 0, -0.5, 0});
  CHECK(normalised(normalise::softmax, {-inf, 1, -inf}) == row{0, 1, 0});
  CHECK(normalised(normalise::sigmoid_l1, {-inf, -1, -inf}) == row{0, 1, 0});
}

TEST_CASE("one NaN logit makes the whole row NaN", "[reference][normalise][guards]") {
  for (const normalise kind : {normalise::softmax, normalise::sigmoid_l1, normalise::relu_l1,
                               normalise::tanh_l1, normalise::lin_l1}) {
    for (std::size_t at = 0; at < 3; ++at) {
      for (const double other : {-1.0, 2.0, inf, -inf}) {
        row z(3, other);
        z[at] = not_a_number;
        for (const double p : normalised(kind, z)) CHECK(std::isnan(p));
      }
    }
  }
  const row given = normalised(normalise::none, {not_a_number, 2});
  CHECK(std::isnan(given[0]));
  CHECK(given[1] == 2);
}

TEST_CASE("very large and very small logits neither overflow nor vanish",
          "[reference][normalise][guards]") {
  check_row(normalised(normalise::softmax, {1e4, 9999, -1e4}),
            {1 / (1 + std::exp(-1.0)), 1 / (1 + std::exp(1.0)), 0});
  check_row(normalised(normalise::sigmoid_l1, {-1000, -1001}),
            {1 / (1 + std::exp(-1.0)), 1 / (1 + std::exp(1.0))});
  check_row(normalised(normalise::lin_l1, {DBL_MAX, -DBL_MAX, DBL_MAX, DBL_MAX}),
            {0.25, -0.25, 0.25, 0.25});
  check_row(normalised(normalise::relu_l1, {DBL_MAX, DBL_MAX, -DBL_MAX}), {0.5, 0.5, 0});
  check_row(normalised(normalise::tanh_l1, {1e-200, -3e-200}), {0.25, -0.75});
}
