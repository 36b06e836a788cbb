// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where figures come from: processor, compiler, instruction set.

#include <maslin/core/config.hpp>

#include <cstdio>
#include <fstream>
#include <string>

namespace bench {

[[nodiscard]] inline std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0)
      if (const auto colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "unknown";
}

[[nodiscard]] inline std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

/// Both in a line on the standard error, beside figures that others read.
inline void print_origin() {
  std::fprintf(stderr, "%s; %s; %s\n", cpu_name().c_str(), compiler().c_str(), maslin::abi_name);
}

}  // namespace bench
