// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of softmax attention: causal prefill beside a plain loop and a composition of matrix
/// products, its adjoint, and decode over caches that no level of the machine's own holds.

#include "support/bound.hpp"
#include "support/contender.hpp"
#include "support/projection.hpp"

#include <maslin/gradient/attention.hpp>
#include <maslin/mixer/attention.hpp>
#include <maslin/reference/attention.hpp>
#include <maslin/scan/policy.hpp>

#include <array>
#include <cmath>
#include <limits>

#if defined(MASLIN_BENCH_OPENBLAS)
#include <cblas.h>
#endif

namespace bench {
namespace {

namespace exec = maslin::exec;
using maslin::row_major;

constexpr index_t width = 64;  // K and E
constexpr float scale = 0.125f;

/// Queries, keys and values [T, H, 64] of one sequence.
struct head_arrays {
  buffer query, key, value;
  head_arrays(const corpus& text, index_t queries, index_t keys, index_t H)
      : query(queries * H * width), key(keys * H * width), value(keys * H * width) {
    const embedding tokens(text.bytes, keys);
    tokens.project(query.data(), queries, H * width, 41, 1.0f, 0.0f);
    tokens.project(key.data(), keys, H * width, 43, 1.0f, 0.0f);
    tokens.project(value.data(), keys, H * width, 47, 1.0f, 0.0f);
  }
};

[[nodiscard]] std::vector<double> widened_rows(const float* from, index_t count) {
  return {from, from + count};
}

/// The worst error of one row of outputs [H, 64] against the reference, of what the bound allows:
///   tolerance ((n + 8) + 2 (64 + 2) scale max_j <|q|, |k_j|>) u sum_j P_j |v_j|, n blocks of keys.
[[nodiscard]] double worst_of_row(const float* query, const std::vector<double>& key,
                                  const std::vector<double>& value, index_t N, index_t H,
                                  const float* y, double tolerance) {
  const auto q = widened_rows(query, H * width);
  const auto k = row_major(key.data(), 1, N, H, width), v = row_major(value.data(), 1, N, H, width);
  std::vector<double> exact(q.size()), sizes(q.size()),
      magnitudes(value.begin(), value.begin() + N * H * width);
  for (double& x : magnitudes) x = std::abs(x);
  maslin::reference::attention_arrays arrays{
      .query = row_major(q.data(), 1, 1, H, width), .key = k, .value = v, .scale = scale};
  maslin::reference::attention(arrays, row_major(exact.data(), 1, 1, H, width));
  arrays.value = row_major(std::as_const(magnitudes).data(), 1, N, H, width);
  maslin::reference::attention(arrays, row_major(sizes.data(), 1, 1, H, width));
  double found = 0;
  for (index_t h = 0; h < H; ++h) {
    double largest = 0;
    for (index_t j = 0; j < N; ++j) {
      double sum = 0;
      for (index_t c = 0; c < width; ++c)
        sum += std::abs(q[static_cast<std::size_t>(h * width + c)] * k(0, j, h, c));
      largest = std::max(largest, sum);
    }
    const double units = static_cast<double>((N + 63) / 64 + 8) + 2 * (width + 2) * scale * largest;
    for (index_t e = h * width; e < (h + 1) * width; ++e) {
      const auto i = static_cast<std::size_t>(e);
      const double ratio =
          std::abs(y[e] - exact[i]) / (tolerance * units * unit_roundoff * sizes[i]);
      if (!(ratio <= found)) found = std::isnan(ratio) ? HUGE_VAL : ratio;
    }
  }
  return found;
}

/// Causal attention over T tokens from an empty cache.
class prefill_problem final : public problem {
 public:
  using mixer = maslin::attention<float>;

