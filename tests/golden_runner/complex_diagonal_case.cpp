// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/complex_diagonal.hpp>

#include <complex>
#include <vector>

namespace golden {

namespace {

using maslin::row_major;
using number = std::complex<double>;

subject complex_subject() {
  subject mixer;
  mixer.in_double = complex_paths<double>;
  mixer.in_float = complex_paths<float>;
  mixer.reference = [](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width;
    result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
    const auto rows = [&](auto* v) { return row_major(v, B, T, D); };
    maslin::reference::complex_diagonal(rows(reinterpret_cast<const number*>(p.gate.data())),
                                        rows(reinterpret_cast<const number*>(p.input.data())),
                                        row_major(reinterpret_cast<number*>(r.state.data()), B, D),
                                        rows(reinterpret_cast<number*>(r.y.data())));
    return r;
  };
  mixer.oracle = [](const problem& p) {
    const auto gate = converted<float>(p.gate), input = converted<float>(p.input);
    oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
    r.y = maslin::test::complex_bounds<double, float>(
        gate.data(), row_major(input.data(), p.batch, p.steps, p.width, 2), r.state);
    return r;
  };
  // Each part is a row of three terms: two roundings.
  mixer.sequential_factor = 2 * maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = 2 * maslin::test::per_term(walk::chunked);
  return mixer;
}

}  // namespace

void run_complex_diagonal(const test_case& test, verdict& into) {
  test.allow_only({"lambda", "x", "h"});
  const shape size = test.extents("x", 3);  // [channel, time, parts]
  const index_t D = size[0], T = size[1];
  if (size[2] != 2) throw bad_case("'x' must have a last axis of real and imaginary parts");
  problem p{.batch = 1, .steps = T, .width = D};
  const auto time_first = [D, T](const std::vector<double>& v) {
    std::vector<double> out;
    const auto from = row_major(v.data(), D, T, 2);
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) out.insert(out.end(), {from(d, t, 0), from(d, t, 1)});
    }
    return out;
  };
  const std::vector<double> lambda = test.values("lambda", {D, 2});
  for (index_t t = 0; t < T; ++t) p.gate.insert(p.gate.end(), lambda.begin(), lambda.end());
  p.input = time_first(test.values("x", size));
  p.initial.assign(static_cast<std::size_t>(2 * D), 0.0);

  result golden{.y = time_first(test.values("h", size)), .state = {}, .lags = {}};
  refuse_vacuous(golden.y);
  golden.state.assign(golden.y.end() - 2 * D, golden.y.end());
  replay(test, p, complex_subject(), golden, into);
}

}  // namespace golden
