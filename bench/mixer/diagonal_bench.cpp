// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the diagonal recurrence, in its three forms of decay.

#include "scan/crossover.hpp"
#include "support/backward.hpp"
#include "support/bound.hpp"
#include "support/contender.hpp"
#include "support/eigen.hpp"
#include "support/naive.hpp"
#include "support/projection.hpp"
#include "support/truth.hpp"

#include <maslin/gradient/diagonal.hpp>
#include <maslin/reference/diagonal.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>

namespace bench {
namespace {

using maslin::decay;
namespace exec = maslin::exec;

const char* form_name(decay form) {
  return form == decay::value ? "given" : form == decay::log ? "log" : "complement";
}

/// What the calls of one case take.
template <decay Form>
struct diagonal_buffers {
  using mixer = maslin::diagonal<float, Form>;

  diagonal_buffers(const corpus& text, const extents& e)
      : size(e), gate(e.B * e.T * e.D), value(gate.size()), input(gate.size()), y(gate.size()) {
    const embedding tokens(text.bytes, e.B * e.T);
    // The sigmoid of these logits forgets within tens of tokens, as trained decays do.
    tokens.project(gate.data(), e.B * e.T, e.D, 17, 1.5f, 2.0f);
    tokens.project(input.data(), e.B * e.T, e.D, 19, 1.0f, 0.0f);
    for (index_t i = 0; i < gate.size(); ++i) {
      const float rest = 1 / (1 + std::exp(gate[i]));
      if constexpr (Form == decay::value) gate[i] = 1 - rest;
      if constexpr (Form == decay::log) gate[i] = std::log1p(-rest);
      if constexpr (Form == decay::complement) gate[i] = rest;
      value[i] = 1 - rest;
    }
  }

  [[nodiscard]] typename mixer::tokens tokens() const {
    return {.gate = rows(gate), .input = rows(input)};
  }
  [[nodiscard]] maslin::view<float, 3> rows(const buffer& b) const {
    return maslin::row_major(b.data(), size.B, size.T, size.D);
  }

  extents size;
  buffer gate, value, input, y;  // `value`: what the gates decay to
};

/// A case of `scan` or `step` with the truth about it.
template <decay Form>
class diagonal_problem final : public problem, public diagonal_buffers<Form> {
 public:
  using buffers = diagonal_buffers<Form>;
  using buffers::gate, buffers::input, buffers::size, buffers::y;
  using typename buffers::mixer;

  diagonal_problem(const corpus& text, const extents& e, bool quick) : buffers(text, e) {
    find_truth(quick);
    this->value = buffer();
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double tolerance) const override {
    return known_.worst(y.data(), tolerance);
  }

  /// Of a kernel that makes k roundings a term, in u W.
  [[nodiscard]] static constexpr double tolerance_of(double k) {
    constexpr double exp_in_kernel = 9, difference_from_one = 1;
    if (Form == decay::log) return k + exp_in_kernel;
    return Form == decay::complement ? k + difference_from_one : k;
  }

 private:
  void find_truth(bool quick) {
    const auto [B, T, D] = size;
    known_.B = B;
    known_.T = T;
    known_.D = D;
    known_.known = tokens_to_verify(quick, T, B * D);
    known_.exact.resize(static_cast<std::size_t>(B * known_.known * D));
    known_.bound = buffer(B * T * D);
    for (index_t b = 0; b < B; ++b) {
      const index_t first = b * T * D;
      bound_diagonal(T, D, this->value.data() + first, input.data() + first,
                     known_.bound.data() + first);
      const auto wide_gate = widened(gate.data() + first, known_.known * D);
      const auto wide_input = widened(input.data() + first, known_.known * D);
      std::vector<double> state(static_cast<std::size_t>(D));
      maslin::reference::diagonal(
          Form, maslin::row_major(wide_gate.data(), 1, known_.known, D),
          maslin::row_major(wide_input.data(), 1, known_.known, D),
          maslin::row_major(state.data(), 1, D),
          maslin::row_major(known_.exact.data() + b * known_.known * D, 1, known_.known, D));
    }
    if (known_.known == T) return;
    const mixer mix{.channels = D};
    auto state = mix.make_state(B);
    mix.scan(exec::sequential{}, this->tokens(), this->rows(y), state);
    known_.second = buffer(y.size());
    std::copy_n(y.data(), y.size(), known_.second.data());
    known_.second_tolerance = tolerance_of(maslin::fused_family ? 1 : 2);
  }