  prefill_problem(const corpus& text, index_t tokens, index_t heads)
      : T(tokens), H(heads), x(text, tokens, tokens, heads), y(tokens * heads * width) {
    key_ = widened_rows(x.key.data(), x.key.size());
    value_ = widened_rows(x.value.data(), x.value.size());
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// Of some tokens, spread over the sequence and all those of the last block; no other output may be
  /// anything but a number.
  [[nodiscard]] double worst(double tolerance) const override {
    double found = 0;
    for (index_t i = 0; i < y.size(); ++i)
      if (!std::isfinite(y[i])) return HUGE_VAL;
    for (index_t t = 0; t < T; t += t < 3 ? 1 : t + 16 < T ? T / 24 : 5)
      found = std::max(found, worst_of_row(x.query.data() + t * row(), key_, value_, t + 1, H,
                                           y.data() + t * row(), tolerance));
    return found;
  }

  [[nodiscard]] mixer make() const {
    return {.heads = H, .key_dim = width, .value_dim = width, .scale = scale};
  }
  [[nodiscard]] mixer::tokens tokens() const {
    const auto rows = [this](const buffer& b) {
      return row_major(static_cast<const float*>(b.data()), 1, T, H, width);
    };
    return {.query = rows(x.query), .key = rows(x.key), .value = rows(x.value)};
  }
  [[nodiscard]] index_t row() const { return H * width; }

  index_t T, H;
  head_arrays x;
  buffer y;

 private:
  std::vector<double> key_, value_;
};

/// One row of attention as one writes it: scores, their softmax, the weighted sum.
inline void plain_row(const float* __restrict q, const float* __restrict key,
                      const float* __restrict value, index_t stride, index_t keys,
                      float* __restrict score, float* __restrict y) {
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
  for (index_t j = 0; j < keys; ++j) {
    float s = 0;
    for (index_t c = 0; c < width; ++c) s += q[c] * key[j * stride + c];
    score[j] = s * scale;
    largest = std::max(largest, score[j]);
  }
  for (index_t j = 0; j < keys; ++j) sum += score[j] = std::exp(score[j] - largest);
  for (index_t c = 0; c < width; ++c) y[c] = 0;
  for (index_t j = 0; j < keys; ++j)
    for (index_t c = 0; c < width; ++c) y[c] += score[j] * value[j * stride + c];
  for (index_t c = 0; c < width; ++c) y[c] /= sum;
}

[[gnu::noinline]] void plain_prefill(const prefill_problem& d, float* score) {
  for (index_t h = 0; h < d.H; ++h)
    for (index_t t = 0; t < d.T; ++t)
      plain_row(d.x.query.data() + t * d.row() + h * width, d.x.key.data() + h * width,
                d.x.value.data() + h * width, d.row(), t + 1, score,
                d.y.data() + t * d.row() + h * width);
}

#if defined(MASLIN_BENCH_OPENBLAS)
/// Softmax of the first n of a row's scores in registers; the rest, up to `padded`, becomes 0.
inline float soften(float* score, index_t n, index_t padded) {
  using V = maslin::simd::native<float>;
  using L = maslin::lane<V>;
  const index_t whole = (n + 15) / 16 * 16;
  std::fill(score + n, score + whole, -std::numeric_limits<float>::infinity());
  std::fill(score + whole, score + padded, 0.0f);
  V most = L::broadcast(-std::numeric_limits<float>::infinity()), sum = L::broadcast(0);
  for (index_t j = 0; j < whole; j += L::width) most = L::max(L::load(score + j), most);
  std::array<float, static_cast<std::size_t>(L::width)> x;
  L::store(x.data(), most);
  const V largest = L::broadcast(*std::max_element(x.begin(), x.end()));
  for (index_t j = 0; j < whole; j += L::width) {
    const V w = maslin::simd::exp_nonpositive(L::load(score + j) - largest);
    L::store(score + j, w);
    sum = sum + w;
  }
  L::store(x.data(), sum);
  float total = 0;
  for (const float part : x) total += part;
  return total;
}

/// Blocks of queries: their scores by one product, softmax, outputs by another. Keys past a block are
/// not touched; one block of all queries is what library calls alone make of attention.
void blas_prefill(const prefill_problem& d, index_t block, float* score, float* sums) {
  openblas_set_num_threads(1);
  const int row = static_cast<int>(d.row());
  for (index_t h = 0; h < d.H; ++h)
    for (index_t t = 0; t < d.T; t += block) {
      const index_t end = std::min(t + block, d.T), padded = (end + 15) / 16 * 16;
      const int rows = static_cast<int>(end - t), keys = static_cast<int>(end);
      const int stride = static_cast<int>(padded);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, width, scale,
                  d.x.query.data() + t * d.row() + h * width, row, d.x.key.data() + h * width, row,
                  0.0f, score, stride);
      for (index_t i = 0; i < end - t; ++i) sums[i] = soften(score + i * padded, t + i + 1, padded);
      float* y = d.y.data() + t * d.row() + h * width;
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, width, keys, 1.0f, score, stride,
                  d.x.value.data() + h * width, row, 0.0f, y, row);
      for (index_t i = 0; i < end - t; ++i)
        for (index_t c = 0; c < width; ++c) y[i * d.row() + c] /= sums[i];
    }
}
#endif

/// `f` again and again; once for the comparison.
template <class F>
contender repeated(const F& f) {
  return {.repeat =
              [f](index_t calls) {
                for (index_t i = 0; i < calls; ++i) {
                  f();
                  benchmark::ClobberMemory();
                }
              },
          .fresh = f};
}

contender prefill_contender(problem& any, const exec::sequential& policy) {
  auto& d = static_cast<prefill_problem&>(any);
  const auto mix = d.make();
  auto state = std::make_shared<prefill_problem::mixer::state>(mix.make_state(1, d.T));
  return repeated([=, &d] {
    state->reset();
    mix.scan(policy, d.tokens(), row_major(d.y.data(), 1, d.T, d.H, width), *state);
  });
}

workload prefill(const settings& s, index_t T, index_t H) {
  workload load;
  load.mixer = "attention";
  load.call = "scan";
  load.form = "d64 H" + std::to_string(H);
  load.regime = "compute";
  load.T = T;
  load.D = H * width;
  // Two multiply-adds for each of T / 2 keys that a token sees on average; exp and the part of tiles
  // above the diagonal are not counted.
  const double slots = static_cast<double>(T * T) * static_cast<double>(width * H);
  load.preparation = 1.5;
  load.prepare = [T, H](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<prefill_problem>(text, T, H);
  };
  const auto add = [&](const std::string& title, double rate, int threads) -> row& {
    row r;
    r.name = row_name(load, title, "", threads);
    r.title = title + (threads > 1 ? ", " + std::to_string(threads) + " threads" : "");
    r.tolerance = 1;
    r.least = {.slots = slots, .threads = threads};
    r.tokens = T;
    r.cache_bytes = 2 * T * H * width * static_cast<index_t>(sizeof(float));
    r.estimate = slots / rate;
    load.rows.push_back(std::move(r));
    return load.rows.back();
  };
  row& own = add("sequential", 30e9, 1);
  own.target = "attn/d64/prefill/compute";
  own.bind = [](problem& any) { return prefill_contender(any, {}); };
  for (const int n : thread_counts(s)) {
    if (n == 1) continue;
    row& more = add("sequential", 30e9 * n, n);
    more.target = "attn/d64/prefill/compute/t" + std::to_string(n);
    more.bind = [n](problem& any) { return prefill_contender(any, {.threads = n}); };
  }
#if defined(MASLIN_BENCH_OPENBLAS)
  for (const index_t block : {T, index_t{128}}) {
    const std::string title = block == T ? "openblas" : "openblas by 128 queries";
    add(title, 10e9, 1).bind = [block](problem& any) {
      auto& d = static_cast<prefill_problem&>(any);
      auto score = std::make_shared<buffer>(block * (d.T + 16)),
           sums = std::make_shared<buffer>(block);
      return repeated([=, &d] { blas_prefill(d, block, score->data(), sums->data()); });
    };
  }
#endif
  row& naive = add("naive", 2.5e9, 1);
  naive.naive = true;
  naive.bind = [](problem& any) {
    auto& d = static_cast<prefill_problem&>(any);
    auto score = std::make_shared<buffer>(d.T);
    return repeated([=, &d] { plain_prefill(d, score->data()); });
  };
  return load;
}

/// Gradients of queries, keys and values over T tokens from an empty cache.
class backward_problem final : public problem {
 public:
  using mixer = prefill_problem::mixer;

