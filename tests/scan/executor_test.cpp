// SPDX-License-Identifier: Apache-2.0
#include "executors.hpp"
#include "support/catch.hpp"

#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>

#include <atomic>
#include <type_traits>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::index_t;
namespace exec = maslin::exec;

/// How often each task ran.
template <class Executor>
std::vector<int> calls(Executor&& where, index_t count) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
  where.run(count, [&](index_t i) { ++seen[static_cast<std::size_t>(i)]; });
  return {seen.begin(), seen.end()};
}

}  // namespace

TEST_CASE("an executor runs each task once", "[scan][executor]") {
  // OpenMP's own team is left to tests without the thread sanitizer, which does not know it.
  for (const int threads : {1, 2, 7, 1000})
    for (const index_t count : {0, 1, 3, 100}) {
      CAPTURE(threads, count);
      CHECK(calls(exec::default_executor{threads}, count) ==
            std::vector<int>(static_cast<std::size_t>(count), 1));
    }
  CHECK(exec::default_threads() >= 1);
}

TEST_CASE("executors of the tests run each task once", "[scan][executor][threads]") {
  for (const index_t count : {0, 1, 3, 100}) {
    const std::vector<int> once(static_cast<std::size_t>(count), 1);
    CHECK(calls(reverse_executor{}, count) == once);
    CHECK(calls(thread_executor{7}, count) == once);
  }
}

TEST_CASE("one thread runs tasks on the caller, in order", "[scan][executor]") {
  std::vector<index_t> order;
  exec::default_executor{}.run(4, [&](index_t i) { order.push_back(i); });
  CHECK(order == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("an executor is any type with one function", "[scan][executor][interface]") {
  struct no_run {};
  struct wrong_result {
    int run(index_t, void (&)(index_t)) { return 0; }
  };
  STATIC_REQUIRE(exec::executor<reverse_executor>);
  STATIC_REQUIRE(exec::executor<thread_executor>);
  STATIC_REQUIRE(exec::executor<exec::default_executor>);
  STATIC_REQUIRE_FALSE(exec::executor<no_run>);
  STATIC_REQUIRE_FALSE(exec::executor<wrong_result>);
  reverse_executor where;
  const auto policy = exec::on(where, exec::chunked{3, 2});
  CHECK(policy.where == &where);
  CHECK(policy.policy == exec::chunked{3, 2});
}
