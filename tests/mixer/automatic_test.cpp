// SPDX-License-Identifier: Apache-2.0
// Every mixer takes exec::automatic, on threads of its own or of the user's; where time is not cut,
// the bytes are those of exec::sequential.
#include "scan/executors.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/maslin.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

using namespace maslin;

namespace {

std::vector<float> drawn(index_t n) {
  static maslin::test::random numbers(1);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = float(numbers.uniform(0.1, 0.9));
  return x;
}

/// Outputs of `n` numbers by one policy. `out(p)` makes a view of them.
template <class Mixer, class Policy, class Out>
std::vector<float> outputs(const Mixer& mixer, const typename Mixer::tokens& u, index_t n,
                           const Policy& policy, const Out& out) {
  std::vector<float> y(static_cast<std::size_t>(n), std::nanf(""));
  auto state = mixer.make_state(1);
  mixer.scan(policy, u, out(y.data()), state);
  return y;
}

template <class Mixer, class Out>
bool as_in_order(const Mixer& mixer, const typename Mixer::tokens& u, index_t n, const Out& out) {
  STATIC_REQUIRE(token_mixer_with<Mixer, exec::automatic>);
  maslin::test::thread_executor team;
  const auto want = outputs(mixer, u, n, exec::sequential{}, out);
  return outputs(mixer, u, n, exec::automatic{}, out) == want &&
         outputs(mixer, u, n, exec::automatic{.threads = 3}, out) == want &&
         outputs(mixer, u, n, exec::on(team, exec::automatic{.threads = 3}), out) == want;
}

constexpr index_t T = 9, D = 20, H = 2, K = 4;

const float* read(const std::vector<float>& x) { return x.data(); }
auto by_channel(float* p) { return row_major(p, 1, T, D); }
auto by_head(float* p) { return row_major(p, 1, T, H, K); }
view<const float, 3> by_channel(const std::vector<float>& x) { return row_major(read(x), 1, T, D); }
view<const float, 4> by_head(const std::vector<float>& x) { return row_major(read(x), 1, T, H, K); }

}  // namespace

TEST_CASE("gated recurrences take the automatic policy", "[mixer][automatic]") {
  const auto a = drawn(T * D), b = drawn(T * D), c = drawn(T * D), gates = drawn(T * D * 12);
  const auto out = [](float* p) { return by_channel(p); };
  CHECK(as_in_order(diagonal<float>{.channels = D, .decay = {}},
                    {.gate = by_channel(a), .input = by_channel(b), .offsets = {}}, T * D, out));
  CHECK(as_in_order(
      hlru<float, 2>{.channels = D},
      {.gate = row_major(read(gates), 1, T, D, 3), .input = by_channel(b), .offsets = {}}, T * D,
      out));
  CHECK(as_in_order(bdlru<float, 2>{.blocks = D / 2},
                    {.gate = row_major(read(gates), 1, T, D / 2, 2, 3),
                     .input = row_major(read(b), 1, T, D / 2, 2),
                     .offsets = {}},
                    T * D, [](float* p) { return row_major(p, 1, T, D / 2, 2); }));
  CHECK(as_in_order(rglru<float>{.channels = D, .decay = row_major(read(c), D)},
                    {.recurrence_gate = by_channel(a),
                     .input_gate = by_channel(c),
                     .input = by_channel(b),
                     .offsets = {}},
                    T * D, out));
}

TEST_CASE("mixers that walk their own way take the automatic policy", "[mixer][automatic]") {
  const auto a = drawn(T * D), b = drawn(T * D), w = drawn(T * D * 4);
  const auto out = [](float* p) { return by_channel(p); };
  CHECK(as_in_order(causal_conv<float, 4>{.channels = D, .weight = row_major(read(w), D, 4)},
                    {.input = by_channel(b), .offsets = {}}, T * D, out));
  std::vector<float> decay = drawn(D * 4);
  for (float& x : decay) x = -x;
  selective_ssm<float> ssm{};
  ssm.channels = D;
  ssm.state_dim = 4;
  ssm.decay = row_major(read(decay), D, 4);
  selective_ssm<float>::tokens u{};
  u.dt = by_channel(a);
  u.input = by_channel(b);
  u.write = row_major(read(w), 1, T, 1, 4);
  u.read = row_major(read(w), 1, T, 1, 4);
  CHECK(as_in_order(ssm, u, T * D, out));
}

TEST_CASE("mixers of heads and of rows take the automatic policy", "[mixer][automatic]") {
  const auto q = drawn(T * H * K), k = drawn(T * H * K), v = drawn(T * H * K), s = drawn(T * H);
  const auto out = [](float* p) { return by_head(p); };
  attention<float> attend{};
  attend.heads = H;
  attend.key_dim = attend.value_dim = K;
  attention<float>::tokens u{};
  u.query = by_head(q), u.key = by_head(k), u.value = by_head(v);
  CHECK(as_in_order(attend, u, T * H * K, out));

  linear_attention<float> linear{};
  linear.heads = H;
  linear.key_dim = linear.value_dim = K;
  linear_attention<float>::tokens l{};
  l.query = by_head(q), l.key = by_head(k), l.value = by_head(v);
  CHECK(as_in_order(linear, l, T * H * K, out));

  generalized<float, pattern::order> rows{};
  rows.heads = H;
  rows.value_dim = K;
  rows.pattern = pattern::order{2};
  generalized<float, pattern::order>::tokens g{};
  g.self = row_major(read(s), 1, T, H);
  g.past = row_major(read(q), 1, T, H, 2);
  g.input = by_head(v);
  CHECK(as_in_order(rows, g, T * H * K, out));
}