  backward_problem(const corpus& text, index_t tokens, index_t heads)
      : forward(text, tokens, heads),
        dy(tokens * heads * width),
        dquery(dy.size()),
        dkey(dy.size()),
        dvalue(dy.size()),
        keep(forward.make().make_saved(1, tokens)) {
    embedding(text.bytes, tokens).project(dy.data(), tokens, heads * width, 53, 1.0f, 0.0f);
    auto state = forward.make().make_state(1, tokens);
    forward.make().scan(exec::sequential{}, forward.tokens(), rows(forward.y), state, keep);
    find_truth();
  }

  void spoil() override {
    for (buffer* b : {&dquery, &dkey, &dvalue})
      std::fill_n(b->data(), b->size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// Of the last head, in units of `tolerance` u times the largest number of a gradient; no number of
  /// another head may be anything but a number.
  [[nodiscard]] double worst(double tolerance) const override {
    double found = 0;
    std::size_t k = 0;
    for (const buffer* b : {&dquery, &dkey, &dvalue}) {
      for (index_t i = 0; i < b->size(); ++i)
        if (!std::isfinite((*b)[i])) return HUGE_VAL;
      double largest = 0, error = 0;
      for (index_t i = 0; i < forward.T * width; ++i) {
        const double want = truth_[k][static_cast<std::size_t>(i)];
        const float got = (*b)[i / width * forward.row() + (forward.H - 1) * width + i % width];
        largest = std::max(largest, std::abs(want));
        error = std::max(error, std::abs(got - want));
      }
      found = std::max(found, error / (tolerance * unit_roundoff * largest));
      ++k;
    }
    return found;
  }

  [[nodiscard]] maslin::view<float, 4> rows(buffer& b) const {
    return row_major(b.data(), 1, forward.T, forward.H, width);
  }

  prefill_problem forward;
  buffer dy, dquery, dkey, dvalue;
  mixer::saved keep;

 private:
  void find_truth() {
    const index_t T = forward.T;
    std::array<std::vector<double>, 4> in;
    const std::array from{&forward.x.query, &forward.x.key, &forward.x.value, &dy};
    for (std::size_t k = 0; k < in.size(); ++k)
      for (index_t t = 0; t < T; ++t) {
        const float* row = from[k]->data() + t * forward.row() + (forward.H - 1) * width;
        in[k].insert(in[k].end(), row, row + width);
      }
    std::vector<double> y(in[0].size());
    for (auto& d : truth_) d.resize(in[0].size());
    const auto head = [T](auto& v) { return row_major(v.data(), 1, T, 1, width); };
    const auto read = [&](const std::vector<double>& v) { return head(v); };
    const maslin::reference::attention_arrays x{
        .query = read(in[0]), .key = read(in[1]), .value = read(in[2]), .scale = scale};
    maslin::reference::attention_backward(x, {.dy = read(in[3]),
                                              .y = head(y),
                                              .query = head(truth_[0]),
                                              .key = head(truth_[1]),
                                              .value = head(truth_[2])});
  }
  std::array<std::vector<double>, 3> truth_;
};

/// Gradients as one writes them: weights and their gradients of one row, then what they give.
[[gnu::noinline]] void plain_backward(backward_problem& p, float* __restrict weight) {
  const prefill_problem& d = p.forward;
  const index_t row = d.row();
  float y[width];
  for (buffer* b : {&p.dquery, &p.dkey, &p.dvalue}) std::fill_n(b->data(), b->size(), 0.0f);
  for (index_t h = 0; h < d.H; ++h)
    for (index_t t = 0; t < d.T; ++t) {
      const index_t at = t * row + h * width;
      const float* const q = d.x.query.data() + at;
      const float* const dy = p.dy.data() + at;
      plain_row(q, d.x.key.data() + h * width, d.x.value.data() + h * width, row, t + 1, weight, y);
      float sum = 0, delta = 0;
      for (index_t j = 0; j <= t; ++j) sum += weight[j];
      for (index_t c = 0; c < width; ++c) delta += dy[c] * y[c];
      for (index_t j = 0; j <= t; ++j) {
        const index_t of = j * row + h * width;
        const float* const v = d.x.value.data() + of;
        const float* const k = d.x.key.data() + of;
        const float w = weight[j] / sum;
        float dw = 0;
        for (index_t c = 0; c < width; ++c) dw += dy[c] * v[c];
        const float ds = w * (dw - delta) * scale;
        for (index_t c = 0; c < width; ++c) p.dvalue[of + c] += w * dy[c];
        for (index_t c = 0; c < width; ++c) p.dkey[of + c] += ds * q[c];
        for (index_t c = 0; c < width; ++c) p.dquery[at + c] += ds * k[c];
      }
    }
}

/// The scan that saves, or its adjoint.
contender backward_contender(problem& any, const exec::sequential& policy, bool adjoint) {
  auto& p = static_cast<backward_problem&>(any);
  const auto mix = p.forward.make();
  using state_type = backward_problem::mixer::state;
  auto state = std::make_shared<state_type>(mix.make_state(1, adjoint ? 0 : p.forward.T));
  const auto backward = [=, &p] {
    const buffer& dy = p.dy;
    mix.backward(policy, p.forward.tokens(), p.keep,
                 row_major(dy.data(), 1, p.forward.T, p.forward.H, width),
                 {.query = p.rows(p.dquery), .key = p.rows(p.dkey), .value = p.rows(p.dvalue)},
                 *state);
  };
  if (adjoint) return repeated(backward);
  auto c = repeated([=, &p] {
    state->reset();
    mix.scan(policy, p.forward.tokens(), p.rows(p.forward.y), *state, p.keep);
  });
  // Compared by the gradients of what it has saved.
  c.fresh = [once = c.fresh, compared = backward_contender(any, policy, true)] {
    once();
    compared.fresh();
  };
  return c;
}

workload backward(const settings& s, index_t T, index_t H) {
  workload load;
  load.mixer = "attention";
  load.call = "backward";
  load.form = "d64 H" + std::to_string(H);
  load.regime = "compute";
  load.T = T;
  load.D = H * width;
  // Five multiply-adds for each of T / 2 keys that a token sees on average; two of a scan.
  const double pairs = static_cast<double>(T * T) / 2 * static_cast<double>(width * H);
  load.preparation = 3;
  load.prepare = [T, H](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<backward_problem>(text, T, H);
  };
  const auto add = [&](const std::string& title, double products, double rate,
                       int threads) -> row& {
    row r;
    r.name = row_name(load, title, "", threads);
    r.title = title + (threads > 1 ? ", " + std::to_string(threads) + " threads" : "");
    // Sums of up to T terms, in units of the largest.
    r.tolerance = static_cast<double>(T) / 4;
    r.least = {.slots = products * pairs, .threads = threads};
    r.tokens = T;
    r.estimate = products * pairs / rate;
    load.rows.push_back(std::move(r));
    return load.rows.back();
  };
  add("sequential", 5, 30e9, 1).bind = [](problem& any) {
    return backward_contender(any, {}, true);
  };
  if (s.cores > 1 && s.threads)
    add("sequential", 5, 60e9, 2).bind = [](problem& any) {
      return backward_contender(any, {.threads = 2}, true);
    };
  add("the scan that saves", 2, 30e9, 1).bind = [](problem& any) {
    return backward_contender(any, {}, false);
  };
  row& naive = add("naive", 5, 2.5e9, 1);
  naive.naive = true;
  naive.bind = [](problem& any) {
    auto& p = static_cast<backward_problem&>(any);
    auto weight = std::make_shared<buffer>(p.forward.T);
    return repeated([=, &p] { plain_backward(p, weight->data()); });
  };
  return load;
}

constexpr index_t cached = 4096, decode_heads = 16;
/// Numbers of one cache; and caches of numbers of `bytes` that take 128 MiB together.
constexpr index_t cache_numbers = 2 * cached * decode_heads * width;
constexpr index_t caches_of(index_t bytes) {
  return (index_t{128} << 20) / (cache_numbers * bytes);
}

/// One token after 4095 cached ones.
class decode_problem final : public problem {
 public:
  explicit decode_problem(const corpus& text)
      : x(text, 1, cached, decode_heads), y(caches_of(2) * decode_heads * width) {}

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
    written = 0;
  }
  /// Of what was written: an output of each cache. Caches in bf16 are compared with the reference on
  /// rounded keys and values.
  [[nodiscard]] double worst(double tolerance) const override {
    const auto kept = [&](const buffer& b) {
      std::vector<double> wide;
      for (index_t i = 0; i < b.size(); ++i)
        wide.push_back(half ? double{static_cast<float>(maslin::bf16(b[i]))} : double{b[i]});
      return wide;
    };
    const double first = worst_of_row(x.query.data(), kept(x.key), kept(x.value), cached,
                                      decode_heads, y.data(), tolerance);
    for (index_t i = 0; i < written * row; ++i)
      if (!(y[i] == y[i % row])) return HUGE_VAL;
    return written > 0 ? first : HUGE_VAL;
  }
  static constexpr index_t row = decode_heads * width;

  head_arrays x;
  buffer y;
  index_t written = 0;
  bool half = false;
};

/// A step of each of the caches, which forget it at once.
template <class C>
contender decode_contender(problem& any) {
  using mixer = maslin::attention<float, C>;
  auto& d = static_cast<decode_problem&>(any);
  const mixer mix{.heads = decode_heads, .key_dim = width, .value_dim = width, .scale = scale};
  const auto rows = [](const buffer& b, index_t tokens) {
    return row_major(static_cast<const float*>(b.data()), 1, tokens, decode_heads, width);
  };
  typename mixer::tokens all{.key = rows(d.x.key, cached), .value = rows(d.x.value, cached)};
  auto states = std::make_shared<std::vector<typename mixer::state>>();
  states->push_back(mix.make_state(1, cached));
  typename mixer::tokens before = all;
  before.key = maslin::time_range(all.key, 0, cached - 1);
  before.value = maslin::time_range(all.value, 0, cached - 1);
  mix.append(before, states->front());
  while (static_cast<index_t>(states->size()) < caches_of(sizeof(C)))
    states->push_back(states->front());
  const typename mixer::token last{.query = maslin::time_at(rows(d.x.query, 1), 0),
                                   .key = maslin::time_at(all.key, cached - 1),
                                   .value = maslin::time_at(all.value, cached - 1)};
  contender c = repeated([=, &d] {
    float* y = d.y.data();
    for (auto& state : *states) {
      mix.step(last, row_major(y, 1, decode_heads, width), state);
      state.truncate(0, cached - 1);
      y += decode_problem::row;
    }
  });
  c.fresh = [&d, states, once = c.fresh] {
    once();
    d.written = static_cast<index_t>(states->size());
    d.half = sizeof(C) == 2;
  };
  return c;
}

/// The same by the plain row, over keys and values [H, T, 64] of its own.
contender plain_decode(problem& any) {
  auto& d = static_cast<decode_problem&>(any);
  auto kept = std::make_shared<std::vector<buffer>>();
  auto score = std::make_shared<buffer>(cached);
  for (index_t i = 0; i < caches_of(sizeof(float)); ++i) {
    buffer b(cache_numbers);
    for (index_t t = 0; t < cached; ++t)
      for (index_t h = 0; h < decode_heads; ++h) {
        const index_t from = (t * decode_heads + h) * width;
        float* to = b.data() + (2 * h * cached + t) * width;
        std::copy_n(d.x.key.data() + from, width, to);
        std::copy_n(d.x.value.data() + from, width, to + cached * width);
      }
    kept->push_back(std::move(b));
  }
  contender c = repeated([=, &d] {
    float* y = d.y.data();
    for (const buffer& b : *kept)
      for (index_t h = 0; h < decode_heads; ++h, y += width) {
        const float* key = b.data() + 2 * h * cached * width;
        plain_row(d.x.query.data() + h * width, key, key + cached * width, width, cached,
                  score->data(), y);
      }
  });
  c.fresh = [&d, kept, once = c.fresh] {
    once();
    d.written = static_cast<index_t>(kept->size());
    d.half = false;
  };
  return c;
}

workload decode() {
  workload load;
  load.mixer = "attention";
  load.call = "step";
  load.form = "d64 H16 keys4096";
  load.regime = "dram";
  load.T = 1;
  load.D = decode_heads * width;
  load.preparation = 2;
  load.prepare = [](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<decode_problem>(text);
  };
  const auto add = [&](const std::string& title, index_t bytes) -> row& {
    row r;
    r.name = row_name(load, title);
    r.title = title;
    // The plain loop adds all keys in one chain.
    r.tolerance = title == "naive" ? cached / 64 : 1;
    r.least.reads = caches_of(bytes) * cache_numbers * bytes / static_cast<index_t>(sizeof(float));
    r.tokens = caches_of(bytes);
    r.cache_bytes = cache_numbers * bytes;
    r.estimate = 10e-3;
    load.rows.push_back(std::move(r));
    return load.rows.back();
  };
  row& whole = add("sequential", sizeof(float));
  whole.target = "attn/d64/decode-f32/dram";
  whole.bind = decode_contender<float>;
  row& half = add("sequential bf16", sizeof(maslin::bf16));
  half.target = "attn/d64/decode-half/dram";
  half.bind = decode_contender<maslin::bf16>;
  row& naive = add("naive", sizeof(float));
  naive.naive = true;
  naive.bind = plain_decode;
  return load;
}

}  // namespace

std::vector<workload> attention_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(prefill(s, 1024, 16));
  plan.push_back(backward(s, 1024, 16));
  if (!s.quick) plan.push_back(prefill(s, 4096, 4));
  plan.push_back(decode());
  return plan;
}

}  // namespace bench
