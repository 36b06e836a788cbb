// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/catch.hpp"

#include <maslin/analysis/congestion.hpp>
#include <maslin/analysis/hops.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace {

using namespace maslin;

const pattern::cached cached_power2{pattern::power2{}};
const pattern::cached cached_square1{pattern::square1{}};

index_t ones(index_t n) { return std::popcount(static_cast<std::size_t>(n)); }
index_t log2_up(index_t n) {
  return static_cast<index_t>(std::bit_width(static_cast<std::size_t>(n - 1)));
}

/// hops[s][t] by the reads of each token in turn: the output of s reaches t through what t reads.
std::vector<std::vector<index_t>> hops_forwards(const std::vector<test::reads>& of_token) {
  const std::size_t T = of_token.size();
  std::vector hops(T, std::vector<index_t>(T, analysis::unreachable));
  for (std::size_t s = 0; s < T; ++s) {
    hops[s][s] = 0;
    for (std::size_t t = s + 1; t < T; ++t)
      for (const auto& [p, level] : of_token[t])
        if (p >= static_cast<index_t>(s))
          hops[s][t] = std::min(hops[s][t], hops[s][static_cast<std::size_t>(p)] + 1);
  }
  return hops;
}

template <class P>
void expect_shortest(const P& p, index_t T) {
  const test::definition d([&](index_t k) { return p.distance(k); }, T);
  std::vector<test::reads> of_token;
  for (index_t t = 0; t < T; ++t)
    of_token.push_back(pattern::is_cached<P> ? d.cached(t) : d.plain(t));
  const auto wanted = hops_forwards(of_token);
  index_t wrong = 0;
  for (index_t t = 0; t < T; ++t) {
    const auto tree = analysis::paths_to(pattern::table(p, T), t);
    for (std::size_t s = 0; s <= static_cast<std::size_t>(t); ++s) {
      wrong += tree.hops[s] != wanted[s][static_cast<std::size_t>(t)];
      // The next token reads this one, and is one hop nearer.
      if (s == static_cast<std::size_t>(t)) continue;
      const auto next = static_cast<std::size_t>(tree.next[s]);
      wrong += tree.hops[next] + 1 != tree.hops[s];
      wrong += std::ranges::none_of(
          of_token[next], [&](const auto& r) { return r.first == static_cast<index_t>(s); });
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("paths to a token are the shortest along what tokens read", "[analysis][hops]") {
  expect_shortest(pattern::order{3}, 80);
  expect_shortest(pattern::dense{}, 40);
  expect_shortest(pattern::power2{}, 150);
  expect_shortest(pattern::square1{}, 150);
  expect_shortest(test::uneven, 150);
  expect_shortest(cached_power2, 150);
  expect_shortest(cached_square1, 150);
  expect_shortest(pattern::cached{test::uneven}, 150);
  expect_shortest(pattern::cached{test::triangle}, 150);
}

TEST_CASE("hops of a plain pattern depend on the distance alone", "[analysis][hops]") {
  const auto same = [](const auto& p, index_t T) {
    const auto by_distance = analysis::hops_by_distance(p, T);
    for (const index_t t : {T - 1, T / 2, index_t{1}, index_t{0}}) {
      auto to = analysis::hops_to(p, t);
      std::reverse(to.begin(), to.end());
      CHECK(std::equal(to.begin(), to.end(), by_distance.begin()));
    }
    CHECK(analysis::hops(p, T - 1) == by_distance.back());
  };
  same(pattern::order{7}, 200);
  same(pattern::dense{}, 200);
  same(pattern::power2{}, 3000);
  same(pattern::square1{}, 3000);
  same(pattern::linear{11}, 300);
  same(test::power3, 3000);
  same(test::triangle, 3000);
  CHECK(analysis::hops_by_distance(pattern::power2{}, 0).empty());
}

TEST_CASE("2^k needs popcount hops: the published log2 is one too few at every 2^r - 1",
          "[analysis][hops][paper]") {
  const index_t T = 65536;
  const auto hops = analysis::hops_by_distance(pattern::power2{}, T);
  index_t off = 0;
  std::vector<index_t> above_published;
  for (index_t d = 1; d < T; ++d) {
    const index_t h = hops[static_cast<std::size_t>(d)];
    off += h != ones(d) || h > log2_up(d + 1);
    if (static_cast<double>(h) > std::log2(static_cast<double>(d))) above_published.push_back(d);
  }
  CHECK(off == 0);
  std::vector<index_t> all_ones;
  for (index_t r = 1; r <= 16; ++r) all_ones.push_back((index_t{1} << r) - 1);
  CHECK(above_published == all_ones);
}

TEST_CASE("k^2 + 1 reaches every distance in 4 hops, its cached form does not",
          "[analysis][hops][paper]") {
  const auto hops = analysis::hops_by_distance(pattern::square1{}, 65536);
  CHECK(*std::max_element(hops.begin(), hops.end()) == 4);
  CHECK(std::vector<index_t>(hops.begin(), hops.begin() + 5) ==
        std::vector<index_t>{0, 1, 1, 2, 2});

  // A number is a sum of three triangular ones (Gauss).
  const auto sums = analysis::hops_by_distance(test::triangle, 65536);
  CHECK(*std::max_element(sums.begin(), sums.end()) == 3);

  const auto cached = analysis::paths_of_all(cached_square1, 1024);
  CHECK(cached.worst == 6);
  CHECK(std::abs(cached.mean - 3.37) < 0.005);
  CHECK(analysis::paths_to_last(cached_square1, 65536).worst == 7);

  const auto powers = analysis::paths_of_all(cached_power2, 1024);
  CHECK(powers.worst == 10);
  CHECK(std::abs(powers.mean - 4.67) < 0.005);
}

TEST_CASE("mean hops are those of the specification", "[analysis][hops]") {
  CHECK(std::abs(analysis::paths_to_last(pattern::power2{}, 4097).mean - 6.0) < 0.005);
  CHECK(std::abs(analysis::paths_to_last(pattern::square1{}, 4097).mean - 2.77) < 0.005);
  CHECK(analysis::paths_to_last(pattern::order{4}, 4097).worst == 1024);
  CHECK(analysis::paths_to_last(pattern::dense{}, 4097).mean == 1);
  for (const index_t T : {0, 1}) {
    CHECK(analysis::paths_to_last(pattern::power2{}, T).worst == 0);
    CHECK(analysis::paths_of_all(pattern::power2{}, T).mean == 0);
  }
}

TEST_CASE("congestion of the copy task is at most the hops of a plain pattern",
          "[analysis][congestion][paper]") {
  for (index_t n = 1; n <= 300; ++n) {
    CHECK(analysis::copy_congestion(pattern::power2{}, n) == ones(n));
    CHECK(ones(n) <= log2_up(n + 1));
    CHECK(analysis::copy_congestion(pattern::square1{}, n) <= 4);
    CHECK(analysis::copy_congestion(pattern::dense{}, n) == 1);
    CHECK(analysis::copy_congestion(pattern::order{1}, n) == n);
    CHECK(analysis::copy_congestion(pattern::order{7}, n) == (n + 6) / 7);
    CHECK(analysis::copy_congestion(test::triangle, n) == analysis::hops(test::triangle, n));
  }
  CHECK(analysis::copy_congestion(pattern::power2{}, 0) == 0);
  // log2 n is published for 2^k: 63 tokens need 6, not 5.97.
  CHECK(analysis::copy_congestion(pattern::power2{}, 63) == 6);
}

TEST_CASE("congestion of cached patterns counts the paths through the busiest token",
          "[analysis][congestion]") {
  const index_t n = 100, T = 2 * n;
  std::vector<index_t> load(static_cast<std::size_t>(T), 0);
  for (index_t j = 0; j < n; ++j) {
    const auto tree = analysis::paths_to(pattern::table(cached_square1, T), j + n);
    index_t v = j;
    ++load[static_cast<std::size_t>(v)];
    while (v != j + n) {
      v = tree.next[static_cast<std::size_t>(v)];
      ++load[static_cast<std::size_t>(v)];
    }
  }
  const index_t busiest = *std::max_element(load.begin(), load.end());
  CHECK(analysis::copy_congestion(cached_square1, n) == busiest);
  CHECK(busiest > analysis::copy_congestion(pattern::square1{}, n));
  CHECK(analysis::copy_congestion(pattern::cached{pattern::dense{}}, n) == 1);
}

TEST_CASE("hops of what is no pattern, and of no token, are refused", "[analysis][bad_input]") {
  const pattern::user still{[](index_t) { return 1; }};
  CHECK_THROWS_AS(analysis::hops_by_distance(still, 9), shape_error);
  CHECK_THROWS_AS(analysis::hops_to(still, 9), shape_error);
  CHECK_THROWS_AS(analysis::paths_of_all(still, 9), shape_error);
  CHECK_THROWS_AS(analysis::copy_congestion(still, 9), shape_error);
  CHECK_THROWS_AS(analysis::hops(pattern::power2{}, -1), shape_error);
  CHECK_THROWS_AS(analysis::hops_to(pattern::power2{}, -1), shape_error);
  CHECK_THROWS_AS(analysis::copy_congestion(pattern::power2{}, -1), shape_error);
  CHECK_THROWS_AS(analysis::paths_to(pattern::table(pattern::power2{}, 8), 8), shape_error);
}
