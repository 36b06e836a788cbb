// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the RG-LRU: an exp, a root and a step for each channel and token.

#include "support/bound.hpp"
#include "support/contender.hpp"
#include "support/gradients.hpp"
#include "support/naive.hpp"
#include "support/projection.hpp"
#include "support/truth.hpp"

#include <maslin/gradient/rglru.hpp>
#include <maslin/reference/rglru.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <utility>

namespace bench {
namespace {

using maslin::gate_form;
namespace exec = maslin::exec;

/// Of all channels, in the middle of where training begins: a = 0.98 at an open gate.
constexpr float usual_decay = -6.0f;

float sigmoid(float z) { return 1 / (1 + std::exp(-z)); }

/// The equations as one writes them: r, i, x, y [T, D], h [D]. The root of 1 - a^2 is not protected
/// from cancellation.
template <gate_form Form, naive::order Order>
[[gnu::noinline]] void plain(index_t T, index_t D, const float* __restrict r,
                             const float* __restrict i, const float* __restrict x,
                             const float* __restrict rate, float* __restrict h,
                             float* __restrict y) {
  const auto step = [&](index_t t, index_t d, float state) {
    const index_t at = t * D + d;
    const bool logits = Form == gate_form::logit;
    const float a = std::exp(rate[d] * (logits ? sigmoid(r[at]) : r[at]));
    const float gate = logits ? sigmoid(i[at]) : i[at];
    return y[at] = a * state + std::sqrt(1 - a * a) * (gate * x[at]);
  };
  if constexpr (Order == naive::order::tokens_outer) {
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) h[d] = step(t, d, h[d]);
  } else {
    for (index_t d = 0; d < D; ++d) {
      float state = h[d];
      for (index_t t = 0; t < T; ++t) state = step(t, d, state);
      h[d] = state;
    }
  }
}

template <gate_form Form>
class rglru_problem final : public problem {
 public:
  using mixer = maslin::rglru<float, Form>;
  static constexpr bool logits = Form == gate_form::logit;

  rglru_problem(const corpus& text, const extents& e, bool quick)
      : size(e), r(e.T * e.D), i(r.size()), input(r.size()), y(r.size()), decay(e.D), rate(e.D) {
    const embedding tokens(text.bytes, e.T);
    tokens.project(r.data(), e.T, e.D, 23, 1.5f, 0.0f);
    tokens.project(i.data(), e.T, e.D, 29, 1.5f, 0.0f);
    tokens.project(input.data(), e.T, e.D, 31, 1.0f, 0.0f);
    if (!logits)
      for (auto* gate : {&r, &i})
        for (index_t k = 0; k < gate->size(); ++k) (*gate)[k] = sigmoid((*gate)[k]);
    for (index_t d = 0; d < e.D; ++d) {
      decay[d] = usual_decay + 0.25f * static_cast<float>(d % 9);
      rate[d] = -8 * std::log1p(std::exp(decay[d]));
    }
    find_truth(quick);
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double tolerance) const override {
    return known_.worst(y.data(), tolerance);
  }
  [[nodiscard]] maslin::view<float, 3> rows(const buffer& b) const {
    return maslin::row_major(b.data(), 1, size.T, size.D);
  }
  [[nodiscard]] typename mixer::tokens tokens() const {
    return {.recurrence_gate = rows(r), .input_gate = rows(i), .input = rows(input)};
  }
  [[nodiscard]] mixer make() const {
    return {.channels = size.D, .decay = maslin::row_major(std::as_const(decay).data(), size.D)};
  }

  /// In u W: k roundings a step, and the errors of the coefficients where |log a| < 1.
  [[nodiscard]] static constexpr double tolerance_of(double k) { return k + (logits ? 18 : 13); }
  /// 1 - a^2 is as small as 1e-4 here: what the plain loop loses is u over that, and half in the
  /// root.
  static constexpr double tolerance_of_plain = 1e4;

  extents size;
  buffer r, i, input, y, decay, rate;

