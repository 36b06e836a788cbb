// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <utility>

namespace maslin::test {

/// Keeps the worst of many ratios error / allowance, and where it was. A ratio above 1 breaks the
/// bound; one far below it over all inputs says that the bound is loose or that nothing was tested.
class worst_ratio {
 public:
  explicit worst_ratio(std::string title) : title_(std::move(title)) {}

  /// `where` makes the text of the place; it is called only for a new worst ratio.
  template <class Where>
  void add(double ratio, Where&& where) {
    ++count_;
    if (std::isnan(ratio)) ratio = std::numeric_limits<double>::infinity();
    if (count_ > 1 && ratio <= worst_) return;
    worst_ = ratio;
    where_ = std::forward<Where>(where)();
  }

  [[nodiscard]] double value() const { return worst_; }
  [[nodiscard]] long count() const { return count_; }
  [[nodiscard]] const std::string& where() const { return where_; }

  friend std::ostream& operator<<(std::ostream& out, const worst_ratio& w) {
    return out << w.title_ << ": worst error / bound " << w.worst_ << " of " << w.count_
               << " values, at " << w.where_;
  }

 private:
  std::string title_;
  std::string where_;
  double worst_ = 0;
  long count_ = 0;
};

}  // namespace maslin::test
