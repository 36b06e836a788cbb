// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the gated delta rule, 128 keys by 128 values a head: a prompt, and decoding with a
/// state that stays in the second-level cache.

#include "support/matrix_rows.hpp"

#include <maslin/mixer/delta_rule.hpp>
#include <maslin/reference/delta_rule.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;

struct plain_arrays {
  const float *query, *key, *value, *beta, *decay;
  index_t H, K, E;
  float scale;
};

/// State [H, K, E], values in the inner loop.
[[gnu::noinline]] void plain_by_keys(const plain_arrays& a, index_t T, float* __restrict state,
                                     float* __restrict out) {
  std::vector<float> update(static_cast<std::size_t>(a.E));
  float* __restrict u = update.data();
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < a.H; ++h) {
      const index_t at = t * a.H + h;
      const float *q = a.query + at * a.K, *k = a.key + at * a.K, *v = a.value + at * a.E;
      const float f = std::exp(a.decay[at]), beta = a.beta[at];
      float *s = state + h * a.K * a.E, *y = out + at * a.E;
      for (index_t e = 0; e < a.E; ++e) u[e] = y[e] = 0;
      for (index_t i = 0; i < a.K; ++i)
        for (index_t e = 0; e < a.E; ++e) {
          s[i * a.E + e] *= f;
          u[e] += k[i] * s[i * a.E + e];
        }
      for (index_t e = 0; e < a.E; ++e) u[e] = beta * (v[e] - u[e]);
      for (index_t i = 0; i < a.K; ++i)
        for (index_t e = 0; e < a.E; ++e) {
          s[i * a.E + e] += k[i] * u[e];
          y[e] += q[i] * s[i * a.E + e];
        }
      for (index_t e = 0; e < a.E; ++e) y[e] *= a.scale;
    }
}

/// State [H, E, K], keys in the inner loop.
[[gnu::noinline]] void plain_by_values(const plain_arrays& a, index_t T, float* __restrict state,
                                       float* __restrict out) {
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < a.H; ++h) {
      const index_t at = t * a.H + h;
      const float *q = a.query + at * a.K, *k = a.key + at * a.K;
      const float f = std::exp(a.decay[at]), beta = a.beta[at];
      for (index_t e = 0; e < a.E; ++e) {
        float* s = state + (h * a.E + e) * a.K;
        float predicted = 0, sum = 0;
        for (index_t i = 0; i < a.K; ++i) {
          s[i] *= f;
          predicted += k[i] * s[i];
        }
        const float u = beta * (a.value[at * a.E + e] - predicted);
        for (index_t i = 0; i < a.K; ++i) {
          s[i] += k[i] * u;
          sum += q[i] * s[i];
        }
        out[at * a.E + e] = a.scale * sum;
      }
    }
}

class delta_problem final : public matrix_problem {
 public:
  using mixer = maslin::delta_rule<float, maslin::decay_axis::head>;

