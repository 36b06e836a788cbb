// SPDX-License-Identifier: Apache-2.0
#include "laws/gradient_laws.hpp"
#include "support/answer.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/complex_readout.hpp>
#include <maslin/reference/complex_readout.hpp>

#include <array>
#include <complex>
#include <string>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Without a state: every token stands by itself, and packed sequences are no different from others.
/// Sizes of a problem: G, E, N. Arrays: h, read, and with a skip input and skip; a complex number is
/// two real ones.
template <class S, bool Skips>
class readout_subject final : public gradient_subject<S> {
  using base = gradient_subject<S>;
  using number = std::complex<S>;
  using mixer_t = complex_readout<S>;

 public:
  std::vector<gradient_array> arrays() const override {
    std::vector<gradient_array> list{{"h", true, true}, {"read", false}};
    if (Skips) list.insert(list.end(), {{"input", true, true}, {"skip", false}});
    return list;
  }
  gradient_problem<S> draw(index_t batch, index_t length, maslin::test::random& r) const override {
    static constexpr index_t sizes[][3] = {{1, 1, 1}, {7, 1, 1},  {3, 2, 4}, {1, 9, 8},
                                           {9, 1, 5}, {1, 3, 17}, {2, 1, 64}};
    const auto& [G, E, N] = sizes[r.below(std::size(sizes))];
    const auto numbers = [&](index_t n) {
      std::vector<S> x(static_cast<std::size_t>(n));
      r.fill_uniform(std::span<S>(x), -2, 2);
      return x;
    };
    const index_t tokens = batch * length;
    gradient_problem<S> p{.batch = batch,
                          .length = length,
                          .sizes = {G, E, N},
                          .inputs = {numbers(tokens * G * N * 2), numbers(G * E * N * 2)},
                          .initial = {},
                          .dy = numbers(tokens * G * E),
                          .dfinal = {}};
    if (Skips) {
      p.inputs.push_back(numbers(tokens * G * E));
      p.inputs.push_back(numbers(G * E));
    }
    return p;
  }
  std::vector<S> forward(const gradient_problem<S>& p) const override {
    std::vector<S> y(p.dy.size());
    const auto out = row_major(y.data(), p.batch, p.length, p.sizes[0] * p.sizes[1]);
    const auto h = row_major(complex_of(p.inputs[0]), p.batch, p.length, p.sizes[0] * p.sizes[2]);
    if (Skips)
      mixer(p).apply(h, row_major(p.inputs[2].data(), p.batch, p.length, p.sizes[0] * p.sizes[1]),
                     out);
    else
      mixer(p).apply(h, out);
    return y;
  }
  gradient_arrays<S> backward(const gradient_problem<S>& p,
                              const backward_plan& how) const override {
    const index_t G = p.sizes[0], E = p.sizes[1], N = p.sizes[2];
    // Strides of complex numbers are half those of real ones.
    const auto gap = [&](index_t n) { return how.gaps ? 2 * n : index_t{0}; };
    poisoned<S, 3> h({p.batch, p.length, 2 * G * N}, {gap(9), gap(2), 0}),
        dh({p.batch, p.length, 2 * G * N}, {gap(5), gap(3), 0});
    poisoned<S, 3> input({p.batch, p.length, G * E}, {gap(4), gap(1), 0}),
        dinput({p.batch, p.length, G * E}, {gap(3), gap(2), 0}),
        dy({p.batch, p.length, G * E}, {gap(1), gap(4), 0});
    poisoned<S, 3> read({G, E, 2 * N}, {gap(2), gap(3), 0}),
        dread({G, E, 2 * N}, {gap(1), gap(2), 0});
    poisoned<S, 1> dskip({G * E});
    h.assign(std::span<const S>(p.inputs[0]));
    read.assign(std::span<const S>(p.inputs[1]));
    dy.assign(std::span<const S>(p.dy));
    if (Skips) input.assign(std::span<const S>(p.inputs[2]));
    const auto preset = [&](auto& array) {
      if (how.accumulate) array.each([&](S& x) { x = static_cast<S>(how.preset); });
    };
    preset(dh), preset(dread), preset(dinput), preset(dskip);
    typename mixer_t::gradients d{.accumulate = how.accumulate};
    if (how.left_out != 0) d.h = complex_view<number>(dh.get());
    if (how.left_out != 1) d.read = complex_view<number>(dread.get());
    if (Skips && how.left_out != 2) d.input = dinput.get();
    if (Skips && how.left_out != 3) d.skip = dskip.get();
    auto readout = mixer(p);
    readout.read = complex_view<const number>(std::as_const(read).get());
    readout.backward(complex_view<const number>(std::as_const(h).get()),
                     Skips ? std::as_const(input).get() : view<const S, 3>{},
                     std::as_const(dy).get(), d);
    gradient_arrays<S> all;
    const auto take = [&](const auto& array) { add_gradient(all, array, how); };
    take(dh), take(dread);
    if (Skips) take(dinput), take(dskip);
    all.emplace_back();
    return all;
  }
  gradient_truth<double> reference(const gradient_problem<S>& p) const override {
    return truth<double>(p);
  }
  gradient_truth<typename base::number> bounds(const gradient_problem<S>& p) const override {
    return truth<typename base::number>(p);
  }
  /// Groups never meet.
  index_t lane(const gradient_problem<S>& p, std::size_t array, index_t element) const override {
    return array == 0 ? element / (2 * p.sizes[2]) : element / p.sizes[1];
  }
  std::vector<backward_way> ways() const override { return {exec::sequential{}}; }
  std::vector<std::pair<backward_way, backward_way>> chunked_ways() const override { return {}; }
  double factor(const backward_way&) const override { return 1; }

