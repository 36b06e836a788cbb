// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/causal_conv.hpp>

#include <cfloat>
#include <cmath>
#include <vector>

using maslin::row_major;

TEST_CASE("four tokens of a causal convolution, worked out by hand", "[reference][causal_conv]") {
  const std::vector<double> weight{1, 10, 100}, bias{0.5}, x{1, 2, 3, 4};
  for (const bool silu : {false, true}) {
    std::vector<double> h{7, 8}, y(4);  // newest first: 8, 7, then x
    maslin::reference::causal_conv(row_major(weight.data(), 1, 3), row_major(bias.data(), 1), silu,
                                   row_major(x.data(), 1, 4, 1), row_major(h.data(), 1, 1, 2),
                                   row_major(y.data(), 1, 4, 1));
    const std::vector<double> sums{178.5, 217.5, 321.5, 432.5};
    for (std::size_t t = 0; t < 4; ++t) {
      const double want = silu ? sums[t] / (1 + std::exp(-sums[t])) : sums[t];
      CHECK(std::abs(y[t] - want) <= 4 * DBL_EPSILON * want);
    }
    CHECK(h == std::vector<double>{4, 3});
  }
}

TEST_CASE("gradients of three tokens of a causal convolution, worked out by hand",
          "[reference][causal_conv][gradient]") {
  const std::vector<double> weight{1, 2, 3}, bias{0}, x{1, 2, -1}, dy{1, 10, 100};
  std::vector<double> h{5, 7}, y(3), dweight(3), dbias(1), dx(3), dstate{0.5, 0.25};
  maslin::reference::causal_conv_backward<double>(
      row_major(weight.data(), 1, 3), row_major(bias.data(), 1), false,
      row_major(x.data(), 1, 3, 1), row_major(h.data(), 1, 1, 2), row_major(y.data(), 1, 3, 1),
      row_major(dy.data(), 1, 3, 1), row_major(dweight.data(), 1, 3), row_major(dbias.data(), 1),
      row_major(dx.data(), 1, 3, 1), row_major(dstate.data(), 1, 1, 2));
  CHECK(y == std::vector<double>{20, 13, 2});
  CHECK(h == std::vector<double>{-1, 2});
  CHECK(dx == std::vector<double>{3 + 20 + 100, 30 + 200 + 0.25, 300 + 0.5});
  CHECK(dweight == std::vector<double>{7 + 50 + 100, 5 + 10 + 200, 1 + 20 - 100});
  CHECK(dbias == std::vector<double>{111});
  CHECK(dstate == std::vector<double>{2 + 10, 1});
}

TEST_CASE("one token of a causal convolution passes older gradients of the state on",
          "[reference][causal_conv][gradient]") {
  const std::vector<double> weight{1, 2, 3}, x{4}, dy{10};
  std::vector<double> h{5, 7}, y(1), dweight(3), dx(1), dstate{0.5, 0.25};
  maslin::reference::causal_conv_backward<double>(
      row_major(weight.data(), 1, 3), {}, false, row_major(x.data(), 1, 1, 1),
      row_major(h.data(), 1, 1, 2), row_major(y.data(), 1, 1, 1), row_major(dy.data(), 1, 1, 1),
      row_major(dweight.data(), 1, 3), {}, row_major(dx.data(), 1, 1, 1),
      row_major(dstate.data(), 1, 1, 2));
  CHECK(h == std::vector<double>{4, 5});
  CHECK(dx[0] == 30 + 0.5);
  CHECK(dstate == std::vector<double>{20 + 0.25, 10});
}

TEST_CASE("the reference of the causal convolution refuses shapes that disagree",
          "[reference][causal_conv]") {
  std::vector<double> x(4), w(3);
  CHECK_THROWS_AS(
      maslin::reference::causal_conv(row_major(std::as_const(w).data(), 1, 3), {}, false,
                                     row_major(std::as_const(x).data(), 1, 4, 1),
                                     row_major(x.data(), 1, 1, 1), row_major(x.data(), 1, 4, 1)),
      maslin::shape_error);
}
