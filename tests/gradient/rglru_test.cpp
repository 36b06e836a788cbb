// SPDX-License-Identifier: Apache-2.0
#include "laws/gradient_laws.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/rglru.hpp>
#include <maslin/reference/rglru.hpp>

#include <functional>
#include <span>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Sizes of a problem: D, and 1 if its sequences have begun.
template <class S, gate_form Form>
class rglru_subject : public gradient_subject<S> {
 public:
  using problem = gradient_problem<S>;
  using mixer_t = rglru<S, Form>;

  [[nodiscard]] std::vector<gradient_array> arrays() const override {
    return {{"recurrence_gate"}, {"input_gate"}, {"input", true, true}, {"decay", false, false}};
  }
  [[nodiscard]] problem draw(index_t batch, index_t length, test::random& r) const override {
    const index_t widths[] = {1, 2, 7, 8, 9, 17, 33};
    const index_t D = widths[r.below(7)];
    problem p;
    p.batch = batch, p.length = length, p.sizes = {D, r.below(2)};
    const auto numbers = [](index_t n) { return std::vector<S>(static_cast<std::size_t>(n)); };
    const auto tokens = numbers(batch * length * D);
    p.inputs = {tokens, tokens, tokens, numbers(D)};
    for (const std::size_t k : {0u, 1u}) {
      if (Form == gate_form::logit)
        r.fill_normal<S>(p.inputs[k], 2);
      else
        r.fill_uniform<S>(p.inputs[k], 0.01, 1);
    }
    r.fill_normal<S>(p.inputs[2]);
    r.fill_uniform<S>(p.inputs[3], -6, 1);
    p.initial = p.dfinal = numbers(batch * D);
    p.dy = tokens;
    for (auto* x : {&p.initial, &p.dfinal, &p.dy}) r.fill_normal<S>(*x);
    return p;
  }
  [[nodiscard]] std::vector<S> forward(const problem& p) const override {
    call c(p, false);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), c.state);
    std::vector<S> out = c.y.values();
    const auto final = c.numbers_of(c.state);
    out.insert(out.end(), final.begin(), final.end());
    return out;
  }
  [[nodiscard]] gradient_arrays<S> backward(const problem& p,
                                            const backward_plan& plan) const override {
    call c(p, plan.gaps);
    auto keep = c.mixer.make_saved(p.sequences(), p.length);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), c.state, keep);
    auto dstate = c.state_of(p.dfinal);
    placed drecurrence(c.timed, c.gaps), dgate(c.timed, c.gaps), dinput(c.timed, c.gaps);
    poisoned<S, 1> ddecay({c.D});
    typename mixer_t::gradients d{.recurrence_gate = drecurrence.get(),
                                  .input_gate = dgate.get(),
                                  .input = dinput.get(),
                                  .decay = ddecay.get(),
                                  .accumulate = plan.accumulate};
    if (plan.accumulate) {
      for (placed* x : {&drecurrence, &dgate, &dinput})
        x->each([&](S& v) { v = static_cast<S>(plan.preset); });
      ddecay.each([&](S& v) { v = static_cast<S>(plan.preset); });
    }
    if (plan.left_out == 0) d.recurrence_gate = {};
    if (plan.left_out == 1) d.input_gate = {};
    if (plan.left_out == 2) d.input = {};
    if (plan.left_out == 3) d.decay = {};
    std::visit(
        [&](const auto& how) {
          c.mixer.backward(how, c.tokens, keep, std::as_const(c.dy).get(), d, dstate);
        },
        plan.how);
    REQUIRE(c.y.intact());
    gradient_arrays<S> all;
    for (const placed* x : {&drecurrence, &dgate, &dinput}) add_gradient(all, *x, plan);
    add_gradient(all, ddecay, plan);
    all.push_back(c.numbers_of(dstate));
    return all;
  }
  [[nodiscard]] gradient_truth<double> reference(const problem& p) const override {
    return truth<double>(p);
  }
  [[nodiscard]] gradient_truth<typename gradient_subject<S>::number> bounds(
      const problem& p) const override {
    return truth<typename gradient_subject<S>::number>(p);
  }
  [[nodiscard]] index_t lane(const problem& p, std::size_t, index_t element) const override {
    return element % p.sizes[0];
  }
  /// The kernel's functions err by up to twice what `tracked` counts: 2^x by 4 u where that has 2 for
  /// exp, 1 - 2^x by 6 where it has 4 for expm1, and the rates are rounded a second time when their
  /// base changes.
  [[nodiscard]] double factor(const backward_way& how) const override {
    return 2 * gradient_subject<S>::factor(how);
  }
  void continue_at(problem& late, index_t) const override { late.sizes[1] = 1; }

 private:
  using placed = poisoned<S, 3>;

  struct call {
    call(const problem& p, bool with_gaps)
        : D(p.sizes[0]),
          timed{p.batch, p.length, D},
          gaps(with_gaps ? std::array<index_t, 3>{5, 3, 0} : std::array<index_t, 3>{}),
          recurrence(timed, gaps),
          gate(timed, gaps),
          input(timed, gaps),
          y(timed, gaps),
          dy(timed, gaps),
          mixer{.channels = D, .decay = row_major(p.inputs[3].data(), D)},
          begun(p.sizes[1] != 0),
          state(state_of(p.initial)) {
      recurrence.assign(std::span<const S>(p.inputs[0]));
      gate.assign(std::span<const S>(p.inputs[1]));
      input.assign(std::span<const S>(p.inputs[2]));
      dy.assign(std::span<const S>(p.dy));
      tokens = {std::as_const(recurrence).get(), std::as_const(gate).get(),
                std::as_const(input).get(), p.offsets};
    }
    [[nodiscard]] typename mixer_t::state state_of(const std::vector<S>& numbers) const {
      const index_t sequences = D == 0 ? 0 : static_cast<index_t>(numbers.size()) / D;
      auto h = mixer.make_state(sequences);
      h.copy_from(row_major(numbers.data(), sequences, D));
      for (index_t b = 0; b < sequences; ++b) h.set_begun(b, begun);
      return h;
    }
    [[nodiscard]] std::vector<S> numbers_of(const typename mixer_t::state& h) const {
      std::vector<S> numbers(static_cast<std::size_t>(h.batch() * D));
      h.copy_to(row_major(numbers.data(), h.batch(), D));
      return numbers;
    }

    index_t D;
    std::array<index_t, 3> timed, gaps;
    placed recurrence, gate, input, y, dy;
    mixer_t mixer;
    bool begun;
    typename mixer_t::state state;
    typename mixer_t::tokens tokens{};
  };

  template <class Number>
  [[nodiscard]] static gradient_truth<Number> truth(const problem& p) {
    const index_t B = p.batch, T = p.length, D = p.sizes[0];
    if (!p.offsets.empty()) return {};
    const auto wide = [](const std::vector<S>& x) {
      return std::vector<Number>(x.begin(), x.end());
    };
    std::vector<std::vector<Number>> in;
    for (const auto& x : p.inputs) in.push_back(wide(x));
    const auto initial = wide(p.initial), dy = wide(p.dy), dfinal = wide(p.dfinal);
    gradient_truth<Number> out{{}, {in[0], in[1], in[2], in[3], initial}};
    std::vector<Number> y = dy, final = initial;
    const auto timed = [&](auto& x) { return row_major(x.data(), B, T, D); };
    reference::rglru_backward<Number>(
        {.form = Form,
         .decay = row_major(std::as_const(in[3]).data(), D),
         .recurrence_gate = timed(std::as_const(in[0])),
         .input_gate = timed(std::as_const(in[1])),
         .input = timed(std::as_const(in[2])),
         .initial = row_major(initial.data(), B, D),
         .begun = std::vector<bool>(static_cast<std::size_t>(B), p.sizes[1] != 0),
         .dy = timed(dy),
         .dfinal = row_major(dfinal.data(), B, D)},
        {.y = timed(y),
         .final = row_major(final.data(), B, D),
         .ddecay = row_major(out.gradients[3].data(), D),
         .drecurrence_gate = timed(out.gradients[0]),
         .dinput_gate = timed(out.gradients[1]),
         .dinput = timed(out.gradients[2]),
         .dinitial = row_major(out.gradients[4].data(), B, D)});
    out.outputs = y;
    out.outputs.insert(out.outputs.end(), final.begin(), final.end());
    return out;
  }
};

}  // namespace