 private:
  void find_truth(bool quick) {
    const auto [B, T, D] = size;
    known_.B = 1;
    known_.T = T;
    known_.D = D;
    known_.known = tokens_to_verify(quick, T, D);
    known_.exact.resize(static_cast<std::size_t>(known_.known * D));
    known_.bound = buffer(T * D);
    buffer a(T * D), b(T * D);
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        const index_t k = t * D + d;
        const float log_a = rate[d] * (logits ? sigmoid(r[k]) : r[k]);
        a[k] = std::exp(log_a);
        b[k] = (t == 0 ? 1 : std::sqrt(-std::expm1(2 * log_a))) * (logits ? sigmoid(i[k]) : i[k]) *
               input[k];
      }
    bound_diagonal(T, D, a.data(), b.data(), known_.bound.data());
    const index_t n = known_.known * D;
    const auto wide_r = widened(r.data(), n), wide_i = widened(i.data(), n),
               wide_x = widened(input.data(), n), wide_decay = widened(decay.data(), D);
    std::vector<double> h(static_cast<std::size_t>(D));
    std::vector<bool> begun(1, false);
    const auto of = [&](auto* p) { return maslin::row_major(p, 1, known_.known, D); };
    maslin::reference::rglru(Form, maslin::row_major(wide_decay.data(), D), of(wide_r.data()),
                             of(wide_i.data()), of(wide_x.data()),
                             maslin::row_major(h.data(), 1, D), begun, of(known_.exact.data()));
    if (known_.known == T) return;
    const mixer mix = make();
    auto state = mix.make_state();
    mix.scan(exec::sequential{}, tokens(), rows(y), state);
    known_.second = buffer(y.size());
    std::copy_n(y.data(), y.size(), known_.second.data());
    known_.second_tolerance = tolerance_of(maslin::fused_family ? 1 : 2);
  }

  truth known_;
};

/// Builds the rows of one workload.
template <gate_form Form, call Call = call::scan>
class rglru_rows {
 public:
  static constexpr bool decode = Call == call::step;
  using buffers = rglru_problem<Form>;

  rglru_rows(const settings& s, regime r, const extents& e) : size_(e) {
    load_.mixer = "rglru";
    load_.call = decode ? "step" : "scan";
    load_.form = Form == gate_form::logit ? "logits" : "fused";
    load_.regime = decode ? "decode" : name_of(r);
    load_.T = decode ? 1 : e.T;
    load_.D = e.D;
    load_.preparation = static_cast<double>(e.T * e.D) * (s.quick ? 60e-9 : 120e-9);
    load_.prepare = [e, quick = s.quick](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<buffers>(text, e, quick);
    };
  }

  template <class Policy>
  rglru_rows& library(const std::string& policy, const Policy& p, const std::string& target = {}) {
    const double k = std::is_same_v<Policy, exec::chunked> ? 3 : maslin::fused_family ? 1 : 2;
    row& r = add(policy, buffers::tolerance_of(k));
    r.target = target;
    r.estimate = r.least.bytes() / 15e9;
    r.bind = [p](problem& any) {
      auto& data = static_cast<buffers&>(any);
      return library_contender<Call>(data.make(), data.tokens(), data.rows(data.y), data.size, p);
    };
    return *this;
  }

