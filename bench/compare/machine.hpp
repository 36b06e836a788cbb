// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a figure must be published with: the machine, the compiler and the build.

#include "support/plan.hpp"

#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Pairs of name and value, in the order in which they are printed.
using facts = std::vector<std::pair<std::string, std::string>>;

/// CPU, caches, compiler, flags, instruction set, commit and conventions.
[[nodiscard]] facts describe(const settings& s, const corpus& text);

/// Folder of the project's sources; empty if the build did not say.
[[nodiscard]] std::string source_folder();

/// One limit of the machine, measured like any other row.
struct machine_row {
  std::string name;  ///< machine/triad/streaming/dram
  double bytes = 0;  ///< useful bytes a pass; 0: the figure is no bandwidth
  double slots = 0;  ///< lane slots a pass; 0: likewise
  int threads = 1;
  std::function<double(roofline&)> seconds;
};

/// The streams at each level of memory and the FMA pipes.
[[nodiscard]] std::vector<machine_row> machine_rows(const settings& s);

}  // namespace bench
