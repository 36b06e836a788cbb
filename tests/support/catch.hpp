// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one file that includes Catch2: version 3 where it is installed, else version 2.13.
// Tests use what both have: matchers (WithinAbs, WithinRel, WithinULP), never Approx.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

namespace maslin::test {
/// Matches texts that have this one in them.
inline auto has_text(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }
}  // namespace maslin::test
#else
#include <catch2/catch.hpp>

namespace maslin::test {
inline auto has_text(const std::string& text) { return Catch::Matchers::Contains(text); }
}  // namespace maslin::test
#endif
