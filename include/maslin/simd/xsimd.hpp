// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The only place that includes xsimd (8.1 or newer).

#include <xsimd/xsimd.hpp>

static_assert(XSIMD_VERSION_MAJOR > 8 || (XSIMD_VERSION_MAJOR == 8 && XSIMD_VERSION_MINOR >= 1),
              "maslin needs xsimd 8.1 or newer");
