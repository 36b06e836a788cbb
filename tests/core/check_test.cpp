// SPDX-License-Identifier: Apache-2.0
#include "support/answer.hpp"
#include "support/catch.hpp"

#include <maslin/core/check.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace {

using maslin::index_t;
using maslin::row_major;
using maslin::strided;
using maslin::view;
using maslin::test::answer;
namespace check = maslin::check;
using check::footprint;

constexpr check::caller who{"hlru", "scan"};

template <std::size_t Rank>
using shape = std::array<index_t, Rank>;

template <class S, int Rank>
std::string layout_answer(const view<S, Rank>& v, const typename view<S, Rank>::shape& wanted,
                          int outer = 2) {
  return answer([&] { check::layout<S, Rank>(who, "y", "[B, T, D]", v, wanted, outer); });
}

/// The bytes of all rows, the truth about a footprint.
std::vector<std::set<std::uintptr_t>> rows(const footprint& f) {
  std::vector<std::set<std::uintptr_t>> all;
  if (f.begin == f.end) return all;
  for (index_t i = 0; i < f.extent[0]; ++i)
    for (index_t j = 0; j < f.extent[1]; ++j) {
      all.emplace_back();
      for (index_t k = 0; k < f.row; ++k)
        all.back().insert(f.begin + std::uintptr_t(i * f.outer[0] + j * f.outer[1] + k));
    }
  return all;
}
bool truly_fold(const footprint& f) {
  std::set<std::uintptr_t> seen;
  for (const auto& row : rows(f))
    for (const auto byte : row)
      if (!seen.insert(byte).second) return true;
  return false;
}
bool truly_overlap(const footprint& a, const footprint& b) {
  std::set<std::uintptr_t> first;
  for (const auto& row : rows(a)) first.insert(row.begin(), row.end());
  for (const auto& row : rows(b))
    for (const auto byte : row)
      if (first.contains(byte)) return true;
  return false;
}

footprint of(const char* data, const shape<3>& extents, const shape<3>& strides) {
  return check::layout<const char, 3>(who, "x", "[B, T, D]", strided(data, extents, strides),
                                      extents, 2);
}

}  // namespace

TEST_CASE("a list of sizes reads as in the messages", "[core][check][text]") {
  CHECK(check::list(shape<3>{2, 1024, 60}) == "[2, 1024, 60]");
  CHECK(check::list(std::vector<index_t>{}) == "[]");
}

TEST_CASE("a count must not be negative", "[core][check][errors]") {
  CHECK(answer([] { check::count(who, "channels", 0); }) == "");
  CHECK(answer([] { check::count(who, "channels", -3); }) ==
        "hlru::scan: channels must be 0 or more, got -3");
}

TEST_CASE("a layout is refused with the argument, what was wanted and what came",
          "[core][check][errors]") {
  std::vector<float> data(200);
  float* p = data.data();
  const shape<3> wanted{2, 4, 6};
  const std::string y = "hlru::scan: y must be [B, T, D] = [2, 4, 6], got ";
  CHECK(layout_answer(row_major(p, 2, 4, 6), wanted) == "");
  CHECK(layout_answer(row_major(p, 2, 3, 6), wanted) == y + "[2, 3, 6]");
  CHECK(layout_answer(row_major(p, 2, 4, 5), wanted) == y + "[2, 4, 5]");
  CHECK(layout_answer(row_major(p, 3, 4, 6), wanted) == y + "[3, 4, 6]");
  CHECK(layout_answer(row_major(static_cast<float*>(nullptr), 2, 4, 6), wanted) ==
        y + "a null pointer");
  CHECK(layout_answer(row_major(p, 2, -4, 6), shape<3>{2, -4, 6}) ==
        "hlru::scan: y must be [B, T, D] = [2, -4, 6], got a negative extent");

  const auto strides = [&](index_t b, index_t t, index_t d) {
    return layout_answer(strided(p, wanted, shape<3>{b, t, d}), wanted);
  };
  const std::string has = "hlru::scan: y [B, T, D] = [2, 4, 6] must have ";
  CHECK(strides(24, 6, 1) == "");
  CHECK(strides(100, 9, 1) == "");
  CHECK(strides(6, 12, 1) == "");  // time outside batch
  CHECK(strides(24, 6, 2) == has + "unit stride on its last axis, got strides [24, 6, 2]");
  CHECK(strides(24, 6, 0) == has + "unit stride on its last axis, got strides [24, 6, 0]");
  CHECK(strides(24, 6, -1) == has + "unit stride on its last axis, got strides [24, 6, -1]");
  const std::string apart = "strides of at least a row of 6 on its first 2 axes, got strides ";
  CHECK(strides(24, 5, 1) == has + apart + "[24, 5, 1]");
  CHECK(strides(24, 0, 1) == has + apart + "[24, 0, 1]");
  CHECK(strides(-24, 6, 1) == has + apart + "[-24, 6, 1]");
  CHECK(strides(0, 6, 1) == has + apart + "[0, 6, 1]");

  // Strides of an axis of extent 1 are never used.
  CHECK(layout_answer(strided(p, shape<3>{1, 1, 6}, shape<3>{0, -3, 1}), {1, 1, 6}) == "");
  CHECK(layout_answer(strided(p, shape<3>{2, 4, 1}, shape<3>{4, 1, 77}), {2, 4, 1}) == "");
}

