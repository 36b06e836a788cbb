// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Backward passes of the mixers with rows of M + 1 gates. A `Family<M>` says what differs, as in
/// gated.hpp, and has besides
///   place_of(D, i)                                      where natural gate i lies in grouped order
///   backward_reference(N, last)                         fills the gradients of `last`
///   naive_backward<N>(T, D, gate, x, y, dy, dgate, dx)  natural gates, from zero states

#include "backward.hpp"
#include "gated.hpp"

#include <string>

namespace bench {

/// Buffers of one case: T tokens of one sequence from a zero state. The channels must fill the groups
/// of grouped gates.
template <class Family, normalise N>
class gated_backward_problem final : public problem {
 public:
  static constexpr int M = Family::order;

  gated_backward_problem(const corpus& text, const extents& e)
      : buffers_(text, e),
        dy_(e.T * e.D),
        dgate_(buffers_.gate.size()),
        dgrouped_(buffers_.grouped.size()),
        dinput_(e.T * e.D),
        last_(e.T, e.D, M + 1, Family::state_size(e.D)) {
    embedding(text.bytes, e.T).project(dy_.data(), e.T, e.D, 17, 1.0f, 0.0f);
    last_.read(buffers_.gate, buffers_.input, dy_);
    last_.scan(call<gates::grouped>());
    Family::backward_reference(N, last_);
  }

  void spoil() override {
    for (const buffer* b : {&dgate_, &dgrouped_, &dinput_})
      std::fill_n(b->data(), b->size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// A call writes the gate gradients of one order and leaves the others spoilt.
  [[nodiscard]] double worst(double) const override {
    const auto [B, T, D] = buffers_.size;
    const index_t first = last_.first * D * (M + 1);
    const auto place = [&, D = D](index_t i) { return Family::place_of(D, first + i); };
    return std::max(gradient_error(last_.dinput, dinput_),
                    std::min(gradient_error(last_.dgate, dgate_),
                             gradient_error(last_.dgate, dgrouped_, place)));
  }

  template <gates O>
  [[nodiscard]] auto call() const {
    using mixer = typename Family::template mixer<N, O>;
    const auto [B, T, D] = buffers_.size;
    typename mixer::gradients d{.input = Family::values(dinput_, B, T, D)};
    if constexpr (O == gates::natural)
      d.gate = Family::natural(dgate_, B, T, D);
    else
      d.gate = Family::lane_grouped(dgrouped_, B, T, D);
    const auto y = Family::values(buffers_.y, B, T, D);
    return backward_call<mixer, decltype(y)>{.mix = Family::template make<N, O>(D),
                                             .tokens = buffers_.template tokens<O>(),
                                             .y = y,
                                             .dy = Family::values(dy_, B, T, D),
                                             .gradients = d};
  }
  void plain() const {
    Family::template naive_backward<N>(buffers_.size.T, buffers_.size.D, buffers_.gate.data(),
                                       buffers_.input.data(), buffers_.y.data(), dy_.data(),
                                       dgate_.data(), dinput_.data());
  }

 private:
  gated_buffers<Family, N> buffers_;
  buffer dy_, dgate_, dgrouped_, dinput_;
  last_tokens last_;
};

/// Gates, input, y and dy in, gradients of gates and input out. An entry of a row takes two multiplies
/// with given gates, one more through a softmax, and its share of the carry.
template <normalise N, int M>
[[nodiscard]] backward_work gated_backward_work(index_t T, index_t D) {
  const index_t n = T * D;
  backward_work least{.backward = streaming_work(n, M + 4, M + 2),
                      .scan = streaming_work(n, M + 2, 1)};
  constexpr int entry = N == normalise::none ? 2 : 3;
  const double exps = slots_of_exp * exps_of(N, M);
  least.backward.slots = static_cast<double>(n) * (entry * (M + 1) + exps);
  least.scan.slots = static_cast<double>(n) * (M + 1 + exps);
  return least;
}

/// One workload: grouped and natural gates, the scan that saves, the plain loop.
template <class Family, normalise N>
[[nodiscard]] workload gated_backward(index_t T, index_t D) {
  using buffers = gated_backward_problem<Family, N>;
  constexpr int M = Family::order;
  const std::string mixer = Family::name, form = form_name(N);
  const auto grouped = [](const buffers& p) { return p.template call<gates::grouped>(); };
  const auto natural = [](const buffers& p) { return p.template call<gates::natural>(); };
  return backward_rows<buffers>(mixer, form, M, {.T = T, .D = D}, gated_backward_work<N, M>(T, D))
      .library("grouped", grouped, mixer + "/M" + std::to_string(M) + "/" + form + "/backward/dram")
      .library("natural", natural)
      .saving_scan("grouped", grouped)
      .plain_loop("natural")
      .take();
}

}  // namespace bench
