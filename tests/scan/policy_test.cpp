// SPDX-License-Identifier: Apache-2.0
#include "executors.hpp"
#include "support/catch.hpp"

#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/run.hpp>

#include <type_traits>

namespace exec = maslin::exec;
namespace scan = maslin::scan;

TEST_CASE("policies are plain values", "[scan][policy][values]") {
  STATIC_REQUIRE(std::is_aggregate_v<exec::sequential>);
  STATIC_REQUIRE(std::is_trivially_copyable_v<exec::chunked>);
  CHECK(exec::sequential{}.threads == 1);
  CHECK(exec::sequential{}.store == exec::stores::automatic);
  CHECK(exec::chunked{}.chunk == 0);
  CHECK(exec::chunked{}.threads == 1);
  CHECK(exec::automatic{}.threads == 0);
  const exec::sequential two{.threads = 2, .store = exec::stores::plain};
  CHECK(two.threads == 2);
  CHECK(two.store == exec::stores::plain);
}

TEST_CASE("policies are compared field by field", "[scan][policy][values]") {
  CHECK(exec::scalar{} == exec::scalar{});
  CHECK(exec::sequential{2} == exec::sequential{2});
  CHECK(exec::sequential{2} != exec::sequential{1});
  CHECK(exec::sequential{2, exec::stores::plain} != exec::sequential{2, exec::stores::streaming});
  CHECK(exec::chunked{64, 2} == exec::chunked{64, 2});
  CHECK(exec::chunked{64, 2} != exec::chunked{64, 1});
  CHECK(exec::chunked{64, 2} != exec::chunked{65, 2});
  CHECK(exec::automatic{2} == exec::automatic{2});
  CHECK(exec::automatic{2} != exec::automatic{1});
}

TEST_CASE("a policy is one of ours, bound to an executor or not", "[scan][policy][interface]") {
  using maslin::test::reverse_executor;
  STATIC_REQUIRE(scan::policy<exec::scalar>);
  STATIC_REQUIRE(scan::policy<exec::sequential>);
  STATIC_REQUIRE(scan::policy<exec::chunked>);
  STATIC_REQUIRE(scan::policy<exec::automatic>);
  STATIC_REQUIRE(scan::policy<exec::bound_policy<reverse_executor, exec::chunked>>);
  STATIC_REQUIRE(scan::policy<exec::bound_policy<reverse_executor, exec::automatic>>);
  STATIC_REQUIRE_FALSE(scan::policy<int>);
  STATIC_REQUIRE_FALSE(scan::policy<exec::bound_policy<reverse_executor, int>>);
}
