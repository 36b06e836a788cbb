// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/complex_diagonal.hpp>
#include <maslin/reference/diagonal.hpp>

#include <complex>
#include <utility>
#include <vector>

using maslin::row_major;
using number = std::complex<double>;

namespace {

/// One sequence; the state ends in h.
std::vector<number> run(const std::vector<number>& gate, const std::vector<number>& x,
                        std::vector<number>& h) {
  const auto D = static_cast<maslin::index_t>(h.size());
  const auto T = static_cast<maslin::index_t>(x.size()) / D;
  std::vector<number> y(x.size());
  maslin::reference::complex_diagonal(row_major(gate.data(), 1, T, D), row_major(x.data(), 1, T, D),
                                      row_major(h.data(), 1, D), row_major(y.data(), 1, T, D));
  return y;
}

}  // namespace

TEST_CASE("three tokens of the complex diagonal, worked out by hand", "[reference][complex]") {
  // Gaussian integers: nothing is rounded.
  std::vector<number> h{{1, 2}};
  const auto y = run({{0, 1}, {2, 0}, {1, -1}}, {{1, 0}, {0, 3}, {-1, 1}}, h);
  // i (1 + 2i) + 1 = -1 + i;  2 (-1 + i) + 3i = -2 + 5i;  (1 - i)(-2 + 5i) - 1 + i = 2 + 8i
  CHECK(y == std::vector<number>{{-1, 1}, {-2, 5}, {2, 8}});
  CHECK(h[0] == y.back());
}

TEST_CASE("real numbers make the real recurrence", "[reference][complex]") {
  const std::vector<double> a{0.5, 0.25, 0.1, 0.9, -1, 2}, x{1, 2, 3, 4, 5, 6};
  std::vector<double> h{7, -3}, y(6);
  std::vector<number> k(h.begin(), h.end());
  maslin::reference::diagonal(maslin::decay::value, row_major(a.data(), 1, 3, 2),
                              row_major(x.data(), 1, 3, 2), row_major(h.data(), 1, 2),
                              row_major(y.data(), 1, 3, 2));
  CHECK(run({a.begin(), a.end()}, {x.begin(), x.end()}, k) ==
        std::vector<number>(y.begin(), y.end()));
}

TEST_CASE("complex shapes that disagree are refused", "[reference][complex][errors]") {
  std::vector<number> numbers(6), h(2), y(6, number(-7, 0));
  CHECK_THROWS_AS(
      maslin::reference::complex_diagonal(row_major(std::as_const(numbers).data(), 1, 2, 2),
                                          row_major(std::as_const(numbers).data(), 1, 3, 2),
                                          row_major(h.data(), 1, 2), row_major(y.data(), 1, 3, 2)),
      maslin::shape_error);
  CHECK(y == std::vector<number>(6, number(-7, 0)));
}
