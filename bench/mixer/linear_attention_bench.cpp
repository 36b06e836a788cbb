// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of linear attention: the state-space dual of Mamba-2 (one decay a head, keys and queries
/// that all heads have in common) and gated linear attention (a decay for each key).

#include "support/matrix_rows.hpp"

#include <maslin/gradient/linear_attention.hpp>
#include <maslin/reference/linear_attention.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>

namespace bench {
namespace {

using maslin::decay_axis;
using maslin::row_major;
namespace exec = maslin::exec;

/// Arrays of one token of a plain loop. `queries` is 1 where all heads have queries and keys in
/// common, `decays` the numbers of decay that a head has.
struct plain_arrays {
  const float *query, *key, *value, *decay;
  index_t H, K, E, queries, decays;
  float scale;
};

struct plain_gradients {
  float *query, *key, *value, *decay;
};

/// State [H, K, E], values in the inner loop.
[[gnu::noinline]] void plain_by_keys(const plain_arrays& a, index_t T, float* __restrict state,
                                     float* __restrict out) {
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < a.H; ++h) {
      const index_t own = a.queries == 1 ? t : t * a.H + h;
      const float *q = a.query + own * a.K, *k = a.key + own * a.K;
      const float *v = a.value + (t * a.H + h) * a.E, *g = a.decay + (t * a.H + h) * a.decays;
      float* y = out + (t * a.H + h) * a.E;
      for (index_t e = 0; e < a.E; ++e) y[e] = 0;
      const float shared = std::exp(g[0]);
      for (index_t i = 0; i < a.K; ++i) {
        const float f = a.decays == 1 ? shared : std::exp(g[i]);
        float* s = state + (h * a.K + i) * a.E;
        for (index_t e = 0; e < a.E; ++e) {
          s[e] = f * s[e] + k[i] * v[e];
          y[e] += q[i] * s[e];
        }
      }
      for (index_t e = 0; e < a.E; ++e) y[e] *= a.scale;
    }
}

/// State [H, E, K], keys in the inner loop.
[[gnu::noinline]] void plain_by_values(const plain_arrays& a, index_t T, float* __restrict state,
                                       float* __restrict out) {
  std::vector<float> factors(static_cast<std::size_t>(a.K));
  float* __restrict f = factors.data();
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < a.H; ++h) {
      const index_t own = a.queries == 1 ? t : t * a.H + h;
      const float *q = a.query + own * a.K, *k = a.key + own * a.K;
      const float *v = a.value + (t * a.H + h) * a.E, *g = a.decay + (t * a.H + h) * a.decays;
      const float shared = std::exp(g[0]);
      for (index_t i = 0; i < a.K; ++i) f[i] = a.decays == 1 ? shared : std::exp(g[i]);
      for (index_t e = 0; e < a.E; ++e) {
        float* s = state + (h * a.E + e) * a.K;
        float sum = 0;
        for (index_t i = 0; i < a.K; ++i) {
          s[i] = f[i] * s[i] + k[i] * v[e];
          sum += q[i] * s[i];
        }
        out[(t * a.H + h) * a.E + e] = a.scale * sum;
      }
    }
}

