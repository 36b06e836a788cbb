// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <cfloat>
#include <cmath>
#include <vector>

using maslin::discretisation;
using maslin::index_t;
using maslin::row_major;
namespace reference = maslin::reference;

namespace {

/// One channel, one group; dt of which softplus makes the step `delta`.
struct one_channel {
  std::vector<double> input, write, read;
  std::vector<double> decay;
  double delta;

  [[nodiscard]] std::vector<double> run(discretisation rule, std::vector<double>& h) const {
    const auto T = static_cast<index_t>(input.size()), N = static_cast<index_t>(decay.size());
    const std::vector<double> dt(input.size(), std::log(std::expm1(delta)));
    std::vector<double> y(input.size());
    reference::selective_ssm(rule,
                             {.dt = row_major(dt.data(), 1, T, 1),
                              .input = row_major(input.data(), 1, T, 1),
                              .write = row_major(write.data(), 1, T, 1, N),
                              .read = row_major(read.data(), 1, T, 1, N),
                              .decay = row_major(decay.data(), 1, N)},
                             row_major(h.data(), 1, 1, N), row_major(y.data(), 1, T, 1));
    return y;
  }
};

}  // namespace

TEST_CASE("three tokens of the selective scan, worked out by hand", "[reference][selective_ssm]") {
  // Steps of ln 2 halve the first state and quarter the second.
  const double step = std::log(2.0);
  const one_channel c{{1, 0, 2}, {4, 8, 0, 0, 1, -1}, {1, 1, 2, 0, 1, 3}, {-1, -2}, step};
  std::vector<double> h{8, 16};
  const auto y = c.run(discretisation::euler, h);
  // h: (4 + 4 s, 4 + 8 s), (2 + 2 s, 1 + 2 s), (1 + 3 s, 1/4 - 3 s / 2) with s = ln 2
  const std::vector<double> want{8 + 12 * step, 4 + 4 * step, 1.75 - 1.5 * step};
  for (std::size_t t = 0; t < 3; ++t) CHECK(std::abs(y[t] - want[t]) <= 100 * DBL_EPSILON);
  CHECK(std::abs(h[0] - (1 + 3 * step)) <= 100 * DBL_EPSILON);
  CHECK(std::abs(h[1] - (0.25 - 1.5 * step)) <= 100 * DBL_EPSILON);
}

TEST_CASE("a held constant input has the steady state -B u / A whatever the step",
          "[reference][selective_ssm]") {
  for (const double delta : {0.3, 2.0}) {
    const std::size_t T = 600;  // the start is forgotten by exp(-45)
    const one_channel c{std::vector<double>(T, 3.0),
                        std::vector<double>(T, 0.5),
                        std::vector<double>(T, 1.0),
                        {-0.25},
                        delta};
    std::vector<double> h{-7};
    const auto y = c.run(discretisation::zero_order_hold, h);
    CHECK(std::abs(y.back() - 6) <= 1e-12);
    // From there it does not move.
    h = {6};
    for (const double at : c.run(discretisation::zero_order_hold, h))
      CHECK(std::abs(at - 6) <= 1e-12);
  }
}

TEST_CASE("without decay both rules add Delta B u", "[reference][selective_ssm]") {
  const one_channel c{{1, 2, -4}, {1, 1, 1}, {1, 1, 1}, {0}, 0.5};
  for (const auto rule : {discretisation::euler, discretisation::zero_order_hold}) {
    std::vector<double> h{1};
    const auto y = c.run(rule, h);
    CHECK(std::abs(y[0] - 1.5) <= 8 * DBL_EPSILON);
    CHECK(std::abs(y[1] - 2.5) <= 8 * DBL_EPSILON);
    CHECK(std::abs(y[2] - 0.5) <= 8 * DBL_EPSILON);
  }
}

