// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// The same mixer for both orders of its gates.
template <template <gates> class Mixer>
struct both_orders {
  using natural = Mixer<gates::natural>;
  using grouped = Mixer<gates::grouped>;
};
// H-LRU and BD-LRU by turns, in pairs of order, scalar and normalisation that the files of the
// mixers do not have.
template <std::size_t I>
struct at {
  template <gates Order>
  using hlru_of = hlru<scalar_at<I / 2>, test_orders[I], normalisation_at(I + 3), Order>;
  template <gates Order>
  using bdlru_of = bdlru<scalar_at<I / 2 + 1>, test_orders[I], normalisation_at(I + 4), Order>;
  using type = std::conditional_t<I % 2 == 0, both_orders<hlru_of>, both_orders<bdlru_of>>;
};
template <std::size_t I>
using mixer_at = typename at<I>::type;

template <class S>
std::vector<S> counted(index_t n) {
  std::vector<S> x(static_cast<std::size_t>(n));
  std::iota(x.begin(), x.end(), S(1));
  return x;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("grouped gates give the bytes of natural ones",
                        "[mixer][hlru][bdlru][layout]", for_each_order<mixer_at>::type) {
  grouped_law(subject_of<typename TestType::natural>{}, subject_of<typename TestType::grouped>{});
}

TEST_CASE("gates regrouped by the helper are where a grouped mixer reads them", "[mixer][layout]") {
  constexpr index_t B = 2, T = 3;
  for (const index_t n : {1, 8, 11})
    for (const index_t L : {1, 4, 8, 16}) {
      INFO(n << " channels, L " << L);
      {
        constexpr int M = 2;
        const auto gate = counted<float>(B * T * n * (M + 1));
        poisoned<float, 5> grouped({B, T, layout::groups(n, L), M + 1, L}, {9, 7, 5, 3, 0});
        regroup_gate(row_major(gate.data(), B, T, n, M + 1), grouped.get());
        REQUIRE(grouped.intact());
        std::size_t i = 0;
        for (index_t b = 0; b < B; ++b)
          for (index_t t = 0; t < T; ++t)
            for (index_t c = 0; c < layout::groups(n, L) * L; ++c)
              for (index_t k = 0; k <= M; ++k)
                REQUIRE(grouped.get()(b, t, c / L, k, c % L) == (c < n ? gate[i++] : 0.0f));
      }
      {
        constexpr int M = 3;
        const auto gate = counted<double>(B * T * n * M * (M + 1));
        poisoned<double, 6> grouped({B, T, layout::groups(n, L), M, M + 1, L}, {9, 7, 5, 4, 3, 0});
        regroup_gate(row_major(gate.data(), B, T, n, M, M + 1), grouped.get());
        REQUIRE(grouped.intact());
        std::size_t i = 0;
        for (index_t b = 0; b < B; ++b)
          for (index_t t = 0; t < T; ++t)
            for (index_t g = 0; g < layout::groups(n, L) * L; ++g)
              for (index_t r = 0; r < M; ++r)
                for (index_t k = 0; k <= M; ++k)
                  REQUIRE(grouped.get()(b, t, g / L, r, k, g % L) == (g < n ? gate[i++] : 0.0));
      }
    }
}

TEST_CASE("a projection with regrouped rows emits regrouped gates", "[mixer][layout]") {
  constexpr index_t D = 11, M = 2, width = 3, L = 4, groups = layout::groups(D, L);
  constexpr index_t rows = M + 1;
  const auto weight = counted<float>(D * rows * width), bias = counted<float>(D * rows);
  poisoned<float, 2> grouped_weight({groups * L * rows, width}, {2, 0});
  poisoned<float, 1> grouped_bias({groups * L * rows});
  regroup_rows<L>(D, rows, row_major(weight.data(), D * rows, width),
                  row_major(bias.data(), D * rows), grouped_weight.get(), grouped_bias.get());
  REQUIRE(grouped_weight.intact());
  REQUIRE(grouped_bias.intact());

  // Integers: the products below are exact in any order.
  const std::vector<float> x = {1, -2, 3};
  const auto project = [&](const auto& w, const auto& b, index_t row) {
    float z = b(row);
    for (index_t i = 0; i < width; ++i) z += w(row, i) * x[static_cast<std::size_t>(i)];
    return z;
  };
  std::vector<float> natural, grouped;
  for (index_t r = 0; r < D * rows; ++r)
    natural.push_back(
        project(row_major(weight.data(), D * rows, width), row_major(bias.data(), D * rows), r));
  for (index_t r = 0; r < groups * L * rows; ++r)
    grouped.push_back(project(grouped_weight.get(), grouped_bias.get(), r));

  std::vector<float> want(grouped.size());
  regroup_gate(row_major(natural.data(), 1, 1, D, rows),
               row_major(want.data(), 1, 1, groups, rows, L));
  REQUIRE(difference(want, grouped) == "");

  // Without a bias nothing else changes.
  poisoned<float, 2> alone({groups * L * rows, width});
  regroup_rows<L>(D, rows, row_major(weight.data(), D * rows, width), view<const float, 1>{},
                  alone.get(), view<float, 1>{});
  REQUIRE(difference(grouped_weight.values(), alone.values()) == "");
}
