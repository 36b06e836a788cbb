// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/simd/tile.hpp>

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
using maslin::lane;
namespace simd = maslin::simd;
using simd::terms;

/// A matrix in poisoned memory, in panels or in plain rows.
template <class S>
struct matrix {
  index_t rows, columns, row, panel;
  std::vector<S> memory;

  matrix(index_t m, index_t n, bool dense)
      : rows(m),
        columns(n),
        row(dense ? n + 3 : simd::panel_columns),
        panel(dense ? simd::panel_columns : m * simd::panel_columns + 5) {
    const index_t panels = (n + simd::panel_columns - 1) / simd::panel_columns;
    memory.resize(static_cast<std::size_t>(dense ? m * row : panels * panel));
    poison<S>::fill(memory);
  }
  [[nodiscard]] simd::panels<S> get() { return {memory.data(), row, panel}; }
  [[nodiscard]] S& at(index_t i, index_t j) { return *get().at(i, j); }
};

struct product {
  index_t m, n, depth;
  bool dense, nothing, scaled;
};

template <class S>
bool has_term(terms which, index_t i, index_t p) {
  switch (which) {
    case terms::all: return true;
    case terms::through:
    case terms::through_after: return p <= i;
    case terms::before: return p < i;
    case terms::from: return p >= i;
    case terms::after: return p > i;
  }
  return false;
}

/// Whether `multiply` gives each number as one chain of fma, term by term, and touches nothing else.
/// What it should not read of A stays poison, a signalling NaN. With terms::through_after,
/// `depth` terms of another product come before the scale.
template <class V, terms Which>
std::string wrong(const product& p, std::uint64_t seed) {
  using S = typename lane<V>::scalar;
  constexpr bool solves = Which == terms::before || Which == terms::after;
  constexpr bool last_first = Which == terms::from || Which == terms::after;
  maslin::test::random r(seed);
  const index_t depth = Which == terms::all ? p.depth : p.m;
  const index_t before = Which == terms::through_after ? p.depth : 0;
  matrix<S> a(depth, p.m, p.dense), b(depth, p.n, p.dense), c(p.m, p.n, p.dense);
  matrix<S> first(before, p.m, p.dense), second(before, p.n, p.dense);
  std::vector<S> scale(static_cast<std::size_t>(p.m));
  r.fill_normal(std::span<S>(scale));
  for (index_t i = 0; i < p.m; ++i)
    for (index_t q = 0; q < depth; ++q)
      if (has_term<S>(Which, i, q)) a.at(q, i) = static_cast<S>(r.normal() / 4);
  for (index_t j = 0; j < p.n; ++j) {
    for (index_t q = 0; q < depth; ++q) b.at(q, j) = static_cast<S>(r.normal());
    if (!p.nothing)
      for (index_t i = 0; i < p.m; ++i) c.at(i, j) = static_cast<S>(r.normal());
  }
  for (index_t q = 0; q < before; ++q) {
    for (index_t i = 0; i < p.m; ++i) first.at(q, i) = static_cast<S>(r.normal() / 4);
    for (index_t j = 0; j < p.n; ++j) second.at(q, j) = static_cast<S>(r.normal());
  }
  auto want = c;
  for (index_t j = 0; j < p.n; ++j)
    for (index_t row = 0; row < p.m; ++row) {
      const index_t i = last_first ? p.m - 1 - row : row;
      S sum = p.nothing ? S(0) : want.at(i, j);
      for (index_t q = 0; q < before; ++q) sum = lane<S>::fma(first.at(q, i), second.at(q, j), sum);
      if (p.scaled) sum = scale[static_cast<std::size_t>(i)] * sum;
      for (index_t term = 0; term < depth; ++term) {
        const index_t q = last_first ? depth - 1 - term : term;
        if (has_term<S>(Which, i, q))
          sum = lane<S>::fma(a.at(q, i), solves ? want.at(q, j) : b.at(q, j), sum);
      }
      want.at(i, j) = sum;
    }
  const simd::begin_with<S> from{.nothing = p.nothing,
                                 .scale = p.scaled ? scale.data() : nullptr,
                                 .a = first.get().read(),
                                 .b = second.get().read(),
                                 .depth = before};
  simd::multiply<V, Which>(c.get(), a.get().read(), solves ? c.get().read() : b.get().read(), from,
                           p.m, p.n, depth);
  using word = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  for (std::size_t i = 0; i < want.memory.size(); ++i)
    if (std::bit_cast<word>(want.memory[i]) != std::bit_cast<word>(c.memory[i]))
      return "number " + std::to_string(i) + " of memory differs";
  return {};
}

constexpr index_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 15, 16, 17, 23, 32, 37};

}  // namespace

TEMPLATE_TEST_CASE("products of every size are chains of fma and touch nothing else",
                   "[simd][tile]", simd::native<float>, simd::native<double>) {
  std::uint64_t seed = 0;
  for (const index_t m : sizes)
    for (const index_t n : sizes)
      for (const index_t depth : {0, 1, 5, 19}) {
        ++seed;
        const product p{m, n, depth, seed % 2 == 0, seed % 3 == 0, seed % 5 < 2};
        INFO("m " << m << ", n " << n << ", depth " << depth << (p.dense ? ", dense" : ""));
        REQUIRE(wrong<TestType, terms::all>(p, seed) == "");
        REQUIRE(wrong<TestType, terms::through_after>(p, seed) == "");
        if (depth == 0) {
          REQUIRE(wrong<TestType, terms::through>(p, seed) == "");
          const product solve{m, n, 0, p.dense, false, p.scaled};
          REQUIRE(wrong<TestType, terms::before>(solve, seed) == "");
          REQUIRE(wrong<TestType, terms::from>(p, seed) == "");
          REQUIRE(wrong<TestType, terms::after>(solve, seed) == "");
        }
      }
}

TEST_CASE("a panel of a matrix begins where its columns do", "[simd][tile]") {
  float numbers[96] = {};
  const simd::panels<float> m{numbers, 16, 48};
  CHECK(m.at(2, 21) == numbers + 48 + 32 + 5);
  CHECK(m.from(1, 16).at(1, 5) == m.at(2, 21));
}
