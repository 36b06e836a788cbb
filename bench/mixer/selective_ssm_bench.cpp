// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the selective scan (S6, N = 16, backward with N = 64 too), forward and backward.

#include "support/projection.hpp"
#include "support/reference_backward.hpp"

#include <maslin/gradient/selective_ssm.hpp>
#include <maslin/reference/selective_ssm.hpp>
#include <maslin/scan/policy.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;

// What one number of state costs the FMA pipes at least: product, exp2 of degree 5, h and y.
constexpr double slots_of_a_state = 9;

/// The plain loop, with the C library's exp.
template <index_t N>
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

/// N numbers of state a channel.
template <index_t N>
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
  [[nodiscard]] typename mixer::tokens tokens() const {
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
    plain_ssm<N>(T, size.D, dt.data(), input.data(), gate.data(), write.data(), read.data(),
                 decay.data(), skip.data(), h, y.data());
  }

  buffer dt, gate, write, read, decay, skip;
};

/// Gradients of dt, input, gate, write, read, decay and skip.
template <index_t N>
class ssm_backward final : public reference_backward<ssm_problem<N>, 7> {
  using base = reference_backward<ssm_problem<N>, 7>;

 public:
  using base::d, base::dy, base::exact, base::forward;

  ssm_backward(const corpus& text, const extents& e) : base(text, e) {
    const auto [B, T, D] = e;
    const std::array sizes{T * D, T * D, T * D, T * N, T * N, D * N, D};
    for (std::size_t k = 0; k < d.size(); ++k) {
      d[k] = buffer(sizes[k]);
      exact[k].resize(static_cast<std::size_t>(sizes[k]));
    }
    const std::array in{&forward.dt,   &forward.input, &forward.gate, &forward.write,
                        &forward.read, &forward.decay, &forward.skip};
    std::array<std::vector<double>, 7> x;
    for (std::size_t k = 0; k < x.size(); ++k) x[k] = widened(in[k]->data(), in[k]->size());
    const auto g = widened(dy.data(), dy.size());
    std::vector<double> y(g.size()), h(static_cast<std::size_t>(D * N)), dh(h.size());
    maslin::reference::selective_ssm_backward<double>(
        maslin::discretisation::euler, parts<const double>(x, e), row_major(h.data(), 1, D, N),
        row_major(y.data(), 1, T, D), row_major(g.data(), 1, T, D), parts<double>(exact, e),
        row_major(dh.data(), 1, D, N));
  }
  [[nodiscard]] typename base::mixer::gradients gradients() {
    const auto [B, T, D] = forward.size;
    return {.dt = row_major(d[0].data(), 1, T, D),
            .input = row_major(d[1].data(), 1, T, D),
            .write = row_major(d[3].data(), 1, T, 1, N),
            .read = row_major(d[4].data(), 1, T, 1, N),
            .output_gate = row_major(d[2].data(), 1, T, D),
            .decay = row_major(d[5].data(), D, N),
            .skip = row_major(d[6].data(), D)};
  }
  void plain();

 private:
  template <class Number, class Arrays>
  static maslin::reference::selective_parts<Number> parts(Arrays& x, const extents& e) {
    const index_t T = e.T, D = e.D;
    return {.dt = row_major<Number>(x[0].data(), 1, T, D),
            .input = row_major<Number>(x[1].data(), 1, T, D),
            .write = row_major<Number>(x[3].data(), 1, T, 1, N),
            .read = row_major<Number>(x[4].data(), 1, T, 1, N),
            .output_gate = row_major<Number>(x[2].data(), 1, T, D),
            .decay = row_major<Number>(x[5].data(), D, N),
            .skip = row_major<Number>(x[6].data(), D)};
  }
};