TEST_CASE("gradients of an RG-LRU keep the laws of backward passes", "[gradient][rglru][law]") {
  check_gradient_laws(rglru_subject<double, gate_form::probability>{}, 1, 6);
  check_gradient_laws(rglru_subject<double, gate_form::logit>{}, 2, 6);
  check_gradient_laws(rglru_subject<float, gate_form::probability>{}, 3, 12);
  check_gradient_laws(rglru_subject<float, gate_form::logit>{}, 4, 12);
}

TEST_CASE("a frozen RG-LRU has bounded gradients", "[gradient][rglru]") {
  // At r = 0 the decay is 1 and mu is 0: dlog a = s (h - 1000 i x), and decay = 0 has softplus ln 2.
  const std::vector<double> r{0, 0}, i{0.5, 0.25}, x{3, 2}, decay{0}, dy{0, 1};
  std::vector<double> y(2), dr(2), di(2), dx(2), ddecay(1);
  const rglru<double> mixer{.channels = 1, .decay = row_major(decay.data(), 1)};
  const auto rows = [](auto& v) { return row_major(v.data(), 1, 2, 1); };
  const rglru<double>::tokens tokens{rows(r), rows(i), rows(x), {}};
  auto h = mixer.make_state(), dstate = h;
  auto keep = mixer.make_saved(1);
  CHECK(keep.bytes() == h.bytes());
  mixer.scan(exec::sequential{}, tokens, rows(y), h, keep);
  mixer.backward(exec::sequential{}, tokens, keep, rows(dy),
                 {.recurrence_gate = rows(dr),
                  .input_gate = rows(di),
                  .input = rows(dx),
                  .decay = row_major(ddecay.data(), 1)},
                 dstate);
  CHECK(y == std::vector<double>{1.5, 1.5});
  CHECK(dx == std::vector<double>{0.5, 0});
  CHECK(di == std::vector<double>{3, 0});
  const double log2 = std::log(2.0);
  CHECK_THAT(dr[1], Catch::Matchers::WithinRel(-8 * log2 * (1.5 - 500), 1e-14));
  CHECK(dr[0] == 0);  // the first token has no mu, and no state before it
  CHECK(ddecay[0] == 0);
}

