// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The recurrent mixers as subjects of the laws of gradients, by the anatomies of
/// laws/mixer_subject.hpp.

#include "laws/gradient_laws.hpp"
#include "laws/mixer_subject.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/bdlru.hpp>
#include <maslin/gradient/diagonal.hpp>
#include <maslin/gradient/hlru.hpp>

#include <span>
#include <string>
#include <variant>
#include <vector>

namespace maslin::test {

/// The references, on dense arrays in natural order: gates [B, T, C, gates], the rest likewise.
template <class Mixer>
struct backward_reference;

template <class S, decay Form>
struct backward_reference<diagonal<S, Form>> {
  template <class N>
  static void run(index_t B, index_t T, index_t D, const N* gate, const N* input, N* state,
                  const N* dy, N* y, N* dgate, N* dinput, N* dstate) {
    const std::vector<N> initial(state, state + B * D);
    reference::diagonal_backward<N>(Form, row_major(gate, B, T, D), row_major(input, B, T, D),
                                    row_major(initial.data(), B, D), row_major(dy, B, T, D),
                                    row_major(y, B, T, D), row_major(dgate, B, T, D),
                                    row_major(dinput, B, T, D), row_major(dstate, B, D));
    for (index_t i = 0; T > 0 && i < B * D; ++i) state[i] = y[(i / D * T + T - 1) * D + i % D];
  }
};
template <class S, decay Form>
struct backward_reference<diagonal<std::complex<S>, Form>> {
  template <class N>
  static void run(index_t B, index_t T, index_t D, const N* gate, const N* input, N* state,
                  const N* dy, N* y, N* dgate, N* dinput, N* dstate) {
    const std::vector<N> initial(state, state + B * D * 2);
    const auto of = [&](auto* p) { return row_major(p, B, T, D, 2); };
    reference::complex_diagonal_backward<N>(of(gate), of(input), row_major(initial.data(), B, D, 2),
                                            of(dy), of(y), of(dgate), of(dinput),
                                            row_major(dstate, B, D, 2));
    const index_t row = 2 * D;
    for (index_t i = 0; T > 0 && i < B * row; ++i)
      state[i] = y[(i / row * T + T - 1) * row + i % row];
  }
};
template <class S, int M, normalise K, gates Order, gate_side Side>
struct backward_reference<hlru<S, M, K, Order, Side>> {
  template <class N>
  static void run(index_t B, index_t T, index_t D, const N* gate, const N* input, N* state,
                  const N* dy, N* y, N* dgate, N* dinput, N* dstate) {
    reference::hlru_backward<N>(Side, K, row_major(gate, B, T, D, M + 1), row_major(input, B, T, D),
                                row_major(state, B, D, M), row_major(dy, B, T, D),
                                row_major(y, B, T, D), row_major(dgate, B, T, D, M + 1),
                                row_major(dinput, B, T, D), row_major(dstate, B, D, M));
  }
};
template <class S, int M, normalise K, gates Order>
struct backward_reference<bdlru<S, M, K, Order>> {
  template <class N>
  static void run(index_t B, index_t T, index_t G, const N* gate, const N* input, N* state,
                  const N* dy, N* y, N* dgate, N* dinput, N* dstate) {
    const std::vector<N> initial(state, state + B * G * M);
    const auto of = [&](auto* p) { return row_major(p, B, T, G, M); };
    reference::bdlru_backward<N>(
        K, row_major(gate, B, T, G, M, M + 1), of(input), row_major(initial.data(), B, G, M),
        of(dy), of(y), row_major(dgate, B, T, G, M, M + 1), of(dinput), row_major(dstate, B, G, M));
    const index_t row = G * M;
    for (index_t i = 0; T > 0 && i < B * row; ++i)
      state[i] = y[(i / row * T + T - 1) * row + i % row];
  }
};

/// With `Fixed` the decay of a diagonal does not depend on time, [D].
template <class Mixer, bool Fixed = false>
class recurrent_gradients final : public gradient_subject<typename Mixer::scalar_type> {
 public:
  using S = typename Mixer::scalar_type;
  using base = gradient_subject<S>;
  using number = typename base::number;
  using A = anatomy<Mixer>;
  using problem = gradient_problem<S>;

  std::vector<gradient_array> arrays() const override {
    return {{.name = Fixed ? "decay" : "gate", .timed = !Fixed}, {.name = "input", .linear = true}};
  }

