// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the selective scan (S6, N = 16) and of the short convolution before it.

#include "support/problem_rows.hpp"
#include "support/projection.hpp"

#include <maslin/mixer/causal_conv.hpp>
#include <maslin/mixer/selective_ssm.hpp>
#include <maslin/reference/causal_conv.hpp>
#include <maslin/reference/selective_ssm.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <vector>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;

constexpr index_t N = 16, W = 4;
// What one number of state costs the FMA pipes at least: product, exp2 of degree 5, h and y.
constexpr double slots_of_a_state = 9;

/// The plain loop, with the C library's exp.
[[gnu::noinline]] void plain_ssm(index_t T, index_t D, const float* __restrict dt,
                                 const float* __restrict u, const float* __restrict z,
                                 const float* __restrict B, const float* __restrict C,
                                 const float* __restrict A, const float* __restrict skip,
                                 float* __restrict h, float* __restrict y) {
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      const float delta = std::log1p(std::exp(dt[t * D + d])), x = u[t * D + d];
      float sum = 0;
      for (index_t n = 0; n < N; ++n) {
        float& state = h[d * N + n];
        state = std::exp(delta * A[d * N + n]) * state + delta * x * B[t * N + n];
        sum += C[t * N + n] * state;
      }
      const float gate = z[t * D + d];
      y[t * D + d] = (sum + skip[d] * x) * gate / (1 + std::exp(-gate));
    }
}

[[gnu::noinline]] void plain_conv(index_t T, index_t D, const float* __restrict w,
                                  const float* __restrict x, float* __restrict h,
                                  float* __restrict y) {
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      float* last = h + d * (W - 1);
      float sum = w[d * W + W - 1] * x[t * D + d];
      for (index_t k = 0; k < W - 1; ++k) sum += w[d * W + k] * last[k];
      for (index_t k = 0; k < W - 2; ++k) last[k] = last[k + 1];
      last[W - 2] = x[t * D + d];
      y[t * D + d] = sum / (1 + std::exp(-sum));
    }
}

class ssm_problem final : public reference_problem {
 public:
  using mixer = maslin::selective_ssm<float>;

  ssm_problem(const corpus& text, const extents& e)
      : reference_problem(e),
        dt(e.T * e.D),
        gate(dt.size()),
        write(e.T * N),
        read(e.T * N),
        decay(e.D * N),
        skip(e.D) {
    const embedding tokens(text.bytes, e.T);
    // Steps of 0.01 to 0.1, as Mamba begins with.
    tokens.project(dt.data(), e.T, e.D, 21, 1.0f, -3.5f);
    tokens.project(input.data(), e.T, e.D, 23, 1.0f, 0.0f);
    tokens.project(gate.data(), e.T, e.D, 25, 1.0f, 0.0f);
    tokens.project(write.data(), e.T, N, 27, 1.0f, 0.0f);
    tokens.project(read.data(), e.T, N, 29, 1.0f, 0.0f);
    for (index_t i = 0; i < decay.size(); ++i) decay[i] = -static_cast<float>(i % N + 1);
    for (index_t d = 0; d < e.D; ++d) skip[d] = 1;
    const index_t T = e.T, D = e.D;
    const auto wdt = widened(dt.data(), T * D), wu = widened(input.data(), T * D),
               wz = widened(gate.data(), T * D), wb = widened(write.data(), T * N),
               wc = widened(read.data(), T * N), wa = widened(decay.data(), D * N),
               ws = widened(skip.data(), D);
    std::vector<double> h(static_cast<std::size_t>(D * N));
    exact.resize(static_cast<std::size_t>(T * D));
    maslin::reference::selective_ssm(maslin::discretisation::euler,
                                     {.dt = row_major(wdt.data(), 1, T, D),
                                      .input = row_major(wu.data(), 1, T, D),
                                      .write = row_major(wb.data(), 1, T, 1, N),
                                      .read = row_major(wc.data(), 1, T, 1, N),
                                      .output_gate = row_major(wz.data(), 1, T, D),
                                      .decay = row_major(wa.data(), D, N),
                                      .skip = row_major(ws.data(), D)},
                                     row_major(h.data(), 1, D, N),
                                     row_major(exact.data(), 1, T, D));
  }

