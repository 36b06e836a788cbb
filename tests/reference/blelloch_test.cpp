// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/blelloch.hpp>

#include <cmath>
#include <utility>
#include <vector>

namespace {

using maslin::index_t;
using maslin::row_major;

struct affine_problem {
  std::vector<double> A, b, state;
};

affine_problem whole_numbers(index_t T, index_t M) {
  maslin::test::random numbers(std::uint64_t(T * 64 + M));
  affine_problem p{std::vector<double>(std::size_t(T * M * M)),
                   std::vector<double>(std::size_t(T * M)), std::vector<double>(std::size_t(M))};
  // One entry of -1 or 1 a row: numbers stay small, so that every order of operations is exact.
  for (index_t row = 0; row < T * M; ++row)
    p.A[std::size_t(row * M + numbers.below(M))] = numbers.below(2) == 0 ? -1 : 1;
  for (double& x : p.b) x = double(numbers.between(-8, 8));
  for (double& x : p.state) x = double(numbers.between(-8, 8));
  return p;
}

std::vector<double> in_order(const affine_problem& p, index_t T, index_t M) {
  std::vector<double> y, h = p.state;
  for (index_t t = 0; t < T; ++t) {
    std::vector<double> next(std::size_t(M), 0.0);
    for (index_t i = 0; i < M; ++i) {
      next[std::size_t(i)] = p.b[std::size_t(t * M + i)];
      for (index_t j = 0; j < M; ++j)
        next[std::size_t(i)] += p.A[std::size_t((t * M + i) * M + j)] * h[std::size_t(j)];
    }
    h = next;
    y.insert(y.end(), h.begin(), h.end());
  }
  return y;
}

}  // namespace

TEST_CASE("the tree gives what the loop gives, exactly", "[reference][blelloch]") {
  for (const index_t M : {1, 2, 3})
    for (const index_t T : {1, 2, 3, 7, 8, 9, 100}) {
      CAPTURE(T, M);
      auto p = whole_numbers(T, M);
      const auto want = in_order(p, T, M);
      std::vector<double> y(want.size(), std::nan(""));
      maslin::reference::blelloch(row_major(std::as_const(p.A).data(), T, M, M),
                                  row_major(std::as_const(p.b).data(), T, M),
                                  row_major(p.state.data(), M), row_major(y.data(), T, M));
      CHECK(y == want);
      CHECK(p.state == std::vector<double>(want.end() - M, want.end()));
    }
}

TEST_CASE("a tree of shapes that disagree is refused", "[reference][blelloch][errors]") {
  std::vector<double> x(8), h(2), y(4);
  CHECK_THROWS_AS(maslin::reference::blelloch(row_major(std::as_const(x).data(), 2, 2, 2),
                                              row_major(std::as_const(x).data(), 1, 2),
                                              row_major(h.data(), 2), row_major(y.data(), 2, 2)),
                  maslin::shape_error);
}
