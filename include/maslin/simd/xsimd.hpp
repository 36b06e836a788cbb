// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The only place that includes xsimd (8.1 or newer).

// Up to version 12, g++ takes the undefined registers of its own AVX-512 intrinsics for mistakes and
// says so wherever they are inlined.
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <xsimd/xsimd.hpp>

static_assert(XSIMD_VERSION_MAJOR > 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR >= 1),
              "maslin needs xsimd 8.1 or newer");
