// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/diagonal.hpp>

#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

using maslin::decay;
using maslin::row_major;

TEST_CASE("three tokens of the diagonal recurrence, worked out by hand", "[reference][diagonal]") {
  // Two channels; all numbers are dyadic, so every form but log is exact.
  const std::vector<double> a{0.5, 1, 0.25, -2, 0, 0.75}, x{1, 2, -1, 3, 7, 0.25};
  const std::vector<double> want{5, 3, 0.25, -3, 7, -2};
  const std::vector<double> h0{8, 1};
  for (const decay form : {decay::value, decay::complement}) {
    std::vector<double> gate = a, h = h0, y(6);
    if (form == decay::complement) {
      for (double& g : gate) g = 1 - g;
    }
    maslin::reference::diagonal(form, row_major(gate.data(), 1, 3, 2), row_major(x.data(), 1, 3, 2),
                                row_major(h.data(), 1, 2), row_major(y.data(), 1, 3, 2));
    CHECK(y == want);
    CHECK(h == std::vector<double>{7, -2});
  }
}

TEST_CASE("a log decay is the logarithm of the decay", "[reference][diagonal]") {
  const std::vector<double> g{std::log(0.5), std::log(0.25),
                              -std::numeric_limits<double>::infinity()};
  const std::vector<double> x{1, -1, 7};
  std::vector<double> h{8}, y(3);
  maslin::reference::diagonal(decay::log, row_major(g.data(), 1, 3, 1),
                              row_major(x.data(), 1, 3, 1), row_major(h.data(), 1, 1),
                              row_major(y.data(), 1, 3, 1));
  // log and exp err by a unit each, and so do the two operations of a step; the sum of magnitudes
  // is below 8 in all of them.
  const double allowed = 3 * 4 * 8 * DBL_EPSILON;
  CHECK_THAT(y[0], Catch::Matchers::WithinAbs(5, allowed));
  CHECK_THAT(y[1], Catch::Matchers::WithinAbs(0.25, allowed));
  CHECK(y[2] == 7);
}

TEST_CASE("a decay of 1 is a prefix sum, a decay of 0 a copy", "[reference][diagonal]") {
  const std::vector<double> x{1, -4, 2, 8}, ones(4, 1.0), zeros(4, 0.0);
  std::vector<double> h{3}, y(4);
  maslin::reference::diagonal(decay::value, row_major(ones.data(), 1, 4, 1),
                              row_major(x.data(), 1, 4, 1), row_major(h.data(), 1, 1),
                              row_major(y.data(), 1, 4, 1));
  CHECK(y == std::vector<double>{4, 0, 2, 10});
  maslin::reference::diagonal(decay::value, row_major(zeros.data(), 1, 4, 1),
                              row_major(x.data(), 1, 4, 1), row_major(h.data(), 1, 1),
                              row_major(y.data(), 1, 4, 1));
  CHECK(y == x);
}

TEST_CASE("a fixed decay is the same decay at every token of every sequence",
          "[reference][diagonal]") {
  const std::vector<double> fixed{0.5, -0.25};
  std::vector<double> x{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, gate;
  for (int i = 0; i < 6; ++i) gate.insert(gate.end(), fixed.begin(), fixed.end());
  std::vector<double> h1{1, 2, 3, 4}, h2 = h1, y1(12), y2(12);
  maslin::reference::diagonal(decay::value, row_major(fixed.data(), 2),
                              row_major(x.data(), 2, 3, 2), row_major(h1.data(), 2, 2),
                              row_major(y1.data(), 2, 3, 2));
  maslin::reference::diagonal(decay::value, row_major(gate.data(), 2, 3, 2),
                              row_major(x.data(), 2, 3, 2), row_major(h2.data(), 2, 2),
                              row_major(y2.data(), 2, 3, 2));
  CHECK(y1 == y2);
  CHECK(h1 == h2);
}

TEST_CASE("no tokens leave the state as it was", "[reference][diagonal]") {
  std::vector<double> h{5, 6};
  double* const none = nullptr;
  maslin::reference::diagonal(decay::value, row_major(none, 1, 0, 2), row_major(none, 1, 0, 2),
                              row_major(h.data(), 1, 2), row_major(none, 1, 0, 2));
  CHECK(h == std::vector<double>{5, 6});
}

TEST_CASE("NaN stays in its channel and in later tokens", "[reference][diagonal][cone]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> a{0.5, 0.5, 0.5, 0.5, 0, 0}, x{1, 1, 1, nan, 1, 1};
  std::vector<double> h{1, 1}, y(6);
  maslin::reference::diagonal(decay::value, row_major(a.data(), 1, 3, 2),
                              row_major(x.data(), 1, 3, 2), row_major(h.data(), 1, 2),
                              row_major(y.data(), 1, 3, 2));
  for (const std::size_t i : {0u, 1u, 2u, 4u}) CHECK(std::isfinite(y[i]));
  CHECK(std::isnan(y[3]));
  // A decay of 0 is no reset: 0 * NaN is NaN.
  CHECK(std::isnan(y[5]));
}

TEST_CASE("shapes that disagree are refused before any write", "[reference][diagonal][errors]") {
  std::vector<double> g(6, 0.5), x(6, 1), h{1, 2}, y(6, -7);
  CHECK_THROWS_AS(maslin::reference::diagonal(
                      decay::value, row_major(g.data(), 1, 2, 2), row_major(x.data(), 1, 3, 2),
                      row_major(h.data(), 1, 2), row_major(y.data(), 1, 3, 2)),
                  maslin::shape_error);
  CHECK_THROWS_AS(maslin::reference::diagonal(
                      decay::value, row_major(g.data(), 1, 3, 2), row_major(x.data(), 1, 3, 2),
                      row_major(h.data(), 1, 1), row_major(y.data(), 1, 3, 2)),
                  maslin::shape_error);
  CHECK(y == std::vector<double>(6, -7));
  CHECK(h == std::vector<double>{1, 2});
}