/// Gradients as one writes them: all states of a channel forward, then back.
template <index_t N>
[[gnu::noinline]] void ssm_backward<N>::plain() {
  const index_t T = forward.size.T, D = forward.size.D;
  for (const std::size_t k : {3u, 4u, 5u, 6u}) std::fill_n(d[k].data(), d[k].size(), 0.0f);
  std::vector<float> h(static_cast<std::size_t>((T + 1) * N));
  for (index_t c = 0; c < D; ++c) {
    float s[static_cast<std::size_t>(N)] = {};
    for (index_t t = 0; t < T; ++t) {
      const float delta = std::log1p(std::exp(forward.dt[t * D + c]));
      for (index_t n = 0; n < N; ++n) {
        const auto at = static_cast<std::size_t>(t * N + n);
        h[at + N] = std::exp(delta * forward.decay[c * N + n]) * h[at] +
                    delta * forward.input[t * D + c] * forward.write[t * N + n];
      }
    }
    for (index_t t = T; t-- > 0;) {
      const index_t i = t * D + c;
      const float z = forward.gate[i], u = forward.input[i];
      const float delta = std::log1p(std::exp(forward.dt[i])), gate = 1 / (1 + std::exp(-z));
      const float g = dy[i] * z * gate;
      float y = forward.skip[c] * u, du = 0, ddelta = 0;
      for (index_t n = 0; n < N; ++n) {
        const auto at = static_cast<std::size_t>(t * N + n);
        const float A = forward.decay[c * N + n], B = forward.write[t * N + n];
        y += forward.read[t * N + n] * h[at + N];
        s[n] += g * forward.read[t * N + n];
        d[4][t * N + n] += g * h[at + N];
        d[3][t * N + n] += s[n] * delta * u;
        du += s[n] * B;
        s[n] *= std::exp(delta * A);
        ddelta += s[n] * A * h[at];
        d[5][c * N + n] += s[n] * delta * h[at];
      }
      d[2][i] = dy[i] * y * gate * (1 + z * (1 - gate));
      d[1][i] = delta * du + g * forward.skip[c];
      d[0][i] = (ddelta + du * u) / (1 + std::exp(-forward.dt[i]));
      d[6][c] += g * u;
    }
  }
}

constexpr exec::sequential sequential{};

/// dt, input and gate in, y out. A step also reads decay and state, and writes the latter.
work least_ssm(index_t T, index_t D, index_t N, bool decode) {
  work w{.elements = T * D, .rows_read = 3};
  w.slots = slots_of_a_state * static_cast<double>(T * D * N);
  if (decode) w = {.elements = D * (N + 1), .rows_read = 2, .slots = w.slots};
  return w;
}

}  // namespace

std::vector<workload> selective_ssm_workloads(const settings& s) {
  std::vector<workload> plan;
  constexpr index_t D = 1024, N = 16, more = 64;
  const index_t T = s.quick ? 1024 : 4096;
  {
    problem_rows<ssm_problem<N>, call::scan> rows("selective_ssm", "N16", {.T = T, .D = D},
                                                  least_ssm(T, D, N, false));
    rows.library("sequential", sequential, 1, "mamba1/N16/prefill/compute");
    for (const int n : thread_counts(s))
      if (n > 1)
        rows.library("sequential", exec::sequential{.threads = n}, n,
                     "mamba1/N16/prefill/compute/t" + std::to_string(n));
    if (!s.quick) rows.library("chunked", exec::chunked{});
    plan.push_back(rows.plain_loop().take());
  }
  plan.push_back(problem_rows<ssm_problem<N>, call::step>("selective_ssm", "N16", {.T = 8, .D = D},
                                                          least_ssm(1, D, N, true))
                     .library("sequential", sequential, 1, "mamba1/N16/decode/compute")
                     .plain_loop()
                     .take());
  // A second exp and what follows from it, beside the states recomputed; 4 numbers in and 3 out.
  plan.push_back(reference_backward_rows<ssm_backward<N>>(
      s, "selective_ssm", "N16", {.T = T, .D = D}, least_ssm(T, D, N, false), 2.6, 6,
      "mamba1/N16/backward/compute"));
  plan.push_back(reference_backward_rows<ssm_backward<more>>(
      s, "selective_ssm", "N64", {.T = T / 4, .D = D}, least_ssm(T / 4, D, more, false), 2.6, 6,
      "mamba1/N64/backward/compute"));
  return plan;
}

}  // namespace bench