TEST_CASE("gradients of three tokens of the selective scan, worked out by hand",
          "[reference][selective_ssm][gradient]") {
  // dt = 0, so that steps are s = ln 2, decays 1/2, and the slope of softplus 1/2.
  const double s = std::log(2.0);
  const std::vector<double> dt(3), input{1, 0, 2}, write{4, 0, 1}, read{1, 2, 1}, decay{-1},
      dy{1, 1, 1};
  std::vector<double> h{8}, y(3), ddt(3), dinput(3), dwrite(3), dread(3), ddecay(1), dstate(1);
  const auto token = [](auto& x) { return row_major(x.data(), 1, 3, 1); };
  const auto shared = [](auto& x) { return row_major(x.data(), 1, 3, 1, 1); };
  reference::selective_ssm_backward<double>(discretisation::euler,
                                            {.dt = token(dt),
                                             .input = token(input),
                                             .write = shared(write),
                                             .read = shared(read),
                                             .decay = row_major(decay.data(), 1, 1)},
                                            row_major(h.data(), 1, 1, 1), token(y), token(dy),
                                            {.dt = token(ddt),
                                             .input = token(dinput),
                                             .write = shared(dwrite),
                                             .read = shared(dread),
                                             .decay = row_major(ddecay.data(), 1, 1)},
                                            row_major(dstate.data(), 1, 1, 1));
  // h: 4 + 4 s, 2 + 2 s, 1 + 3 s; its gradients, from the last: 1, 2 + 1/2, 1 + 5/4.
  const auto expect = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK(std::abs(got[i] - want[i]) <= 100 * DBL_EPSILON);
  };
  expect(dread, {4 + 4 * s, 2 + 2 * s, 1 + 3 * s});
  expect(dwrite, {2.25 * s, 0, 2 * s});
  expect(dinput, {9 * s, 0, s});
  expect(ddt, {0, -2.5 * (1 + s), (1 - s) / 2});
  expect(ddecay, {s * (15 + 6 * s)});
  expect(dstate, {1.125});
  expect(h, {1 + 3 * s});
}

TEST_CASE("without decay a held input is half a step old", "[reference][selective_ssm][gradient]") {
  // h = h0 + Delta B u; dh/dA = Delta h0 + Delta^2 B u / 2 at A = 0, Delta = ln 2.
  const double s = std::log(2.0);
  const std::vector<double> dt(1), input{3}, write{5}, read{1}, decay{0}, dy{1};
  std::vector<double> h{7}, y(1), ddt(1), dinput(1), dwrite(1), dread(1), ddecay(1), dstate(1);
  const auto token = [](auto& x) { return row_major(x.data(), 1, 1, 1); };
  const auto shared = [](auto& x) { return row_major(x.data(), 1, 1, 1, 1); };
  reference::selective_ssm_backward<double>(discretisation::zero_order_hold,
                                            {.dt = token(dt),
                                             .input = token(input),
                                             .write = shared(write),
                                             .read = shared(read),
                                             .decay = row_major(decay.data(), 1, 1)},
                                            token(h), token(y), token(dy),
                                            {.dt = token(ddt),
                                             .input = token(dinput),
                                             .write = shared(dwrite),
                                             .read = shared(dread),
                                             .decay = row_major(ddecay.data(), 1, 1)},
                                            token(dstate));
  CHECK(std::abs(ddecay[0] - (7 * s + 7.5 * s * s)) <= 100 * DBL_EPSILON);
  CHECK(std::abs(ddt[0] - 7.5) <= 100 * DBL_EPSILON);
  CHECK(dstate[0] == 1);
}

TEST_CASE("the reference of the selective scan refuses shapes that disagree",
          "[reference][selective_ssm]") {
  std::vector<double> x(4), h(2);
  CHECK_THROWS_AS(reference::selective_ssm(discretisation::euler, {}, row_major(h.data(), 1, 1, 2),
                                           row_major(x.data(), 1, 4, 1)),
                  maslin::shape_error);
}
