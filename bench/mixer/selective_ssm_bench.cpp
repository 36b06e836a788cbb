// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the selective scan (S6, N = 16) and of the short convolution before it.

#include "support/contender.hpp"
#include "support/projection.hpp"

#include <maslin/mixer/causal_conv.hpp>
#include <maslin/mixer/selective_ssm.hpp>
#include <maslin/reference/causal_conv.hpp>
#include <maslin/reference/selective_ssm.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <limits>
#include <vector>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;

constexpr index_t N = 16, W = 4;
// What one number of state costs the FMA pipes at least: product, exp2 of degree 5, h and y.
constexpr double slots_of_a_state = 9;

const float* constant(const buffer& b) { return b.data(); }
std::vector<double> wide(const buffer& b, index_t count) { return {b.data(), b.data() + count}; }

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

/// Buffers of one case and the reference's first tokens, with the tolerance in parts of the largest
/// output: a check that a row computes what it says, beside the error bounds of the tests.
class mamba_problem : public problem {
 public:
  static constexpr double relative_tolerance = 1e-4;

  explicit mamba_problem(const extents& e) : size(e), input(e.T * e.D), y(e.T * e.D) {}

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    double largest = 0, found = 0;
    for (const double v : exact) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double error = std::abs(y[static_cast<index_t>(i)] - exact[i]);
      found = std::max(found, std::isfinite(error) ? error : HUGE_VAL);
    }
    for (index_t i = 0; i < y.size(); ++i)
      if (!std::isfinite(y[i])) found = HUGE_VAL;
    return found / (relative_tolerance * largest);
  }

  extents size;
  buffer input, y;
  std::vector<double> exact;  // of the first `known` tokens

 protected:
  [[nodiscard]] index_t known() const { return std::min<index_t>(size.T, 64); }
};

class ssm_problem final : public mamba_problem {
 public:
  using mixer = maslin::selective_ssm<float>;

  ssm_problem(const corpus& text, const extents& e)
      : mamba_problem(e),
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
    const index_t T = known(), D = e.D;
    const auto wdt = wide(dt, T * D), wu = wide(input, T * D), wz = wide(gate, T * D),
               wb = wide(write, T * N), wc = wide(read, T * N), wa = wide(decay, D * N),
               ws = wide(skip, D);
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
  [[nodiscard]] static index_t state_size(index_t D) { return D * N; }
  void plain(index_t T, float* h) const {
    plain_ssm(T, size.D, dt.data(), input.data(), gate.data(), write.data(), read.data(),
              decay.data(), skip.data(), h, y.data());
  }

  buffer dt, gate, write, read, decay, skip;
};

class conv_problem final : public mamba_problem {
 public:
  using mixer = maslin::causal_conv<float, W>;

  conv_problem(const corpus& text, const extents& e) : mamba_problem(e), weight(e.D * W) {
    const embedding tokens(text.bytes, std::max(e.T, e.D));
    tokens.project(input.data(), e.T, e.D, 31, 1.0f, 0.0f);
    tokens.project(weight.data(), e.D, W, 33, 0.5f, 0.0f);
    const index_t T = known(), D = e.D;
    const auto ww = wide(weight, D * W), wx = wide(input, T * D);
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
  [[nodiscard]] static index_t state_size(index_t D) { return D * (W - 1); }
  void plain(index_t T, float* h) const {
    plain_conv(T, size.D, weight.data(), input.data(), h, y.data());
  }

  buffer weight;
};

/// Builds the rows of one workload.
template <class Problem, call Call>
class mamba_rows {
 public:
  static constexpr bool decode = Call == call::step;

  mamba_rows(const std::string& mixer, const std::string& form, const extents& e, work least)
      : size_(e), least_(least) {
    load_.mixer = mixer;
    load_.call = decode ? "step" : "scan";
    load_.form = form;
    load_.regime = "compute";
    load_.M = 1;
    load_.T = decode ? 1 : e.T;
    load_.D = e.D;
    load_.preparation = 0.5;
    load_.prepare = [e](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<Problem>(text, e);
    };
  }

  template <class Policy>
  mamba_rows& library(const std::string& policy, const Policy& p, int threads = 1,
                      const std::string& target = {}) {
    row& r = add(policy, threads);
    r.target = target;
    r.estimate = 3 * least_.slots / 50e9 + least_.bytes() / 10e9;
    r.bind = [p](problem& any) {
      auto& data = static_cast<Problem&>(any);
      return library_contender<Call>(data.make(), data.tokens(),
                                     row_major(data.y.data(), 1, data.size.T, data.size.D),
                                     data.size, p);
    };
    return *this;
  }

  mamba_rows& plain_loop() {
    row& r = add("naive", 1);
    r.naive = true;
    r.estimate = least_.slots * 1e-9 + least_.bytes() / 2e9;
    r.bind = [T = load_.T](problem& any) {
      auto& data = static_cast<Problem&>(any);
      auto h = std::make_shared<buffer>(Problem::state_size(data.size.D));
      return contender{.repeat =
                           [&data, h, T](index_t calls) {
                             for (index_t i = 0; i < calls; ++i) {
                               data.plain(T, h->data());
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh =
                           [&data, h] {
                             std::fill_n(h->data(), h->size(), 0.0f);
                             data.plain(data.size.T, h->data());
                           }};
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  row& add(const std::string& policy, int threads) {
    row r;
    r.name = load_.mixer + "/" + load_.call + "/" + policy + "/" + load_.form +
             "/T:" + std::to_string(load_.T) + "/D:" + std::to_string(load_.D);
    if (threads > 1) r.name += "/threads:" + std::to_string(threads);
    r.title = policy + (threads > 1 ? ", " + std::to_string(threads) + " threads" : "");
    r.tolerance = 1;
    r.least = least_;
    r.least.threads = threads;
    r.tokens = load_.T;
    r.cache_bytes = Problem::state_size(size_.D) * static_cast<index_t>(sizeof(float));
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  extents size_;
  work least_;
  workload load_;
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
    mamba_rows<ssm_problem, call::scan> rows("selective_ssm", "N:16", {.T = T, .D = D},
                                             least_ssm(T, D, false));
    rows.library("sequential", sequential, 1, "mamba1/N16/prefill/compute");
    if (s.cores > 1 && s.threads)
      rows.library("sequential", exec::sequential{.threads = 2}, 2,
                   "mamba1/N16/prefill/compute/t2");
    if (!s.quick) rows.library("chunked", exec::chunked{});
    plan.push_back(rows.plain_loop().take());
  }
  plan.push_back(mamba_rows<ssm_problem, call::step>("selective_ssm", "N:16", {.T = 8, .D = D},
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
  plan.push_back(mamba_rows<conv_problem, call::scan>("causal_conv", "W:4 silu", {.T = T, .D = D},
                                                      least_conv(T))
                     .library("sequential", sequential)
                     .plain_loop()
                     .take());
  return plan;
}

}  // namespace bench
