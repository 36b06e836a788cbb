// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

TEMPLATE_TEST_CASE("a diagonal recurrence keeps the laws of mixers", "[mixer][diagonal][law]",
                   diagonal<float>, diagonal<double>, (diagonal<float, decay::log>),
                   (diagonal<double, decay::log>), (diagonal<float, decay::complement>),
                   (diagonal<double, decay::complement>)) {
  mixer_laws(subject_of<TestType>{});
}

TEMPLATE_TEST_CASE("a decay fixed in time gives the bytes of a repeated gate", "[mixer][diagonal]",
                   diagonal<float>, (diagonal<double, decay::log>),
                   (diagonal<float, decay::complement>)) {
  using S = typename TestType::scalar_type;
  const subject_of<TestType> m;
  constexpr index_t B = 2, T = 9, split = 4;
  for (const index_t C : few_channels) {
    auto p = make_problem<S>(m, B, T, C, 5);
    const std::vector<S> decay(p.gate.begin(), p.gate.begin() + C);
    for (std::size_t i = 0; i < p.gate.size(); ++i)
      p.gate[i] = decay[i % static_cast<std::size_t>(C)];

    const TestType mixer{.channels = C, .decay = row_major(decay.data(), C)};
    const typename TestType::tokens tokens{
        .gate = {}, .input = row_major(static_cast<const S*>(p.input.data()), B, T, C)};
    for (const way& how : all_ways()) {
      // In two calls, since `range` has to cope with the absent gates.
      const auto want = m.run(p, plan{.legs = {{split, how}, {T, how}}});
      auto state = mixer.make_state(B);
      state.copy_from(row_major(static_cast<const S*>(p.initial.data()), B, C));
      std::vector<S> out(want.y.size());
      const auto y = row_major(out.data(), B, T, C);
      std::visit(
          [&](const auto& policy) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(policy)>, decode>) {
              for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
            } else {
              mixer.scan(policy, tokens.range(0, split), time_range(y, 0, split), state);
              mixer.scan(policy, tokens.range(split, T), time_range(y, split, T), state);
            }
          },
          how);
      INFO(C << " channels, " << describe(how));
      std::vector<S> last(want.state.size());
      state.copy_to(row_major(last.data(), B, C));
      REQUIRE(difference(want, outcome<S>{out, last}) == "");
    }
  }
}

TEST_CASE("known diagonal recurrences: sums, copies, powers", "[mixer][diagonal]") {
  const subject_of<diagonal<float>> m;
  constexpr index_t T = 6, C = 11;
  auto p = make_problem<float>(m, 1, T, C, 4);
  for (float& x : p.input) x = std::round(4 * x);
  for (float& h : p.initial) h = std::round(4 * h);
  const auto run_with = [&](float gate) {
    std::fill(p.gate.begin(), p.gate.end(), gate);
    return m.run(p).y;
  };
  // With these gates nothing is rounded.
  const auto sums = run_with(1), copies = run_with(0), halves = run_with(0.5f);
  for (index_t c = 0; c < C; ++c) {
    float sum = p.initial_at(0, c)[0], half = sum;
    for (index_t t = 0; t < T; ++t) {
      const float x = p.input_at(0, t, c)[0];
      sum += x;
      half = half / 2 + x;
      const auto i = static_cast<std::size_t>(t * C + c);
      REQUIRE(sums[i] == sum);
      REQUIRE(copies[i] == x);
      REQUIRE(halves[i] == half);
    }
  }
}
