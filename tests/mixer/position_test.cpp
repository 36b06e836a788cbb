// SPDX-License-Identifier: Apache-2.0
#include "support/bits.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/position.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Where the numbers of pair j lie among the `width` that turn.
std::array<index_t, 2> members(rotary_pairs pairs, index_t j, index_t width) {
  if (pairs == rotary_pairs::halves) return {j, j + width / 2};
  return {2 * j, 2 * j + 1};
}

/// The largest error of `got`, rotated from `from`, in units of what is allowed: the definition in
/// long double, from which a number may be 4 roundings of S and an angle those of its power in
/// double.
template <class S>
double worst_error(const rotary<S>& turn, index_t width, std::span<const index_t> first,
                   const view<const S, 4>& from, const view<const S, 4>& got) {
  double worst = 0;
  for (index_t b = 0; b < from.extent(0); ++b)
    for (index_t t = 0; t < from.extent(1); ++t)
      for (index_t h = 0; h < from.extent(2); ++h)
        for (index_t j = 0; j < width / 2; ++j) {
          const auto position = static_cast<long double>(first[static_cast<std::size_t>(b)] + t);
          const auto exponent =
              -2.0L * static_cast<long double>(j) / static_cast<long double>(width);
          const long double angle =
              position * std::pow(static_cast<long double>(turn.base), exponent);
          const long double c = std::cos(angle), s = std::sin(angle);
          const auto [low, high] = members(turn.pairs, j, width);
          const auto left = static_cast<long double>(from(b, t, h, low)),
                     right = static_cast<long double>(from(b, t, h, high));
          const long double size = std::abs(left) + std::abs(right);
          const double angle_error =
              (3 + std::log(turn.base)) * unit_roundoff<double> * static_cast<double>(angle);
          const double allowed = static_cast<double>(size) * (4 * unit_roundoff<S> + angle_error);
          const auto error = [&](index_t at, long double want) {
            worst = std::max(
                worst,
                static_cast<double>(std::abs(static_cast<long double>(got(b, t, h, at)) - want)) /
                    allowed);
          };
          error(low, left * c - right * s);
          error(high, left * s + right * c);
        }
  return worst;
}

/// Numbers of a strided array, normal.
template <class S>
poisoned<S, 4> strided(const std::array<index_t, 4>& extents, std::uint64_t seed) {
  poisoned<S, 4> x(extents, {5, 3, 2, 0});
  std::vector<S> numbers(
      static_cast<std::size_t>(extents[0] * extents[1] * extents[2] * extents[3]));
  test::random(seed).fill_normal<S>(numbers);
  x.assign(std::span<const S>(numbers));
  return x;
}

constexpr rotary_pairs both_pairs[] = {rotary_pairs::interleaved, rotary_pairs::halves};

}  // namespace

TEMPLATE_TEST_CASE("rotations are those of the definition, in place and in strided memory",
                   "[mixer][position]", float, double) {
  using S = TestType;
  constexpr index_t B = 3, T = 4, H = 2, K = 10;
  // As far as a cache may reach, and farther than float counts.
  const index_t first[] = {0, 4095, (index_t{1} << 31) + 7};
  for (const auto pairs : both_pairs)
    for (const index_t width : {0, 2, 6, 10})
      for (const double base : {100.0, 10000.0, 500000.0}) {
        const rotary<S> turn{.width = width, .base = base, .pairs = pairs};
        const auto from = strided<S>({B, T, H, K}, 1);
        auto x = from;
        turn.apply(x.get(), first);
        const index_t turned = width == 0 ? K : width;
        const auto& done = x;
        INFO("width " << width << ", base " << base);
        CHECK(worst_error<S>(turn, turned, first, from.get(), done.get()) <= 1);
        CHECK(x.intact());
        // Numbers past the width stay.
        const auto before = from.values(), after = x.values();
        for (std::size_t i = 0; i < before.size(); ++i)
          if (static_cast<index_t>(i) % K >= turned) CHECK(before[i] == after[i]);
      }
}

TEMPLATE_TEST_CASE("a prefill of rotations is its tokens and its sequences one by one",
                   "[mixer][position]", float, double) {
  using S = TestType;
  constexpr index_t B = 2, T = 5;
  for (const auto pairs : both_pairs) {
    const rotary<S> turn{.width = 4, .base = 100, .pairs = pairs};
    auto whole = strided<S>({B, T, 3, 6}, 2), single = whole, given = whole;
    turn.apply(whole.get(), 9);
    for (index_t t = 0; t < T; ++t) turn.apply(time_range(single.get(), t, t + 1), 9 + t);
    const index_t first[] = {9, 9};
    turn.apply(given.get(), first);
    CHECK(bits_apart(whole.values(), single.values()) == "");
    CHECK(bits_apart(whole.values(), given.values()) == "");
  }
}

