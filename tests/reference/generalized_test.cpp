// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/reference/generalized.hpp>

#include <cmath>
#include <vector>

using namespace maslin;
using reference::pattern_read;

namespace {

index_t square1(index_t k) { return k * k + 1; }
index_t power2(index_t k) { return index_t{1} << k; }

}  // namespace

TEST_CASE("plain sets are the distances that fit", "[reference][generalized]") {
  const auto reads = reference::plain_reads(square1);
  CHECK(reads(0).empty());
  CHECK(reads(1) == std::vector<pattern_read>{{0, 0}});
  CHECK(reads(7) == std::vector<pattern_read>{{2, 2}, {5, 1}, {6, 0}});
  CHECK(reference::dense_reads()(2) == std::vector<pattern_read>{{0, 0}, {1, 1}});
}

TEST_CASE("cached sets by hand", "[reference][generalized]") {
  // k^2 + 1: spacings 1, 1, 3; at t = 7 level 2 reads 3 ceil((8 - 5) / 3) - 1 = 2, at t = 8 and 9
  // it reads 5, at t = 9 level 1 reads 7.
  const auto reads = reference::cached_reads(square1);
  CHECK(reads(7) == std::vector<pattern_read>{{2, 2}, {5, 1}, {6, 0}});
  CHECK(reads(8) == std::vector<pattern_read>{{5, 2}, {6, 1}, {7, 0}});
  CHECK(reads(9) == std::vector<pattern_read>{{5, 2}, {7, 1}, {8, 0}});
  // 2^k: spacings 1, 1, 2, 4. At t = 5 level 2 (distance 4) reads 2 ceil(2 / 2) - 1 = 1.
  CHECK(reference::cached_reads(power2)(5) == std::vector<pattern_read>{{1, 2}, {3, 1}, {4, 0}});
}

TEST_CASE("a cached set lies within the one before and its token", "[reference][generalized]") {
  for (const auto& f : {square1, power2}) {
    const auto reads = reference::cached_reads(f);
    for (index_t t = 0; t < 300; ++t) {
      const auto before = reads(t);
      for (const auto& read : reads(t + 1)) {
        const bool known = std::ranges::any_of(
            before, [&](const pattern_read& old) { return old.position == read.position; });
        REQUIRE((known || read.position == t));
      }
    }
  }
}

TEST_CASE("three tokens by hand", "[reference][generalized]") {
  // y0 = 2 x0, y1 = 3 x1 + 5 y0, y2 = 7 x2 + 11 y0 + 13 y1.
  const std::vector<double> x{1, 10, 100}, self{2, 3, 7}, past{0, 0, 5, 0, 11, 13};
  std::vector<double> y(3);
  reference::generalized(reference::dense_reads(), row_major(self.data(), 1, 3, 1),
                         row_major(past.data(), 1, 3, 1, 2), row_major(x.data(), 1, 3, 1, 1),
                         row_major(y.data(), 1, 3, 1, 1));
  CHECK(y == std::vector<double>{2, 40, 700 + 22 + 520});

  // The same as matrices, with an entry of A beside the diagonal: y2 gains 17 x1.
  const std::vector<double> A{2, 9, 9, 0, 3, 9, 0, 17, 7}, B{9, 9, 9, 5, 9, 9, 11, 13, 9};
  reference::generalized_dense(row_major(A.data(), 1, 3, 1, 3), row_major(B.data(), 1, 3, 1, 3),
                               row_major(x.data(), 1, 3, 1, 1), row_major(y.data(), 1, 3, 1, 1));
  CHECK(y == std::vector<double>{2, 40, 700 + 22 + 520 + 170});
  std::vector<double> short_y(2);
  CHECK_THROWS_AS(reference::generalized_dense(
                      row_major(A.data(), 1, 3, 1, 3), row_major(B.data(), 1, 3, 1, 3),
                      row_major(x.data(), 1, 3, 1, 1), row_major(short_y.data(), 1, 2, 1, 1)),
                  shape_error);
}

