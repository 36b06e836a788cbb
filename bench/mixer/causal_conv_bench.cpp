// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the short convolution before a selective scan, forward and backward.

#include "support/projection.hpp"
#include "support/reference_backward.hpp"

#include <maslin/gradient/causal_conv.hpp>
#include <maslin/reference/causal_conv.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;

constexpr index_t W = 4;

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

/// Gradients of input and weights.
class conv_backward final : public reference_backward<conv_problem, 2> {
 public:
  conv_backward(const corpus& text, const extents& e) : reference_backward(text, e) {
    const auto [B, T, D] = e;
    d = {buffer(T * D), buffer(D * W)};
    for (std::size_t k = 0; k < d.size(); ++k)
      exact[k].resize(static_cast<std::size_t>(d[k].size()));
    const auto w = widened(forward.weight.data(), D * W), x = widened(forward.input.data(), T * D),
               g = widened(dy.data(), T * D);
    std::vector<double> h(static_cast<std::size_t>(D * (W - 1))), dh(h.size()), y(x.size());
    maslin::reference::causal_conv_backward<double>(
        row_major(w.data(), D, W), {}, true, row_major(x.data(), 1, T, D),
        row_major(h.data(), 1, D, W - 1), row_major(y.data(), 1, T, D),
        row_major(g.data(), 1, T, D), row_major(exact[1].data(), D, W), {},
        row_major(exact[0].data(), 1, T, D), row_major(dh.data(), 1, D, W - 1));
  }
  [[nodiscard]] mixer::gradients gradients() {
    return {.input = row_major(d[0].data(), 1, forward.size.T, forward.size.D),
            .weight = row_major(d[1].data(), forward.size.D, W)};
  }
  void plain();
};

[[gnu::noinline]] void conv_backward::plain() {
  const index_t T = forward.size.T, D = forward.size.D;
  for (buffer& b : d) std::fill_n(b.data(), b.size(), 0.0f);
  for (index_t t = 0; t < T; ++t)
    for (index_t c = 0; c < D; ++c) {
      const index_t first = std::max(W - 1 - t, index_t{0});
      float s = 0;
      for (index_t k = first; k < W; ++k)
        s += forward.weight[c * W + k] * forward.input[(t - W + 1 + k) * D + c];
      const float gate = 1 / (1 + std::exp(-s));
      const float g = dy[t * D + c] * gate * (1 + s * (1 - gate));
      for (index_t k = first; k < W; ++k) {
        const index_t i = (t - W + 1 + k) * D + c;
        d[0][i] += g * forward.weight[c * W + k];
        d[1][c * W + k] += g * forward.input[i];
      }
    }
}

/// Input in, y out; a sigmoid holds one exp.
work least_conv(index_t T, index_t D) {
  return {
      .elements = T * D, .rows_read = 1, .slots = (W + slots_of_exp) * static_cast<double>(T * D)};
}

}  // namespace

std::vector<workload> causal_conv_workloads(const settings& s) {
  std::vector<workload> plan;
  constexpr index_t D = 1024;
  const index_t T = s.quick ? 1024 : 4096;
  plan.push_back(problem_rows<conv_problem, call::scan>("causal_conv", "W4-silu", {.T = T, .D = D},
                                                        least_conv(T, D))
                     .library("sequential", exec::sequential{})
                     .plain_loop()
                     .take());
  plan.push_back(reference_backward_rows<conv_backward>(
      s, "causal_conv", "W4-silu", {.T = T, .D = D}, least_conv(T, D), 1.4, 2));
  return plan;
}

}  // namespace bench
