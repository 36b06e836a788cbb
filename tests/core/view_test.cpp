// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/view.hpp>

#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace {

using maslin::index_t;
using maslin::row_major;
using maslin::strided;
using maslin::view;

template <int Rank>
using shape = std::array<index_t, std::size_t(Rank)>;

}  // namespace

TEST_CASE("an empty view is null and has no elements", "[core][view][construction]") {
  const view<float, 3> v;
  CHECK(v.data_handle() == nullptr);
  CHECK(v.extents() == shape<3>{0, 0, 0});
  CHECK(v.size() == 0);
  CHECK(v.empty());
  CHECK(view<float, 3>::rank() == 3);
}

TEST_CASE("a row-major view has its last axis fastest", "[core][view][construction]") {
  std::vector<double> data(2 * 3 * 4);
  const auto v = row_major(data.data(), 2, 3, 4);
  CHECK(std::is_same_v<decltype(v), const view<double, 3>>);
  CHECK(v.strides() == shape<3>{12, 4, 1});
  CHECK(v.extents() == shape<3>{2, 3, 4});
  CHECK(v.extent(1) == 3);
  CHECK(v.stride(1) == 4);
  CHECK(v.size() == 24);
  CHECK_FALSE(v.empty());
  CHECK(&v(1, 2, 3) == data.data() + 23);
  v(0, 1, 2) = 7;
  CHECK(data[6] == 7);
  // Axes of extent 0 or 1 leave the strides of the others as they are.
  CHECK(row_major(data.data(), 2, 0, 4).strides() == shape<3>{4, 4, 1});
  CHECK(row_major(data.data(), 2, 0, 4).empty());
}

TEST_CASE("a row-major view of absurd extents does not wrap around", "[core][view][overflow]") {
  constexpr index_t large = index_t{1} << 40;
  const auto v = row_major(static_cast<float*>(nullptr), 2, large, large);
  CHECK(v.stride(0) == PTRDIFF_MAX);
  CHECK(v.stride(1) == large);
  // 2^20 * 2^24 * 2^20 is 0 modulo 2^64: still not empty.
  CHECK_FALSE(row_major(static_cast<float*>(nullptr), 1 << 20, 1 << 24, 1 << 20).empty());
  CHECK(row_major(static_cast<float*>(nullptr), large, large, 0).empty());
}

TEST_CASE("a strided view takes any strides", "[core][view][construction]") {
  std::vector<int> data(100);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = int(i);
  const auto v = strided(data.data(), shape<3>{2, 3, 4}, shape<3>{50, 7, 2});
  CHECK(v(1, 2, 3) == 50 + 14 + 6);
  CHECK(v(0, 0, 1) == 2);
  // Axes may be in any order in memory.
  const auto t = strided(data.data(), shape<2>{4, 3}, shape<2>{1, 4});
  CHECK(t(3, 2) == 11);
}

TEST_CASE("views convert to constant ones, and one rank up, never back",
          "[core][view][conversion]") {
  using std::is_convertible_v;
  CHECK(is_convertible_v<view<float, 2>, view<const float, 2>>);
  CHECK(is_convertible_v<view<float, 2>, view<float, 3>>);
  CHECK(is_convertible_v<view<float, 2>, view<const float, 3>>);
  CHECK(is_convertible_v<view<const float, 2>, view<const float, 3>>);
  CHECK_FALSE(is_convertible_v<view<const float, 2>, view<float, 2>>);
  CHECK_FALSE(is_convertible_v<view<const float, 2>, view<float, 3>>);
  CHECK_FALSE(is_convertible_v<view<float, 3>, view<float, 2>>);
  CHECK_FALSE(is_convertible_v<view<float, 1>, view<float, 3>>);
  CHECK_FALSE(is_convertible_v<view<float, 2>, view<double, 2>>);
  CHECK_FALSE(is_convertible_v<view<float, 2>, view<const double, 2>>);
  CHECK(std::is_same_v<view<const float, 2>::value_type, float>);
  CHECK(std::is_same_v<view<const float, 2>::element_type, const float>);

  std::vector<float> data(12);
  const view<const float, 2> constant = strided(data.data(), shape<2>{2, 3}, shape<2>{5, 1});
  CHECK(constant.data_handle() == data.data());
  CHECK(constant.extents() == shape<2>{2, 3});
  CHECK(constant.strides() == shape<2>{5, 1});
}

TEST_CASE("a view one rank short is a batch of one", "[core][view][conversion]") {
  std::vector<float> data(12);
  const view<const float, 3> v = row_major(data.data(), 4, 3);
  CHECK(v.extents() == shape<3>{1, 4, 3});
  CHECK(v.strides() == shape<3>{12, 3, 1});
  CHECK(&v(0, 2, 1) == data.data() + 7);
  const view<float, 3> none = row_major(data.data(), 0, 3);
  CHECK(none.extents() == shape<3>{1, 0, 3});
  CHECK(none.empty());
}

TEST_CASE("a token of a view has all axes but time", "[core][view][time]") {
  std::vector<float> data(2 * 5 * 3);
  const auto v = row_major(data.data(), 2, 5, 3);
  const auto token = maslin::time_at(v, 3);
  CHECK(std::is_same_v<decltype(token), const view<float, 2>>);
  CHECK(token.extents() == shape<2>{2, 3});
  CHECK(token.strides() == shape<2>{15, 1});
  CHECK(&token(1, 2) == &v(1, 3, 2));

  const auto back = maslin::with_time(token);
  CHECK(back.extents() == shape<3>{2, 1, 3});
  CHECK(&back(1, 0, 2) == &v(1, 3, 2));

  const auto channel = maslin::slice(v, 2, 1);
  CHECK(channel.strides() == shape<2>{15, 3});
  CHECK(&channel(1, 4) == &v(1, 4, 1));
  CHECK(maslin::slice(v, 0, 1).data_handle() == data.data() + 15);
  CHECK(maslin::time_at(view<float, 3>{}, 7).data_handle() == nullptr);
}

TEST_CASE("a range of tokens keeps the strides", "[core][view][time]") {
  std::vector<float> data(2 * 5 * 3);
  const auto v = row_major(data.data(), 2, 5, 3);
  const auto range = maslin::time_range(v, 1, 4);
  CHECK(range.extents() == shape<3>{2, 3, 3});
  CHECK(range.strides() == v.strides());
  CHECK(&range(1, 0, 0) == &v(1, 1, 0));
  CHECK(maslin::time_range(v, 5, 5).empty());
  CHECK(maslin::time_range(view<float, 3>{}, 1, 4).data_handle() == nullptr);
}

TEST_CASE("views work in constant expressions", "[core][view][construction]") {
  static constexpr int data[] = {0, 1, 2, 3, 4, 5};
  constexpr auto v = row_major(data, 2, 3);
  STATIC_REQUIRE(v(1, 2) == 5);
}