TEST_CASE("tokens outside the first of a batch that has begun differ by their flag alone",
          "[gradient][rglru]") {
  // One sequence begins, the other goes on: what their flags say is read from the saved state.
  const std::vector<float> gates(2, 0.25f), x{1, 1}, decay{-1}, dy{1, 1};
  std::vector<float> y(2), dx(2);
  const rglru<float> mixer{.channels = 1, .decay = row_major(decay.data(), 1)};
  const auto rows = [](auto& v) { return row_major(v.data(), 2, 1, 1); };
  const rglru<float>::tokens tokens{rows(gates), rows(gates), rows(x), {}};
  auto h = mixer.make_state(2), dstate = h;
  h.set_begun(1, true);
  auto keep = mixer.make_saved(2);
  mixer.scan(exec::sequential{}, tokens, rows(y), h, keep);
  mixer.backward(exec::sequential{}, tokens, keep, rows(dy),
                 {.recurrence_gate = {}, .input_gate = {}, .input = rows(dx), .decay = {}}, dstate);
  CHECK(dx[0] == 0.25f);
  CHECK(dx[1] == y[1]);  // mu i, for x = 1 and a state of zero
  CHECK_FALSE(dstate.begun(0));
}

namespace {

/// A call whose parts can be spoiled.
struct scene {
  static constexpr index_t B = 2, T = 3, D = 5;
  std::vector<float> numbers = std::vector<float>(B * T * D, 0.5f);
  poisoned<float, 3> y{{B, T, D}}, dr{{B, T, D}}, di{{B, T, D}}, dx{{B, T, D}};
  poisoned<float, 1> ddecay{{D}};
  rglru<float> mixer{.channels = D, .decay = row_major<const float>(numbers.data(), D)};
  rglru<float>::tokens tokens{rows(), rows(), rows(), {}};
  view<const float, 3> dy = rows();
  rglru<float>::state dstate = mixer.make_state(B);
  rglru<float>::saved keep{rows(), mixer.make_state(B)};
  rglru<float>::gradients d{.recurrence_gate = dr.get(),
                            .input_gate = di.get(),
                            .input = dx.get(),
                            .decay = ddecay.get()};

