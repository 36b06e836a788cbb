// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the generalised mixer whose coefficients are made of scores in the same pass.

#include "support/gradients.hpp"
#include "support/projection.hpp"
#include "support/rows.hpp"
#include "support/truth.hpp"

#include <maslin/gradient/generalized_scores.hpp>
#include <maslin/reference/generalized_scores.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <limits>

namespace bench {
namespace {

namespace exec = maslin::exec;
using maslin::row_major;

constexpr index_t H = 4, K = 64, E = 64;
const float scale = 1 / std::sqrt(static_cast<float>(K));

template <class P>
class scores_problem final : public problem {
 public:
  using mixer = maslin::generalized_scores<float, P>;

  scores_problem(const corpus& text, const P& p, index_t length)
      : of(p), T(length), query(T * H * K), key(T * H * K), input(T * H * E), y(T * H * E) {
    const embedding tokens(text.bytes, T);
    tokens.project(query.data(), T, H * K, 41, 1.0f, 0.0f);
    tokens.project(key.data(), T, H * K, 43, 1.0f, 0.0f);
    tokens.project(input.data(), T, H * E, 47, 1.0f, 0.0f);
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// The worst residual of a token, its coefficients made in double, in what roundings of n_t
  /// terms, of their scores and of the softmax may leave of sum c |y|.
  [[nodiscard]] double worst(double tolerance) const override {
    double found = 0;
    for (index_t t = 0; t < T; ++t) {
      auto reads = reads_of(of, t);
      reads.emplace_back(t, 0);
      for (index_t h = 0; h < H; ++h) {
        const auto [c, doubt] = coefficients(reads, t, h);
        const double roundings = static_cast<double>(2 * reads.size() + 10) + doubt;
        for (index_t e = 0; e < E; ++e) {
          double rest = -y[(t * H + h) * E + e], sum = std::abs(rest);
          for (std::size_t i = 0; i < reads.size(); ++i) {
            const index_t p = reads[i].first;
            const double term = c[i] * (p == t ? input : y)[(p * H + h) * E + e];
            rest += term;
            sum += std::abs(term);
          }
          const double ratio = std::abs(rest) / (tolerance * roundings * unit_roundoff * sum);
          if (!(ratio <= found)) found = std::isnan(ratio) ? HUGE_VAL : ratio;
        }
      }
    }
    return found;
  }
  [[nodiscard]] typename mixer::tokens tokens() const {
    return {.query = row_major(static_cast<const float*>(query.data()), 1, T, H, K),
            .key = row_major(static_cast<const float*>(key.data()), 1, T, H, K),
            .input = row_major(static_cast<const float*>(input.data()), 1, T, H, E),
            .offsets = {}};
  }
  [[nodiscard]] maslin::view<float, 4> out() const { return row_major(y.data(), 1, T, H, E); }

  P of;
  index_t T;
  buffer query, key, input, y;

 private:
  /// Softmax of the scores of `reads`, and how many u each may be off for its score's sake.
  [[nodiscard]] std::pair<std::vector<double>, double> coefficients(const reads_of_token& reads,
                                                                    index_t t, index_t h) const {
    std::vector<double> c;
    double doubt = 0;
    for (const auto& [p, slot] : reads) {
      double z = 0, size = 0;
      for (index_t k = 0; k < K; ++k) {
        const double term = double{query[(t * H + h) * K + k]} * key[(p * H + h) * K + k];
        z += term;
        size += std::abs(term);
      }
      c.push_back(z * double{scale});
      // Chains of K / 16 products, sums of 16; then scale, and the distance from the largest.
      doubt = std::max(doubt, (static_cast<double>(K) / 16 + 8) * size * double{scale});
    }
    const double top = *std::max_element(c.begin(), c.end());
    double sum = 0;
    for (double& z : c) sum += z = std::exp(z - top);
    for (double& z : c) z /= sum;
    return {c, 2 * doubt};
  }
};

/// Scores, softmax and sum as one writes them.
template <class P>
[[gnu::noinline]] void plain_scores(const scores_problem<P>& d, float* c) {
  for (index_t t = 0; t < d.T; ++t)
    for (index_t h = 0; h < H; ++h) {
      const float* q = d.query.data() + (t * H + h) * K;
      const auto score = [&](index_t p) {
        const float* k = d.key.data() + (p * H + h) * K;
        float sum = 0;
        for (index_t i = 0; i < K; ++i) sum += q[i] * k[i];
        return sum * scale;
      };
      index_t n = 0;
      float top = c[n++] = score(t);
      pattern::for_each_read(d.of, t, [&](index_t p, index_t) {
        top = std::max(top, c[n] = score(p));
        ++n;
      });
      float sum = 0;
      for (index_t i = 0; i < n; ++i) sum += c[i] = std::exp(c[i] - top);
      const float* x = d.input.data() + (t * H + h) * E;
      float* __restrict y = d.y.data() + (t * H + h) * E;
      for (index_t e = 0; e < E; ++e) y[e] = c[0] / sum * x[e];
      n = 1;
      pattern::for_each_read(d.of, t, [&](index_t p, index_t) {
        const float weight = c[n++] / sum;
        const float* row = d.y.data() + (p * H + h) * E;
        for (index_t e = 0; e < E; ++e) y[e] += weight * row[e];
      });
    }
}

template <class P>
workload scored(const settings& s, const std::string& name, const P& p, index_t T,
                const std::string& target) {
  using data = scores_problem<P>;
  const double terms = (total_reads(p, T) + static_cast<double>(T)) * H;
  workload load;
  load.mixer = "generalized_scores";
  load.call = "scan";
  load.form = name;
  load.regime = "compute";
  load.T = T;
  load.D = H * E;
  load.preparation = 0.3 + terms * (E + K) * 3e-9;
  load.prepare = [p, T](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<data>(text, p, T);
  };
  const auto by_level =
      gathers_of(p, 0, T, H * (E + K) * static_cast<index_t>(sizeof(float)), s.sizes);
  const auto add = [&](const std::string& title) -> row& {
    row r;
    r.name = row_name(load, title);
    r.title = title;
    r.tolerance = 1;
    r.least = {.elements = T * H * E,
               .rows_read = 3,
               .slots = terms * (E + K + slots_of_exp),
               .gathered = by_level};
    r.tokens = T;
    r.estimate = r.least.slots / 10e9;
    load.rows.push_back(std::move(r));
    return load.rows.back();
  };
  row& ours = add("sequential");
  ours.target = target;
  ours.gathered = total_reads(p, T) * H;
  ours.cache_bytes = pattern::cache_entries(p, T) * H * (E + K) * index_t{sizeof(float)};
  ours.bind = [T](problem& any) {
    auto& d = static_cast<data&>(any);
    const typename data::mixer mix{
        .heads = H, .key_dim = K, .value_dim = E, .scale = scale, .pattern = d.of};
    auto state = std::make_shared<typename data::mixer::state>(mix.make_state(1, T));
    return repeated([=, &d] {
      state->reset();
      mix.scan(exec::sequential{}, d.tokens(), d.out(), *state);
    });
  };
  row& loop = add("naive");
  loop.naive = true;
  loop.bind = [T](problem& any) {
    auto& d = static_cast<data&>(any);
    auto c = std::make_shared<buffer>(T + 1);
    return repeated([=, &d] { plain_scores(d, c->data()); });
  };
  return load;
}

/// The gradients of a problem of scores.
template <class P>
class scores_backward_problem final : public gradient_problem {
 public:
  using data = scores_problem<P>;
  using mixer = typename data::mixer;