TEST_CASE("scores of two tokens by hand", "[reference][generalized]") {
  // <q1, k0> = 2, <q1, k1> = 1, scale 1/2, bias 3 at distance 1, self bias 4: z = 4, 4.5.
  const std::vector<double> q{1, 1}, k{2, 1}, bias{3}, self_bias{4};
  const reference::score_terms z{.query = row_major(q.data(), 1, 2, 1, 1),
                                 .key = row_major(k.data(), 1, 2, 1, 1),
                                 .scale = 0.5,
                                 .bias = row_major(bias.data(), 1, 1),
                                 .self_bias = row_major(self_bias.data(), 1)};
  std::vector<double> A(4), B(4);
  const auto run = [&](weights kind, direct form, double g) {
    reference::score_matrices(reference::plain_reads([](index_t i) { return i + 1; }), kind, form,
                              g, z, row_major(A.data(), 1, 2, 1, 2),
                              row_major(B.data(), 1, 2, 1, 2));
  };
  const double p = 1 / (1 + std::exp(0.5));  // of the earlier row
  run(weights::softmax, direct::self, 1);
  CHECK(std::abs(B[2] - p) < 1e-15);
  CHECK(std::abs(A[3] - (1 - p)) < 1e-15);
  CHECK(A[2] == 0);
  run(weights::softmax, direct::rows, 0.25);
  const double F = 1 - 0.25 * (1 - p);
  CHECK(std::abs(B[2] - 0.25 * p / F) < 1e-15);
  CHECK(std::abs(A[2] - 0.75 * p / F) < 1e-15);
  CHECK(std::abs(A[3] - 0.75 * (1 - p) / F) < 1e-15);
  run(weights::sigmoid, direct::self, 1);
  CHECK(std::abs(B[2] - 1 / (1 + std::exp(-4.0))) < 1e-15);
  run(weights::given, direct::self, 1);
  CHECK(B[2] == 4);
  CHECK(A[3] == 4.5);
}

namespace {

struct hand_gradients {
  std::vector<double> y, dself, dpast, dinput, dbefore;
};

/// One head of one channel, dense, after the outputs `before`.
hand_gradients backward(std::vector<double> before, std::vector<double> self,
                        std::vector<double> past, std::vector<double> x, std::vector<double> dy,
                        std::vector<double> dafter) {
  const auto T = static_cast<index_t>(x.size()), P = static_cast<index_t>(before.size());
  const auto S = static_cast<index_t>(past.size()) / T;
  hand_gradients g{x, self, past, x, before};
  const auto rows = [](auto& v) {
    return row_major(v.data(), 1, static_cast<index_t>(v.size()), 1, 1);
  };
  reference::generalized_backward<double>(
      {.kind = weights::given,
       .reads = reference::dense_reads(),
       .smallest_normal = 0,
       .self = row_major<const double>(self.data(), 1, T, 1),
       .past = row_major<const double>(past.data(), 1, T, 1, S),
       .input = rows(x),
       .before = row_major<const double>(before.data(), 1, P, 1, 1),
       .dy = rows(dy),
       .dafter = rows(dafter)},
      {.y = rows(g.y),
       .dself = row_major(g.dself.data(), 1, T, 1),
       .dpast = row_major(g.dpast.data(), 1, T, 1, S),
       .dinput = rows(g.dinput),
       .dbefore = row_major(g.dbefore.data(), 1, P, 1, 1)});
  return g;
}

}  // namespace

TEST_CASE("gradients of three tokens by hand", "[reference][generalized][gradient]") {
  // The tokens above. s2 = 4, s1 = 2 + 13 s2, s0 = 1 + 11 s2 + 5 s1.
  const auto g = backward({}, {2, 3, 7}, {0, 0, 5, 0, 11, 13}, {1, 10, 100}, {1, 2, 4}, {0, 0, 0});
  CHECK(g.y == std::vector<double>{2, 40, 1242});
  CHECK(g.dinput == std::vector<double>{2 * 315, 3 * 54, 7 * 4});
  CHECK(g.dself == std::vector<double>{315 * 1, 54 * 10, 4 * 100});
  CHECK(g.dpast == std::vector<double>{0, 0, 54 * 2, 0, 4 * 2, 4 * 40});
  // The same but for the first, which is in the state; what it is given is s0 less its dy.
  const auto late = backward({2}, {3, 7}, {5, 0, 11, 13}, {10, 100}, {2, 4}, {0, 0, 0});
  CHECK(late.y == std::vector<double>{40, 1242});
  CHECK(late.dbefore == std::vector<double>{314});
  CHECK(late.dpast == std::vector<double>{54 * 2, 0, 4 * 2, 4 * 40});
}
