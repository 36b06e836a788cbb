// SPDX-License-Identifier: Apache-2.0
// Chunks of every size against the oracle, over a million tokens that hardly forget: an error that
// grew with the chunk, as that of a product of gates in float does, would show here.
#include "mixer/accuracy.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// Every gate within 1e-6 of 1, a nonzero initial state, inputs of one sign. `C` channels: few of
/// them are chunks in lanes, many are channels in lanes.
template <class S>
void check_chunk_sizes(const std::string& name, const subject<S>& m, index_t T, index_t C) {
  auto p = make_problem(m, 1, T, C, 23, memory::sticky);
  for (S& x : p.input) x = std::abs(x);
  const auto want = m.bounds(p);
  const auto stage = m.set(p, {});
  double worst = 0;
  for (const index_t chunk : {16, 64, 272, 1024, 4096, 16384, 65536}) {
    const auto one = stage->run({.legs = {{T, exec::chunked{.chunk = chunk, .threads = 1}}}});
    const double ratio = worst_error(one.y, want, published_factor(m, walk::chunked));
    INFO(name << ", chunk " << chunk << ", C " << C);
    CHECK(ratio <= 1);
    worst = std::max(worst, ratio);
    const auto three = stage->run({.legs = {{T, exec::chunked{.chunk = chunk, .threads = 3}}}});
    CHECK(difference(one, three) == "");
  }
  std::cout << name << ", " << C << " channels, T " << T
            << ", chunks of 16 to 65536: worst error / bound " << worst << '\n';
}

}  // namespace

TEST_CASE("chunks of any size keep to the bound over a million tokens",
          "[mixer][chunked][accuracy]") {
#if defined(MASLIN_DEBUG_CHECKS)
  constexpr index_t T = 20003;  // such builds are slow
#else
  constexpr index_t T = 1000003;
#endif
  for (const index_t C : {1, 9}) {
    check_chunk_sizes<float>("diagonal", subject_of<diagonal<float>>{}, T, C);
    check_chunk_sizes<float>("diagonal complement",
                             subject_of<diagonal<float, decay::complement>>{}, T, C);
  }
  check_chunk_sizes<float>("hlru 2", subject_of<hlru<float, 2>>{}, T, 1);
  check_chunk_sizes<float>("hlru 2", subject_of<hlru<float, 2>>{}, T / 8, 9);
  check_chunk_sizes<float>("bdlru 2", subject_of<bdlru<float, 2>>{}, T, 1);
  check_chunk_sizes<float>("bdlru 4 given", subject_of<bdlru<float, 4, normalise::none>>{}, T / 8,
                           9);
}
