// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/catch.hpp"

#include <maslin/analysis/cost.hpp>
#include <maslin/pattern/history.hpp>
#include <maslin/recurrence/block.hpp>
#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/diagonal.hpp>

#include <algorithm>

namespace {

/// A number that counts its multiply-adds.
struct counted {
  static inline long multiply_adds = 0;
};

}  // namespace

namespace maslin::inline MASLIN_ABI {

template <>
struct lane<counted> {
  using scalar = counted;
  static counted fma(counted, counted, counted) {
    ++counted::multiply_adds;
    return {};
  }
};

}  // namespace maslin::inline MASLIN_ABI

namespace {

using namespace maslin;
using analysis::cost;
using analysis::sizes;

/// What T steps of a recurrence multiply and add, and the products of input gates with inputs.
template <class Recurrence>
double counted_steps(index_t T, index_t groups, index_t products) {
  counted::multiply_adds = 0;
  typename Recurrence::state h{};
  for (index_t i = 0; i < T * groups; ++i) Recurrence::step(typename Recurrence::token{}, h);
  return static_cast<double>(counted::multiply_adds + T * groups * products);
}

}  // namespace

TEST_CASE("recurrences multiply and add as often as their models say", "[analysis][cost]") {
  constexpr index_t T = 7, D = 5;
  using analysis::bdlru_cost, analysis::diagonal_cost, analysis::hlru_cost;
  CHECK(counted_steps<recurrence::diagonal<counted>>(T, D, 0) ==
        diagonal_cost({.T = T, .groups = D}).multiply_adds);
  CHECK(counted_steps<recurrence::companion<counted, 1>>(T, D, 1) ==
        hlru_cost({.T = T, .groups = D}).multiply_adds);
  CHECK(counted_steps<recurrence::companion<counted, 6>>(T, D, 1) ==
        hlru_cost({.T = T, .groups = D, .order = 6}).multiply_adds);
  CHECK(counted_steps<recurrence::block<counted, 1>>(T, D, 1) ==
        bdlru_cost({.T = T, .groups = D}).multiply_adds);
  CHECK(counted_steps<recurrence::block<counted, 4>>(T, D, 4) ==
        bdlru_cost({.T = T, .groups = D, .order = 4}).multiply_adds);
}

TEST_CASE("gated recurrences read their gates and keep their state", "[analysis][cost]") {
  // 10 tokens: 3 channels of order 4, 3 blocks of 4 x 4.
  const sizes n{.T = 10, .groups = 3, .order = 4};
  CHECK(
      analysis::hlru_cost(n) ==
      cost{
          .multiply_adds = 150, .exps = 150, .read = 10 * 3 * (5 + 1), .written = 30, .state = 12});
  CHECK(analysis::bdlru_cost(n) == cost{.multiply_adds = 600,
                                        .exps = 600,
                                        .read = 10 * 3 * (4 * 5 + 4),
                                        .written = 120,
                                        .state = 12});
  CHECK(analysis::hlru_cost(n, false).exps == 0);
  CHECK(analysis::hlru_cost({.T = 10, .groups = 3}).exps == 30);
  CHECK(analysis::diagonal_cost({.T = 10, .groups = 3}) ==
        cost{.multiply_adds = 30, .read = 60, .written = 30, .state = 3});
  CHECK(analysis::diagonal_cost({.T = 10, .groups = 3}, true).exps == 30);
  CHECK(analysis::hlru_cost(n).flops(18) == 2 * 150 + 18 * 150);
  CHECK(analysis::hlru_cost(n).bytes(4) == 4 * (180 + 30));
}

TEST_CASE("linear mixers cost what their formulas say", "[analysis][cost]") {
  const sizes n{.T = 10, .groups = 2, .state = 16, .key = 8, .value = 4};
  CHECK(analysis::rglru_cost(n) ==
        cost{.multiply_adds = 60, .exps = 40, .read = 60, .written = 20, .state = 2});
  CHECK(analysis::selective_ssm_cost(n) ==
        cost{.multiply_adds = 960, .exps = 360, .read = 10 * (6 + 32), .written = 20, .state = 32});
  CHECK(analysis::linear_attention_cost(n) == cost{.multiply_adds = 3 * 10 * 2 * 32,
                                                   .exps = 20,
                                                   .read = 10 * 2 * 21,
                                                   .written = 80,
                                                   .state = 64});
  CHECK(analysis::delta_rule_cost(n) == cost{.multiply_adds = 4 * 10 * 2 * 32,
                                             .exps = 20,
                                             .read = 10 * 2 * 22,
                                             .written = 80,
                                             .state = 64});
}

TEST_CASE("attention costs a score and a sum for every pair in its window", "[analysis][cost]") {
  const auto pairs = [](index_t T, index_t window) {
    double count = 0;
    for (index_t t = 0; t < T; ++t)
      for (index_t s = 0; s <= t; ++s) count += window == 0 || s > t - window;
    return count;
  };
  for (const index_t T : {0, 1, 5, 40})
    for (const index_t window : {0, 1, 5, 7, 40, 90}) {
      const sizes n{.T = T, .groups = 3, .key = 8, .value = 4};
      const cost c = analysis::attention_cost(n, window);
      CHECK(c.exps == 3 * pairs(T, window));
      CHECK(c.multiply_adds == 3 * 12 * pairs(T, window));
      const index_t kept = window == 0 ? T : std::min(window, T);
      CHECK(c.state == static_cast<double>(kept * 3 * 12));
    }
}

TEST_CASE("a generalized mixer costs a term a read, and keeps what its cache holds",
          "[analysis][cost][pattern]") {
  const auto check = [](const auto& p, index_t T) {
    index_t reads = 0;
    for (index_t t = 0; t < T; ++t) reads += pattern::read_count(p, t);
    CHECK(pattern::read_total(p, T) == reads);
    const auto r = static_cast<double>(reads), n = static_cast<double>(T);
    const auto entries = static_cast<double>(pattern::cache_entries(p, T));
    CHECK(analysis::generalized_cost(p, {.T = T, .groups = 3, .value = 4}) ==
          cost{.multiply_adds = (r + n) * 12,
               .read = n * 12 + (r + n) * 3,
               .written = n * 12,
               .gathered = r * 12,
               .state = entries * 12});
    CHECK(analysis::generalized_cost(p, {.T = T, .groups = 3, .key = 8, .value = 4}) ==
          cost{.multiply_adds = (r + n) * 36,
               .exps = (r + n) * 3,
               .read = n * 12 + n * 48,
               .written = n * 12,
               .gathered = r * 36,
               .state = entries * 36});
  };
  for (const index_t T : {0, 1, 2, 100, 1000}) {
    check(pattern::order{4}, T);
    check(pattern::power2{}, T);
    check(pattern::square1{}, T);
    check(test::triangle, T);
    check(pattern::cached{pattern::power2{}}, T);
    check(pattern::cached{test::triangle}, T);
  }
  check(pattern::dense{}, 100);
  // With given coefficients and order M it is an H-LRU.
  const sizes n{.T = 100, .groups = 1, .order = 4};
  const cost general = analysis::generalized_cost(pattern::order{4}, n);
  CHECK(general.state == analysis::hlru_cost(n, false).state);
  // The first tokens have fewer than 4 to read.
  CHECK(general.multiply_adds == analysis::hlru_cost(n, false).multiply_adds - (4 + 3 + 2 + 1));
}
