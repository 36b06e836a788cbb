// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Backward passes as workloads: the gradients of one call against the reference in double, a scan that
/// saves beside its backward, and the plain loops of both.

#include "bound.hpp"
#include "contender.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// What a backward call writes, and the truth about it.
class gradient_problem : public problem {
 public:
  void spoil() override {
    for (auto& [got, want] : known_)
      std::fill_n(got->data(), got->size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// The worst error of a number, in `tolerance` u of the largest of its gradient.
  [[nodiscard]] double worst(double tolerance) const override {
    double found = 0;
    for (const auto& [got, want] : known_) {
      double largest = 0;
      for (const double x : want) largest = std::max(largest, std::abs(x));
      for (index_t i = 0; i < got->size(); ++i) {
        const double error =
            std::abs(static_cast<double>((*got)[i]) - want[static_cast<std::size_t>(i)]);
        const double ratio = error / (tolerance * unit_roundoff * largest);
        if (!(ratio <= found)) found = std::isnan(ratio) ? HUGE_VAL : ratio;
      }
    }
    return found;
  }

 protected:
  void know(buffer& got, std::vector<double> want) { known_.emplace_back(&got, std::move(want)); }

 private:
  std::vector<std::pair<buffer*, std::vector<double>>> known_;
};

/// The rows of a backward workload: `forward` is a scan that saves, `library` its backward, `plain`
/// the backward as one writes it. All are given the problem.
template <class Data, class Forward, class Library, class Plain>
void add_backward_rows(workload& load, const work& least, double tolerance, const Forward& forward,
                       const Library& library, const Plain& plain) {
  const auto add = [&](const std::string& title, const auto& run, bool naive) {
    row r;
    r.name = row_name(load, title);
    r.title = title;
    r.naive = naive;
    r.tolerance = tolerance;
    r.least = least;
    r.tokens = load.B * load.T;
    r.estimate = least.slots / 5e9;
    r.bind = [run, forward, library](problem& any) {
      auto& d = static_cast<Data&>(any);
      contender c{.repeat =
                      [run, &d](index_t calls) {
                        for (index_t i = 0; i < calls; ++i) {
                          run(d);
                          benchmark::ClobberMemory();
                        }
                      },
                  .fresh =
                      [run, forward, library, &d] {
                        forward(d);
                        library(d);  // of the scan's own row these are the numbers compared
                        run(d);
                      }};
      c.fresh();
      return c;
    };
    load.rows.push_back(std::move(r));
  };
  add("forward", forward, false);
  add("sequential", library, false);
  add("naive", plain, true);
}

}  // namespace bench
