// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/aligned.hpp>
#include <maslin/recurrence/weigh_gradient.hpp>
#include <maslin/reference/weigh.hpp>
#include <maslin/simd/lane.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace maslin;
using namespace maslin::test;

namespace {

template <class S>
constexpr S inf = std::numeric_limits<S>::infinity();
template <class S>
constexpr S nan_of = std::numeric_limits<S>::quiet_NaN();

/// Gradients of the logits z from those of their coefficients, in rows padded with NaN.
template <weights W, class V, class S>
std::vector<S> back(const std::vector<S>& z, const std::vector<S>& d) {
  const auto n = static_cast<index_t>(z.size());
  const auto padded = [&](const std::vector<S>& row) {
    aligned_vector<S> out(row.begin(), row.end());
    out.resize((row.size() + 15) / 16 * 16, nan_of<S>);
    return out;
  };
  auto logits = padded(z), p = padded(z), dp = padded(d);
  recurrence::weigh_row<W, V>(p.data(), n);
  recurrence::weigh_row_gradient<W, V>(logits.data(), p.data(), dp.data(), n);
  return {dp.begin(), dp.begin() + n};
}

/// Rows of any length within their bound of the reference, the same bytes in numbers and registers.
template <weights W, class S>
void gradient_law() {
  maslin::test::random r(5);
  std::vector<std::vector<S>> rows{{-inf<S>, -inf<S>}, {-inf<S>, 2}, {S(-30), S(-31)}, {0, 0, 0}};
  if (W == weights::tanh_l1 || W == weights::lin_l1 || W == weights::relu_l1)
    rows = {{0, 0, 0}, {std::numeric_limits<S>::denorm_min()}, {S(-2), S(0), S(3)}};
  for (const std::size_t n : {1u, 2u, 7u, 16u, 17u, 50u}) {
    std::vector<S> row(n);
    r.fill_uniform<S>(row, -3, 3);
    rows.push_back(row);
  }
  for (const auto& z : rows) {
    std::vector<S> d(z.size());
    r.fill_normal<S>(d);
    const auto got = back<W, simd::native<S>>(z, d);
    REQUIRE(got == back<W, S>(z, d));
    const std::vector<double> logits(z.begin(), z.end()), upstream(d.begin(), d.end());
    const auto row = reference::weigh<double>(W, logits, double{std::numeric_limits<S>::min()});
    const auto want = reference::weigh_backward<double>(row, upstream);
    double sum = 0;
    for (std::size_t k = 0; k < z.size(); ++k) sum += std::abs(row.p[k] * upstream[k]);
    for (std::size_t k = 0; k < z.size(); ++k) {
      INFO("entry " << k << " of " << z.size() << ": " << z[k] << " gives " << got[k] << ", want "
                    << want[k]);
      double slope = std::abs(row.slope[k]);
      if (W == weights::tanh_l1) {
        // The slope 1 - w^2 is a difference.
        const double square = std::pow(std::tanh(logits[k]), 2);
        slope *= (1 + square) / (1 - square);
      }
      const double size = slope * (std::abs(upstream[k]) + sum);
      REQUIRE(std::abs(double{got[k]} - want[k]) <=
              static_cast<double>(z.size() + 48) * unit_roundoff<S> * size);
    }
  }
}

}  // namespace

TEST_CASE("rows of any length lead back to their logits as the reference does",
          "[recurrence][weigh][gradient]") {
  SECTION("softmax") { gradient_law<weights::softmax, float>(); }
  SECTION("softmax in double") { gradient_law<weights::softmax, double>(); }
  SECTION("sigmoid_l1") { gradient_law<weights::sigmoid_l1, float>(); }
  SECTION("relu_l1") { gradient_law<weights::relu_l1, double>(); }
  SECTION("tanh_l1") { gradient_law<weights::tanh_l1, float>(); }
  SECTION("lin_l1") { gradient_law<weights::lin_l1, float>(); }
  SECTION("sigmoid") { gradient_law<weights::sigmoid, float>(); }
  SECTION("given") { gradient_law<weights::given, double>(); }
}

TEST_CASE("masked logits have no gradient, whatever comes back to them",
          "[recurrence][weigh][gradient]") {
  using V = simd::native<float>;
  const std::vector<float> masked{1, -inf<float>, 2}, dead{-inf<float>, -inf<float>}, zeros(2),
      spoilt{nan_of<float>, 1};
  CHECK(back<weights::softmax, V>(masked, {nan_of<float>, 1, 1})[1] == 0);
  CHECK(back<weights::sigmoid_l1, V>(masked, {nan_of<float>, 1, 1})[1] == 0);
  CHECK(back<weights::softmax, V>(dead, {nan_of<float>, inf<float>}) == zeros);
  CHECK(back<weights::lin_l1, V>(zeros, spoilt) == zeros);
  CHECK(back<weights::tanh_l1, V>(zeros, spoilt) == zeros);
  for (const float x : back<weights::softmax, V>(spoilt, zeros)) CHECK(std::isnan(x));
}

TEST_CASE("gradients of softmax add up to nothing", "[recurrence][weigh][gradient]") {
  maslin::test::random r(9);
  std::vector<double> z(23), d(23);
  r.fill_normal<double>(z, 2);
  r.fill_normal<double>(d);
  double sum = 0;
  for (const double x : back<weights::softmax, simd::native<double>>(z, d)) sum += x;
  CHECK(std::abs(sum) <= 64 * unit_roundoff<double>);
}
