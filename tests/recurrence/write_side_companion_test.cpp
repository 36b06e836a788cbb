// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"

#include <maslin/recurrence/companion.hpp>

#include <cstdint>
#include <vector>

namespace {

using namespace maslin::test;
using maslin::recurrence::write_side_companion;

template <int M>
struct write_side {
  template <class V>
  using at = write_side_companion<V, M>;
};
using ring = std::uint64_t;

}  // namespace

TEST_CASE("the write-side companion keeps the laws at every order",
          "[recurrence][write_side][laws]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) { laws::check<write_side<order>>(order); });
}
TEST_CASE("the write-side companion keeps the laws in wide and narrow numbers",
          "[recurrence][write_side][laws]") {
  for_orders<1, 3, 8>([](auto order) { laws::check_wide<write_side<order>>(order); });
}

TEST_CASE("the write-side companion weights lag k by the gate of the token that wrote it",
          "[recurrence][write_side][formula]") {
  for_orders<MASLIN_TEST_ORDERS>([](auto order) {
    constexpr int M = order;
    CAPTURE(M);
    constexpr int T = 2 * M + 3;
    const auto tokens = laws::ring_tokens<write_side_companion<ring, M>>(T);
    // w[0] is h; from the zero state, h[t] = sum_k a[t-k,k] h[t-1-k] + b[t].
    typename write_side_companion<ring, M>::state w{};
    std::vector<ring> h;
    for (int t = 0; t < T; ++t) {
      ring want = tokens[std::size_t(t)].gates.input;
      for (int k = 0; k < M && t - 1 - k >= 0; ++k)
        want += tokens[std::size_t(t - k)].gates.gate[k] * h[std::size_t(t - 1 - k)];
      h.push_back(want);
      write_side_companion<ring, M>::step(tokens[std::size_t(t)], w);
      CHECK(w.h[0] == want);
    }
  });
}