  truth known_;
};

/// A case of `backward`: T tokens of one sequence from a zero state.
class diagonal_backward_problem final : public problem {
 public:
  using mixer = diagonal_buffers<decay::value>::mixer;

  diagonal_backward_problem(const corpus& text, const extents& e)
      : buffers_(text, e),
        dy_(e.T * e.D),
        dgate_(dy_.size()),
        dinput_(dy_.size()),
        last_(e.T, e.D, 1, e.D) {
    embedding(text.bytes, e.T).project(dy_.data(), e.T, e.D, 23, 1.0f, 0.0f);
    last_.read(buffers_.gate, buffers_.input, dy_);
    last_.scan(call());
    const auto rows = [&](auto& v) { return maslin::row_major(v.data(), 1, last_.T, e.D); };
    const auto states = [&](auto& v) { return maslin::row_major(v.data(), 1, e.D); };
    maslin::reference::diagonal_backward<double>(
        decay::value, rows(last_.gate), rows(last_.input), states(last_.initial), rows(last_.dy),
        rows(last_.y), rows(last_.dgate), rows(last_.dinput), states(last_.dstate));
  }

  void spoil() override {
    for (const buffer* b : {&dgate_, &dinput_})
      std::fill_n(b->data(), b->size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    return std::max(gradient_error(last_.dgate, dgate_), gradient_error(last_.dinput, dinput_));
  }
  [[nodiscard]] backward_call<mixer, maslin::view<float, 3>> call() const {
    return {.mix = mixer{.channels = buffers_.size.D},
            .tokens = buffers_.tokens(),
            .y = buffers_.rows(buffers_.y),
            .dy = buffers_.rows(dy_),
            .gradients = {.gate = buffers_.rows(dgate_), .input = buffers_.rows(dinput_)}};
  }
  void plain() const {
    naive::diagonal_backward(buffers_.size.T, buffers_.size.D, buffers_.gate.data(),
                             buffers_.y.data(), dy_.data(), dgate_.data(), dinput_.data());
  }

 private:
  diagonal_buffers<decay::value> buffers_;
  buffer dy_, dgate_, dinput_;
  last_tokens last_;
};

/// Builds the rows of one workload.
template <decay Form, call Call = call::scan>
class diagonal_rows {
 public:
  static constexpr bool decode = Call == call::step;
  using buffers = diagonal_problem<Form>;

  diagonal_rows(const settings& s, regime r, const extents& e) : size_(e) {
    load_.mixer = "diagonal";
    load_.call = decode ? "step" : "scan";
    load_.form = form_name(Form);
    load_.regime = decode ? "decode" : name_of(r);
    load_.B = e.B;
    load_.T = decode ? 1 : e.T;
    load_.D = e.D;
    load_.preparation = numbers() * (s.quick ? 30e-9 : 40e-9);
    latency_ = r == regime::latency;
    const bool quick = s.quick;
    load_.prepare = [e, quick](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<buffers>(text, e, quick);
    };
  }

  template <class Policy>
  diagonal_rows& library(const std::string& policy, const Policy& p, int threads = 1,
                         const std::string& target = {}) {
    const double k = may_chunk<Policy> ? 3 : maslin::fused_family ? 1 : 2;
    row& r = add(policy, threads, k);
    r.target = target;
    r.estimate = r.least.bytes() / 25e9;
    r.bind = [p](problem& any) {
      auto& data = static_cast<buffers&>(any);
      return library_contender<Call>(typename buffers::mixer{.channels = data.size.D},
                                     data.tokens(), data.rows(data.y), data.size, p);
    };
    return *this;
  }

