// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/recurrence/online_softmax.hpp>
#include <maslin/simd/lane.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

using maslin::index_t;
using maslin::recurrence::online_softmax;

namespace {

constexpr index_t width = 11;
constexpr float infinity = std::numeric_limits<float>::infinity();
using monoid_t = online_softmax<float>;
constexpr monoid_t monoid{.width = width};

static_assert(maslin::recurrence::merge_monoid<online_softmax<float>>);
static_assert(maslin::recurrence::merge_monoid<online_softmax<double>>);

/// A part with its own memory.
struct owned {
  std::array<float, static_cast<std::size_t>(width)> acc{};
  monoid_t::part part;
  owned() {
    part.acc = acc.data();
    monoid.clear(part);
  }
  owned(const owned& other) : acc(other.acc), part(other.part) { part.acc = acc.data(); }
  owned& operator=(const owned&) = delete;
  [[nodiscard]] bool same(const owned& other) const {
    return std::memcmp(acc.data(), other.acc.data(), sizeof acc) == 0 &&
           part.max == other.part.max && part.sum == other.part.sum;
  }
};

struct keys {
  std::vector<float> scores, values;
  keys(index_t count, double spread, std::uint64_t seed) {
    maslin::test::random r(seed);
    scores.resize(static_cast<std::size_t>(count));
    values.resize(static_cast<std::size_t>(count * width));
    r.fill_normal<float>(scores, spread);
    r.fill_normal<float>(values);
  }
  [[nodiscard]] owned part(index_t begin, index_t end) const {
    owned p;
    for (index_t j = begin; j < end; ++j)
      monoid.add(p.part, scores[static_cast<std::size_t>(j)], values.data() + j * width);
    return p;
  }
  /// Two passes in double: the outputs, then the log-sum-exp; and the sums of |weight value|.
  [[nodiscard]] std::vector<double> exact(std::vector<double>& sizes) const {
    double largest = -HUGE_VAL, sum = 0;
    for (const float s : scores) largest = std::max(largest, double{s});
    std::vector<double> y(static_cast<std::size_t>(width) + 1);
    sizes.assign(static_cast<std::size_t>(width), 0);
    for (std::size_t j = 0; j < scores.size(); ++j) {
      const double w = std::exp(scores[j] - largest);
      sum += w;
      for (std::size_t e = 0; e < sizes.size(); ++e) {
        const double term = w * values[j * sizes.size() + e];
        y[e] += term;
        sizes[e] += std::abs(term);
      }
    }
    for (std::size_t e = 0; e < sizes.size(); ++e) {
      y[e] /= sum;
      sizes[e] /= sum;
    }
    y.back() = largest + std::log(sum);
    return y;
  }
};

}  // namespace

TEST_CASE("the empty part is an identity on both sides, exactly", "[recurrence][softmax][law]") {
  const keys k(9, 3, 1);
  const owned p = k.part(0, 9);
  owned left, right(p);
  monoid.merge(left.part, p.part);
  CHECK(left.same(p));
  monoid.merge(right.part, owned{}.part);
  CHECK(right.same(p));
  owned nothing;
  monoid.merge(nothing.part, owned{}.part);
  CHECK(nothing.same(owned{}));
}

TEST_CASE("any cut of the keys merges to the whole, associatively", "[recurrence][softmax][law]") {
  for (const double spread : {0.1, 3.0, 30.0}) {
    const keys k(60, spread, 2);
    std::vector<double> sizes;
    const auto want = k.exact(sizes);
    for (index_t a = 0; a <= 60; a += 6)
      for (index_t b = a; b <= 60; b += 5) {
        // (first second) third, and first (second third)
        owned left = k.part(0, a), right = k.part(a, b);
        const owned second = k.part(a, b), third = k.part(b, 60), first = k.part(0, a);
        monoid.merge(left.part, second.part);
        monoid.merge(left.part, third.part);
        monoid.merge(right.part, third.part);
        owned outer(first);
        monoid.merge(outer.part, right.part);
        for (const owned* p : {&left, &outer}) {
          std::vector<float> y(static_cast<std::size_t>(width));
          const float lse = monoid.finish(p->part, y.data());
          // A rounding a key, and eight for each weight; weights lose |s - m| u more.
          const double u = 0x1p-24, units = 60 + 8 * 3 + 4 * 8 * spread;
          for (std::size_t e = 0; e < y.size(); ++e)
            REQUIRE(std::abs(y[e] - want[e]) <= units * u * sizes[e]);
          REQUIRE(std::abs(lse - want.back()) <= units * u);
        }
      }
  }
}

TEST_CASE("parts merge with the same bits in registers of any width", "[recurrence][softmax]") {
  const keys k(40, 2, 3);
  owned one = k.part(0, 25), wide(one);
  const owned other = k.part(25, 40);
  using V = maslin::simd::native<float>;
  monoid.merge(one.part, other.part);
  monoid.merge<V>(wide.part, other.part);
  CHECK(one.same(wide));
  std::vector<float> y(static_cast<std::size_t>(width)), z(y);
  CHECK(monoid.finish(one.part, y.data()) == monoid.finish<V>(wide.part, z.data()));
  CHECK(y == z);
}

TEST_CASE("scores of -inf weigh nothing, nothing seen is 0", "[recurrence][softmax][extremes]") {
  const std::vector<float> value(static_cast<std::size_t>(width), 2.0f);
  owned p;
  monoid.add(p.part, -infinity, value.data());
  monoid.merge(p.part, owned{}.part);
  std::vector<float> y(static_cast<std::size_t>(width), 7.0f);
  CHECK(monoid.finish(p.part, y.data()) == -infinity);
  CHECK(y == std::vector<float>(static_cast<std::size_t>(width), 0.0f));
  // A key after them is seen alone; a sink takes half of it.
  monoid.add(p.part, 1e4f, value.data());
  CHECK(monoid.finish(p.part, y.data()) == 1e4f);
  CHECK(y == value);
  monoid.add(p.part, 1e4f, nullptr);
  CHECK(monoid.finish(p.part, y.data()) == 1e4f + static_cast<float>(std::log(2.0)));
  CHECK(y == std::vector<float>(static_cast<std::size_t>(width), 1.0f));
}

TEST_CASE("NaN passes through parts, in the columns that it reaches",
          "[recurrence][softmax][nan]") {
  const float nan_value = std::numeric_limits<float>::quiet_NaN();
  const keys k(6, 1, 4);
  const auto all_nan = [](const owned& p) {
    std::vector<float> y(static_cast<std::size_t>(width));
    bool all = std::isnan(monoid.finish(p.part, y.data()));
    for (const float x : y) all = all && std::isnan(x);
    return all;
  };
  for (const bool first : {true, false}) {
    owned spoiled = k.part(0, 3), clean = k.part(3, 6);
    monoid.add(spoiled.part, nan_value, k.values.data());
    owned& into = first ? spoiled : clean;
    monoid.merge(into.part, (first ? clean : spoiled).part);
    CHECK(all_nan(into));
  }
  owned p = k.part(0, 3);
  auto value = std::vector<float>(static_cast<std::size_t>(width), 1.0f);
  value[4] = nan_value;
  monoid.add(p.part, 0.0f, value.data());
  owned merged = k.part(3, 6);
  monoid.merge(merged.part, p.part);
  std::vector<float> y(static_cast<std::size_t>(width));
  CHECK_FALSE(std::isnan(monoid.finish(merged.part, y.data())));
  for (std::size_t e = 0; e < y.size(); ++e) CHECK(std::isnan(y[e]) == (e == 4));
}
