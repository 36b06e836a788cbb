// SPDX-License-Identifier: Apache-2.0
// The owner of the precompiled header: every test program reuses it.
#include "precompiled.hpp"
