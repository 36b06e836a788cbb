// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the gated delta rule, 128 keys by 128 values a head: a prompt, and decoding with a
/// state that stays in the second-level cache.

#include "support/matrix_rows.hpp"

#include <maslin/gradient/delta_rule.hpp>
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

struct plain_gradients {
  float *query, *key, *value, *beta, *decay;
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

/// u = beta (v - f S^T k) of a token, and what it leaves of S.
void plain_step(const plain_arrays& a, index_t at, float f, const float* before,
                float* __restrict after, float* __restrict error) {
  for (index_t e = 0; e < a.E; ++e) error[e] = a.value[at * a.E + e];
  for (index_t i = 0; i < a.K; ++i)
    for (index_t e = 0; e < a.E; ++e) error[e] -= f * a.key[at * a.K + i] * before[i * a.E + e];
  for (index_t i = 0; i < a.K; ++i)
    for (index_t e = 0; e < a.E; ++e)
      after[i * a.E + e] = f * before[i * a.E + e] + a.key[at * a.K + i] * a.beta[at] * error[e];
}

/// Gradients of a head, from the last token to the first; the loop has kept all states [T + 1, K,
/// E].
[[gnu::noinline]] void plain_backward(const plain_arrays& a, index_t h, index_t T, const float* dy,
                                      float* __restrict states, float* __restrict d,
                                      const plain_gradients& out) {
  const index_t K = a.K, E = a.E;
  std::vector<float> errors(static_cast<std::size_t>(T * E)), writes(static_cast<std::size_t>(E));
  float* __restrict du = writes.data();
  std::fill_n(states, K * E, 0.0f);
  std::fill_n(d, K * E, 0.0f);
  for (index_t t = 0; t < T; ++t)
    plain_step(a, t * a.H + h, std::exp(a.decay[t * a.H + h]), states + t * K * E,
               states + (t + 1) * K * E, errors.data() + t * E);
  for (index_t t = T; t-- > 0;) {
    const index_t at = t * a.H + h;
    const float *q = a.query + at * K, *k = a.key + at * K, *g = dy + at * E;
    const float f = std::exp(a.decay[at]), beta = a.beta[at], *error = errors.data() + t * E;
    for (index_t e = 0; e < E; ++e) du[e] = 0;
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < E; ++e) {
        d[i * E + e] += a.scale * q[i] * g[e];
        du[e] += k[i] * d[i * E + e];
      }
    float dbeta = 0, df = 0;
    for (index_t e = 0; e < E; ++e) {
      dbeta += du[e] * error[e];
      out.value[at * E + e] = beta * du[e];
    }
    for (index_t i = 0; i < K; ++i) {
      const float *before = states + (t * K + i) * E, *after = states + ((t + 1) * K + i) * E;
      float *row = d + i * E, dq = 0, dk = 0;
      for (index_t e = 0; e < E; ++e) {
        dq += after[e] * g[e];
        dk += row[e] * beta * error[e] - f * before[e] * beta * du[e];
        row[e] -= k[i] * beta * du[e];
        df += row[e] * before[e];
        row[e] *= f;
      }
      out.query[at * K + i] = a.scale * dq;
      out.key[at * K + i] = dk;
    }
    out.beta[at] = dbeta;
    out.decay[at] = f * df;
  }
}

class delta_problem : public matrix_problem {
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

  // Of backward_problem, whose gradients are those of query, key, value, beta and decay.

