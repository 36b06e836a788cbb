// SPDX-License-Identifier: Apache-2.0
// A stranger's program. Every way to consume maslin builds and runs this file.
#include "exact_scan.hpp"

#include <cstdio>

int main() {
  const bool exact = scan_is_exact();
  std::printf("maslin %d.%d.%d %s\n", MASLIN_VERSION_MAJOR, MASLIN_VERSION_MINOR,
              MASLIN_VERSION_PATCH, exact ? "exact" : "wrong");
  return exact ? 0 : 1;
}
