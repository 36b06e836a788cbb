// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "check.hpp"
#include "paths.hpp"
#include "support/bound.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace golden {

/// Results of one problem.
struct result {
  std::vector<double> y;
  std::vector<double> state;
  std::vector<double> lags;  ///< hlru only, else empty
  /// As the subject names them; without the last, the reference stands for it.
  std::vector<std::vector<double>> gradients{};
};

/// The oracle's evaluation for float kernels.
struct oracle_result {
  std::vector<maslin::test::bounded<double>> y, state;
};

/// What the replay needs to know of a mixer.
struct subject {
  std::string name;  ///< distinguishes several subjects of one case in the report; may be empty
  std::function<void(const problem&, extent, const report&)> in_double, in_float;
  std::function<result(const problem&)> reference;
  std::function<oracle_result(const problem&)> oracle;
  /// All lags of outputs y after an initial state; null for a mixer without lags.
  std::function<std::vector<double>(const problem&, const std::vector<double>& y,
                                    const std::vector<double>& initial)>
      lags;
  double sequential_factor = 0, chunked_factor = 0;  ///< of u W

  /// The arrays of a case that are gradients, for problems with `dy`, and the initial state's last,
  /// which a case may lack; the reference, and its numbers with their bounds.
  std::vector<std::string> gradient_names{};
  std::function<std::vector<std::vector<double>>(const problem&)> gradients{};
  std::function<std::vector<std::vector<maslin::test::tracked<double>>>(const problem&)>
      gradient_bounds{};
};

/// What arrives at the outputs, array `dy` of extents `size`, and the gradients of a case, by name and
/// extents, the initial state's last; nothing where the case has no `dy`.
/// throws    bad_case
void read_gradients(const test_case& test, const std::string& dy,
                    const std::vector<std::pair<std::string, shape>>& gradients, const shape& size,
                    problem& p, result& golden);

/// Numbers of another type.
template <class N>
[[nodiscard]] std::vector<N> numbers(const std::vector<double>& from) {
  return {from.begin(), from.end()};
}

/// Runs a problem by the reference and by every path, in double against the golden values, in float
/// (on inputs rounded to float) against the double kernel within the error bound.
void replay(const test_case& test, const problem& p, const subject& mixer, const result& golden,
            verdict& into);

}  // namespace golden