  [[nodiscard]] std::vector<std::vector<double>> reference_gradients(const buffer& dy) const {
    const auto [T, H, K, E] = head_sizes{known(), size.H, size.K, size.E};
    const std::vector<std::vector<double>> in{wide(query, T * H * K), wide(key, T * H * K),
                                              wide(value, T * H * E), wide(beta, T * H),
                                              wide(decay, T * H)};
    const std::vector<double> arrives = wide(dy, T * H * E),
                              zero(static_cast<std::size_t>(size.state()));
    std::vector<std::vector<double>> out = in;
    for (auto& array : out) std::fill(array.begin(), array.end(), 0.0);
    std::vector<double> outputs = arrives, final = zero, dinitial = zero;
    maslin::reference::delta_call<double> u;
    u.scale = scale();
    u.query = row_major(in[0].data(), 1, T, H, K);
    u.key = row_major(in[1].data(), 1, T, 1, H, K);
    u.value = row_major(in[2].data(), 1, T, 1, H, E);
    u.beta = row_major(in[3].data(), 1, T, 1, H);
    u.log_decay = row_major(in[4].data(), 1, T, H);
    u.dy = row_major(arrives.data(), 1, T, H, E);
    u.initial = u.dfinal = row_major(zero.data(), 1, H, K, E);
    maslin::reference::delta_answer<double> w;
    w.dquery = row_major(out[0].data(), 1, T, H, K);
    w.dkey = row_major(out[1].data(), 1, T, 1, H, K);
    w.dvalue = row_major(out[2].data(), 1, T, 1, H, E);
    w.dbeta = row_major(out[3].data(), 1, T, 1, H);
    w.dlog_decay = row_major(out[4].data(), 1, T, H);
    w.y = row_major(outputs.data(), 1, T, H, E);
    w.final = row_major(final.data(), 1, H, K, E);
    w.dinitial = row_major(dinitial.data(), 1, H, K, E);
    maslin::reference::delta_rule_backward(u, w);
    return out;
  }
  [[nodiscard]] mixer::gradients gradient_views(std::vector<buffer>& to) const {
    const auto [T, H, K, E] = size;
    return {.query = row_major(to[0].data(), 1, T, H, K),
            .key = row_major(to[1].data(), 1, T, H, K),
            .value = row_major(to[2].data(), 1, T, H, E),
            .beta = row_major(to[3].data(), 1, T, H),
            .log_decay = row_major(to[4].data(), 1, T, H)};
  }
  void plain_backward(const buffer& dy, float* states, std::vector<buffer>& to) const {
    const plain_arrays a{query.data(), key.data(), value.data(), beta.data(), decay.data(),
                         size.H,       size.K,     size.E,       scale()};
    std::vector<float> d(static_cast<std::size_t>(size.K * size.E));
    for (index_t h = 0; h < size.H; ++h)
      bench::plain_backward(a, h, size.T, dy.data(), states, d.data(),
                            {to[0].data(), to[1].data(), to[2].data(), to[3].data(), to[4].data()});
  }

  buffer query, key, value, beta, decay;

 private:
  [[nodiscard]] float scale() const { return 1.0f / std::sqrt(static_cast<float>(size.K)); }
};

workload backward_rows(index_t d) {
  const head_sizes n{.T = 1024, .H = 16, .K = d, .E = d};
  const index_t outputs = n.T * n.H * n.E;
  const work forward{.elements = outputs, .rows_read = 3, .slots = 4 * n.updates()};
  // States again, their gradient, and six products of the two.
  const work stepwise{.elements = outputs, .rows_read = 4, .slots = 12 * n.updates()};
  // Four scores, two solutions and what scores give to queries, keys and values; eight products with
  // states.
  work chunked = stepwise;
  chunked.slots =
      static_cast<double>(n.T * n.H) *
      (chunk_of_bound * static_cast<double>(11 * d) / 2 + 8.0 * static_cast<double>(d * d));
  const std::string size = std::to_string(d);
  return matrix_rows<backward_problem<delta_problem>, call::scan>("delta_rule", "gated d:" + size,
                                                                  "compute", n)
      .saving_scan(forward)
      .backward("sequential", exec::sequential{}, stepwise)
      .backward("chunked", exec::chunked{}, chunked, "gdelta/d" + size + "/backward/compute")
      .plain_backward(stepwise)
      .take();
}

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
  plan.push_back(backward_rows(64));
  plan.push_back(backward_rows(d));
  return plan;
}

}  // namespace bench
