// SPDX-License-Identifier: Apache-2.0
// Built without instruction set flags, and linked with first_file.cpp, which has AVX2 and FMA.
#include "all.hpp"
#include "exact_scan.hpp"

#include <cstdio>

bool first_file_is_exact();

int main() {
  const bool second = scan_is_exact();
  const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool first = !wide || first_file_is_exact();
  std::printf("first file %s, second file %s\n",
              !wide   ? "not run"
              : first ? "exact"
                      : "wrong",
              second ? "exact" : "wrong");
  return first && second ? 0 : 1;
}