  delta_problem(const corpus& text, const head_sizes& n)
      : matrix_problem(n),
        query(n.T * n.H * n.K),
        key(query.size()),
        value(n.T * n.H * n.E),
        beta(n.T * n.H),
        decay(n.T * n.H) {
    const embedding tokens(text.bytes, n.T);
    tokens.project(query.data(), n.T, n.H * n.K, 51, 1.0f, 0.0f);
    tokens.project(key.data(), n.T, n.H * n.K, 53, 1.0f, 0.0f);
    tokens.project(value.data(), n.T, n.H * n.E, 55, 1.0f, 0.0f);
    tokens.project(beta.data(), n.T, n.H, 57, 1.0f, 0.0f);
    tokens.project(decay.data(), n.T, n.H, 59, 0.7f, -2.5f);
    for (index_t i = 0; i < n.T * n.H; ++i) {
      float square = 0;
      for (index_t j = 0; j < n.K; ++j) square += key[i * n.K + j] * key[i * n.K + j];
      for (index_t j = 0; j < n.K; ++j) key[i * n.K + j] /= std::sqrt(square);
      beta[i] = 1 / (1 + std::exp(-beta[i]));
      decay[i] = -std::exp(decay[i]);
    }
    const index_t T = known(), H = n.H, K = n.K, E = n.E;
    const auto q = wide(query, T * H * K), k = wide(key, T * H * K), v = wide(value, T * H * E),
               b = wide(beta, T * H), g = wide(decay, T * H);
    std::vector<double> state(static_cast<std::size_t>(n.state()));
    exact.resize(static_cast<std::size_t>(T * H * E));
    maslin::reference::delta_rule({.query = row_major(q.data(), 1, T, H, K),
                                   .key = row_major(k.data(), 1, T, 1, H, K),
                                   .value = row_major(v.data(), 1, T, 1, H, E),
                                   .beta = row_major(b.data(), 1, T, 1, H),
                                   .log_decay = row_major(g.data(), 1, T, H)},
                                  scale(), row_major(state.data(), 1, H, K, E),
                                  row_major(exact.data(), 1, T, H, E));
  }

  [[nodiscard]] mixer make() const {
    return {.heads = size.H, .key_dim = size.K, .value_dim = size.E, .scale = scale()};
  }
  [[nodiscard]] mixer::tokens tokens() const {
    const auto [T, H, K, E] = size;
    return {.query = row_major(constant(query), 1, T, H, K),
            .key = row_major(constant(key), 1, T, H, K),
            .value = row_major(constant(value), 1, T, H, E),
            .beta = row_major(constant(beta), 1, T, H),
            .log_decay = row_major(constant(decay), 1, T, H)};
  }
  void plain(int order, index_t T, float* state) const {
    const plain_arrays a{query.data(), key.data(), value.data(), beta.data(), decay.data(),
                         size.H,       size.K,     size.E,       scale()};
    (order == 0 ? plain_by_keys : plain_by_values)(a, T, state, y.data());
  }

  buffer query, key, value, beta, decay;

 private:
  [[nodiscard]] float scale() const { return 1.0f / std::sqrt(static_cast<float>(size.K)); }
};

}  // namespace

std::vector<workload> delta_rule_workloads(const settings& s) {
  constexpr index_t d = 128;
  std::vector<workload> plan;
  {
    const head_sizes n{.T = s.quick ? 256 : 1024, .H = 16, .K = d, .E = d};
    // Decay, prediction, correction and readout of each number of state.
    work stepwise{.elements = n.T * n.H * d, .rows_read = 3, .slots = 4 * n.updates()};
    work chunked = stepwise;
    chunked.slots = static_cast<double>(n.T * n.H) *
                    (chunk_of_bound * (d + d) + 3.0 * static_cast<double>(d * d));
    plan.push_back(matrix_rows<delta_problem, call::scan>("delta_rule", "gated", "compute", n)
                       .library("sequential", exec::sequential{}, stepwise)
                       .library("chunked", exec::chunked{}, chunked, "gdelta/d128/prefill/compute")
                       .plain_loops(stepwise)
                       .take());
  }
  // A state that fills half of the cache.
  const index_t l2 = s.sizes.l2 > 0 ? s.sizes.l2 : index_t{512} << 10;
  const index_t a_head = d * d * static_cast<index_t>(sizeof(float));
  const head_sizes n{.T = 8, .H = std::max<index_t>(1, l2 / 2 / a_head), .K = d, .E = d};
  const double state = static_cast<double>(n.state());
  const work least{.elements = n.state(), .rows_read = 1, .slots = 4 * state, .in_place = true};
  plan.push_back(matrix_rows<delta_problem, call::step>("delta_rule", "gated", "l2", n)
                     .library("sequential", exec::sequential{}, least, "gdelta/d128/decode/l2")
                     .plain_loops(least)
                     .take());
  return plan;
}

}  // namespace bench