/// Gradients of a head: those of the state [K, E] go from the last token to the first, and meet the
/// states that the loop has kept, [T + 1, K, E]. What heads have in common gets their sum.
[[gnu::noinline]] void plain_backward(const plain_arrays& a, index_t h, index_t T, const float* dy,
                                      float* __restrict states, float* __restrict d,
                                      const plain_gradients& out) {
  const index_t K = a.K, E = a.E;
  const auto factor = [&](index_t at, index_t i) {
    return std::exp(a.decay[at * a.decays + (a.decays == 1 ? 0 : i)]);
  };
  const bool adds = a.queries == 1 && h > 0;
  std::fill_n(states, K * E, 0.0f);
  std::fill_n(d, K * E, 0.0f);
  for (index_t t = 0; t < T; ++t) {
    const index_t at = t * a.H + h, own = a.queries == 1 ? t : at;
    const float shared = factor(at, 0);
    for (index_t i = 0; i < K; ++i) {
      const float f = a.decays == 1 ? shared : factor(at, i), k = a.key[own * K + i];
      const float *v = a.value + at * E, *before = states + (t * K + i) * E;
      float* s = states + ((t + 1) * K + i) * E;
      for (index_t e = 0; e < E; ++e) s[e] = f * before[e] + k * v[e];
    }
  }
  for (index_t t = T; t-- > 0;) {
    const index_t at = t * a.H + h, own = a.queries == 1 ? t : at;
    const float *v = a.value + at * E, *g = dy + at * E;
    float *dv = out.value + at * E, *dquery = out.query + own * K, *dkey = out.key + own * K;
    for (index_t e = 0; e < E; ++e) dv[e] = 0;
    const float shared = factor(at, 0);
    float dshared = 0;
    for (index_t i = 0; i < K; ++i) {
      const float q = a.scale * a.query[own * K + i], k = a.key[own * K + i];
      const float f = a.decays == 1 ? shared : factor(at, i);
      const float *before = states + (t * K + i) * E, *s = states + ((t + 1) * K + i) * E;
      float *row = d + i * E, dq = 0, dk = 0, df = 0;
      for (index_t e = 0; e < E; ++e) {
        row[e] += q * g[e];
        dv[e] += k * row[e];
        dq += s[e] * g[e];
        dk += v[e] * row[e];
        df += before[e] * row[e];
        row[e] *= f;
      }
      dquery[i] = a.scale * dq + (adds ? dquery[i] : 0);
      dkey[i] = dk + (adds ? dkey[i] : 0);
      if (a.decays == 1)
        dshared += f * df;
      else
        out.decay[at * K + i] = f * df;
    }
    if (a.decays == 1) out.decay[at] = dshared;
  }
}

template <decay_axis Axis>
class linear_problem : public matrix_problem {
 public:
  using mixer = maslin::linear_attention<float, Axis>;
  static constexpr bool dual = Axis == decay_axis::head;

  linear_problem(const corpus& text, const head_sizes& n)
      : matrix_problem(n),
        queries(dual ? 1 : n.H),
        decays(dual ? 1 : n.K),
        query(n.T * queries * n.K),
        key(query.size()),
        value(n.T * n.H * n.E),
        decay(n.T * n.H * decays) {
    const embedding tokens(text.bytes, n.T);
    tokens.project(query.data(), n.T, queries * n.K, 41, 1.0f, 0.0f);
    tokens.project(key.data(), n.T, queries * n.K, 43, 1.0f, 0.0f);
    tokens.project(value.data(), n.T, n.H * n.E, 45, 1.0f, 0.0f);
    tokens.project(decay.data(), n.T, n.H * decays, 47, 0.7f, -2.5f);
    for (index_t i = 0; i < decay.size(); ++i) decay[i] = -std::exp(decay[i]);
    const index_t T = known(), H = n.H, K = n.K, E = n.E;
    const auto q = wide(query, T * queries * K), k = wide(key, T * queries * K),
               v = wide(value, T * H * E), g = wide(decay, T * H * decays);
    std::vector<double> state(static_cast<std::size_t>(n.state()));
    exact.resize(static_cast<std::size_t>(T * H * E));
    maslin::reference::linear_arrays x{.query = row_major(q.data(), 1, T, queries, K),
                                       .key = row_major(k.data(), 1, T, queries, K),
                                       .value = row_major(v.data(), 1, T, H, E)};
    if (dual)
      x.log_decay = row_major(g.data(), 1, T, H);
    else
      x.log_decays = row_major(g.data(), 1, T, H, K);
    maslin::reference::linear_attention(x, {.scale = scale()}, row_major(state.data(), 1, H, K, E),
                                        {}, row_major(exact.data(), 1, T, H, E));
  }

