// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"
#include "laws/parameter_stage.hpp"
#include "support/answer.hpp"

#include <maslin/reference/causal_conv.hpp>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Weights [C, W]: of one channel, repeated, where channels must be alike.
template <class S>
std::vector<S> taps(index_t channels, index_t width, bool alike) {
  maslin::test::random r(3);
  std::vector<S> w(static_cast<std::size_t>(channels * width));
  r.fill_normal(std::span<S>(w));
  if (alike)
    for (std::size_t i = static_cast<std::size_t>(width); i < w.size(); ++i)
      w[i] = w[i - static_cast<std::size_t>(width)];
  return w;
}

/// The mixer as the laws see it: linear, without bias and silu. The one gate is a number that
/// nobody reads.
template <class S, int Width>
class conv_subject final : public subject<S> {
  using real = wider_t<S>;
  using mixer_t = causal_conv<S, Width>;

 public:
  conv_subject() : subject<S>({1, 1, Width - 1}, Width - 1, normalise::none, decay::value) {}

  double factor(walk) const override { return fused_family ? 1 : 2; }
  double factor_of_recurrence(walk w) const override { return factor(w); }

  std::unique_ptr<stage<S>> set(const problem<S>& p, const placement& where) const override {
    auto w = std::make_shared<std::vector<S>>(taps<S>(p.channels, Width, true));
    const mixer_t mixer{.channels = p.channels,
                        .weight = row_major(std::as_const(*w).data(), p.channels, Width)};
    return std::make_unique<parameter_stage<mixer_t>>(
        p, where, mixer,
        [w](const view<const S, 3>& input) { return typename mixer_t::tokens{.input = input}; });
  }
  outcome<double> reference(const problem<S>& p) const override {
    const auto w = taps<S>(p.channels, Width, true);
    const std::vector<double> wide(w.begin(), w.end()), input(p.input.begin(), p.input.end());
    outcome<double> out{std::vector<double>(input.size()), {p.initial.begin(), p.initial.end()}};
    reference::causal_conv(row_major(wide.data(), p.channels, Width), {}, false,
                           row_major(input.data(), p.batch, p.length, p.channels),
                           row_major(out.state.data(), p.batch, p.channels, Width - 1),
                           row_major(out.y.data(), p.batch, p.length, p.channels));
    return out;
  }
  /// Width roundings of a sum of Width terms, of which nothing is carried on.
  std::vector<bounded<real>> bounds(const problem<S>& p) const override {
    const auto w = taps<S>(1, Width, true);
    std::vector<bounded<real>> out;
    const auto input = row_major(p.input.data(), p.batch, p.length, p.channels);
    const auto initial = row_major(p.initial.data(), p.batch, p.channels, Width - 1);
    for (index_t b = 0; b < p.batch; ++b)
      for (index_t t = 0; t < p.length; ++t)
        for (index_t c = 0; c < p.channels; ++c) {
          bounded<real> y;
          for (index_t lag = 0; lag < Width; ++lag) {
            const real x = lag <= t ? input(b, t - lag, c) : initial(b, c, lag - 1 - t);
            const real term = x * static_cast<real>(w[static_cast<std::size_t>(Width - 1 - lag)]);
            y.value += term;
            y.s += magnitude(term);
            y.lost += 1;
          }
          y.w = (Width + 1) * y.s;
          out.push_back(y);
        }
    return out;
  }
  std::vector<S> coefficients(std::span<const S>) const override { return {}; }
};

}  // namespace

TEMPLATE_TEST_CASE_SIG("a causal convolution keeps the laws of mixers", "[mixer][causal_conv][law]",
                       ((class S, int Width), S, Width), (float, 4), (double, 2)) {
  // An infinite input lasts for Width tokens, which all laws but the diagonal's allow.
  mixer_laws<S>(conv_subject<S, Width>{});
}

