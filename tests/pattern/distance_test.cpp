// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/answer.hpp"
#include "support/catch.hpp"

#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/distance.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/pattern/table.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace maslin;
using pattern::beyond;
using test::reads;

constexpr index_t longest = std::numeric_limits<index_t>::max() - 1;  // the largest position

template <class P>
reads reads_of(const P& p, index_t t) {
  reads r;
  pattern::for_each_read(p, t, [&r](index_t position, index_t k) { r.push_back({position, k}); });
  return r;
}

/// All of a plain pattern against its function, for every token up to T.
template <class P, class F>
void expect_plain(const P& p, F f, index_t T) {
  const test::definition d(f, T);
  const pattern::table known(p, T);
  index_t wrong = 0;
  for (index_t t = 0; t < T; ++t) {
    const reads wanted = d.plain(t);
    wrong += p.levels(t) != static_cast<index_t>(wanted.size());
    wrong += reads_of(p, t) != wanted || reads_of(known, t) != wanted;
    wrong += known.levels(t) != p.levels(t);
    wrong += pattern::read_count(p, t) != static_cast<index_t>(wanted.size());
  }
  CHECK(wrong == 0);
  for (std::size_t k = 0; k < d.distance.size(); ++k)
    CHECK(p.distance(static_cast<index_t>(k)) == d.distance[k]);
  CHECK(pattern::max_levels(p, T) == static_cast<index_t>(d.distance.size()));
  CHECK(pattern::max_levels(p, 0) == 0);
  CHECK(pattern::cache_entries(p, T) == (d.distance.empty() ? 0 : d.distance.back()));
}

constexpr check::caller who{"test", "caller"};

}  // namespace

TEST_CASE("plain patterns read at the distances of their functions",
          "[pattern][plain][definition]") {
  expect_plain(
      pattern::dense{}, [](index_t k) { return k + 1; }, 200);
  expect_plain(
      pattern::order{1}, [](index_t k) { return k < 1 ? k + 1 : beyond; }, 200);
  expect_plain(
      pattern::order{7}, [](index_t k) { return k < 7 ? k + 1 : beyond; }, 200);
  expect_plain(
      pattern::order{300}, [](index_t k) { return k < 300 ? k + 1 : beyond; }, 200);
  expect_plain(
      pattern::power2{}, [](index_t k) { return index_t{1} << k; }, 5000);
  expect_plain(
      pattern::square1{}, [](index_t k) { return k * k + 1; }, 5000);
  expect_plain(
      pattern::linear{1}, [](index_t k) { return 1 + k; }, 200);
  expect_plain(
      pattern::linear{5}, [](index_t k) { return 1 + 5 * k; }, 500);
  expect_plain(test::power3, test::power3.f, 5000);
  expect_plain(test::triangle, test::triangle.f, 5000);
  expect_plain(test::uneven, test::uneven.f, 1000);
  for (const index_t T : {0, 1, 2, 3}) {
    expect_plain(
        pattern::power2{}, [](index_t k) { return index_t{1} << k; }, T);
    expect_plain(test::triangle, test::triangle.f, T);
  }
}

TEST_CASE("patterns are evaluated at compile time", "[pattern][plain][constexpr]") {
  STATIC_REQUIRE(pattern::power2{}.distance(10) == 1024);
  STATIC_REQUIRE(pattern::power2{}.levels(1023) == 10);
  STATIC_REQUIRE(pattern::square1{}.levels(4095) == 64);
  STATIC_REQUIRE(pattern::square1{}.position(10, 3) == 0);
  STATIC_REQUIRE(pattern::max_levels(pattern::order{3}, 100) == 3);
  STATIC_REQUIRE(pattern::read_count(pattern::cached{pattern::power2{}}, 1023) == 10);
  STATIC_REQUIRE(pattern::read_count(pattern::cached{pattern::square1{}}, 4095) == 47);
  STATIC_REQUIRE(pattern::cached{test::triangle}.position(100, 4) == 91);
  STATIC_REQUIRE(pattern::any_pattern<pattern::table>);
}

TEST_CASE("distances that do not fit are beyond every token", "[pattern][plain][overflow]") {
  CHECK(pattern::power2{}.distance(62) == index_t{1} << 62);
  CHECK(pattern::power2{}.distance(63) == beyond);
  CHECK(pattern::power2{}.distance(beyond) == beyond);
  CHECK(pattern::power2{}.levels(longest) == 63);

  constexpr index_t root = 3037000499;  // of 2^63
  CHECK(pattern::square1{}.distance(root) == root * root + 1);
  CHECK(pattern::square1{}.distance(root + 1) == beyond);
  CHECK(pattern::square1{}.levels(longest) == root + 1);
  CHECK(pattern::square1{}.levels(root * root) == root);
  CHECK(pattern::square1{}.levels(root * root + 1) == root + 1);
  CHECK(pattern::square1{}.distance(beyond) == beyond);

  CHECK(pattern::dense{}.distance(beyond) == beyond);
  CHECK(pattern::dense{}.levels(longest) == longest);
  CHECK(pattern::order{beyond}.distance(longest) == beyond);
  CHECK(pattern::order{beyond}.levels(longest) == longest);
  CHECK(pattern::linear{beyond}.distance(1) == beyond);
  CHECK(pattern::linear{beyond}.levels(longest) == 1);
  CHECK(pattern::linear{3}.levels(longest) == (longest - 1) / 3 + 1);

  // 3^39 < 2^63 < 3^40.
  CHECK(test::power3.distance(40) == beyond);
  CHECK(test::power3.levels(longest) == 40);
  const pattern::user large{[](index_t k) {
    return k == 0 ? std::uint64_t{1} : std::numeric_limits<std::uint64_t>::max() - 5;
  }};
  CHECK(large.distance(1) == beyond);
  CHECK(large.levels(longest) == 1);
  CHECK(pattern::sum(beyond, 1) == beyond);
  CHECK(pattern::product(beyond, 2) == beyond);
}

