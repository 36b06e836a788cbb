// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What nearly every test file includes and hardly ever changes, parsed once for a build.

#include "catch.hpp"

#include <maslin/simd/xsimd.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <variant>
#include <vector>
