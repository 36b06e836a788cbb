// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What several rows say together: how calls scale with threads, where chunks of time overtake time in
/// order, how the time a token grows with the length.

#include "results.hpp"

#include <string>
#include <vector>

namespace bench {

/// A table of words; the first column names a line.
struct sheet {
  std::string title, note;
  std::vector<std::string> heads;
  std::vector<std::vector<std::string>> lines;
};

/// The streams at each level of memory, in GB/s; what is no stream is in the note.
[[nodiscard]] sheet machine_sheet(const results& r);

/// The sheets for which there are rows.
[[nodiscard]] std::vector<sheet> sheets_of(const results& r);

}  // namespace bench
