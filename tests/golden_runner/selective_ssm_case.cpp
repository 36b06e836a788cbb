// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/selective_bound.hpp"

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <string>
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

/// The arrays of gradients, in this order, beside that of the initial state.
const std::vector<std::string> gradient_names = {"d_u", "d_delta", "d_z", "d_B",
                                                 "d_C", "d_A",     "d_D", "d_delta_bias"};

template <class N>
std::vector<std::vector<N>> backward(const problem& p) {
  const index_t B = p.batch, T = p.steps, D = p.width, states = p.order;
  const auto parts = numbers<N>(p.gate), input = numbers<N>(p.input), dy = numbers<N>(p.dy);
  const auto a = selective_parts(p, parts.data());
  auto h = numbers<N>(p.initial);
  std::vector<N> y(input.size());
  const auto zeros = [](index_t n) { return std::vector<N>(static_cast<std::size_t>(n)); };
  const index_t plain = B * T * D, shared = B * T * states;
  std::vector<std::vector<N>> d{zeros(plain),  zeros(plain),  zeros(plain),
                                zeros(shared), zeros(shared), zeros(D * states),
                                zeros(D),      zeros(D),      zeros(B * D * states)};
  maslin::reference::selective_ssm_backward<N>(
      rule,
      {a.dt, row_major(input.data(), B, T, D), a.write, a.read, a.gate, a.decay, a.skip, a.bias},
      row_major(h.data(), B, D, states), row_major(y.data(), B, T, D),
      row_major(dy.data(), B, T, D),
      {row_major(d[1].data(), B, T, D), row_major(d[0].data(), B, T, D),
       row_major(d[3].data(), B, T, 1, states), row_major(d[4].data(), B, T, 1, states),
       row_major(d[2].data(), B, T, D), row_major(d[5].data(), D, states),
       row_major(d[6].data(), D), row_major(d[7].data(), D)},
      row_major(d[8].data(), B, D, states));
  return d;
}

subject selective_subject() {
  subject mixer;
  mixer.gradient_names = gradient_names;
  mixer.gradient_names.push_back("d_initial_state");
  mixer.gradients = backward<double>;
  mixer.gradient_bounds = backward<maslin::test::tracked<double>>;
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
  std::vector<std::string> known = {"u", "delta", "A",          "B",     "C",         "D",
                                    "z", "out",   "delta_bias", "d_out", "last_state"};
  known.insert(known.end(), gradient_names.begin(), gradient_names.end());
  test.allow_only(known);
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

  result golden{.y = time_first(test.values("out", size), size),
                .state = test.values("last_state", {B, D, N}),
                .lags = {}};
  refuse_vacuous(golden.y);
  p.dy = time_first(test.values("d_out", size), size);
  for (const std::string& name : gradient_names) {
    const shape extents = name == "d_A"                             ? decays
                          : name == "d_B" || name == "d_C"          ? shared
                          : name == "d_D" || name == "d_delta_bias" ? shape{D}
                                                                    : size;
    const auto values = test.values(name, extents);
    golden.gradients.push_back(extents.size() == 3 ? time_first(values, extents) : values);
    refuse_vacuous(golden.gradients.back());
  }
  replay(test, p, selective_subject(), golden, into);
}

}  // namespace golden
