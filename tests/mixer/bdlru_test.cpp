// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

template <std::size_t I>
struct at {
  using type = bdlru<scalar_at<I>, test_orders[I], normalisation_at(I + 1)>;
};
template <std::size_t I>
using mixer_at = typename at<I>::type;
using mixers = for_each_order<mixer_at>::type;

}  // namespace

TEMPLATE_LIST_TEST_CASE("a BD-LRU keeps the laws of mixers", "[mixer][bdlru][law]", mixers) {
  mixer_laws(subject_of<TestType>{});
}

TEST_CASE("logits without input make a block any permutation", "[mixer][bdlru]") {
  // Column perm[i] of row i takes all the weight: the block then tracks a product of permutations,
  // which no recurrence of channels of their own can.
  constexpr int M = 5;
  constexpr index_t T = 12;
  constexpr float off = -std::numeric_limits<float>::infinity();
  std::vector<float> gate(T * M * (M + 1), off), input(T * M, 7.0f), y(T * M);
  std::vector<int> tracked(M), next(M);
  std::iota(tracked.begin(), tracked.end(), 1);
  const bdlru<float, M> mixer{.blocks = 1};
  auto state = mixer.make_state();
  const std::vector<float> start(tracked.begin(), tracked.end());
  state.copy_from(row_major(start.data(), 1, 1, M));
  maslin::test::random r(3);
  std::vector<float> want;
  for (index_t t = 0; t < T; ++t) {
    std::vector<int> perm(M);
    std::iota(perm.begin(), perm.end(), 0);
    for (int i = M - 1; i > 0; --i)
      std::swap(perm[static_cast<std::size_t>(i)], perm[static_cast<std::size_t>(r.below(i + 1))]);
    for (std::size_t i = 0; i < M; ++i) {
      const auto from = static_cast<std::size_t>(perm[i]);
      gate[(static_cast<std::size_t>(t) * M + i) * (M + 1) + from] = 0;
      next[i] = tracked[from];
    }
    tracked = next;
    want.insert(want.end(), tracked.begin(), tracked.end());
  }
  mixer.scan(exec::sequential{},
             {.gate = row_major(static_cast<const float*>(gate.data()), 1, T, 1, M, M + 1),
              .input = row_major(static_cast<const float*>(input.data()), 1, T, 1, M)},
             row_major(y.data(), 1, T, 1, M), state);
  REQUIRE(difference(want, y) == "");
}
