// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/version.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>

TEST_CASE("errors are of the standard's families", "[core][expect][errors]") {
  CHECK(std::is_base_of_v<std::invalid_argument, maslin::shape_error>);
  CHECK(std::is_base_of_v<std::runtime_error, maslin::state_error>);
  CHECK_THROWS_AS(maslin::raise<maslin::shape_error>("x"), maslin::shape_error);
  CHECK_THROWS_WITH(maslin::raise<maslin::state_error>("f: a must be b, got c"),
                    "f: a must be b, got c");
}

TEST_CASE("an expectation builds its text only when it fails", "[core][expect][errors]") {
  int built = 0;
  const auto text = [&] {
    ++built;
    return std::string("no");
  };
  const auto expect = [&](bool condition) {
    MASLIN_EXPECT(condition, maslin::shape_error, text());
  };
  CHECK_NOTHROW(expect(true));
  CHECK(built == 0);
  CHECK_THROWS_WITH(expect(false), "no");
  CHECK(built == 1);
}

TEST_CASE("an assertion checks where debug checks are on, and costs nothing elsewhere",
          "[core][expect][errors]") {
  int evaluated = 0;
  const auto check = [&]([[maybe_unused]] bool condition) {
    MASLIN_ASSERT((++evaluated, condition));
  };
#if defined(MASLIN_DEBUG_CHECKS)
  CHECK_NOTHROW(check(true));
  CHECK_THROWS_AS(check(false), std::logic_error);
  CHECK(evaluated == 2);
#else
  static_cast<void>(check);
  CHECK_NOTHROW(check(false));
  CHECK(evaluated == 0);
#endif
}

TEST_CASE("the ABI namespace spells version, instruction set and switches", "[core][config][abi]") {
  const std::string name = maslin::abi_name;
  const std::string begin =
      "v" + std::to_string(MASLIN_VERSION_MAJOR) + "_" + std::to_string(MASLIN_VERSION_MINOR) + "_";
  CHECK(name.compare(0, begin.size(), begin) == 0);
  const auto has = [&](const char* part) { return name.find(part) != name.npos; };
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
  CHECK(has("_fma3_avx2"));
  CHECK(maslin::fused_family);
#elif defined(__x86_64__) && !defined(__SSE3__)
  CHECK(has("_sse2"));
  CHECK_FALSE(maslin::fused_family);
#endif
#if defined(MASLIN_DEBUG_CHECKS)
  CHECK(has("_dbg"));
#else
  CHECK_FALSE(has("_dbg"));
#endif
#if defined(_OPENMP)
  CHECK(has("_omp"));
#else
  CHECK_FALSE(has("_omp"));
#endif
  CHECK_FALSE(has("_nx"));
}
