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

TEST_CASE("the reference of the causal convolution refuses shapes that disagree",
          "[reference][causal_conv]") {
  std::vector<double> x(4), w(3);
  CHECK_THROWS_AS(
      maslin::reference::causal_conv(row_major(std::as_const(w).data(), 1, 3), {}, false,
                                     row_major(std::as_const(x).data(), 1, 4, 1),
                                     row_major(x.data(), 1, 1, 1), row_major(x.data(), 1, 4, 1)),
      maslin::shape_error);
}