  problem draw(index_t batch, index_t length, random& r) const override {
    constexpr index_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 33};
    const index_t C = widths[r.below(std::size(widths))];
    problem p;
    p.batch = batch;
    p.length = length;
    p.sizes = {C};
    const auto numbers = [](index_t n) { return std::vector<S>(static_cast<std::size_t>(n)); };
    p.inputs = {numbers((Fixed ? 1 : batch * length) * C * A::each.gates),
                numbers(batch * length * C * A::each.values)};
    fill_gates(p.inputs[0], r);
    p.initial = numbers(batch * C * A::each.state);
    p.dfinal = p.initial;
    p.dy = p.inputs[1];
    for (auto* array : {&p.inputs[1], &p.initial, &p.dfinal, &p.dy})
      r.fill_normal(std::span<S>(*array));
    return p;
  }

  std::vector<S> forward(const problem& p) const override {
    stage on(*this, p, false);
    on.scan(exec::sequential{});
    std::vector<S> out = on.y.values();
    const std::vector<S> final_state = on.values_of(on.state);
    out.insert(out.end(), final_state.begin(), final_state.end());
    return out;
  }

  gradient_arrays<S> backward(const problem& p, const backward_plan& how) const override {
    stage on(*this, p, how.gaps);
    return std::visit([&](const auto& policy) { return on.backward(policy, how); }, how.how);
  }

  gradient_truth<double> reference(const problem& p) const override { return truth<double>(p); }
  gradient_truth<number> bounds(const problem& p) const override { return truth<number>(p); }

  index_t lane(const problem&, std::size_t array, index_t element) const override {
    if (array == 0) return element / A::each.gates;
    if (array == 2) return element / A::each.state;
    return element / A::each.values;
  }

 private:
  static constexpr auto gate_rank = static_cast<int>(std::tuple_size_v<typename A::gate_shape>);
  static constexpr auto value_rank = static_cast<int>(std::tuple_size_v<typename A::value_shape>);

  /// Gates whose rows stay away from where a normalisation bends.
  static void fill_gates(std::vector<S>& gates, random& r) {
    const double entries = A::order + 1;
    for (S& z : gates) {
      const double size = r.uniform(0.1, 1), sign = r.below(2) == 0 ? -1 : 1;
      if (A::each.gates == 1)
        z = static_cast<S>(A::form == decay::value ? sign * size
                           : A::form == decay::log ? -size
                                                   : size);
      else if (A::kind == normalise::none)
        z = static_cast<S>(sign * size / (A::each.gates == 2 ? 1.5 : entries));
      else
        z = static_cast<S>(2 * sign * size);
    }
  }

  template <class N>
  [[nodiscard]] gradient_truth<N> truth(const problem& p) const {
    const index_t B = p.batch, T = p.length, C = p.sizes[0];
    const auto wide = [](const std::vector<S>& from) {
      return std::vector<N>(from.begin(), from.end());
    };
    const index_t row = C * A::each.gates;
    std::vector<N> gate = wide(p.inputs[0]);
    if (Fixed) {
      gate.clear();
      for (index_t t = 0; t < B * T; ++t)
        gate.insert(gate.end(), p.inputs[0].begin(), p.inputs[0].end());
    }
    const std::vector<N> input = wide(p.inputs[1]), dy = wide(p.dy);
    std::vector<N> state = wide(p.initial), dstate = wide(p.dfinal);
    gradient_truth<N> out{std::vector<N>(input.size()), {std::vector<N>(gate.size()), input, {}}};
    auto& d = out.gradients;
    backward_reference<Mixer>::template run<N>(B, T, C, gate.data(), input.data(), state.data(),
                                               dy.data(), out.outputs.data(), d[0].data(),
                                               d[1].data(), dstate.data());
    d[2] = dstate;
    out.outputs.insert(out.outputs.end(), state.begin(), state.end());
    if (Fixed) {
      std::vector<N> sum(static_cast<std::size_t>(row));
      for (std::size_t i = 0; i < d[0].size(); ++i)
        sum[i % static_cast<std::size_t>(row)] += d[0][i];
      d[0] = sum;
    }
    return out;
  }

  /// One problem in memory.
  struct stage {
    const problem& p;
    index_t B = p.batch, T = p.length, C = p.sizes[0], L = default_group;
    typename A::gate_shape gate_gaps;
    typename A::value_shape value_gaps;
    poisoned<S, gate_rank> gate;
    poisoned<S, value_rank> input, y, dy;
    Mixer mixer;
    typename Mixer::state state;
    typename Mixer::saved keep;