  template <naive::order Order>
  diagonal_rows& plain_loop() {
    const bool inner = Order == naive::order::tokens_outer;
    row& r = add(inner ? "naive" : "naive-channels", 1, 2);
    r.naive = true;
    r.estimate = r.least.bytes() / 20e9 + (inner ? 0 : numbers() * 20e-9);
    r.bind = bound_loop(&naive::diagonal<Form, Order>);
    return *this;
  }

  diagonal_rows& with_eigen() requires(Form == decay::value) {
    row& r = add("eigen", 1, 2);
    r.estimate = r.least.bytes() / 20e9;
    r.bind = bound_loop(&eigen::diagonal);
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  [[nodiscard]] double numbers() const { return static_cast<double>(load_.B * load_.T * load_.D); }

  row& add(const std::string& policy, int threads, double k) {
    row r;
    r.name = row_name(load_, policy, "", threads);
    r.title = policy;
    if (threads > 1) r.title += ", " + std::to_string(threads) + " threads";
    r.tolerance = buffers::tolerance_of(k);
    const index_t n = load_.B * load_.T * load_.D;
    constexpr int exps = Form == decay::log ? 1 : 0;
    r.least = {.elements = n, .rows_read = 2, .threads = threads, .triad = true};
    r.least.slots = static_cast<double>(n) * (1 + slots_of_exp * exps);
    // Gate, input and state in; state and output out.
    if (decode) r.least = {.elements = 5 * n / 3, .rows_read = 2, .slots = r.least.slots};
    if (latency_) r.least.chain = load_.T;
    r.tokens = load_.B * load_.T;
    r.cache_bytes = size_.B * size_.D * static_cast<index_t>(sizeof(float));
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  std::function<contender(problem&)> bound_loop(plain_call loop) const {
    return [loop, T = load_.T](problem& any) {
      auto& data = static_cast<buffers&>(any);
      return loop_contender(loop, data.size, T, data.gate.data(), data.size.D, data.input.data(),
                            data.y.data(), data.size.D);
    };
  }

  extents size_;
  workload load_;
  bool latency_ = false;
};

constexpr index_t bytes_a_token(index_t D) { return 3 * D * static_cast<index_t>(sizeof(float)); }
constexpr exec::sequential sequential{};
constexpr auto tokens_outer = naive::order::tokens_outer;
constexpr auto channels_outer = naive::order::channels_outer;

/// Gates that the kernel turns into decays.
template <decay Form>
workload converted(const settings& s, index_t D) {
  const index_t T = tokens_for(regime::dram, bytes_a_token(D), s.sizes);
  return diagonal_rows<Form>(s, regime::dram, {.T = T, .D = D})
      .library("sequential", sequential)
      .template plain_loop<tokens_outer>()
      .take();
}

workload streamed(const settings& s, index_t D, const std::string& target) {
  const index_t T = tokens_for(regime::dram, bytes_a_token(D), s.sizes);
  diagonal_rows<decay::value> rows(s, regime::dram, {.T = T, .D = D});
  rows.library("sequential", sequential, 1, target);
  if (!target.empty()) rows.library("chunked", exec::chunked{}).library("scalar", exec::scalar{});
  rows.plain_loop<tokens_outer>();
  if (!target.empty()) rows.plain_loop<channels_outer>();
  return rows.with_eigen().take();
}

/// Gates, y and dy in, two gradients out: of an input, s[t]; of a gate, s[t] h[t-1]; the carry.
workload backward(const settings& s, index_t D, const std::string& target) {
  const index_t T = tokens_for(regime::dram, 2 * bytes_a_token(D), s.sizes);
  backward_work least{.backward = streaming_work(T * D, 3, 2), .scan = streaming_work(T * D, 2, 1)};
  least.backward.slots = 2 * static_cast<double>(T * D);
  least.scan.slots = static_cast<double>(T * D);
  const auto call_of = [](const diagonal_backward_problem& p) { return p.call(); };
  return backward_rows<diagonal_backward_problem>("diagonal", form_name(decay::value), 1,
                                                  {.T = T, .D = D}, least)
      .library("", call_of, target)
      .saving_scan("", call_of)
      .plain_loop("")
      .take();
}

/// One sequence on more and more threads, by the policy that chooses.
workload scaled(const settings& s) {
  constexpr index_t D = 1024;
  const index_t T = 4 * tokens_for(regime::dram, bytes_a_token(D), s.sizes);
  diagonal_rows<decay::value> rows(s, regime::dram, {.T = T, .D = D});
  for (const int n : thread_counts(s)) rows.library("automatic", exec::automatic{n}, n);
  return rows.take();
}

/// Two threads: two sequences of 1024 channels, one sequence of 4096.
void threaded(const settings& s, std::vector<workload>& plan) {
  if (s.cores < 2 || !s.threads) return;
  constexpr exec::sequential two{.threads = 2};
  for (const extents e : {extents{2, 0, 1024}, extents{1, 0, 4096}}) {
    const index_t T = tokens_for(regime::dram, bytes_a_token(1024), s.sizes) * 1024 / e.D;
    diagonal_rows<decay::value> rows(s, regime::dram, {e.B, T, e.D});
    rows.library("sequential", sequential);
    rows.library("sequential", two, 2, e.B == 2 ? "diag/D1024/given/dram/t2" : "");
    plan.push_back(rows.plain_loop<tokens_outer>().take());
  }
}

}  // namespace

std::vector<workload> diagonal_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(streamed(s, 1024, "diag/D1024/given/dram"));
  for (const index_t D : {1000, 1040}) plan.push_back(streamed(s, D, ""));
  if (!s.quick) plan.push_back(converted<decay::complement>(s, 1024));
  plan.push_back(converted<decay::log>(s, 1024));
  for (const regime r : {regime::l3, regime::l2}) {
    constexpr index_t D = 256;
    if (r == regime::l3 && s.sizes.l3 == 0) continue;
    const index_t T = tokens_for(r, bytes_a_token(D), s.sizes);
    plan.push_back(diagonal_rows<decay::value>(s, r, {.T = T, .D = D})
                       .library("sequential", sequential, 1, "diag/D256/given/" + name_of(r))
                       .plain_loop<tokens_outer>()
                       .with_eigen()
                       .take());
  }
  plan.push_back(diagonal_rows<decay::value>(s, regime::latency, {.T = 4096, .D = 8})
                     .library("sequential", sequential, 1, "diag/D8/given/latency")
                     .plain_loop<tokens_outer>()
                     .with_eigen()
                     .take());
  for (const index_t T : {64, 256, 1024, 4096, 16384, 65536}) {
    if (s.quick && (T == 64 || T > 4096)) continue;
    constexpr index_t D = 256;
    const index_t bytes = T * bytes_a_token(D);
    const regime r = 2 * bytes <= s.sizes.l2   ? regime::l2
                     : 2 * bytes <= s.sizes.l3 ? regime::l3
                                               : regime::dram;
    // The exp makes this the counterpart of the other mixers' fused gates.
    plan.push_back(diagonal_rows<decay::log>(s, r, {.T = T, .D = D})
                       .library("sequential", sequential)
                       .plain_loop<tokens_outer>()
                       .take());
  }
  plan.push_back(diagonal_rows<decay::value, call::step>(s, regime::l2, {.T = 8, .D = 1024})
                     .library("sequential", sequential)
                     .plain_loop<tokens_outer>()
                     .with_eigen()
                     .take());
  plan.push_back(diagonal_rows<decay::log, call::step>(s, regime::l2, {.T = 8, .D = 1024})
                     .library("sequential", sequential)
                     .plain_loop<tokens_outer>()
                     .take());
  threaded(s, plan);
  if (s.cores > 1 && s.threads) plan.push_back(scaled(s));
  add_crossovers<maslin::diagonal<float>>(s, "diagonal", plan);
  plan.push_back(backward(s, 1024, "diag/D1024/given/backward/dram"));
  return plan;
}

}  // namespace bench
