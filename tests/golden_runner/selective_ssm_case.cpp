// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/selective_bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <vector>

namespace golden {

namespace {

using maslin::row_major;
constexpr auto rule = maslin::discretisation::euler;

/// [batch, rows, time] as [batch, time, rows].
std::vector<double> time_first(const std::vector<double>& from, const shape& size) {
  const index_t B = size[0], rows = size[1], T = size[2];
  const auto v = row_major(from.data(), B, rows, T);
  std::vector<double> to;
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t r = 0; r < rows; ++r) to.push_back(v(b, r, t));
  return to;
}

subject selective_subject() {
  subject mixer;
  mixer.in_double = selective_ssm_paths<double>;
  mixer.in_float = selective_ssm_paths<float>;
  mixer.reference = [](const problem& p) {
    const index_t B = p.batch, T = p.steps, D = p.width, N = p.order;
    const auto a = selective_parts(p, p.gate.data());
    result r{.y = std::vector<double>(p.input.size()), .state = p.initial, .lags = {}};
    maslin::reference::selective_ssm(rule,
                                     {.dt = a.dt,
                                      .input = row_major(p.input.data(), B, T, D),
                                      .write = a.write,
                                      .read = a.read,
                                      .output_gate = a.gate,
                                      .decay = a.decay,
                                      .skip = a.skip,
                                      .dt_bias = a.bias},
                                     row_major(r.state.data(), B, D, N),
                                     row_major(r.y.data(), B, T, D));
    return r;
  };
  mixer.oracle = [](const problem& p) {
    const auto numbers = converted<float>(p.gate), input = converted<float>(p.input);
    const auto a = selective_parts(p, numbers.data());
    oracle_result r{.y = {}, .state = maslin::test::exact_state<double, double>(p.initial)};
    r.y = maslin::test::selective_bounds<double, float>(
        rule,
        {.dt = a.dt,
         .input = row_major(input.data(), p.batch, p.steps, p.width),
         .output_gate = a.gate,
         .write = a.write,
         .read = a.read,
         .decay = a.decay,
         .skip = a.skip,
         .dt_bias = a.bias},
        r.state);
    return r;
  };
  mixer.sequential_factor = maslin::test::per_term(walk::sequential);
  mixer.chunked_factor = maslin::test::per_term(walk::chunked);
  return mixer;
}

}  // namespace

void run_selective_ssm(const test_case& test, verdict& into) {
  test.allow_only({"u", "delta", "A", "B", "C", "D", "z", "delta_bias", "out", "last_state"});
  const shape size = test.extents("u", 3), decays = test.extents("A", 2);
  const index_t B = size[0], D = size[1], T = size[2], N = decays[1];
  if (decays[0] != D) throw bad_case("'A' must have a row for each channel");
  problem p{.order = static_cast<int>(N), .batch = B, .steps = T, .width = D};
  p.input = time_first(test.values("u", size), size);
  p.initial.resize(static_cast<std::size_t>(B * D * N), 0.0);
  const auto append = [&](const std::vector<double>& part) {
    p.gate.insert(p.gate.end(), part.begin(), part.end());
  };
  for (const char* name : {"delta", "z"}) append(time_first(test.values(name, size), size));
  const shape shared{B, N, T};
  for (const char* name : {"B", "C"}) append(time_first(test.values(name, shared), shared));
  append(test.values("A", decays));
  for (const char* name : {"D", "delta_bias"}) append(test.values(name, {D}));

  const result golden{.y = time_first(test.values("out", size), size),
                      .state = test.values("last_state", {B, D, N}),
                      .lags = {}};
  refuse_vacuous(golden.y);
  replay(test, p, selective_subject(), golden, into);
}

}  // namespace golden
