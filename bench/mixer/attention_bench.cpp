// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of softmax attention: causal prefill beside a plain loop and a composition of matrix
/// products, and decode over caches that no level of the machine's own holds.

#include "support/bound.hpp"
#include "support/contender.hpp"
#include "support/projection.hpp"

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
  load.form = "d64 H:" + std::to_string(H);
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
    r.name = "attention/scan/" + title + "/d:64/T:" + std::to_string(T) + "/H:" + std::to_string(H);
    r.title = title;
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
  if (s.cores > 1 && s.threads) {
    row& two = add("sequential, 2 threads", 60e9, 2);
    two.target = "attn/d64/prefill/compute/t2";
    two.bind = [](problem& any) { return prefill_contender(any, {.threads = 2}); };
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
  load.form = "d64 H:16 keys:4096";
  load.regime = "dram";
  load.T = 1;
  load.D = decode_heads * width;
  load.preparation = 2;
  load.prepare = [](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<decode_problem>(text);
  };
  const auto add = [&](const std::string& title, index_t bytes) -> row& {
    row r;
    r.name = "attention/step/" + title + "/d:64/keys:4096/H:16";
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
  if (!s.quick) plan.push_back(prefill(s, 4096, 4));
  plan.push_back(decode());
  return plan;
}

}  // namespace bench
