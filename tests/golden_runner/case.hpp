// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "support/npy.hpp"

#include <maslin/core/types.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace golden {

using maslin::index_t;
using shape = std::vector<index_t>;

/// A case that cannot be run: its text is the reason that the report gives.
struct bad_case : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A case that the library has no answer to yet.
struct skipped_case : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The contents of one meta.json; arrays are read when asked for.
class test_case {
 public:
  /// throws    bad_case
  explicit test_case(const std::filesystem::path& meta_file);

  [[nodiscard]] const std::string& mixer() const { return mixer_; }
  [[nodiscard]] bool has(const std::string& array) const { return shapes_.contains(array); }
  /// Number of axes of an array, 0 for one that is not there.
  [[nodiscard]] std::size_t rank(const std::string& array) const;
  [[nodiscard]] bool is_complex() const { return is_complex_; }
  /// Error relative to the largest value that the source's own precision calls for.
  [[nodiscard]] double tolerance() const { return tolerance_; }
  /// throws    bad_case where the meta has no `m`
  [[nodiscard]] int order() const;
  /// throws    bad_case for a name that is not a normalisation
  [[nodiscard]] maslin::normalise normalisation() const;

  /// The name of the pattern of a generalised mixer.
  /// throws    bad_case where the meta has no `pattern`
  [[nodiscard]] const std::string& pattern() const;

  /// The window of attention, 0 for none; its scale.
  /// throws    bad_case where the meta has none
  [[nodiscard]] index_t window() const;
  [[nodiscard]] double scale() const;

  /// The extents of an array, which must have `rank` of them.
  /// throws    bad_case
  [[nodiscard]] shape extents(const std::string& array, std::size_t rank) const;
  /// The values of an array of the shape given.
  /// throws    bad_case
  [[nodiscard]] std::vector<double> values(const std::string& array, const shape& want) const;
  /// Refuses arrays that are not listed here.
  /// throws    bad_case
  void allow_only(const std::vector<std::string>& arrays) const;

 private:
  std::filesystem::path folder_;
  std::string mixer_;
  std::optional<int> order_;
  std::optional<index_t> window_;
  std::optional<double> scale_;
  std::optional<std::string> normalisation_, pattern_;
  bool is_complex_ = false;
  double tolerance_ = 1e-12;
  std::map<std::string, shape> shapes_;
};

/// All meta.json files under a folder, sorted by path.
[[nodiscard]] std::vector<std::filesystem::path> find_cases(const std::filesystem::path& folder);

[[nodiscard]] std::string text(const shape& extents);

}  // namespace golden
