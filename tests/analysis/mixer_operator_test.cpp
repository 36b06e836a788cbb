// SPDX-License-Identifier: Apache-2.0
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/analysis/operator.hpp>
#include <maslin/analysis/properties.hpp>
#include <maslin/maslin.hpp>

#include <algorithm>
#include <cmath>
#include <list>
#include <vector>

namespace {

using namespace maslin;

constexpr index_t B = 2, T = 13, D = 6;

/// Arrays of random numbers that live as long as it does.
class arrays {
 public:
  template <class... E>
  [[nodiscard]] auto uniform(double low, double high, E... extents) {
    all_.emplace_back(static_cast<std::size_t>((index_t{extents} * ...)));
    random_.fill_uniform<double>(all_.back(), low, high);
    return row_major(std::as_const(all_.back()).data(), index_t{extents}...);
  }

 private:
  test::random random_{29};
  std::list<std::vector<double>> all_;
};

/// Op X is Y, causal, and decode gives the same numbers. Paths of T steps of `terms` roundings, and
/// a sum over T, of values that growth bounds.
template <class Mixer>
analysis::token_operator expect_its_own_operator(const Mixer& mixer,
                                                 const typename Mixer::tokens& u, index_t terms) {
  const auto op = analysis::materialize(exec::sequential{}, mixer, u);
  CHECK(analysis::is_causal(op));
  const auto decoded = analysis::materialize(mixer, u);
  index_t unlike = 0;
  for (index_t b = 0; b < op.batch(); ++b)
    for (index_t g = 0; g < op.groups(); ++g)
      for (index_t t = 0; t < T; ++t)
        for (index_t s = 0; s < T; ++s) unlike += op(b, g, t, s) != decoded(b, g, t, s);
  CHECK(unlike == 0);

  std::vector<double> y(static_cast<std::size_t>(u.input.size()));
  auto state = analysis::operator_traits<Mixer>::make_state(mixer, B, T);
  const typename Mixer::output out(y.data(), u.input.extents(), u.input.strides());
  mixer.scan(exec::sequential{}, u, out, state);
  const auto applied = analysis::apply(op, u.input);
  double off = 0, largest = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    off = std::max(off, std::abs(applied[i] - y[i]));
    largest = std::max(largest, std::abs(y[i]));
  }
  CHECK(largest > 0.01);
  CHECK(off <=
        static_cast<double>(2 * T * terms) * test::unit_roundoff<double> * analysis::growth(op));
  return op;
}

}  // namespace

TEST_CASE("the operator of an RG-LRU is its products of decays", "[analysis][operator][rglru]") {
  arrays a;
  const rglru<double> mixer{.channels = D, .decay = a.uniform(-7, -3, D)};
  const rglru<double>::tokens u{.recurrence_gate = a.uniform(0, 1, B, T, D),
                                .input_gate = a.uniform(0, 1, B, T, D),
                                .input = a.uniform(-1, 1, B, T, D)};
  const auto op = expect_its_own_operator(mixer, u, 40);
  for (index_t t = 0; t < T; ++t)
    for (index_t s = 0; s <= t; ++s) {
      double log_a = 0;
      const auto rate = [&](index_t at) {
        return -8 * u.recurrence_gate(1, at, 2) * std::log1p(std::exp(mixer.decay(2)));
      };
      for (index_t at = s + 1; at <= t; ++at) log_a += rate(at);
      const double mu = s == 0 ? 1 : std::sqrt(-std::expm1(2 * rate(s)));
      const double want = std::exp(log_a) * mu * u.input_gate(1, s, 2);
      CHECK(std::abs(op(1, 2, t, s) - want) <= 40 * (T + 1) * 0x1p-53 * want);
    }
}

TEST_CASE("the operator of a selective state-space model is the sum over its states",
          "[analysis][operator][selective_ssm]") {
  constexpr index_t N = 3;
  arrays a;
  const selective_ssm<double> mixer{.channels = D,
                                    .state_dim = N,
                                    .decay = a.uniform(-2, -0.1, D, N),
                                    .skip = a.uniform(0.5, 1, D)};
  const selective_ssm<double>::tokens u{.dt = a.uniform(-2, 1, B, T, D),
                                        .input = a.uniform(-1, 1, B, T, D),
                                        .write = a.uniform(0, 1, B, T, 2, N),
                                        .read = a.uniform(0, 1, B, T, 2, N),
                                        .output_gate = a.uniform(0, 2, B, T, D)};
  const auto op = expect_its_own_operator(mixer, u, 60);
  // y_t = silu(z_t) (sum_n C_t e^(A sum of Delta) Delta_s B_s + skip at s = t), all terms positive.
  const index_t b = 1, d = 4, group = 1;
  const auto delta = [&](index_t t) { return std::log1p(std::exp(u.dt(b, t, d))); };
  for (index_t t = 0; t < T; ++t)
    for (index_t s = 0; s <= t; ++s) {
      double span = 0, want = s == t ? mixer.skip(d) : 0;
      for (index_t at = s + 1; at <= t; ++at) span += delta(at);
      for (index_t n = 0; n < N; ++n)
        want += u.read(b, t, group, n) * std::exp(mixer.decay(d, n) * span) * delta(s) *
                u.write(b, s, group, n);
      const double z = u.output_gate(b, t, d);
      want *= z / (1 + std::exp(-z));
      CHECK(std::abs(op(b, d, t, s) - want) <= 60 * (T + 1) * 0x1p-53 * want);
    }
}

TEST_CASE("the operator of a short convolution is a band", "[analysis][operator][causal_conv]") {
  arrays a;
  const causal_conv<double, 3> mixer{.channels = D, .weight = a.uniform(-1, 1, D, 3)};
  const auto op = expect_its_own_operator(
      mixer, causal_conv<double, 3>::tokens{.input = a.uniform(-1, 1, B, T, D)}, 6);
  for (index_t t = 0; t < T; ++t)
    for (index_t s = 0; s <= t; ++s)
      CHECK(op(1, 2, t, s) == (t - s < 3 ? mixer.weight(2, 2 - (t - s)) : 0.0));
}

TEST_CASE("operators of scored mixers have rows that sum to one",
          "[analysis][operator][generalized]") {
  constexpr index_t H = 2, K = 5, E = 3;
  arrays a;
  const auto query = a.uniform(-1, 1, B, T, H, K), key = a.uniform(-1, 1, B, T, H, K),
             input = a.uniform(-1, 1, B, T, H, E);
  const auto expect = [&](const auto& mixer) {
    using mixer_t = std::remove_cvref_t<decltype(mixer)>;
    const auto op = expect_its_own_operator(
        mixer, typename mixer_t::tokens{.query = query, .key = key, .input = input}, 4 * T);
    for (index_t t = 0; t < T; ++t)
      CHECK(std::abs(analysis::sum_of_row(op, 1, 1, t).sum - 1) <= T * (2 * T + 20) * 0x1p-53);
  };
  expect(generalized_scores<double, pattern::cached<pattern::square1>>{
      .heads = H, .key_dim = K, .value_dim = E});
  expect(chacal<double>{.heads = H, .key_dim = K, .value_dim = E, .feedback = 0.6});
}
