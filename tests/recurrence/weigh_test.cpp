// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/aligned.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/reference/generalized.hpp>
#include <maslin/simd/lane.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace maslin;
using namespace maslin::test;

namespace {

template <class S>
constexpr S inf = std::numeric_limits<S>::infinity();
template <class S>
constexpr S nan_of = std::numeric_limits<S>::quiet_NaN();

template <weights W, class V, class S>
std::vector<S> weighed(const std::vector<S>& row) {
  aligned_vector<S> padded(row.begin(), row.end());
  padded.resize((row.size() + 15) / 16 * 16, nan_of<S>);
  recurrence::weigh_row<W, V>(padded.data(), static_cast<index_t>(row.size()));
  return {padded.begin(), padded.begin() + static_cast<index_t>(row.size())};
}

/// Ordinary rows within their bound of the reference, special ones exactly, and the same bytes in
/// numbers and in registers.
template <weights W, class S>
void row_law() {
  maslin::test::random r(5);
  std::vector<std::vector<S>> rows{{inf<S>, 1, inf<S>},
                                   {-inf<S>, -inf<S>},
                                   {-inf<S>, 2},
                                   {0, 0, 0},
                                   {std::numeric_limits<S>::max(), -std::numeric_limits<S>::max()},
                                   {S(-30), S(-31)},
                                   {std::numeric_limits<S>::denorm_min()}};
  for (const std::size_t n : {1u, 2u, 7u, 16u, 17u, 50u})
    for (const double reach : {1.0, 20.0}) {
      std::vector<S> row(n);
      r.fill_uniform<S>(row, -reach, reach);
      rows.push_back(row);
    }
  for (const auto& row : rows) {
    const auto got = weighed<W, simd::native<S>>(row);
    const auto plain = weighed<W, S>(row);
    std::vector<double> want(row.begin(), row.end());
    reference::weigh_row(W, want, double{std::numeric_limits<S>::min()});
    for (std::size_t i = 0; i < row.size(); ++i) {
      INFO("entry " << i << " of " << row.size() << ": " << row[i] << " gives " << got[i]);
      REQUIRE((got[i] == plain[i] || (std::isnan(got[i]) && std::isnan(plain[i]))));
      if (!std::isfinite(want[i])) continue;
      const double allowed =
          static_cast<double>(row.size() + 8 + 40) * unit_roundoff<S> * std::abs(want[i]);
      REQUIRE(std::abs(double{got[i]} - want[i]) <=
              allowed + double{std::numeric_limits<S>::min()} * 4);
    }
    // One NaN spoils the row, or itself alone where nothing is shared.
    auto bad = row;
    bad.back() = nan_of<S>;
    const auto spoiled = weighed<W, simd::native<S>>(bad);
    for (std::size_t i = 0; i < bad.size(); ++i) {
      const bool shared = W != weights::given && W != weights::sigmoid;
      REQUIRE(std::isnan(spoiled[i]) == (shared || i + 1 == bad.size()));
    }
  }
}

}  // namespace

TEST_CASE("rows of any length are weighed as the reference does", "[recurrence][weigh]") {
  SECTION("softmax") { row_law<weights::softmax, float>(); }
  SECTION("softmax in double") { row_law<weights::softmax, double>(); }
  SECTION("sigmoid_l1") { row_law<weights::sigmoid_l1, float>(); }
  SECTION("relu_l1") { row_law<weights::relu_l1, double>(); }
  SECTION("tanh_l1") { row_law<weights::tanh_l1, float>(); }
  SECTION("lin_l1") { row_law<weights::lin_l1, float>(); }
  SECTION("sigmoid") { row_law<weights::sigmoid, float>(); }
  SECTION("given") { row_law<weights::given, double>(); }
}

TEST_CASE("a dot product has 16 chains whatever the registers", "[recurrence][weigh]") {
  maslin::test::random r(6);
  for (const std::size_t n : {0u, 1u, 5u, 8u, 16u, 19u, 40u}) {
    std::vector<float> a(n), b(n);
    r.fill_normal<float>(a);
    r.fill_normal<float>(b);
    const auto size = static_cast<index_t>(n);
    const float got = recurrence::dot_row<simd::native<float>>(a.data(), b.data(), size);
    REQUIRE(got == recurrence::dot_row<float>(a.data(), b.data(), size));
    double want = 0, sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      want += double{a[i]} * double{b[i]};
      sum += std::abs(double{a[i]} * double{b[i]});
    }
    REQUIRE(std::abs(double{got} - want) <= 8 * unit_roundoff<float> * sum);
  }
}

TEMPLATE_TEST_CASE("dot products of many rows are those of one row", "[recurrence][weigh]", float,
                   double) {
  using S = TestType;
  maslin::test::random r(7);
  for (const index_t n : {0, 1, 7, 16, 33})
    for (const index_t count : {0, 1, 3, 8, 13, 21}) {
      std::vector<S> a(static_cast<std::size_t>(n)), rows(static_cast<std::size_t>(n * count));
      r.fill_normal<S>(a);
      r.fill_normal<S>(rows);
      const auto row = [&](index_t i) { return rows.data() + i * n; };
      std::vector<S> got(static_cast<std::size_t>(count), S(-1)), scalar = got;
      recurrence::dot_rows<simd::native<S>>(a.data(), n, count, row, got.data());
      recurrence::dot_rows<S>(a.data(), n, count, row, scalar.data());
      for (index_t i = 0; i < count; ++i) {
        const S want = recurrence::dot_row<S>(a.data(), row(i), n);
        REQUIRE(got[static_cast<std::size_t>(i)] == want);
        REQUIRE(scalar[static_cast<std::size_t>(i)] == want);
      }
    }
}
