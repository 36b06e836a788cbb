// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Workloads of the mixers with rows of M + 1 gates, written once. A `Family<M>` says what differs:
/// views, the mixer itself, its reference, its bound and its baselines (bench/mixer/*_bench.cpp).

#include "bound.hpp"
#include "contender.hpp"
#include "eigen.hpp"
#include "naive.hpp"
#include "plan.hpp"
#include "projection.hpp"
#include "truth.hpp"

#include <maslin/mixer/layout.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <limits>
#include <utility>

namespace bench {

using maslin::gates;
using maslin::normalise;
namespace exec = maslin::exec;

/// Names of the forms in which gates come.
[[nodiscard]] constexpr const char* form_name(normalise N) {
  return N == normalise::none ? "given" : N == normalise::softmax ? "fused" : "fused-l1";
}

/// What the calls of one case take. `width` numbers of state, gates in both orders.
template <class Family, normalise N>
struct gated_buffers {
  static constexpr int M = Family::order;

  gated_buffers(const corpus& text, const extents& e)
      : size(e),
        gate(e.B * e.T * e.D * (M + 1)),
        grouped(Family::grouped_size(e.B, e.T, e.D)),
        input(e.B * e.T * e.D),
        y(e.B * e.T * e.D) {
    const embedding tokens(text.bytes, e.B * e.T);
    // Logits of unit-and-a-half deviation give rows that neither saturate nor are flat.
    tokens.project(gate.data(), e.B * e.T, e.D * (M + 1), 11, 1.5f, 0.0f);
    tokens.project(input.data(), e.B * e.T, e.D, 13, 1.0f, 0.0f);
    if constexpr (N == normalise::none)
      for (index_t i = 0; i < gate.size(); i += M + 1) {
        naive::numbers<M + 1> p;
        naive::normalise_row<M, normalise::softmax>(gate.data() + i, p);
        std::copy_n(p, M + 1, gate.data() + i);
      }
    maslin::regroup_gate(Family::natural(gate, e.B, e.T, e.D),
                         Family::lane_grouped(grouped, e.B, e.T, e.D));
  }

  template <gates O>
  [[nodiscard]] auto tokens() const {
    using mixer = typename Family::template mixer<N, O>;
    if constexpr (O == gates::natural)
      return typename mixer::tokens{.gate = Family::natural(gate, size.B, size.T, size.D),
                                    .input = Family::values(input, size.B, size.T, size.D)};
    else
      return typename mixer::tokens{.gate = Family::lane_grouped(grouped, size.B, size.T, size.D),
                                    .input = Family::values(input, size.B, size.T, size.D)};
  }

  extents size;
  buffer gate, grouped, input, y;
};

/// A case of `scan` or `step` with the truth about it.
template <class Family, normalise N>
class gated_problem final : public problem, public gated_buffers<Family, N> {
 public:
  using buffers = gated_buffers<Family, N>;
  using buffers::gate, buffers::input, buffers::M, buffers::size, buffers::y;

  gated_problem(const corpus& text, const extents& e, bool quick) : buffers(text, e) {
    find_truth(quick);
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double tolerance) const override {
    return known_.worst(y.data(), tolerance);
  }
  /// Of a kernel that makes k roundings a term, in u W.
  [[nodiscard]] static constexpr double tolerance_of(double k) {
    return k * (M + 1) + (N == normalise::none ? 0 : M + 8);
  }

 private:
  void find_truth(bool quick) {
    const auto [B, T, D] = size;
    known_.B = B;
    known_.T = T;
    known_.D = D;
    known_.known = tokens_to_verify(quick, T, B * D * (M + 1));
    known_.exact.resize(static_cast<std::size_t>(B * known_.known * D));
    known_.bound = buffer(B * T * D);
    for (index_t b = 0; b < B; ++b) {
      const float* gates_of_b = gate.data() + b * T * D * (M + 1);
      const float* input_of_b = input.data() + b * T * D;
      Family::template bound<N>(T, D, gates_of_b, input_of_b, known_.bound.data() + b * T * D);
      std::vector<double> state(static_cast<std::size_t>(Family::state_size(D)));
      // A few tokens at a time: the reference wants doubles, and all of them at once would not fit.
      constexpr index_t at_once = 64;
      for (index_t t = 0; t < known_.known; t += at_once) {
        const index_t n = std::min(at_once, known_.known - t);
        const auto wide_gate = widened(gates_of_b + t * D * (M + 1), n * D * (M + 1));
        const auto wide_input = widened(input_of_b + t * D, n * D);
        Family::reference(N, n, D, wide_gate.data(), wide_input.data(), state.data(),
                          known_.exact.data() + (b * known_.known + t) * D);
      }
    }
    if (known_.known == T) return;
    const auto mix = Family::template make<N, gates::grouped>(D);
    auto state = mix.make_state(B);
    mix.scan(exec::sequential{}, this->template tokens<gates::grouped>(),
             Family::values(y, B, T, D), state);
    known_.second = buffer(y.size());
    std::copy_n(y.data(), y.size(), known_.second.data());
    known_.second_tolerance = tolerance_of(maslin::fused_family ? 1 : 2);
  }