TEST_CASE("the cached forms of the largest distances do not overflow",
          "[pattern][cached][overflow]") {
  const auto inside = [](const auto& p) {
    const index_t levels = p.levels(longest);
    for (const index_t k : {index_t{0}, levels / 2, levels - 1}) {
      const index_t position = p.position(longest, k);
      CHECK(position >= longest - p.distance(k));
      CHECK(position < longest);
    }
  };
  inside(pattern::cached{pattern::power2{}});
  inside(pattern::cached{pattern::square1{}});
  inside(pattern::cached{test::power3});
  inside(pattern::cached{pattern::linear{longest}});
}

TEST_CASE("what is no pattern is refused by name", "[pattern][plain][bad_input]") {
  using pattern::expect_valid;
  CHECK(test::answer([] { expect_valid(who, pattern::order{0}, 9); }) ==
        "test::caller: order must be 1 or more, got 0");
  CHECK(test::answer([] { expect_valid(who, pattern::linear{0}, 9); }) ==
        "test::caller: the step of linear must be 1 or more, got 0");
  CHECK(test::answer([] { expect_valid(who, pattern::user{[](index_t k) { return k; }}, 9); }) ==
        "test::caller: f(0) must be 1, got 0");
  CHECK(test::answer([] {
          expect_valid(who, pattern::user{[](index_t k) { return k + 2; }}, 0);
        }) == "test::caller: f(0) must be 1, got 2");
  CHECK(test::answer([] { expect_valid(who, pattern::user{[](index_t) { return 1; }}, 9); }) ==
        "test::caller: f must increase strictly (and be pattern::beyond where it would overflow), "
        "got f(1) = 1 after 1");
  // 2^k in 8 bits wraps around to 0.
  const pattern::user wraps{[](index_t k) { return static_cast<std::uint8_t>(1U << k); }};
  CHECK(test::answer([&] { expect_valid(who, wraps, 100); }) == "");
  CHECK(test::answer([&] { expect_valid(who, wraps, 1000); }) ==
        "test::caller: f must increase strictly (and be pattern::beyond where it would overflow), "
        "got f(8) = 0 after 128");
  CHECK(test::answer([&] { expect_valid(who, pattern::cached{wraps}, 1000); }) != "");
  CHECK(test::answer([&] { pattern::table(wraps, 1000); }) != "");
  CHECK(test::answer([&] { pattern::table(pattern::cached{pattern::order{-1}}, 1000); }) ==
        "pattern::table: order must be 1 or more, got -1");

  for (const index_t T : {-1, -7}) {
    const std::string wanted = "test::caller: T must be 0 or more, got " + std::to_string(T);
    CHECK(test::answer([&] { expect_valid(who, pattern::power2{}, T); }) == wanted);
    CHECK(test::answer([&] { expect_valid(who, pattern::order{2}, T); }) == wanted);
    CHECK(test::answer([&] { expect_valid(who, pattern::linear{2}, T); }) == wanted);
    CHECK(test::answer([&] { expect_valid(who, pattern::cached{test::triangle}, T); }) == wanted);
  }
  CHECK(test::answer([] { expect_valid(who, pattern::power2{}, longest); }) == "");
  CHECK(test::answer([] { expect_valid(who, pattern::dense{}, longest); }) == "");
  CHECK(test::answer([] { expect_valid(who, test::power3, longest); }) == "");
}

TEST_CASE("a table serves the tokens it was made for", "[pattern][table][bad_input]") {
  const pattern::table squares(pattern::square1{}, 100), lags(pattern::order{3}, 100);
  CHECK(squares.limit() == 100);
  CHECK(lags.limit() == beyond);
  CHECK(pattern::table(pattern::order{3}, 3).limit() == 3);
  CHECK(pattern::table().size() == 0);
  CHECK(test::answer([&] { expect_valid(who, squares, 100); }) == "");
  CHECK(test::answer([&] { expect_valid(who, squares, 101); }) ==
        "test::caller: T must be at most 100, the length of the table, got 101");
  CHECK(test::answer([&] { expect_valid(who, lags, 5000); }) == "");
}
