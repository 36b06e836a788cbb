// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The command line of `compare`.

#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

/// The command line is wrong; what() says how.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct options {
  bool quick = false, list = false, help = false;
  std::string text;                     ///< file; empty: the project's own sources
  std::string out = "compare-results";  ///< folder of the reports
  std::string json;                     ///< a second place for the JSON report; empty: none
  std::string filter = ".";             ///< rows whose name matches
  std::vector<std::string> library;     ///< flags handed to Google Benchmark

  [[nodiscard]] bool selects(const std::string& name) const {
    return std::regex_search(name, std::regex(filter));
  }
};

/// Reads the command line.
/// throws    usage_error
[[nodiscard]] options parse(int argc, char** argv);

/// The text of --help.
[[nodiscard]] std::string usage();

}  // namespace bench