  [[nodiscard]] mixer make() const {
    return {.heads = size.H, .key_dim = size.K, .value_dim = size.E, .scale = scale()};
  }
  [[nodiscard]] typename mixer::tokens tokens() const {
    const auto [T, H, K, E] = size;
    typename mixer::tokens u{.query = row_major(constant(query), 1, T, queries, K),
                             .key = row_major(constant(key), 1, T, queries, K),
                             .value = row_major(constant(value), 1, T, H, E)};
    if constexpr (dual)
      u.log_decay = row_major(constant(decay), 1, T, H);
    else
      u.log_decay = row_major(constant(decay), 1, T, H, K);
    return u;
  }
  void plain(int order, index_t T, float* state) const {
    const plain_arrays a{query.data(), key.data(), value.data(), decay.data(), size.H,
                         size.K,       size.E,     queries,      decays,       scale()};
    (order == 0 ? plain_by_keys : plain_by_values)(a, T, state, y.data());
  }

  // Of backward_problem, whose gradients are those of query, key, value and decay.

  [[nodiscard]] std::vector<std::vector<double>> reference_gradients(const buffer& dy) const {
    const auto [T, H, K, E] = head_sizes{known(), size.H, size.K, size.E};
    const std::vector<std::vector<double>> in{wide(query, T * queries * K),
                                              wide(key, T * queries * K), wide(value, T * H * E),
                                              wide(decay, T * H * decays)};
    const std::vector<double> arrives = wide(dy, T * H * E),
                              zero(static_cast<std::size_t>(size.state()));
    std::vector<std::vector<double>> out = in;
    for (auto& array : out) std::fill(array.begin(), array.end(), 0.0);
    std::vector<double> outputs = arrives, final = zero, dinitial = zero;
    maslin::reference::linear_call<double> u;
    u.scale = scale();
    u.query = row_major(in[0].data(), 1, T, queries, K);
    u.key = row_major(in[1].data(), 1, T, queries, K);
    u.value = row_major(in[2].data(), 1, T, H, E);
    u.dy = row_major(arrives.data(), 1, T, H, E);
    u.initial = u.dfinal = row_major(zero.data(), 1, H, K, E);
    maslin::reference::linear_answer<double> w;
    w.dquery = row_major(out[0].data(), 1, T, queries, K);
    w.dkey = row_major(out[1].data(), 1, T, queries, K);
    w.dvalue = row_major(out[2].data(), 1, T, H, E);
    if (dual) {
      u.log_decay = row_major(in[3].data(), 1, T, H);
      w.dlog_decay = row_major(out[3].data(), 1, T, H);
    } else {
      u.log_decays = row_major(in[3].data(), 1, T, H, K);
      w.dlog_decays = row_major(out[3].data(), 1, T, H, K);
    }
    w.y = row_major(outputs.data(), 1, T, H, E);
    w.final = row_major(final.data(), 1, H, K, E);
    w.dinitial = row_major(dinitial.data(), 1, H, K, E);
    maslin::reference::linear_attention_backward(u, w);
    return out;
  }
  [[nodiscard]] typename mixer::gradients gradient_views(std::vector<buffer>& to) const {
    const auto [T, H, K, E] = size;
    typename mixer::gradients d;
    d.query = row_major(to[0].data(), 1, T, queries, K);
    d.key = row_major(to[1].data(), 1, T, queries, K);
    d.value = row_major(to[2].data(), 1, T, H, E);
    if constexpr (dual)
      d.log_decay = row_major(to[3].data(), 1, T, H);
    else
      d.log_decay = row_major(to[3].data(), 1, T, H, K);
    return d;
  }
  void plain_backward(const buffer& dy, float* states, std::vector<buffer>& to) const {
    const plain_arrays a{query.data(), key.data(), value.data(), decay.data(), size.H,
                         size.K,       size.E,     queries,      decays,       scale()};
    std::vector<float> d(static_cast<std::size_t>(size.K * size.E));
    for (index_t h = 0; h < size.H; ++h)
      bench::plain_backward(a, h, size.T, dy.data(), states, d.data(),
                            {to[0].data(), to[1].data(), to[2].data(), to[3].data()});
  }

  index_t queries, decays;
  buffer query, key, value, decay;

 private:
  /// The dual has scale 1.
  [[nodiscard]] float scale() const {
    return dual ? 1.0f : 1.0f / std::sqrt(static_cast<float>(size.K));
  }
};

