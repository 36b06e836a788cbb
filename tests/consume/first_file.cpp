// SPDX-License-Identifier: Apache-2.0
#include "all.hpp"
#include "exact_scan.hpp"

bool first_file_is_exact();
bool first_file_is_exact() { return scan_is_exact(); }
