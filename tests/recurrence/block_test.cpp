// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/concepts.hpp>
#include <maslin/recurrence/block.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/simd/lane.hpp>

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using namespace maslin::test;
namespace simd = maslin::simd;
namespace recurrence = maslin::recurrence;
using maslin::recurrence::block;

template <int M>
struct blocks {
  template <class V>
  using at = block<V, M>;
};

}  // namespace

TEST_CASE("blocks of every size keep the laws", "[recurrence][block][laws]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) { laws::check<blocks<order>>(order); });
}
TEST_CASE("blocks keep the laws in wide and narrow numbers", "[recurrence][block][laws]") {
  for_orders<1, 3, 8>([](auto order) { laws::check_wide<blocks<order>>(order); });
}

TEST_CASE("row i of a block weights the old components for the new component i",
          "[recurrence][block][formula]") {
  using ring = std::uint64_t;
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    constexpr int M = order;
    CAPTURE(M);
    laws::draws<ring> draw(11);
    auto h = laws::drawn<typename block<ring, M>::state>(draw);
    for (int t = 0; t < 5; ++t) {
      const auto u = laws::drawn<typename block<ring, M>::token>(draw);
      std::vector<ring> want;
      for (int i = 0; i < M; ++i) {
        want.push_back(u.row(i).input);
        for (int j = 0; j < M; ++j) want.back() += u.row(i).gate[j] * h.h[j];
      }
      block<ring, M>::step(u, h);
      CHECK(std::vector<ring>(h.h, h.h + M) == want);
    }
  });
}

TEMPLATE_TEST_CASE("the diagonal of a block is added last, after the columns in order",
                   "[recurrence][block][bits]", float, double) {
  using S = TestType;
  using L = maslin::lane<S>;
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    constexpr int M = order;
    CAPTURE(M);
    laws::draws<S> draw(5);
    auto h = laws::drawn<typename block<S, M>::state>(draw);
    const auto u = laws::drawn<typename block<S, M>::token>(draw);
    const auto before = h;
    block<S, M>::step(u, h);
    for (int i = 0; i < M; ++i) {
      S x = u.row(i).input;
      for (int j = 0; j < M; ++j)
        if (j != i) x = L::fma(u.row(i).gate[j], before.h[j], x);
      x = maslin::carry_state(u.row(i).gate[i], before.h[i], x);
      CHECK(std::memcmp(&x, &h.h[i], sizeof x) == 0);
    }
  });
}

TEMPLATE_TEST_CASE("a block of size 1 has the bytes of the diagonal", "[recurrence][block][bits]",
                   float, double) {
  using S = TestType;
  maslin::test::random numbers(3);
  typename block<S, 1>::state h{{S(0.3)}};
  typename recurrence::diagonal<S>::state d{{S(0.3)}};
  for (int t = 0; t < 1000; ++t) {
    const S a = S(numbers.uniform(0.5, 1.2)), b = S(numbers.normal());
    block<S, 1>::step(typename block<S, 1>::token{{{{a}, b}}}, h);
    recurrence::diagonal<S>::step({a, b}, d);
    REQUIRE(std::memcmp(&h, &d, sizeof(S)) == 0);
  }
}

TEST_CASE("a block asks its token for each row once", "[recurrence][block][interface]") {
  struct lazy {
    std::vector<int>* asked;
    recurrence::gate_row<double, 2> row(int i) const {
      asked->push_back(i);
      return {{i == 0 ? 0.5 : 2.0, i == 0 ? 0.25 : -1.0}, 3.0 + i};
    }
  };
  std::vector<int> asked;
  block<double, 2>::state h{{8, 4}};
  block<double, 2>::step(lazy{&asked}, h);
  CHECK(asked == std::vector<int>{0, 1});
  CHECK(h.h[0] == 0.5 * 8 + 0.25 * 4 + 3);
  CHECK(h.h[1] == 2.0 * 8 - 1.0 * 4 + 4);
  const auto u = block<float, 2>::convert(lazy{&asked});
  CHECK(u.row(1).gate[0] == 2.0f);
  CHECK(u.row(1).input == 4.0f);
}