TEST_CASE("inner axes must be dense enough not to fold", "[core][check][errors]") {
  std::vector<float> data(2000);
  const shape<4> wanted{2, 3, 4, 5};
  const auto strides = [&](index_t c, index_t k) {
    const auto v = strided(data.data(), wanted, shape<4>{500, 100, c, k});
    return answer([&] { check::layout<float, 4>(who, "gate", "[B, T, D, M+1]", v, wanted, 2); });
  };
  const std::string has = "hlru::scan: gate [B, T, D, M+1] = [2, 3, 4, 5] must have ";
  CHECK(strides(5, 1) == "");
  CHECK(strides(9, 1) == "");
  CHECK(strides(4, 1) ==
        has +
            "inner strides that do not fold (axis 2 needs at least 5), got strides "
            "[500, 100, 4, 1]");
  CHECK(strides(5, 4) == has + "unit stride on its last axis, got strides [500, 100, 5, 4]");
}

TEST_CASE("a view that is not aligned for its numbers is refused", "[core][check][errors]") {
  alignas(16) static char bytes[64];
  auto* p = reinterpret_cast<float*>(bytes + 2);
  CHECK(layout_answer(row_major(p, 1, 2, 3), {1, 2, 3}) ==
        "hlru::scan: y must be aligned to 4 bytes, got an address 2 past it");
}

TEST_CASE("sizes that overflow are refused, not wrapped", "[core][check][overflow]") {
  float x;
  const std::string fits = "a size that fits in memory, got strides ";
  const auto refused = [&](const std::string& text) { return text.find(fits) != text.npos; };
  constexpr index_t most = std::numeric_limits<index_t>::max(), half = index_t{1} << 32;
  // 2^20 * 2^24 * 2^20 is 0 modulo 2^64.
  CHECK(refused(
      layout_answer(row_major(&x, 1 << 20, 1 << 24, 1 << 20), {1 << 20, 1 << 24, 1 << 20})));
  CHECK(refused(layout_answer(row_major(&x, 1, half, half), {1, half, half})));
  CHECK(refused(layout_answer(row_major(&x, 1, 1, most), {1, 1, most})));
  CHECK(refused(layout_answer(row_major(&x, 1, 2, most / 2), {1, 2, most / 2})));
  CHECK(refused(layout_answer(strided(&x, shape<3>{2, 2, 2}, shape<3>{most, 2, 1}), {2, 2, 2})));
  CHECK(refused(
      layout_answer(strided(&x, shape<3>{3, 2, 2}, shape<3>{most / 2, most / 2, 1}), {3, 2, 2})));
  const auto v = strided(&x, shape<4>{1, 1, 3, 2}, shape<4>{1, 1, most / 2 + 1, 1});
  CHECK(refused(answer([&] {
    check::layout<float, 4>(who, "gate", "[B, T, D, M+1]", v, {1, 1, 3, 2}, 2);
  })));
}

TEST_CASE("an empty view may be null, and touches nothing", "[core][check][empty]") {
  float* none = nullptr;
  for (const auto& wanted : {shape<3>{0, 4, 6}, shape<3>{2, 0, 6}, shape<3>{2, 4, 0}}) {
    const auto v = row_major(none, wanted[0], wanted[1], wanted[2]);
    const auto f = check::layout<float, 3>(who, "y", "[B, T, D]", v, wanted, 2);
    CHECK(f.begin == f.end);
    CHECK_FALSE(check::overlap(f, f));
  }
}

TEST_CASE("a footprint is what the view reaches", "[core][check][overlap]") {
  static const float data[1000] = {};
  const shape<4> extents{2, 3, 4, 5};
  const auto v = strided(data, extents, shape<4>{300, 50, 6, 1});
  const auto f = check::layout<const float, 4>(who, "gate", "[..]", v, extents, 2);
  CHECK(f.begin == reinterpret_cast<std::uintptr_t>(data));
  CHECK(f.row == (3 * 6 + 5) * 4);
  CHECK(f.end == f.begin + (300 + 2 * 50 + 3 * 6 + 5) * 4);
  CHECK(f.outer[0] == 1200);
  CHECK(f.outer[1] == 200);
}