TEMPLATE_TEST_CASE_SIG("bias and silu are the reference's, in every policy the same bytes",
                       "[mixer][causal_conv][threads]", ((class S, int Width), S, Width),
                       (float, 2), (float, 3), (double, 4)) {
  constexpr index_t B = 2, T = 13;
  maslin::test::random r(4);
  for (const index_t D : {1, 7, 37, 1100})
    for (const bool silu : {false, true}) {
      const auto w = taps<S>(D, Width, false);
      std::vector<S> bias(static_cast<std::size_t>(D)), input(static_cast<std::size_t>(B * T * D));
      r.fill_normal(std::span<S>(bias));
      r.fill_normal(std::span<S>(input));
      const causal_conv<S, Width> mixer{.channels = D,
                                        .weight = row_major(w.data(), D, Width),
                                        .bias = row_major(std::as_const(bias).data(), D),
                                        .silu = silu};
      const auto x = row_major(std::as_const(input).data(), B, T, D);
      const auto run = [&](const auto& policy) {
        std::vector<S> y(input.size());
        auto state = mixer.make_state(B);
        mixer.scan(policy, {.input = x}, row_major(y.data(), B, T, D), state);
        return y;
      };
      const auto y = run(exec::sequential{});
      CHECK(difference(y, run(exec::scalar{})) == "");
      CHECK(difference(y, run(exec::sequential{.threads = 3})) == "");
      for (const index_t chunk : {1, 2, 5})
        CHECK(difference(y, run(exec::chunked{.chunk = chunk, .threads = 2})) == "");

      const std::vector<double> wide_w(w.begin(), w.end()), wide_bias(bias.begin(), bias.end()),
          wide(input.begin(), input.end());
      std::vector<double> state(static_cast<std::size_t>(B * D * (Width - 1))), want(wide.size());
      reference::causal_conv(row_major(wide_w.data(), D, Width), row_major(wide_bias.data(), D),
                             silu, row_major(wide.data(), B, T, D),
                             row_major(state.data(), B, D, Width - 1),
                             row_major(want.data(), B, T, D));
      // Sums of Width + 1 terms of at most 6 x 6; silu is 1.1-Lipschitz and adds 6 u of its own.
      const double allowed =
          36 * (Width + 1) * ((Width + 2) * 1.1 + 6) * unit_roundoff<S> * (fused_family ? 1 : 2);
      for (std::size_t i = 0; i < y.size(); ++i)
        REQUIRE(std::abs(double{y[i]} - want[i]) <= allowed);
    }
}

TEST_CASE("a wrong call of causal_conv names what it wanted and writes nothing",
          "[mixer][causal_conv][check]") {
  using mixer_t = causal_conv<float, 3>;
  const auto w = taps<float>(5, 3, false);
  const std::vector<float> input(2 * 4 * 5), bias(5);
  const mixer_t good{
      .channels = 5, .weight = row_major(w.data(), 5, 3), .bias = row_major(bias.data(), 5)};
  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    mixer_t::tokens u{.input = row_major(input.data(), 2, 4, 5)};
    poisoned<float, 3> y({2, 4, 5});
    auto out = y.get();
    auto state = good.make_state(2);
    change(mixer, u, out);
    const std::string said = answer([&] { mixer.scan(exec::sequential{}, u, out, state); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("causal_conv::scan: "));
    CHECK(said.find(text) != std::string::npos);
    CHECK(y.untouched());
  };
  refuses("channels must be", [](auto& m, auto&, auto&) { m.channels = -1; });
  refuses("weight must be", [](auto& m, auto&, auto&) { m.weight = {}; });
  refuses("bias must be", [](auto& m, auto&, auto&) { m.bias = {m.bias.data_handle(), {4}, {1}}; });
  refuses("input must be", [](auto& m, auto&, auto&) {
    m.channels = 4;
    m.weight = {m.weight.data_handle(), {4, 3}, {3, 1}};
    m.bias = {};
  });
  refuses("y must be", [](auto&, auto&, auto& y) { y = time_range(y, 0, 3); });
  refuses("y must not overlap bias", [](auto& m, auto&, auto& y) {
    m.bias = view<const float, 1>(y.data_handle(), {5}, {1});
  });
  refuses("offsets must not decrease", [](auto&, auto& u, auto& y) {
    static constexpr index_t offsets[] = {0, 3, 2};
    u.input = view<const float, 3>(u.input.data_handle(), {1, 4, 5}, {20, 5, 1});
    y = {y.data_handle(), {1, 4, 5}, {20, 5, 1}};
    u.offsets = offsets;
  });
}