TEMPLATE_TEST_CASE("the adjoint of a rotation is its inverse", "[mixer][position]", float, double) {
  using S = TestType;
  constexpr double u = unit_roundoff<S>;
  const index_t first[] = {4, 170000};
  for (const auto pairs : both_pairs) {
    const rotary<S> turn{.width = 6, .base = 100, .pairs = pairs};
    const auto x = strided<S>({2, 5, 3, 8}, 3), dy = strided<S>({2, 5, 3, 8}, 4);
    auto turned = x, back = dy;
    turn.apply(turned.get(), first);
    turn.backward(back.get(), first);
    // <R x, dy> = <x, R' dy>
    const auto product = [](const poisoned<S, 4>& a, const poisoned<S, 4>& b) {
      const auto p = a.values(), q = b.values();
      return std::inner_product(p.begin(), p.end(), q.begin(), 0.0, std::plus<>{},
                                [](S l, S r) { return double{l} * double{r}; });
    };
    const double size = std::sqrt(product(x, x) * product(dy, dy));
    CHECK(std::abs(product(turned, dy) - product(x, back)) <= 16 * u * size);
    // R' R x = x, also where one position stands for all sequences.
    turn.backward(turned.get(), first);
    auto again = x;
    turn.apply(again.get(), 9);
    turn.backward(again.get(), 9);
    const auto want = x.values(), got = turned.values(), same = again.values();
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(std::abs(double{got[i]} - double{want[i]}) <= 64 * u);
      CHECK(std::abs(double{same[i]} - double{want[i]}) <= 64 * u);
    }
    CHECK(turned.intact());
  }
}

TEST_CASE("scores of rotated queries and keys depend on the distance alone", "[mixer][position]") {
  for (const auto pairs : both_pairs) {
    const rotary<double> turn{.pairs = pairs};
    const auto product = [&](index_t query_at, index_t key_at) {
      test::random same(82);
      std::vector<double> q(8), k(8);
      same.fill_normal<double>(q);
      same.fill_normal<double>(k);
      turn.apply(row_major(q.data(), 1, 1, 1, 8), query_at);
      turn.apply(row_major(k.data(), 1, 1, 1, 8), key_at);
      return std::inner_product(q.begin(), q.end(), k.begin(), 0.0);
    };
    for (const index_t shift : {1, 100, 5000})
      CHECK(std::abs(product(7, 3) - product(7 + shift, 3 + shift)) <= 1e-11);
    CHECK(std::abs(product(7, 3) - product(8, 3)) > 1e-3);
  }
  // By hand: pair 1 of four numbers at position 2 turns by 2 / 100.
  std::vector<double> x{1, 0, 3, 4};
  rotary<double>{}.apply(row_major(x.data(), 1, 1, 1, 4), 2);
  CHECK(std::abs(x[0] - std::cos(2.0)) <= 1e-15);
  CHECK(std::abs(x[1] - std::sin(2.0)) <= 1e-15);
  CHECK(std::abs(x[2] - (3 * std::cos(0.02) - 4 * std::sin(0.02))) <= 1e-15);
  CHECK(std::abs(x[3] - (3 * std::sin(0.02) + 4 * std::cos(0.02))) <= 1e-15);
}

TEST_CASE("rotations of nothing are nothing", "[mixer][position]") {
  poisoned<float, 4> x({2, 3, 2, 4});
  for (const auto& extents :
       {std::array<index_t, 4>{0, 3, 2, 4}, std::array<index_t, 4>{2, 0, 2, 4},
        std::array<index_t, 4>{2, 3, 0, 4}, std::array<index_t, 4>{2, 3, 2, 0}})
    rotary<float>{}.apply(view<float, 4>(x.get().data_handle(), extents, x.get().strides()), 5);
  rotary<float>{}.apply(view<float, 4>{}, std::span<const index_t>{});
  CHECK(x.untouched());
}