  [[nodiscard]] mixer make() const {
    return {.channels = size.D,
            .state_dim = N,
            .decay = row_major(constant(decay), size.D, N),
            .skip = row_major(constant(skip), size.D)};
  }
  [[nodiscard]] mixer::tokens tokens() const {
    const auto [B, T, D] = size;
    return {.dt = row_major(constant(dt), 1, T, D),
            .input = row_major(constant(input), 1, T, D),
            .write = row_major(constant(write), 1, T, 1, N),
            .read = row_major(constant(read), 1, T, 1, N),
            .output_gate = row_major(constant(gate), 1, T, D)};
  }
  [[nodiscard]] maslin::view<float, 3> out() const {
    return row_major(y.data(), 1, size.T, size.D);
  }
  [[nodiscard]] static index_t state_size(index_t D) { return D * N; }
  void plain(index_t T, float* h) const {
    plain_ssm(T, size.D, dt.data(), input.data(), gate.data(), write.data(), read.data(),
              decay.data(), skip.data(), h, y.data());
  }

  buffer dt, gate, write, read, decay, skip;
};

class conv_problem final : public reference_problem {
 public:
  using mixer = maslin::causal_conv<float, W>;

  conv_problem(const corpus& text, const extents& e) : reference_problem(e), weight(e.D * W) {
    const embedding tokens(text.bytes, std::max(e.T, e.D));
    tokens.project(input.data(), e.T, e.D, 31, 1.0f, 0.0f);
    tokens.project(weight.data(), e.D, W, 33, 0.5f, 0.0f);
    const index_t T = e.T, D = e.D;
    const auto ww = widened(weight.data(), D * W), wx = widened(input.data(), T * D);
    std::vector<double> h(static_cast<std::size_t>(D * (W - 1)));
    exact.resize(static_cast<std::size_t>(T * D));
    maslin::reference::causal_conv(row_major(ww.data(), D, W), {}, true,
                                   row_major(wx.data(), 1, T, D), row_major(h.data(), 1, D, W - 1),
                                   row_major(exact.data(), 1, T, D));
  }

  [[nodiscard]] mixer make() const {
    return {.channels = size.D, .weight = row_major(constant(weight), size.D, W), .silu = true};
  }
  [[nodiscard]] mixer::tokens tokens() const {
    return {.input = row_major(constant(input), 1, size.T, size.D)};
  }
  [[nodiscard]] maslin::view<float, 3> out() const {
    return row_major(y.data(), 1, size.T, size.D);
  }
  [[nodiscard]] static index_t state_size(index_t D) { return D * (W - 1); }
  void plain(index_t T, float* h) const {
    plain_conv(T, size.D, weight.data(), input.data(), h, y.data());
  }

  buffer weight;
};

constexpr exec::sequential sequential{};

/// dt, input and gate in, y out. A step also reads decay and state, and writes the latter.
work least_ssm(index_t T, index_t D, bool decode) {
  work w{.elements = T * D, .rows_read = 3};
  w.slots = slots_of_a_state * static_cast<double>(T * D * N);
  if (decode) w = {.elements = D * (N + 1), .rows_read = 2, .slots = w.slots};
  return w;
}

}  // namespace

std::vector<workload> selective_ssm_workloads(const settings& s) {
  std::vector<workload> plan;
  constexpr index_t D = 1024;
  const index_t T = s.quick ? 1024 : 4096;
  {
    problem_rows<ssm_problem, call::scan> rows("selective_ssm", "N16", {.T = T, .D = D},
                                               least_ssm(T, D, false));
    rows.library("sequential", sequential, 1, "mamba1/N16/prefill/compute");
    if (s.cores > 1 && s.threads)
      rows.library("sequential", exec::sequential{.threads = 2}, 2,
                   "mamba1/N16/prefill/compute/t2");
    if (!s.quick) rows.library("chunked", exec::chunked{});
    plan.push_back(rows.plain_loop().take());
  }
  plan.push_back(problem_rows<ssm_problem, call::step>("selective_ssm", "N16", {.T = 8, .D = D},
                                                       least_ssm(1, D, true))
                     .library("sequential", sequential, 1, "mamba1/N16/decode/compute")
                     .plain_loop()
                     .take());
  const auto least_conv = [](index_t tokens) {
    // A sigmoid holds one exp.
    return work{.elements = tokens * D,
                .rows_read = 1,
                .slots = (W + slots_of_exp) * static_cast<double>(tokens * D)};
  };
  plan.push_back(problem_rows<conv_problem, call::scan>("causal_conv", "W4-silu", {.T = T, .D = D},
                                                        least_conv(T))
                     .library("sequential", sequential)
                     .plain_loop()
                     .take());
  return plan;
}

}  // namespace bench