 private:
  static constexpr double weight = 2;

  static const number* complex_of(const std::vector<S>& x) {
    return reinterpret_cast<const number*>(x.data());
  }
  template <class C, class T>
  static view<C, 3> complex_view(const view<T, 3>& v) {
    return {reinterpret_cast<C*>(v.data_handle()),
            {v.extent(0), v.extent(1), v.extent(2) / 2},
            {v.stride(0) / 2, v.stride(1) / 2, 1}};
  }
  [[nodiscard]] static mixer_t mixer(const gradient_problem<S>& p) {
    mixer_t readout{.read = row_major(complex_of(p.inputs[1]), p.sizes[0], p.sizes[1], p.sizes[2]),
                    .factor = static_cast<S>(weight)};
    if (Skips) readout.skip = row_major(p.inputs[3].data(), p.sizes[0] * p.sizes[1]);
    return readout;
  }
  template <class Number>
  [[nodiscard]] gradient_truth<Number> truth(const gradient_problem<S>& p) const {
    const index_t B = p.batch, T = p.length, G = p.sizes[0], E = p.sizes[1], N = p.sizes[2];
    std::vector<std::vector<Number>> in;
    gradient_truth<Number> all;
    for (const auto& x : p.inputs) {
      in.emplace_back(x.begin(), x.end());
      all.gradients.emplace_back(x.size());
    }
    all.gradients.emplace_back();
    all.outputs.resize(p.dy.size());
    const std::vector<Number> dy(p.dy.begin(), p.dy.end());
    auto& d = all.gradients;
    const auto tokens = [&](auto& x) { return row_major(x.data(), B, T, G * E); };
    reference::complex_readout_backward<Number>(
        row_major<const Number>(in[1].data(), G, E, N, 2),
        Skips ? row_major<const Number>(in.back().data(), G * E) : view<const Number, 1>{},
        Number(static_cast<S>(weight)), row_major<const Number>(in[0].data(), B, T, G * N, 2),
        Skips ? view<const Number, 3>(tokens(in[2])) : view<const Number, 3>{}, tokens(all.outputs),
        tokens(dy), row_major(d[1].data(), G, E, N, 2),
        Skips ? row_major(d[3].data(), G * E) : view<Number, 1>{},
        row_major(d[0].data(), B, T, G * N, 2),
        Skips ? view<Number, 3>(tokens(d[2])) : view<Number, 3>{});
    return all;
  }
};

}  // namespace

TEST_CASE("gradients of real outputs of complex states keep the laws of backward passes",
          "[gradient][complex_readout][law]") {
  check_gradient_laws(readout_subject<float, true>{}, 1, 40);
  check_gradient_laws(readout_subject<double, false>{}, 2, 30);
  check_gradient_laws(readout_subject<double, true>{}, 3, 3, 2, 300);
}

TEST_CASE("a wrong backward call of complex_readout names what it wanted and writes nothing",
          "[gradient][complex_readout][check]") {
  using number = std::complex<float>;
  const std::vector<number> read(2 * 1 * 3), h(4 * 6);
  const std::vector<float> skip(2), input(4 * 2), dy(4 * 2);
  const auto refuses = [&](const std::string& text, auto change) {
    complex_readout<float> readout{.read = row_major(read.data(), 2, 1, 3),
                                   .skip = row_major(skip.data(), 2)};
    auto states = row_major(h.data(), 1, 4, 6);
    auto in = row_major(input.data(), 1, 4, 2), g = row_major(dy.data(), 1, 4, 2);
    poisoned<float, 3> dh({1, 4, 12}), dinput({1, 4, 2});
    poisoned<float, 1> dskip({2});
    complex_readout<float>::gradients d{
        .h = {reinterpret_cast<number*>(dh.get().data_handle()), {1, 4, 6}, {24, 6, 1}},
        .input = dinput.get(),
        .skip = dskip.get()};
    change(readout, states, in, g, d);
    const std::string said = answer([&] { readout.backward(states, in, g, d); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("complex_readout::backward: "));
    CHECK(said.find(text) != std::string::npos);
    CHECK(dh.untouched());
    CHECK(dinput.untouched());
    CHECK(dskip.untouched());
  };
  refuses("h must be [B, T, G N] = [1, 4, 6], got [0, 0, 0]",
          [](auto&, auto& s, auto&, auto&, auto&) { s = {}; });
  refuses("read [G, E, N] = [2, 1, 3] must have", [](auto& m, auto&, auto&, auto&, auto&) {
    m.read = view<const number, 3>(m.read.data_handle(), {2, 1, 3}, {3, 3, 2});
  });
  refuses("input must be", [](auto&, auto&, auto& in, auto&, auto&) { in = {}; });
  refuses("skip must be", [](auto& m, auto&, auto&, auto&, auto&) {
    m.skip = view<const float, 1>(m.skip.data_handle(), {1}, {1});
  });
  refuses("dy must be", [](auto&, auto&, auto&, auto& g, auto&) {
    g = view<const float, 3>(g.data_handle(), {1, 4, 1}, {8, 2, 1});
  });
  refuses("gradients.h must be",
          [](auto&, auto&, auto&, auto&, auto& d) { d.h = time_range(d.h, 0, 3); });
  refuses("gradients.input must not overlap dy",
          [](auto&, auto&, auto&, auto& g, auto& d) { g = d.input; });
  refuses("gradients.skip must be empty without skip", [](auto& m, auto&, auto&, auto&, auto& d) {
    m.skip = {};
    d.input = {};
  });
}