  template <naive::order Order>
  rglru_rows& plain_loop() {
    const bool inner = Order == naive::order::tokens_outer;
    row& r = add(inner ? "naive" : "naive-channels", buffers::tolerance_of_plain);
    r.naive = true;
    r.estimate = static_cast<double>(load_.T * load_.D) * (inner ? 6e-9 : 25e-9);
    r.bind = [T = load_.T](problem& any) {
      auto& data = static_cast<buffers&>(any);
      auto state = std::make_shared<buffer>(data.size.D);
      const auto run = [&data, state](index_t tokens) {
        plain<Form, Order>(tokens, data.size.D, data.r.data(), data.i.data(), data.input.data(),
                           data.rate.data(), state->data(), data.y.data());
      };
      return contender{.repeat =
                           [=](index_t calls) {
                             for (index_t k = 0; k < calls; ++k) {
                               run(T);
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh = [=, &data] { begin(data, state->data(), run); }};
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  /// From an empty state; the plain loop has no first token, so that one is replaced beforehand.
  template <class Run>
  static void begin(const buffers& data, float* h, const Run& run) {
    std::fill_n(h, data.size.D, 0.0f);
    for (index_t d = 0; d < data.size.D; ++d) {
      // h such that a h + mu i x is i x.
      const bool logits = Form == gate_form::logit;
      const float a = std::exp(data.rate[d] * (logits ? sigmoid(data.r[d]) : data.r[d]));
      const float x = (logits ? sigmoid(data.i[d]) : data.i[d]) * data.input[d];
      h[d] = (1 - std::sqrt(1 - a * a)) * x / a;
    }
    run(data.size.T);
  }

  row& add(const std::string& policy, double tolerance) {
    row r;
    r.name = row_name(load_, policy);
    r.title = policy;
    r.tolerance = tolerance;
    const index_t n = load_.T * load_.D;
    constexpr int exps = Form == gate_form::logit ? 3 : 1;
    r.least = {
        .elements = n, .rows_read = 3, .slots = static_cast<double>(n) * (1 + slots_of_exp * exps)};
    // Gates, input, decay and state in; state and output out.
    if (decode) r.least = {.elements = 7 * n / 4, .rows_read = 3, .slots = r.least.slots};
    r.tokens = load_.T;
    r.cache_bytes = size_.D * static_cast<index_t>(sizeof(float)) + 1;
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  extents size_;
  workload load_;
};

/// Gates as probabilities, one sequence from its first token.
class rglru_backward_problem final : public gradient_problem {
 public:
  using mixer = maslin::rglru<float>;

  rglru_backward_problem(const corpus& text, const extents& e)
      : size(e),
        r(e.T * e.D),
        i(r.size()),
        input(r.size()),
        y(r.size()),
        dy(r.size()),
        decay(e.D),
        rate(e.D),
        dr(r.size()),
        di(r.size()),
        dinput(r.size()),
        ddecay(e.D),
        carry(e.D),
        keep(make().make_saved(1)),
        state(make().make_state()),
        dstate(state) {
    const embedding tokens(text.bytes, e.T);
    tokens.project(r.data(), e.T, e.D, 23, 1.5f, 0.0f);
    tokens.project(i.data(), e.T, e.D, 29, 1.5f, 0.0f);
    tokens.project(input.data(), e.T, e.D, 31, 1.0f, 0.0f);
    tokens.project(dy.data(), e.T, e.D, 37, 1.0f, 0.0f);
    for (auto* gate : {&r, &i})
      for (index_t k = 0; k < gate->size(); ++k) (*gate)[k] = sigmoid((*gate)[k]);
    for (index_t d = 0; d < e.D; ++d) {
      decay[d] = usual_decay + 0.25f * static_cast<float>(d % 9);
      rate[d] = -8 * std::log1p(std::exp(decay[d]));
    }
    find_truth();
  }

  [[nodiscard]] mixer make() const {
    return {.channels = size.D, .decay = maslin::row_major(std::as_const(decay).data(), size.D)};
  }
  [[nodiscard]] maslin::view<float, 3> rows(const buffer& b) const {
    return maslin::row_major(b.data(), 1, size.T, size.D);
  }
  [[nodiscard]] mixer::tokens tokens() const {
    return {.recurrence_gate = rows(r), .input_gate = rows(i), .input = rows(input)};
  }
  [[nodiscard]] mixer::gradients gradients() const {
    return {.recurrence_gate = rows(dr),
            .input_gate = rows(di),
            .input = rows(dinput),
            .decay = maslin::row_major(ddecay.data(), size.D)};
  }

  extents size;
  buffer r, i, input, y, dy, decay, rate, dr, di, dinput, ddecay, carry;
  mixer::saved keep;
  mixer::state state, dstate;

 private:
  void find_truth() {
    const auto [B, T, D] = size;
    const index_t n = T * D;
    const auto wide_r = widened(r.data(), n), wide_i = widened(i.data(), n),
               wide_x = widened(input.data(), n), wide_dy = widened(dy.data(), n),
               wide_decay = widened(decay.data(), D);
    const std::vector<double> zeros(static_cast<std::size_t>(D));
    std::vector<double> out(wide_x), final(zeros), da(zeros), d_r(wide_x), d_i(wide_x), d_x(wide_x),
        dh(zeros);
    const auto of = [&](auto& v) { return maslin::row_major(v.data(), 1, T, D); };
    maslin::reference::rglru_backward<double>({.form = gate_form::probability,
                                               .decay = maslin::row_major(wide_decay.data(), D),
                                               .recurrence_gate = of(wide_r),
                                               .input_gate = of(wide_i),
                                               .input = of(wide_x),
                                               .initial = maslin::row_major(zeros.data(), 1, D),
                                               .begun = {false},
                                               .dy = of(wide_dy),
                                               .dfinal = maslin::row_major(zeros.data(), 1, D)},
                                              {.y = of(out),
                                               .final = maslin::row_major(final.data(), 1, D),
                                               .ddecay = maslin::row_major(da.data(), D),
                                               .drecurrence_gate = of(d_r),
                                               .dinput_gate = of(d_i),
                                               .dinput = of(d_x),
                                               .dinitial = maslin::row_major(dh.data(), 1, D)});
    know(dr, d_r);
    know(di, d_i);
    know(dinput, d_x);
    know(ddecay, da);
  }
};

void rglru_forward(rglru_backward_problem& d) {
  d.state.reset();
  d.make().scan(exec::sequential{}, d.tokens(), d.rows(d.y), d.state, d.keep);
}
void rglru_backward(rglru_backward_problem& d) {
  d.dstate.reset();
  d.make().backward(exec::sequential{}, d.tokens(), d.keep, d.rows(d.dy), d.gradients(), d.dstate);
}
/// The equations as one writes them, channels inside.
[[gnu::noinline]] void plain_backward(rglru_backward_problem& p) {
  const index_t T = p.size.T, D = p.size.D;
  float* __restrict carry = p.carry.data();
  float* __restrict sum = p.ddecay.data();
  for (index_t d = 0; d < D; ++d) carry[d] = sum[d] = 0;
  for (index_t t = T; t-- > 0;)
    for (index_t d = 0; d < D; ++d) {
      const index_t k = t * D + d;
      const float a = std::exp(p.rate[d] * p.r[k]), s = p.dy[k] + carry[d];
      const float mu = t == 0 ? 1 : std::sqrt(1 - a * a), x = p.i[k] * p.input[k];
      float h = t == 0 ? 0 : p.y[k - D];
      if (t > 0) h -= a / mu * x;
      p.dinput[k] = s * mu * p.i[k];
      p.di[k] = s * mu * p.input[k];
      p.dr[k] = p.rate[d] * (s * a * h);
      sum[d] += p.r[k] * (s * a * h);
      carry[d] = a * s;
    }
  for (index_t d = 0; d < D; ++d) sum[d] *= -8 * sigmoid(p.decay[d]);
}

/// 1 - a^2 is as small as 1e-4: the plain loop loses u over that.
constexpr double backward_tolerance = 1e4;

workload backward_workload(const settings& s) {
  constexpr index_t D = 256;
  const index_t T = tokens_for(regime::l2, 8 * D * static_cast<index_t>(sizeof(float)), s.sizes);
  workload load;
  load.mixer = "rglru";
  load.call = "backward";
  load.form = "fused";
  load.regime = name_of(regime::l2);
  load.T = T;
  load.D = D;
  load.preparation = static_cast<double>(T * D) * 120e-9;
  load.prepare = [T](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<rglru_backward_problem>(text, extents{.T = T, .D = D});
  };
  const index_t n = T * D;
  add_backward_rows<rglru_backward_problem>(
      load,
      {.elements = 3 * n, .rows_read = 2, .slots = static_cast<double>(n) * (14 + slots_of_exp)},
      backward_tolerance, rglru_forward, rglru_backward, plain_backward);
  return load;
}

constexpr index_t bytes_a_token(index_t D) { return 4 * D * static_cast<index_t>(sizeof(float)); }
constexpr exec::sequential sequential{};
constexpr auto tokens_outer = naive::order::tokens_outer;
constexpr auto channels_outer = naive::order::channels_outer;

template <gate_form Form>
workload streamed(const settings& s, index_t D, const std::string& target) {
  const index_t T = tokens_for(regime::dram, bytes_a_token(D), s.sizes);
  rglru_rows<Form> rows(s, regime::dram, {.T = T, .D = D});
  rows.library("sequential", sequential, target).template plain_loop<tokens_outer>();
  if (!target.empty() && !s.quick)
    rows.library("chunked", exec::chunked{}).template plain_loop<channels_outer>();
  return rows.take();
}

}  // namespace

std::vector<workload> rglru_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(streamed<gate_form::probability>(s, 1024, "rglru/D1024/fused/dram"));
  if (!s.quick) plan.push_back(streamed<gate_form::probability>(s, 1040, ""));
  plan.push_back(streamed<gate_form::logit>(s, 1024, ""));
  constexpr index_t D = 256;
  const index_t T = tokens_for(regime::l2, bytes_a_token(D), s.sizes);
  plan.push_back(rglru_rows<gate_form::probability>(s, regime::l2, {.T = T, .D = D})
                     .library("sequential", sequential)
                     .plain_loop<tokens_outer>()
                     .take());
  plan.push_back(rglru_rows<gate_form::probability, call::step>(s, regime::l2, {.T = 8, .D = 1024})
                     .library("sequential", sequential)
                     .plain_loop<tokens_outer>()
                     .take());
  plan.push_back(backward_workload(s));
  return plan;
}

}  // namespace bench
