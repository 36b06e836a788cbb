// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The stage of a mixer with parameters: its subject makes the mixer and the tokens, the stage
/// carries plans out.

#include "laws/mixer_subject.hpp"

#include <functional>

namespace maslin::test {

template <class Mixer>
class parameter_stage final : public stage<typename Mixer::scalar_type> {
  using S = typename Mixer::scalar_type;

 public:
  using shape = std::array<index_t, 3>;
  static constexpr shape gaps{5, 2, 0};
  /// Tokens with this input; the rest is the subject's.
  using token_source = std::function<typename Mixer::tokens(const view<const S, 3>&)>;

  parameter_stage(const problem<S>& p, const placement& where, const Mixer& mixer,
                  token_source tokens)
      : extents_{p.batch, p.length, p.channels},
        gaps_(where.gaps ? gaps : shape{}),
        offsets_(p.offsets),
        initial_(p.initial),
        state_shape_{p.sequences(), p.channels, p.each.state},
        input_(extents_, gaps_),
        mixer_(mixer),
        tokens_(std::move(tokens)) {
    input_.assign(std::span<const S>(p.input));
  }

  outcome<S> run(const plan& how) override {
    poisoned<S, 3> y(extents_, gaps_);
    if (how.in_place) y.assign(std::span<const S>(input_.values()));
    auto tokens = tokens_(how.in_place ? view<const S, 3>(y.get()) : std::as_const(input_).get());
    auto state = mixer_.make_state(state_shape_[0]);
    state.copy_from(dense(std::as_const(initial_).data()));
    tokens.offsets = offsets_;
    run_legs(mixer_, how, tokens, y.get(), state);
    if (!y.intact()) FAIL("the call wrote outside the elements of y");
    outcome<S> result{y.values(), std::vector<S>(initial_.size())};
    state.copy_to(dense(result.state.data()));
    return result;
  }

 private:
  template <class T>
  [[nodiscard]] view<T, 3> dense(T* p) const {
    return row_major(p, state_shape_[0], state_shape_[1], state_shape_[2]);
  }

  shape extents_, gaps_;
  std::vector<index_t> offsets_;
  std::vector<S> initial_;
  shape state_shape_;
  poisoned<S, 3> input_;
  Mixer mixer_;
  token_source tokens_;
};

/// Where the sequence of token t begins, so that what depends on time begins with each anew.
template <class S>
[[nodiscard]] index_t start_of(const problem<S>& p, index_t t) {
  index_t start = 0;
  for (const index_t o : p.offsets)
    if (o <= t) start = o;
  return start;
}

}  // namespace maslin::test
