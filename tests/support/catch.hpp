// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one file that includes Catch2: version 3 where it is installed, else version 2.13.
// Tests use what both have: matchers (WithinAbs, WithinRel, WithinULP), never Approx.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