/// Queries, keys, decays and values in, outputs out.
work least_of(const head_sizes& n, index_t read, double slots) {
  const index_t outputs = n.T * n.H * n.E;
  return {.elements = outputs,
          .rows_read = static_cast<int>(std::max<index_t>(1, (read + outputs - 1) / outputs)),
          .slots = slots};
}

workload dual(index_t T, index_t N) {
  const head_sizes n{.T = T, .H = 16, .K = N, .E = 64};
  const index_t read = T * (2 * N + n.H * n.E + n.H);
  // Decay, input and readout of each number of state.
  const work stepwise = least_of(n, read, 3 * n.updates());
  const double a_token =
      chunk_of_bound * static_cast<double>(n.K + n.E) / 2 + 2 * static_cast<double>(n.K * n.E);
  const work chunked = least_of(n, read, static_cast<double>(T * n.H) * a_token);
  const std::string name = "ssd/N" + std::to_string(N);
  return matrix_rows<linear_problem<decay_axis::head>, call::scan>(
             "linear_attention", "ssd N" + std::to_string(N), "compute", n)
      .library("sequential", exec::sequential{}, stepwise, name + "/stepwise/compute")
      .library("chunked", exec::chunked{}, chunked, name + "/chunked/compute")
      .plain_loops(stepwise)
      .take();
}

/// Backward passes of a mixer whose scan reads `read` numbers. `target` is that of chunks.
template <decay_axis Axis>
workload backward_rows(const std::string& form, const head_sizes& n, index_t read,
                       const std::string& target) {
  const work forward = least_of(n, read, 3 * n.updates());
  // States again, their gradient, and four products of the two.
  const work stepwise = least_of(n, read + n.T * n.H * n.E, 8 * n.updates());
  // Two scores with what they give to keys, queries and values; five products with states. Decays
  // of keys make factors for each pair of tokens, in chunks half as long.
  const double pairs = Axis == decay_axis::key ? chunk_of_bound / 4 : chunk_of_bound / 2;
  const double of_keys = Axis == decay_axis::key ? 6 : 3;
  const double a_token =
      pairs * (of_keys * static_cast<double>(n.K) + 2 * static_cast<double>(n.E)) +
      5 * static_cast<double>(n.K * n.E);
  const work chunked =
      least_of(n, read + n.T * n.H * n.E, static_cast<double>(n.T * n.H) * a_token);
  return matrix_rows<backward_problem<linear_problem<Axis>>, call::scan>("linear_attention", form,
                                                                         "compute", n)
      .saving_scan(forward)
      .backward("sequential", exec::sequential{}, stepwise)
      .backward("chunked", exec::chunked{}, chunked, target)
      .plain_backward(stepwise)
      .take();
}

}  // namespace

std::vector<workload> linear_attention_workloads(const settings& s) {
  std::vector<workload> plan;
  const index_t T = s.quick ? 1024 : 4096;
  plan.push_back(dual(T, 64));
  plan.push_back(dual(T, 128));
  const head_sizes n{.T = T, .H = 16, .K = 64, .E = 64};
  // exp is left out, as in the bound that the target names.
  const work least = least_of(n, T * n.H * (3 * n.K + n.E), 3 * n.updates());
  plan.push_back(matrix_rows<linear_problem<decay_axis::key>, call::scan>("linear_attention",
                                                                          "gla S64", "compute", n)
                     .library("sequential", exec::sequential{}, least, "gla/S64/prefill/compute")
                     .library("chunked", exec::chunked{}, least)
                     .plain_loops(least)
                     .take());
  const head_sizes trained{.T = 1024, .H = 16, .K = 64, .E = 64};
  plan.push_back(backward_rows<decay_axis::key>("gla S64", trained,
                                                trained.T * trained.H * (3 * trained.K + trained.E),
                                                "gla/S64/backward/compute"));
  plan.push_back(backward_rows<decay_axis::head>(
      "ssd N64", trained, trained.T * (2 * trained.K + trained.H * trained.E + trained.H),
      "ssd/N64/backward/compute"));
  return plan;
}

}  // namespace bench