  scores_backward_problem(const corpus& text, const P& p, index_t T)
      : of(text, p, T),
        dy(T * H * E),
        dquery(T * H * K),
        dkey(T * H * K),
        dinput(T * H * E),
        coefficients(2 * (T + 1)),
        keep(make().make_saved(1, T)),
        state(make().make_state(1, T)),
        dstate(state) {
    embedding(text.bytes, T).project(dy.data(), T, H * E, 53, 1.0f, 0.0f);
    find_truth();
  }
  [[nodiscard]] mixer make() const {
    return {.heads = H, .key_dim = K, .value_dim = E, .scale = scale, .pattern = of.of};
  }
  [[nodiscard]] maslin::view<float, 4> values(const buffer& b) const {
    return row_major(b.data(), 1, of.T, H, E);
  }
  [[nodiscard]] typename mixer::gradients gradients() const {
    return {.query = row_major(dquery.data(), 1, of.T, H, K),
            .key = row_major(dkey.data(), 1, of.T, H, K),
            .input = values(dinput)};
  }

  data of;
  buffer dy, dquery, dkey, dinput, coefficients;
  typename mixer::saved keep;
  typename mixer::state state, dstate;

 private:
  void find_truth() {
    const index_t T = of.T, L = slots_of(of.of, T);
    const auto wide = [](const buffer& b) { return widened(b.data(), b.size()); };
    const auto query = wide(of.query), key = wide(of.key), input = wide(of.input),
               wide_dy = wide(dy);
    std::vector<double> none, zeros(static_cast<std::size_t>(std::max(H * L, T * H * (E + K))));
    std::vector<double> y(input), w(input), d_query(query), d_key(key), d_input(input),
        d_bias(zeros), d_self_bias(zeros);
    const auto of_values = [T](auto& v) { return row_major(v.data(), 1, T, H, E); };
    const auto of_keys = [T](auto& v) { return row_major(v.data(), 1, T, H, K); };
    const auto reads = [p = of.of](index_t t) {
      std::vector<maslin::reference::pattern_read> found;
      pattern::for_each_read(p, t, [&](index_t position, index_t level) {
        found.push_back({position, level});
      });
      return found;
    };
    const std::vector<double> nothing;
    const std::vector<double>& no_bias = zeros;
    maslin::reference::generalized_scores_backward<double>(
        {.kind = maslin::weights::softmax,
         .form = maslin::direct::self,
         .reads = reads,
         .smallest_normal = 0,
         .scale = scale,
         .g = 1,
         .bias = row_major(no_bias.data(), H, L),
         .self_bias = row_major(no_bias.data(), H),
         .query = of_keys(query),
         .key = of_keys(key),
         .input = of_values(input),
         .keys_before = row_major(nothing.data(), 1, 0, H, K),
         .before = row_major(nothing.data(), 1, 0, H, E),
         .dy = of_values(wide_dy),
         .dkeys_after = of_keys(no_bias),
         .dafter = of_values(no_bias)},
        {.y = of_values(y),
         .w = of_values(w),
         .dbias = row_major(d_bias.data(), H, L),
         .dself_bias = row_major(d_self_bias.data(), H),
         .dquery = of_keys(d_query),
         .dkey = of_keys(d_key),
         .dinput = of_values(d_input),
         .dkeys_before = row_major(none.data(), 1, 0, H, K),
         .dbefore = row_major(none.data(), 1, 0, H, E)});
    know(dquery, d_query);
    know(dkey, d_key);
    know(dinput, d_input);
  }
};

/// The equations as one writes them: dinput holds the rows' gradients.
template <class P>
[[gnu::noinline]] void plain_scores_backward(scores_backward_problem<P>& d) {
  const auto& u = d.of;
  const index_t T = u.T;
  float *const c = d.coefficients.data(), *const dc = c + T + 1;
  std::copy_n(d.dy.data(), d.dy.size(), d.dinput.data());
  std::fill_n(d.dkey.data(), d.dkey.size(), 0.0f);
  for (index_t t = T; t-- > 0;)
    for (index_t h = 0; h < H; ++h) {
      const float* __restrict q = u.query.data() + (t * H + h) * K;
      float* __restrict dq = d.dquery.data() + (t * H + h) * K;
      float* __restrict s = d.dinput.data() + (t * H + h) * E;
      const auto dot = [](const float* a, const float* b, index_t n) {
        float sum = 0;
        for (index_t i = 0; i < n; ++i) sum += a[i] * b[i];
        return sum;
      };
      const auto key_at = [&](index_t p) { return u.key.data() + (p * H + h) * K; };
      index_t n = 0;
      const auto read = [&](index_t p, const float* row) {
        c[n] = scale * dot(q, key_at(p), K);
        dc[n++] = dot(s, row, E);
      };
      read(t, u.input.data() + (t * H + h) * E);
      pattern::for_each_read(u.of, t,
                             [&](index_t p, index_t) { read(p, u.y.data() + (p * H + h) * E); });
      const float top = *std::max_element(c, c + n);
      float sum = 0, mean = 0;
      for (index_t i = 0; i < n; ++i) sum += c[i] = std::exp(c[i] - top);
      for (index_t i = 0; i < n; ++i) mean += (c[i] /= sum) * dc[i];
      std::fill_n(dq, K, 0.0f);
      n = 0;
      const auto give = [&](index_t p, float* __restrict to) {
        const float dz = scale * c[n] * (dc[n] - mean), weight = c[n];
        const float* __restrict k = key_at(p);
        float* __restrict dk = d.dkey.data() + (p * H + h) * K;
        for (index_t i = 0; i < K; ++i) {
          dq[i] += dz * k[i];
          dk[i] += dz * q[i];
        }
        for (index_t e = 0; to != nullptr && e < E; ++e) to[e] += weight * s[e];
        ++n;
      };
      give(t, nullptr);
      pattern::for_each_read(
          u.of, t, [&](index_t p, index_t) { give(p, d.dinput.data() + (p * H + h) * E); });
      for (index_t e = 0; e < E; ++e) s[e] *= c[0];
    }
}

template <class P>
workload scored_backward(const std::string& name, const P& p, index_t T) {
  using data = scores_backward_problem<P>;
  workload load;
  load.mixer = "generalized_scores";
  load.call = "backward";
  load.form = name;
  load.regime = "compute";
  load.T = T;
  load.D = H * E;
  const double terms = (total_reads(p, T) + static_cast<double>(T)) * H;
  load.preparation = 0.5 + terms * (E + K) * 20e-9;
  load.prepare = [p, T](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<data>(text, p, T);
  };
  // Chains of T roundings, of numbers of both signs, and those of the scores.
  constexpr double tolerance = 256;
  add_backward_rows<data>(
      load,
      {.elements = T * H * (2 * K + E),
       .rows_read = 2,
       .slots = terms * (3 * (E + K) + slots_of_exp)},
      tolerance,
      [](data& d) {
        d.state.reset();
        d.make().scan(exec::sequential{}, d.of.tokens(), d.of.out(), d.state, d.keep);
      },
      [](data& d) {
        d.dstate.reset();
        d.make().backward(exec::sequential{}, d.of.tokens(), d.keep, d.values(d.dy), d.gradients(),
                          d.dstate);
      },
      [](data& d) { plain_scores_backward(d); });
  return load;
}

}  // namespace

std::vector<workload> generalized_scores_workloads(const settings& s) {
  std::vector<workload> plan;
  for (const index_t T : {1024, 4096}) {
    if (s.quick && T > 1024) continue;
    const auto named = [&](const char* of) {
      return T == 1024 ? "generalized/" + std::string(of) + "/scores" : std::string();
    };
    plan.push_back(scored(s, "power2", pattern::power2{}, T, named("power2")));
    plan.push_back(scored(s, "square1", pattern::square1{}, T, named("square1")));
    plan.push_back(
        scored(s, "cached-power2", pattern::cached<pattern::power2>{}, T, named("cached-power2")));
    plan.push_back(scored(s, "cached-square1", pattern::cached<pattern::square1>{}, T,
                          named("cached-square1")));
  }
  plan.push_back(scored_backward("power2", pattern::power2{}, 1024));
  plan.push_back(scored_backward("cached-square1", pattern::cached<pattern::square1>{}, 1024));
  return plan;
}

}  // namespace bench
