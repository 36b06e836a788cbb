// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

template <std::size_t I>
struct at {
  using type = hlru<scalar_at<I>, test_orders[I], normalisation_at(I)>;
};
template <std::size_t I>
using mixer_at = typename at<I>::type;
using mixers = for_each_order<mixer_at>::type;

using write_side = hlru<float, 4, normalise::none, gates::natural, gate_side::write>;

/// Numbers whose every sum and product in a short scan is exact: no rounding, no tolerance.
void make_exact(problem<float>& p, std::uint64_t seed) {
  maslin::test::random r(seed);
  for (auto* x : {&p.gate, &p.input, &p.initial})
    for (float& v : *x) v = static_cast<float>(r.between(-2, 2)) / 2;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("an H-LRU keeps the laws of mixers", "[mixer][hlru][law]", mixers) {
  mixer_laws(subject_of<TestType>{});
}

TEST_CASE("the write-side H-LRU keeps the laws that are not about bounds", "[mixer][hlru][law]") {
  const subject_of<write_side> m;
  SECTION("a sequence split anywhere gives the same bytes") { split_law<float>(m); }
  SECTION("scalars, registers, threads and steps give the same bytes") { schedule_law<float>(m); }
  SECTION("no output depends on a later token") { causality_law<float>(m); }
  SECTION("working in place gives the same bytes") { in_place_law<float>(m); }
}

TEST_CASE("a write-side H-LRU is a read-side one with the gates of earlier tokens",
          "[mixer][hlru]") {
  constexpr index_t T = 7, C = 11;
  constexpr std::size_t M = 4;
  const subject_of<write_side> written;
  const subject_of<hlru<float, M, normalise::none>> read;
  auto p = make_problem<float>(written, 1, T, C, 5);
  make_exact(p, 6);
  // y[t] = sum_k a[t-k,k] y[t-1-k] + b[t] + w[t+1]: lag k takes the gate of the token that wrote,
  // and the partial sums w of the start state arrive one a token.
  auto q = p;
  for (index_t t = 0; t < T; ++t)
    for (index_t c = 0; c < C; ++c) {
      const auto to = q.gates_at(0, t, c);
      for (std::size_t k = 0; k < M; ++k) {
        const index_t writer = t - static_cast<index_t>(k);
        to[k] = writer >= 0 ? p.gates_at(0, writer, c)[k] : 0;
      }
      to[M] = 1;
      float& b = q.input_at(0, t, c)[0];
      b *= p.gates_at(0, t, c)[M];
      if (t + 1 < static_cast<index_t>(M)) b += p.initial_at(0, c)[static_cast<std::size_t>(t + 1)];
    }
  const auto want = read.run(q).y, got = written.run(p).y;
  for (std::size_t i = 0; i < want.size(); ++i) REQUIRE(want[i] == got[i]);
}

TEST_CASE("normalised gates bound the read side and not the write side", "[mixer][hlru]") {
  // Inputs at t = 0, 2, 4; token 1 sends to lag 4, token 3 to lag 2: three inputs meet at t = 4.
  constexpr index_t T = 5;
  constexpr int M = 4;
  constexpr index_t input_gate = M;
  std::vector<float> gate(T * (M + 1), 0.0f), input(T, 1.0f), y(T);
  const auto choose = [&](index_t t, index_t k) {
    gate[static_cast<std::size_t>(t * (M + 1) + k)] = 1;
  };
  for (const index_t t : {0, 2, 4}) choose(t, input_gate);
  choose(1, 3);
  choose(3, 1);
  const auto largest = [&](const auto& mixer) {
    auto state = mixer.make_state();
    mixer.scan(exec::sequential{},
               {.gate = row_major(static_cast<const float*>(gate.data()), 1, T, 1, M + 1),
                .input = row_major(static_cast<const float*>(input.data()), 1, T, 1)},
               row_major(y.data(), 1, T, 1), state);
    return *std::max_element(y.begin(), y.end());
  };
  REQUIRE(largest(write_side{.channels = 1}) == 3.0f);
  REQUIRE(largest(hlru<float, M, normalise::none>{.channels = 1}) == 1.0f);
}

TEST_CASE("all lags of an H-LRU are earlier rows of y and the initial state", "[mixer][hlru]") {
  constexpr int M = 4;
  using mixer_t = hlru<float, M, normalise::none>;
  const subject_of<mixer_t> m;
  for (const index_t T : {0, 1, 3, 9})
    for (const index_t C : {1, 19}) {
      constexpr index_t B = 2;
      const auto p = make_problem<float>(m, B, T, C, 8);
      const auto y = m.run(p).y;
      const mixer_t mixer{.channels = C};
      auto initial = mixer.make_state(B);
      initial.copy_from(row_major(p.initial.data(), B, C, M));
      poisoned<float, 4> out({B, T, C, M}, {9, 5, 2, 0});
      mixer.lags(row_major(y.data(), B, T, C), initial, out.get());
      REQUIRE(out.intact());

      const std::vector<double> wide(y.begin(), y.end()), h(p.initial.begin(), p.initial.end());
      std::vector<double> lags(static_cast<std::size_t>(B * T * C * M));
      reference::hlru_lags(row_major(wide.data(), B, T, C), row_major(h.data(), B, C, M),
                           row_major(lags.data(), B, T, C, M));
      const std::vector<float> want(lags.begin(), lags.end());
      REQUIRE(difference(want, out.values()) == "");
    }
}
