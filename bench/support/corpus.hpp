// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The text that the benchmarks run on: a file, or the project's own headers, tests and README.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

/// Bytes of real text, and where they come from.
struct corpus {
  std::string bytes;
  std::string source;
};

namespace detail {

[[nodiscard]] inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace detail

/// The text of `file`.
/// throws    std::runtime_error if it cannot be read or is empty
[[nodiscard]] inline corpus read_text(const std::string& file) {
  if (std::filesystem::is_directory(file)) throw std::runtime_error(file + " is a directory");
  corpus text{detail::read_file(file), file};
  if (text.bytes.empty()) throw std::runtime_error(file + " is empty");
  return text;
}

/// The sources below `root` one after another, in the order of their names: real text that is
/// always there. throws    std::runtime_error if `root` holds none
[[nodiscard]] inline corpus read_sources(const std::string& root) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (const char* part : {"include", "tests"}) {
    const fs::path folder = fs::path(root) / part;
    if (!fs::is_directory(folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const auto extension = entry.path().extension();
      if (entry.is_regular_file() && (extension == ".hpp" || extension == ".cpp"))
        files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (const fs::path readme = fs::path(root) / "README.md"; fs::exists(readme))
    files.push_back(readme);
  corpus text;
  for (const auto& file : files) text.bytes += detail::read_file(file);
  if (text.bytes.empty())
    throw std::runtime_error("no sources of maslin below '" + root +
                             "': name a text with --text FILE");
  text.source = "headers, tests and README of maslin (" + std::to_string(files.size()) +
                " files, " + std::to_string(text.bytes.size()) + " bytes)";
  return text;
}

}  // namespace bench
