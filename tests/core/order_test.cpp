// SPDX-License-Identifier: Apache-2.0
#include "support/answer.hpp"
#include "support/catch.hpp"

#include <maslin/core/order.hpp>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

using maslin::with_order;

TEST_CASE("an order known at run time becomes one known to the compiler",
          "[core][order][dispatch]") {
  for (const int m : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
    int calls = 0;
    const int got = with_order<1, 2, 3, 4, 5, 6, 7, 8, 16>(m, [&](auto M) {
      constexpr int order = M;
      STATIC_REQUIRE(std::is_same_v<decltype(M), std::integral_constant<int, order>>);
      ++calls;
      return order * 10;
    });
    CHECK(got == m * 10);
    CHECK(calls == 1);
  }
}

TEST_CASE("a call without a result happens once", "[core][order][dispatch]") {
  std::vector<int> seen;
  with_order<3, 1, 2>(1, [&](auto M) { seen.push_back(M); });
  with_order<3, 1, 2>(3, [&](auto M) { seen.push_back(M); });
  CHECK(seen == std::vector<int>{1, 3});
}

TEST_CASE("results need not be copied or made by default", "[core][order][dispatch]") {
  struct only_made {
    explicit only_made(int x) : value(std::make_unique<int>(x)) {}
    std::unique_ptr<int> value;
  };
  const auto got = with_order<4, 8>(8, [](auto M) { return only_made(M); });
  CHECK(*got.value == 8);
}

TEST_CASE("an order that was not compiled is refused with those that were",
          "[core][order][errors]") {
  for (const int m : {0, -1, 9, 17, 1 << 30}) {
    bool called = false;
    const std::string text =
        maslin::test::answer([&] { with_order<1, 2, 16>(m, [&](auto) { called = true; }); });
    CHECK(text == "with_order: order must be one of {1, 2, 16}, got " + std::to_string(m));
    CHECK_FALSE(called);
  }
}