  truth known_;
};

/// Exps that the row of one number takes: a sigmoid serves M = 1, other rows need one for each entry.
[[nodiscard]] constexpr int exps_of(normalise N, int M) {
  return N != normalise::softmax ? 0 : M == 1 ? 1 : M + 1;
}

/// Builds the rows of one workload of a family.
template <class Family, normalise N, call Call = call::scan>
class gated_rows {
 public:
  static constexpr int M = Family::order;
  static constexpr bool decode = Call == call::step;
  using buffers = gated_problem<Family, N>;

  gated_rows(const settings& s, regime r, const extents& e) : size_(e) {
    load_.mixer = Family::name;
    load_.call = decode ? "step" : "scan";
    load_.form = form_name(N);
    load_.regime = decode ? "decode" : name_of(r);
    load_.M = M;
    load_.B = e.B;
    load_.T = decode ? 1 : e.T;
    load_.D = e.D;
    load_.preparation = coefficients() * (s.quick ? 12e-9 : 25e-9);
    const bool quick = s.quick;
    load_.prepare = [e, quick](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<buffers>(text, e, quick);
    };
  }

  /// The library.
  template <gates O, class Policy>
  gated_rows& library(const std::string& policy, const Policy& p, int threads = 1,
                      const std::string& target = {}) {
    const double k = may_chunk<Policy> ? 3 : maslin::fused_family ? 1 : 2;
    row& r = add(policy, O == gates::natural ? "natural" : "grouped", threads, k);
    r.target = target;
    const bool one_lane = std::is_same_v<Policy, exec::scalar>;
    r.estimate = r.least.bytes() / 25e9 + r.least.slots * (one_lane ? 0.3e-9 : 0.02e-9);
    r.bind = [p](problem& any) {
      auto& data = static_cast<buffers&>(any);
      return library_contender<Call>(
          Family::template make<N, O>(data.size.D), data.template tokens<O>(),
          Family::values(data.y, data.size.B, data.size.T, data.size.D), data.size, p);
    };
    return *this;
  }

  template <naive::order Order>
  gated_rows& plain_loop() {
    const bool inner = Order == naive::order::tokens_outer;
    row& r = add(inner ? "naive" : "naive-channels", "natural", 1, 2);
    r.naive = true;
    r.estimate = r.least.slots * 0.3e-9 + (inner || decode ? 0 : coefficients() * 1e-9);
    r.bind = [T = load_.T](problem& any) {
      return loop_of(static_cast<buffers&>(any), T, &Family::template naive<N, Order>);
    };
    return *this;
  }

  gated_rows& with_eigen() requires(N == normalise::none) {
    row& r = add("eigen", "natural", 1, 2);
    r.estimate = coefficients() * 0.5e-9;
    r.bind = [T = load_.T](problem& any) {
      return loop_of(static_cast<buffers&>(any), T, &Family::eigen);
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  [[nodiscard]] double coefficients() const {
    return static_cast<double>(load_.B * load_.T * load_.D) * (M + 1);
  }

  row& add(const std::string& policy, const std::string& order, int threads, double k) {
    row r;
    r.name = row_name(load_, policy, order, threads);
    r.title = policy + " " + order;
    if (threads > 1) r.title += ", " + std::to_string(threads) + " threads";
    r.tolerance = buffers::tolerance_of(k);
    r.least = least(threads);
    r.tokens = size_.B * load_.T;
    r.cache_bytes = size_.B * Family::state_size(size_.D) * static_cast<index_t>(sizeof(float));
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  /// Rows of gates and input in, one row out; a step also reads and writes its state.
  [[nodiscard]] work least(int threads) const {
    const index_t n = load_.B * load_.T * load_.D;
    work w{.elements = n, .rows_read = M + 2, .threads = threads};
    w.slots = static_cast<double>(n) * (M + 1 + slots_of_exp * exps_of(N, M));
    if (decode) {
      const index_t read = M + 2 + Family::state_size(1), written = 2;
      w.rows_read = static_cast<int>(read / written);
      w.elements = (read + written) * n / (w.rows_read + 1);
    }
    return w;
  }

  static contender loop_of(buffers& data, index_t T, plain_call loop) {
    return loop_contender(loop, data.size, T, data.gate.data(), data.size.D * (M + 1),
                          data.input.data(), data.y.data(), Family::state_size(data.size.D));
  }

  extents size_;
  workload load_;
};

}  // namespace bench
