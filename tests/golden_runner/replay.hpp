// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "check.hpp"
#include "paths.hpp"
#include "support/bound.hpp"

#include <functional>
#include <string>
#include <vector>

namespace golden {

/// Results of one problem.
struct result {
  std::vector<double> y;
  std::vector<double> state;
  std::vector<double> lags;  ///< hlru only, else empty
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
};

/// Runs a problem by the reference and by every path, in double against the golden values, in float
/// (on inputs rounded to float) against the double kernel within the error bound.
void replay(const test_case& test, const problem& p, const subject& mixer, const result& golden,
            verdict& into);

}  // namespace golden
