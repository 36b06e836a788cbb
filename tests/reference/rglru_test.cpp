// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/rglru.hpp>

#include <cfloat>
#include <cmath>
#include <vector>

using maslin::gate_form;
using maslin::row_major;

namespace {

/// One sequence of one channel.
std::vector<double> run(gate_form form, double decay, std::vector<double> r, std::vector<double> i,
                        std::vector<double> x, double& h, std::vector<bool>& begun) {
  const auto T = static_cast<maslin::index_t>(x.size());
  std::vector<double> y(x.size());
  const auto rows = [T](const std::vector<double>& v) { return row_major(v.data(), 1, T, 1); };
  maslin::reference::rglru(form, row_major<const double>(&decay, 1), rows(r), rows(i), rows(x),
                           row_major(&h, 1, 1), begun, row_major(y.data(), 1, T, 1));
  return y;
}

}  // namespace

TEST_CASE("three tokens of the RG-LRU, worked out by hand", "[reference][rglru]") {
  // softplus(0) = ln 2, so that a = 2^(-8 r): 1/2 at r = 1/8, 1/4 at r = 1/4.
  double h = 16;
  std::vector<bool> begun{false};
  const auto y =
      run(gate_form::probability, 0, {0.125, 0.125, 0.25}, {0.5, 1, 0.5}, {2, 4, 8}, h, begun);
  // First token: mu = 1.
  const double first = 0.5 * 16 + 1, second = 0.5 * first + std::sqrt(0.75) * 4,
               third = 0.25 * second + std::sqrt(0.9375) * 4;
  const double allowed = 16 * DBL_EPSILON * third;
  CHECK_THAT(y[0], Catch::Matchers::WithinAbs(first, allowed));
  CHECK_THAT(y[1], Catch::Matchers::WithinAbs(second, allowed));
  CHECK_THAT(y[2], Catch::Matchers::WithinAbs(third, allowed));
  CHECK(h == y[2]);
  CHECK(begun[0]);
}

TEST_CASE("an RG-LRU that has begun scales its next token", "[reference][rglru]") {
  double h = 0;
  std::vector<bool> begun{true};
  const auto y = run(gate_form::probability, 0, {0.125}, {1}, {1}, h, begun);
  CHECK_THAT(y[0], Catch::Matchers::WithinAbs(std::sqrt(0.75), 4 * DBL_EPSILON));
}

TEST_CASE("logits are the gates' before their sigmoid", "[reference][rglru]") {
  double h = 1, k = 1;
  std::vector<bool> begun{true}, begun_too{true};
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  const auto given = run(gate_form::probability, -4, {sigmoid(-1), sigmoid(2)},
                         {sigmoid(0.5), sigmoid(-3)}, {1, -2}, h, begun);
  const auto fused = run(gate_form::logit, -4, {-1, 2}, {0.5, -3}, {1, -2}, k, begun_too);
  CHECK(given == fused);
}

TEST_CASE("the variance of an RG-LRU's state stays that of its input", "[reference][rglru]") {
  // a^2 + mu^2 = 1, for decays so close to one that 1 - a^2 would cancel.
  for (const double r : {1e-12, 1e-3, 0.1, 1.0}) {
    double h = 1, k = 0;
    std::vector<bool> begun{true}, begun_too{true};
    const double a = run(gate_form::probability, -2, {r}, {1}, {0}, h, begun)[0];
    const double mu = run(gate_form::probability, -2, {r}, {1}, {1}, k, begun_too)[0];
    CHECK_THAT(a * a + mu * mu, Catch::Matchers::WithinAbs(1, 8 * DBL_EPSILON));
    const double expected = std::sqrt(-std::expm1(-16 * r * std::log1p(std::exp(-2.0))));
    CHECK_THAT(mu, Catch::Matchers::WithinRel(expected, 1e-14));
  }
}

TEST_CASE("an RG-LRU without tokens has not begun", "[reference][rglru]") {
  double h = 3;
  std::vector<bool> begun{false};
  CHECK(run(gate_form::probability, 0, {}, {}, {}, h, begun).empty());
  CHECK(h == 3);
  CHECK_FALSE(begun[0]);
}

