// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"
#include "laws/recurrence_laws.hpp"
#include "support/random.hpp"

#include <maslin/core/aligned.hpp>

#include <array>
#include <cstring>
#include <span>

namespace {

using namespace maslin;
using namespace maslin::test;
using enum normalise;

constexpr index_t B = 2, T = 6;

/// How values of blocks lie in memory: blocks `step` apart, tokens `row` apart, from the start of a line.
struct gaps {
  index_t step = 1, row = 0;
};
template <class S, class X>
view<X, 4> blocks_of(X* p, index_t G, gaps g) {
  return strided(p, std::array{B, T, G, index_t{1}},
                 std::array{T * g.row, g.row, g.step, index_t{1}});
}

/// Blocks of one number have the gradients of H-LRU of order 1, to the last bit, wherever they lie.
template <class S, normalise N, gates Order, class Policy>
void check_channels(index_t D, gaps g, const Policy& policy) {
  CAPTURE(D, g.step, g.row, int(N), Order == gates::grouped);
  const index_t L = Order == gates::grouped ? default_group : 1, groups = layout::groups(D, L);
  const auto numbers = [](index_t n) { return aligned_vector<S>(static_cast<std::size_t>(n)); };
  test::random r(static_cast<std::uint64_t>(D + g.step));
  aligned_vector<S> gate = numbers(B * T * groups * L * 2), x = numbers(B * T * D), dy = x, y = x,
                    dx = x, wide_x = numbers(B * T * g.row), wide_dy = wide_x, wide_y = wide_x,
                    wide_dx = wide_x;
  for (auto* v : {&gate, &x, &dy}) r.fill_normal(std::span<S>(v->data(), v->size()));
  aligned_vector<S> dgate = gate, block_dgate = gate;
  const auto each_value = [&](const auto& f) {
    for (index_t i = 0; i < B * T * D; ++i)
      f(static_cast<std::size_t>(i), static_cast<std::size_t>(i / D * g.row + i % D * g.step));
  };
  each_value([&](std::size_t i, std::size_t at) { wide_x[at] = x[i], wide_dy[at] = dy[i]; });

  const hlru<S, 1, N, Order> channels{.channels = D};
  const bdlru<S, 1, N, Order> blocks{.blocks = D};
  const auto row = [&](auto* p) { return row_major(p, B, T, D); };
  const auto gates_of = [&](auto* p, auto... block) {
    if constexpr (Order == gates::grouped)
      return row_major(p, B, T, groups, block..., 2, L);
    else
      return row_major(p, B, T, D, block..., 2);
  };
  const auto wide = [&](auto* p) { return blocks_of<S>(p, D, g); };
  const auto run = [&](const auto& mixer, const auto& u, const auto& out, const auto& arriving,
                       const auto& d) {
    auto state = mixer.make_state(B), dstate = mixer.make_state(B);
    auto saved = mixer.make_saved(B);
    mixer.scan(exec::sequential{}, u, out, state, saved);
    mixer.backward(policy, u, saved, arriving, d, dstate);
    std::vector<S> numbers_of(static_cast<std::size_t>(B * D));
    dstate.copy_to(row_major(numbers_of.data(), B, D, 1));
    return numbers_of;
  };
  const S *g_in = gate.data(), *x_in = x.data(), *dy_in = dy.data();
  const S *wide_x_in = wide_x.data(), *wide_dy_in = wide_dy.data();
  using channel_tokens = typename hlru<S, 1, N, Order>::tokens;
  using block_tokens = typename bdlru<S, 1, N, Order>::tokens;
  typename hlru<S, 1, N, Order>::gradients d{.gate = gates_of(dgate.data()),
                                             .input = row(dx.data())};
  typename bdlru<S, 1, N, Order>::gradients block_d{.gate = gates_of(block_dgate.data(), 1),
                                                    .input = wide(wide_dx.data())};
  const auto want = run(channels, channel_tokens{.gate = gates_of(g_in), .input = row(x_in)},
                        row(y.data()), row(dy_in), d);
  const auto got = run(blocks, block_tokens{.gate = gates_of(g_in, 1), .input = wide(wide_x_in)},
                       wide(wide_y.data()), wide(wide_dy_in), block_d);
  CHECK(want == got);
  CHECK(std::memcmp(dgate.data(), block_dgate.data(), dgate.size() * sizeof(S)) == 0);
  bool same = true;
  each_value([&](std::size_t i, std::size_t at) {
    same = same && std::memcmp(&dx[i], &wide_dx[at], sizeof(S)) == 0;
  });
  CHECK(same);
}
template <class S, normalise N>
void check_channels_everywhere() {
  for (const index_t D : {1, 5, 16, 40, 72, 200})
    for (const gaps g : {gaps{1, (D + 15) / 16 * 16}, gaps{1, D + 3}, gaps{3, 3 * D + 1}})
      for (const auto store : {exec::stores::plain, exec::stores::streaming}) {
        check_channels<S, N, gates::natural>(D, g, exec::sequential{.store = store});
        check_channels<S, N, gates::grouped>(D, g, exec::sequential{.store = store});
        check_channels<S, N, gates::natural>(D, g, exec::scalar{});
        check_channels<S, N, gates::grouped>(D, g, exec::chunked{.chunk = 2});
      }
}

}  // namespace

TEST_CASE("the gradients of blocks of one number are those of channels",
          "[gradient][bdlru][hlru]") {
  check_channels_everywhere<float, softmax>();
  check_channels_everywhere<double, softmax>();
  check_channels_everywhere<float, tanh_l1>();
}

TEST_CASE("the gradients of BD-LRU keep the laws at every block size", "[gradient][bdlru][law]") {
  for_orders<1, 2, 4, 8>([](auto order) {
    CAPTURE(int(order));
    const int rounds = order > 4 ? 5 : 20;
    check_gradient_laws(recurrent_gradients<bdlru<float, order>>(), 100 + order, rounds, 3, 12);
  });
  check_gradient_laws(recurrent_gradients<bdlru<double, 3>>(), 200, 5, 3, 12);
}
TEST_CASE("the gradients of BD-LRU keep the laws for every normalisation and in grouped order",
          "[gradient][bdlru][law]") {
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, none>>(), 7, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, sigmoid_l1>>(), 8, 5);
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, relu_l1>>(), 9, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, tanh_l1>>(), 10, 5);
  check_gradient_laws(recurrent_gradients<bdlru<float, 2, lin_l1>>(), 11, 20);
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, softmax, gates::grouped>>(), 12, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, softmax, gates::grouped>>(), 13, 5);
}