    stage(const recurrent_gradients&, const problem& q, bool gaps)
        : p(q),
          gate_gaps(gaps ? A::gate_gaps : typename A::gate_shape{}),
          value_gaps(gaps ? A::value_gaps : typename A::value_shape{}),
          gate(A::gate(Fixed ? 0 : B, T, C, L), gate_gaps),
          input(A::values(B, T, C), value_gaps),
          y(A::values(B, T, C), value_gaps),
          dy(A::values(B, T, C), value_gaps),
          mixer(A::make(C)),
          state(mixer.make_state(p.sequences())),
          keep(mixer.make_saved(p.sequences(), T)) {
      if constexpr (Fixed)
        mixer.decay = row_major(numbers_of(q.inputs[0].data()), C);
      else
        each_gate(gate, [&](S& to, std::size_t i) { to = p.inputs[0][i]; });
      input.assign(std::span<const S>(p.inputs[1]));
      dy.assign(std::span<const S>(p.dy));
      load(state, p.initial);
    }

    void load(typename Mixer::state& h, const std::vector<S>& values) const {
      h.copy_from(A::template state<const S>(values.data(), p.sequences(), C));
    }
    [[nodiscard]] std::vector<S> values_of(const typename Mixer::state& h) const {
      std::vector<S> values(p.initial.size());
      h.copy_to(A::template state<S>(values.data(), p.sequences(), C));
      return values;
    }
    template <class F>
    void each_gate(poisoned<S, gate_rank>& array, const F& f) const {
      std::size_t i = 0;
      const auto to = array.get();
      for (index_t b = 0; b < B; ++b)
        for (index_t t = 0; t < T; ++t)
          for (index_t c = 0; c < C; ++c)
            for (index_t k = 0; k < A::each.gates; ++k) f(A::gate_at(to, b, t, c, k), i++);
    }
    /// A complex number is an array of two.
    template <class X>
    static auto numbers_of(X* x) {
      using entry = typename Mixer::output::value_type;
      return reinterpret_cast<std::conditional_t<std::is_const_v<X>, const entry, entry>*>(x);
    }
    template <class V>
    static auto values_view(const V& v) {
      if constexpr (requires { A::output(v); })
        return A::output(v);
      else
        return v;
    }
    template <class V>
    static auto gate_view(const V& v) {
      if constexpr (requires { A::output(v); })
        return A::output(v);
      else
        return v;
    }
    [[nodiscard]] typename Mixer::tokens tokens() {
      typename Mixer::tokens u;
      if constexpr (!Fixed) u.gate = gate_view(gate.get());
      u.input = values_view(input.get());
      u.offsets = p.offsets;
      return u;
    }
    template <class Policy>
    void scan(const Policy& policy) {
      mixer.scan(policy, tokens(), values_view(y.get()), state, keep);
    }
    template <class Policy>
    gradient_arrays<S> backward(const Policy& policy, const backward_plan& how) {
      scan(exec::sequential{});
      auto dstate = mixer.make_state(p.sequences());
      load(dstate, p.dfinal);
      poisoned<S, gate_rank> dgate(A::gate(Fixed ? 0 : B, T, C, L), gate_gaps);
      poisoned<S, value_rank> dinput(A::values(B, T, C), value_gaps);
      gradient_arrays<S> out{std::vector<S>(p.inputs[0].size()),
                             std::vector<S>(p.inputs[1].size())};
      typename Mixer::gradients d;
      d.accumulate = how.accumulate;
      if (how.accumulate) {
        if (!Fixed) each_gate(dgate, [&](S& to, std::size_t) { to = static_cast<S>(how.preset); });
        const std::vector<S> preset(p.inputs[1].size(), static_cast<S>(how.preset));
        dinput.assign(std::span<const S>(preset));
        std::fill(out[0].begin(), out[0].end(), static_cast<S>(how.preset));
      }
      if (how.left_out != 0) {
        if constexpr (Fixed)
          d.decay = row_major(numbers_of(out[0].data()), C);
        else
          d.gate = gate_view(dgate.get());
      }
      if (how.left_out != 1) d.input = values_view(dinput.get());
      mixer.backward(policy, tokens(), keep, values_view(dy.get()), d, dstate);
      REQUIRE(dgate.intact());
      REQUIRE(dinput.intact());
      if (!Fixed && how.left_out != 0)
        each_gate(dgate, [&](S& from, std::size_t i) { out[0][i] = from; });
      if (how.left_out != 1) out[1] = dinput.values();
      out.push_back(values_of(dstate));
      return out;
    }
  };
};

}  // namespace maslin::test