TEST_CASE("RG-LRU shapes that disagree are refused", "[reference][rglru][errors]") {
  std::vector<double> numbers(6, 0.5), y(6, -7);
  std::vector<bool> begun(1);
  const auto wide = row_major<const double>(numbers.data(), 1, 3, 2);
  const auto narrow = row_major<const double>(numbers.data(), 1, 2, 2);
  const auto decay = row_major<const double>(numbers.data(), 2);
  std::vector<double> h(2);
  CHECK_THROWS_AS(
      maslin::reference::rglru(gate_form::logit, decay, wide, narrow, wide,
                               row_major(h.data(), 1, 2), begun, row_major(y.data(), 1, 3, 2)),
      maslin::shape_error);
  begun.resize(2);
  CHECK_THROWS_AS(
      maslin::reference::rglru(gate_form::logit, decay, wide, wide, wide, row_major(h.data(), 1, 2),
                               begun, row_major(y.data(), 1, 3, 2)),
      maslin::shape_error);
  CHECK(y == std::vector<double>(6, -7));
}

TEST_CASE("the gradients of three tokens of the RG-LRU, worked out by hand", "[reference][rglru]") {
  // As above: a = 1/2, 1/2, 1/4; mu^2 = 1, 3/4, 15/16, and log a = -8 ln 2 r.
  const std::vector<double> decay{0}, r{0.125, 0.125, 0.25}, i{0.5, 1, 0.5}, x{2, 4, 8}, h{16},
      dy{1, 2, 4}, dfinal{8};
  std::vector<double> y(3), final(1), dr(3), di(3), dx(3), ddecay(1), dh(1);
  const auto in = [](const std::vector<double>& v) { return row_major(v.data(), 1, 3, 1); };
  const auto out = [](std::vector<double>& v) { return row_major(v.data(), 1, 3, 1); };
  maslin::reference::rglru_backward<double>({.form = gate_form::probability,
                                             .decay = row_major(decay.data(), 1),
                                             .recurrence_gate = in(r),
                                             .input_gate = in(i),
                                             .input = in(x),
                                             .initial = row_major(h.data(), 1, 1),
                                             .begun = {false},
                                             .dy = in(dy),
                                             .dfinal = row_major(dfinal.data(), 1, 1)},
                                            {.y = out(y),
                                             .final = row_major(final.data(), 1, 1),
                                             .ddecay = row_major(ddecay.data(), 1),
                                             .drecurrence_gate = out(dr),
                                             .dinput_gate = out(di),
                                             .dinput = out(dx),
                                             .dinitial = row_major(dh.data(), 1, 1)});
  const double mu1 = std::sqrt(0.75), mu2 = std::sqrt(0.9375);
  const double s2 = 4 + 8, s1 = 2 + s2 / 4, s0 = 1 + s1 / 2;  // 12, 5, 3.5
  const double dlog2 = s2 * (y[1] / 4 - 0.0625 / mu2 * 4), dlog1 = s1 * (y[0] / 2 - 0.25 / mu1 * 4),
               dlog0 = s0 * 8;
  const double rate = -8 * std::log(2.0), allowed = 64 * DBL_EPSILON;
  const auto near = [&](double want) {
    return Catch::Matchers::WithinAbs(want, allowed * std::abs(want));
  };
  CHECK(final[0] == y[2]);
  CHECK_THAT(dx[2], near(s2 * mu2 * 0.5));
  CHECK_THAT(dx[1], near(s1 * mu1));
  CHECK_THAT(dx[0], near(s0 * 0.5));
  CHECK_THAT(di[2], near(s2 * mu2 * 8));
  CHECK_THAT(di[1], near(s1 * mu1 * 4));
  CHECK_THAT(di[0], near(s0 * 2));
  CHECK_THAT(dr[2], near(rate * dlog2));
  CHECK_THAT(dr[1], near(rate * dlog1));
  CHECK_THAT(dr[0], near(rate * dlog0));
  CHECK_THAT(ddecay[0], near(-4 * (0.25 * dlog2 + 0.125 * dlog1 + 0.125 * dlog0)));
  CHECK_THAT(dh[0], near(s0 / 2));
}
