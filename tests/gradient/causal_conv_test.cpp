// SPDX-License-Identifier: Apache-2.0
#include "laws/gradient_laws.hpp"
#include "support/answer.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/causal_conv.hpp>
#include <maslin/reference/causal_conv.hpp>

#include <array>
#include <string>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Sizes of a problem: D, and whether silu follows. Arrays: input, weight, and bias if there is one.
template <class S, int Width, bool Biased>
class conv_subject final : public gradient_subject<S> {
  using base = gradient_subject<S>;
  using mixer_t = causal_conv<S, Width>;

 public:
  explicit conv_subject(bool silu) : silu_(silu) {}

  std::vector<gradient_array> arrays() const override {
    std::vector<gradient_array> list{{"input", true, !silu_ && !Biased}, {"weight", false}};
    if (Biased) list.push_back({"bias", false});
    return list;
  }
  gradient_problem<S> draw(index_t batch, index_t length, maslin::test::random& r) const override {
    static constexpr index_t widths[] = {1, 7, 8, 9, 17, 40, 300};
    const index_t D = widths[r.below(std::size(widths))];
    const auto numbers = [&](index_t n) {
      std::vector<S> x(static_cast<std::size_t>(n));
      r.fill_uniform(std::span<S>(x), -2, 2);
      return x;
    };
    gradient_problem<S> p{.batch = batch,
                          .length = length,
                          .sizes = {D},
                          .inputs = {numbers(batch * length * D), numbers(D * Width)},
                          .initial = numbers(batch * D * (Width - 1)),
                          .dy = numbers(batch * length * D),
                          .dfinal = numbers(batch * D * (Width - 1))};
    if (Biased) p.inputs.push_back(numbers(D));
    return p;
  }
  std::vector<S> forward(const gradient_problem<S>& p) const override {
    const index_t D = p.sizes[0];
    std::vector<S> out(p.dy.size() + p.initial.size());
    auto h = state(p, p.initial);
    mixer(p).scan(exec::sequential{},
                  {.input = row_major(p.inputs[0].data(), p.batch, p.length, D)},
                  row_major(out.data(), p.batch, p.length, D), h);
    h.copy_to(row_major(out.data() + p.dy.size(), p.sequences(), D, Width - 1));
    return out;
  }
  gradient_arrays<S> backward(const gradient_problem<S>& p,
                              const backward_plan& how) const override {
    const index_t D = p.sizes[0];
    const std::array<index_t, 3> shape{p.batch, p.length, D},
        gaps = how.gaps ? std::array<index_t, 3>{9, 4, 0} : std::array<index_t, 3>{};
    poisoned<S, 3> input(shape, gaps), y(shape, gaps), dy(shape, gaps), dinput(shape, gaps);
    poisoned<S, 2> weight({D, Width}, {how.gaps ? 3 : 0, 0}),
        dweight({D, Width}, {how.gaps ? 2 : 0, 0});
    poisoned<S, 1> dbias({D});
    input.assign(std::span<const S>(p.inputs[0]));
    weight.assign(std::span<const S>(p.inputs[1]));
    dy.assign(std::span<const S>(p.dy));
    const auto preset = [&](auto& array) {
      if (how.accumulate) array.each([&](S& x) { x = static_cast<S>(how.preset); });
    };
    preset(dinput), preset(dweight), preset(dbias);
    typename mixer_t::gradients d{.accumulate = how.accumulate};
    if (how.left_out != 0) d.input = dinput.get();
    if (how.left_out != 1) d.weight = dweight.get();
    if (Biased && how.left_out != 2) d.bias = dbias.get();

    auto conv = mixer(p);
    conv.weight = std::as_const(weight).get();
    const typename mixer_t::tokens u{.input = std::as_const(input).get(), .offsets = p.offsets};
    auto h = state(p, p.initial), dh = state(p, p.dfinal);
    auto keep = conv.make_saved(p.sequences(), p.length);
    std::visit(
        [&](const auto& policy) {
          conv.scan(policy, u, y.get(), h, keep);
          conv.backward(policy, u, keep, std::as_const(dy).get(), d, dh);
        },
        how.how);
    gradient_arrays<S> all;
    const auto take = [&](const auto& array) { add_gradient(all, array, how); };
    take(dinput), take(dweight);
    if (Biased) take(dbias);
    all.emplace_back(p.initial.size());
    dh.copy_to(row_major(all.back().data(), p.sequences(), D, Width - 1));
    return all;
  }
  gradient_truth<double> reference(const gradient_problem<S>& p) const override {
    return truth<double>(p);
  }
  gradient_truth<typename base::number> bounds(const gradient_problem<S>& p) const override {
    return truth<typename base::number>(p);
  }
  index_t lane(const gradient_problem<S>&, std::size_t array, index_t element) const override {
    return array == arrays().size() ? element / (Width - 1) : element;
  }
  double factor(const backward_way&) const override { return 1; }