TEMPLATE_TEST_CASE("rotary refuses what it cannot turn, and writes nothing", "[mixer][position]",
                   float, double) {
  using S = TestType;
  constexpr double infinity = std::numeric_limits<double>::infinity(),
                   nan = std::numeric_limits<double>::quiet_NaN();
  poisoned<S, 4> even({2, 3, 2, 4}), odd({2, 3, 2, 5});
  const auto x = even.get();
  const auto with_strides = [&](const std::array<index_t, 4>& strides) {
    return view<S, 4>(x.data_handle(), x.extents(), strides);
  };
  struct wrong {
    rotary<S> turn;
    view<S, 4> x;
    std::vector<index_t> first;
    std::string says;
  };
  const std::vector<index_t> at{0, 1};
  const wrong calls[] = {
      {{}, odd.get(), at, "width must be an even number of at most K = 5, got 5"},
      {{.width = 3}, x, at, "width must be an even number of at most K = 4, got 3"},
      {{.width = 6}, x, at, "width must be an even number of at most K = 4, got 6"},
      {{.width = -2}, x, at, "width must be an even number of at most K = 4, got -2"},
      {{.base = 0}, x, at, "base must be a finite number above 0, got 0"},
      {{.base = -10000}, x, at, "base must be a finite number above 0, got -10000"},
      {{.base = infinity}, x, at, "base must be a finite number above 0, got inf"},
      {{.base = nan}, x, at, "base must be a finite number above 0, got"},
      {{}, x, {0, -1}, "first must be 0 or more, got -1"},
      {{}, x, {0}, "first must be a position of each sequence, [2], got [1]"},
      {{}, x, {0, 1, 2}, "first must be a position of each sequence, [2], got [3]"},
      {{},
       view<S, 4>(nullptr, x.extents(), x.strides()),
       at,
       "x must be [B, T, H, K] = [2, 3, 2, 4], got a null pointer"},
      {{}, with_strides({24, 8, 4, 2}), at, "must have unit stride on its last axis"},
      {{}, with_strides({24, 8, 3, 1}), at, "must have inner strides that do not fold"},
      {{},
       with_strides({8, 8, 4, 1}),
       at,
       "x must have batch and time strides that keep its rows apart"},
  };
  for (const wrong& w : calls) {
    INFO(w.says);
    for (const bool backward : {false, true}) {
      const std::string who = backward ? "rotary::backward: " : "rotary::apply: ";
      const auto call = [&] {
        backward ? w.turn.backward(w.x, w.first) : w.turn.apply(w.x, w.first);
      };
      CHECK_THROWS_AS(call(), shape_error);
      CHECK_THROWS_WITH(call(), has_text(who) && has_text(w.says));
    }
  }
  // One position for all sequences is checked as well.
  CHECK_THROWS_WITH(rotary<S>{}.apply(x, -1),
                    has_text("rotary::apply: first must be 0 or more, got -1"));
  CHECK_THROWS_WITH(rotary<S>{}.backward(odd.get(), 0),
                    has_text("rotary::backward: width must be"));
  CHECK(even.untouched());
  CHECK(odd.untouched());
}

TEMPLATE_TEST_CASE("slopes of heads fall by powers of two, with odd ones between",
                   "[mixer][position]", float, double) {
  using S = TestType;
  CHECK(alibi_slopes<S>(0).empty());
  CHECK(alibi_slopes<S>(8) ==
        std::vector<S>{0.5, 0.25, 0.125, 0.0625, 0x1p-5, 0x1p-6, 0x1p-7, 0x1p-8});
  CHECK(alibi_slopes<S>(6) == std::vector<S>{0.25, 0.0625, 0x1p-6, 0x1p-8, 0.5, 0.125});
  // As the paper makes them: the slopes of a power of two, then every other one of twice as many.
  for (const std::size_t heads : {1u, 2u, 3u, 5u, 12u, 16u, 31u, 33u, 96u, 128u}) {
    std::size_t whole = 1;
    while (2 * whole <= heads) whole *= 2;
    const auto of = [](std::size_t count, std::size_t h) {
      return static_cast<S>(
          std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(count)));
    };
    std::vector<S> want;
    for (std::size_t h = 0; h < heads; ++h)
      want.push_back(h < whole ? of(whole, h) : of(2 * whole, 2 * (h - whole)));
    INFO(heads << " heads");
    CHECK(alibi_slopes<S>(static_cast<index_t>(heads)) == want);
  }
  CHECK_THROWS_AS(alibi_slopes<S>(-1), shape_error);
  CHECK_THROWS_WITH(alibi_slopes<S>(-1), has_text("alibi_slopes: heads must be 0 or more, got -1"));
}
