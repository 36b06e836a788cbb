// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The version, in one place: CMake, pkg-config and the ABI namespace read these three lines.

#define MASLIN_VERSION_MAJOR 0
#define MASLIN_VERSION_MINOR 1
#define MASLIN_VERSION_PATCH 0