  [[nodiscard]] view<const float, 3> rows() const { return row_major(numbers.data(), B, T, D); }
  void backward() { mixer.backward(exec::sequential{}, tokens, keep, dy, d, dstate); }
};

template <class V>
V longer(V v, int axis) {
  auto extents = v.extents();
  ++extents[static_cast<std::size_t>(axis)];
  return V(v.data_handle(), extents, v.strides());
}

}  // namespace

TEST_CASE("wrong backward calls of an RG-LRU are refused before any write",
          "[gradient][rglru][errors]") {
  struct wrong {
    const char* says;
    std::function<void(scene&)> spoil;
  };
  const wrong all[] = {
      {"rglru::backward: recurrence_gate must be [B, T, D] = [2, 3, 5], got [2, 4, 5]",
       [](scene& s) { s.tokens.recurrence_gate = longer(s.tokens.recurrence_gate, 1); }},
      {"rglru::backward: input_gate must be [B, T, D] = [2, 3, 5], got [2, 3, 6]",
       [](scene& s) { s.tokens.input_gate = longer(s.tokens.input_gate, 2); }},
      {"rglru::backward: saved.y must be [B, T, D] = [2, 3, 5], got [3, 3, 5]",
       [](scene& s) { s.keep.y = longer(s.keep.y, 0); }},
      {"rglru::backward: saved.initial must be [B, D] = [2, 5], got [3, 5]",
       [](scene& s) { s.keep.initial = s.mixer.make_state(3); }},
      {"rglru::backward: dstate must be [B, D] = [2, 5], got [1, 5]",
       [](scene& s) { s.dstate = s.mixer.make_state(1); }},
      {"rglru::backward: dy must be [B, T, D] = [2, 3, 5], got [2, 3, 6]",
       [](scene& s) { s.dy = longer(s.dy, 2); }},
      {"rglru::backward: decay must be [D] = [5], got [6]",
       [](scene& s) { s.mixer.decay = longer(s.mixer.decay, 0); }},
      {"rglru::backward: gradients.recurrence_gate must be [B, T, D]",
       [](scene& s) { s.d.recurrence_gate = longer(s.d.recurrence_gate, 2); }},
      {"rglru::backward: gradients.input_gate must be [B, T, D]",
       [](scene& s) { s.d.input_gate = longer(s.d.input_gate, 1); }},
      {"rglru::backward: gradients.input must be [B, T, D]",
       [](scene& s) { s.d.input = longer(s.d.input, 0); }},
      {"rglru::backward: gradients.decay must be [D] = [5], got [6]",
       [](scene& s) { s.d.decay = longer(s.d.decay, 0); }},
      {"rglru::backward: gradients.input must not overlap dy", [](scene& s) { s.dy = s.dx.get(); }},
      {"rglru::backward: gradients.input_gate must not overlap saved.y",
       [](scene& s) { s.keep.y = s.di.get(); }},
      {"rglru::backward: gradients.input must not overlap gradients.recurrence_gate",
       [](scene& s) { s.d.input = s.d.recurrence_gate; }},
      {"rglru::backward: offsets must not decrease",
       [](scene& s) {
         static const index_t offsets[] = {0, 2, 1};
         s.tokens = {time_range(s.tokens.input, 0, 3), time_range(s.tokens.input, 0, 3),
                     row_major(s.numbers.data(), 1, 3, 5), offsets};
       }},
  };
  for (const wrong& w : all) {
    scene s;
    w.spoil(s);
    INFO(w.says);
    CHECK_THROWS_WITH(s.backward(), Catch::Matchers::StartsWith(w.says));
    for (const auto* x : {&s.dr, &s.di, &s.dx}) CHECK(x->untouched());
    CHECK(s.ddecay.untouched());
  }
  scene s;
  s.backward();
  // A scan in place has nothing to come back to.
  auto h = s.mixer.make_state(scene::B);
  std::vector<float> in_place(s.numbers);
  const auto rows = row_major(in_place.data(), scene::B, scene::T, scene::D);
  s.tokens.input = rows;
  CHECK_THROWS_WITH(s.mixer.scan(exec::sequential{}, s.tokens, rows, h, s.keep),
                    Catch::Matchers::StartsWith("rglru::scan: y must not be input"));
  CHECK(in_place == s.numbers);
}