 private:
  [[nodiscard]] mixer_t mixer(const gradient_problem<S>& p) const {
    const index_t D = p.sizes[0];
    mixer_t conv{.channels = D, .weight = row_major(p.inputs[1].data(), D, Width), .silu = silu_};
    if (Biased) conv.bias = row_major(p.inputs[2].data(), D);
    return conv;
  }
  [[nodiscard]] auto state(const gradient_problem<S>& p, const std::vector<S>& from) const {
    auto h = mixer(p).make_state(p.sequences());
    h.copy_from(row_major(from.data(), p.sequences(), p.sizes[0], Width - 1));
    return h;
  }
  template <class Number>
  [[nodiscard]] gradient_truth<Number> truth(const gradient_problem<S>& p) const {
    const auto as = [](const std::vector<S>& x) { return std::vector<Number>(x.begin(), x.end()); };
    const index_t B = p.batch, T = p.length, D = p.sizes[0];
    const auto input = as(p.inputs[0]), weight = as(p.inputs[1]), dy = as(p.dy);
    const auto bias = Biased ? as(p.inputs.back()) : std::vector<Number>{};
    auto h = as(p.initial);
    gradient_truth<Number> all;
    all.outputs.resize(p.dy.size());
    for (const auto& x : p.inputs) all.gradients.emplace_back(x.size());
    all.gradients.push_back(as(p.dfinal));
    auto& d = all.gradients;
    reference::causal_conv_backward<Number>(
        row_major(weight.data(), D, Width),
        Biased ? row_major(bias.data(), D) : view<const Number, 1>{}, silu_,
        row_major(input.data(), B, T, D), row_major(h.data(), B, D, Width - 1),
        row_major(all.outputs.data(), B, T, D), row_major(dy.data(), B, T, D),
        row_major(d[1].data(), D, Width), Biased ? row_major(d[2].data(), D) : view<Number, 1>{},
        row_major(d[0].data(), B, T, D), row_major(d.back().data(), B, D, Width - 1));
    all.outputs.insert(all.outputs.end(), h.begin(), h.end());
    return all;
  }

  bool silu_;
};

}  // namespace

TEST_CASE("gradients of a causal convolution keep the laws of backward passes",
          "[gradient][causal_conv][law]") {
  check_gradient_laws(conv_subject<float, 4, true>{true}, 1, 30);
  check_gradient_laws(conv_subject<float, 4, true>{false}, 2, 15);
  check_gradient_laws(conv_subject<double, 2, false>{false}, 3, 20);
  check_gradient_laws(conv_subject<double, 2, false>{true}, 4, 15);
  check_gradient_laws(conv_subject<float, 3, false>{true}, 5, 20);
}

TEST_CASE("sums over more tokens than a piece are within the bound of the convolution's gradients",
          "[gradient][causal_conv]") {
  check_gradient_laws(conv_subject<float, 4, true>{true}, 6, 2, 2, 300);
}

TEST_CASE("a wrong backward call of causal_conv names what it wanted and writes nothing",
          "[gradient][causal_conv][check]") {
  using mixer_t = causal_conv<float, 3>;
  const std::vector<float> input(2 * 4 * 5), weight(15), bias(5), dy(2 * 4 * 5);
  const mixer_t good{
      .channels = 5, .weight = row_major(weight.data(), 5, 3), .bias = row_major(bias.data(), 5)};
  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    mixer_t::tokens u{.input = row_major(input.data(), 2, 4, 5)};
    auto g = row_major(dy.data(), 2, 4, 5);
    poisoned<float, 3> dinput({2, 4, 5});
    poisoned<float, 2> dweight({5, 3});
    poisoned<float, 1> dbias({5});
    mixer_t::gradients d{.input = dinput.get(), .weight = dweight.get(), .bias = dbias.get()};
    auto keep = good.make_saved(2);
    auto dh = good.make_state(2);
    change(mixer, u, g, d, keep, dh);
    const std::string said = answer([&] { mixer.backward(exec::sequential{}, u, keep, g, d, dh); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("causal_conv::backward: "));
    CHECK(said.find(text) != std::string::npos);
    CHECK(dinput.untouched());
    CHECK(dweight.untouched());
    CHECK(dbias.untouched());
  };
  refuses("input must be", [](auto&, auto& u, auto&, auto&, auto&, auto&) { u.input = {}; });
  refuses("weight must be", [](auto& m, auto&, auto&, auto&, auto&, auto&) { m.weight = {}; });
  refuses("bias must be", [](auto& m, auto&, auto&, auto&, auto&, auto&) {
    m.bias = {m.bias.data_handle(), {4}, {1}};
  });
  refuses("dy must be",
          [](auto&, auto&, auto& g, auto&, auto&, auto&) { g = time_range(g, 0, 3); });
  refuses("gradients.input must be",
          [](auto&, auto&, auto&, auto& d, auto&, auto&) { d.input = time_range(d.input, 0, 3); });
  refuses("gradients.weight must be", [](auto&, auto&, auto&, auto& d, auto&, auto&) {
    d.weight = {d.weight.data_handle(), {5, 2}, {2, 1}};
  });
  refuses("gradients.bias must be empty without bias",
          [](auto& m, auto&, auto&, auto&, auto&, auto&) { m.bias = {}; });
  refuses("gradients.weight must not overlap gradients.input",
          [](auto&, auto&, auto&, auto& d, auto&, auto&) {
            d.weight = {d.input.data_handle(), {5, 3}, {3, 1}};
          });
  refuses("gradients.input must not overlap dy",
          [](auto&, auto&, auto& g, auto& d, auto&, auto&) { g = d.input; });
  refuses("saved.initial must be",
          [&](auto&, auto&, auto&, auto&, auto& keep, auto&) { keep = good.make_saved(3); });
  refuses("dstate must be",
          [&](auto&, auto&, auto&, auto&, auto&, auto& dh) { dh = good.make_state(1); });
}