TEST_CASE("rows that fold onto each other are always found", "[core][check][overlap]") {
  static const char data[1] = {};
  int folding = 0, apart = 0;
  for (const index_t B : {1, 2, 3})
    for (const index_t T : {1, 2, 4})
      for (const index_t D : {1, 3})
        for (index_t b = D; b < 14; ++b)
          for (index_t t = D; t < 14; ++t) {
            const auto f = of(data, {B, T, D}, {b, t, 1});
            const bool folds = check::folds(f);
            if (truly_fold(f) && !folds) FAIL("missed " << B << T << D << ' ' << b << ' ' << t);
            // In the usual orders, one axis within the other, the answer is exact.
            const bool nested = b >= t * T || t >= b * B;
            if (nested && folds) FAIL("refused " << B << T << D << ' ' << b << ' ' << t);
            (folds ? folding : apart) += 1;
          }
  CHECK(folding > 100);
  CHECK(apart > 100);
  CHECK(answer([] {
          check::writable(who, "y", of(data, {2, 3, 2}, {2, 2, 1}));
        }) ==
        "hlru::scan: y must have batch and time strides that keep its rows apart, got rows that "
        "overlap");
  CHECK(answer([] { check::writable(who, "y", of(data, {2, 3, 2}, {6, 2, 1})); }) == "");
}

TEST_CASE("shared bytes are always found", "[core][check][overlap]") {
  static const char data[4096] = {};
  int sharing = 0, apart = 0;
  for (const shape<3>& first : {shape<3>{1, 1, 4}, shape<3>{1, 3, 2}, shape<3>{2, 2, 3}})
    for (const shape<3>& second : {shape<3>{1, 1, 1}, shape<3>{1, 4, 2}, shape<3>{3, 2, 1}})
      for (const index_t t : {3, 5, 6, 10})
        for (const index_t u : {2, 5, 10, 12})
          for (const index_t b : {20, 24})
            for (index_t offset = -40; offset <= 40; ++offset) {
              const auto x = of(data + 100, first, {b, t, 1});
              const auto y = of(data + 100 + offset, second, {b, u, 1});
              const bool found = check::overlap(x, y);
              if (truly_overlap(x, y) && !found)
                FAIL("missed " << t << ' ' << u << ' ' << b << ' ' << offset);
              if (found != check::overlap(y, x)) FAIL("one-sided");
              (found ? sharing : apart) += 1;
            }
  CHECK(sharing > 100);
  CHECK(apart > 100);
}

TEST_CASE("interleaved slices of one buffer do not overlap", "[core][check][overlap]") {
  // A fused projection: gate, input and y side by side in rows of 7 numbers.
  static const char data[4096] = {};
  constexpr index_t row = 7, T = 5, B = 3;
  for (index_t first = 0; first < row; ++first)
    for (index_t width = 1; first + width <= row; ++width)
      for (index_t second = 0; second < row; ++second)
        for (index_t other = 1; second + other <= row; ++other) {
          const auto x = of(data + first, {B, T, width}, {T * row, row, 1});
          const auto y = of(data + second, {B, T, other}, {T * row, row, 1});
          if (check::overlap(x, y) != truly_overlap(x, y))
            FAIL(first << ' ' << width << ' ' << second << ' ' << other);
        }
  const auto whole = of(data, {1, T, row}, {0, row, 1});
  CHECK(check::overlap(whole, whole));
  CHECK(answer([&] { check::disjoint(who, "y", whole, "gate", whole); }) ==
        "hlru::scan: y must not overlap gate, got memory that does");
  CHECK(answer([&] {
          check::disjoint(who, "y", whole, "gate", of(data + T * row, {1, T, row}, {0, row, 1}));
        }) == "");
}

TEST_CASE("a call is in place where both views are the same elements", "[core][check][overlap]") {
  std::vector<float> data(100);
  const auto y = row_major(data.data(), 2, 3, 4);
  const view<const float, 3> input = y;
  CHECK(check::same(input, y));
  CHECK_FALSE(check::same(input, row_major(data.data() + 1, 2, 3, 4)));
  CHECK_FALSE(check::same(input, row_major(data.data(), 2, 3, 5)));
  CHECK_FALSE(check::same(input, strided(data.data(), shape<3>{2, 3, 4}, shape<3>{12, 5, 1})));
  CHECK(check::same(strided(data.data(), shape<3>{1, 3, 4}, shape<3>{0, 4, 1}),
                    row_major(data.data(), 1, 3, 4)));
}

TEST_CASE("offsets of packed sequences are checked one by one", "[core][check][packed]") {
  using offsets = std::vector<index_t>;
  const auto packed = [](const offsets& o, index_t batch, index_t tokens) {
    return answer([&] { check::packed(who, o, batch, tokens); });
  };
  CHECK(packed({0, 3, 3, 10}, 1, 10) == "");
  CHECK(packed({0}, 1, 0) == "");
  CHECK(packed({0, 3}, 2, 3) ==
        "hlru::scan: tokens with offsets are one packed sequence: B must be 1, got 2");
  const std::string from = "hlru::scan: offsets must not decrease, from 0 to T = 10, got ";
  CHECK(packed({1, 3, 10}, 1, 10) == from + "a first offset of 1");
  CHECK(packed({-1, 3, 10}, 1, 10) == from + "a first offset of -1");
  CHECK(packed({0, 5, 4, 10}, 1, 10) == from + "5 followed by 4");
  CHECK(packed({0, 5, 9}, 1, 10) == from + "a last offset of 9");
  CHECK(packed({0, 5, 11}, 1, 10) == from + "a last offset of 11");
}
