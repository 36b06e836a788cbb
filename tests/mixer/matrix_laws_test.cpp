// SPDX-License-Identifier: Apache-2.0
#include "matrix_subject.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// All laws of mixers but that of working in place, which these do not.
void matrix_laws(const subject<float>& m) {
  SECTION("a sequence split anywhere gives the same bytes") { split_law(m); }
  SECTION("a sequence split twice gives the same bytes") { three_way_split_law(m); }
  SECTION("scalars, registers, threads and steps give the same bytes") { schedule_law(m); }
  SECTION("neither the place in a batch nor the neighbours change a byte") { batch_law(m); }
  SECTION("packed sequences give the bytes of separate ones") { packed_law(m); }
  SECTION("no output depends on a later token") { causality_law(m); }
  SECTION("NaN and Inf stay in their head, later in time") { cone_law(m); }
  SECTION("permuted heads give permuted bytes") { permutation_law(m); }
  SECTION("a power of two passes through exactly") { scaling_law(m); }
  SECTION("the result is linear in values and state") { linearity_law(m); }
  SECTION("strides with gaps give the same bytes") { stride_law(m); }
  SECTION("no tokens, sequences or heads are legal") { empty_law(m); }
  SECTION("chunks keep to their bound") { chunk_law(m); }
}

}  // namespace

TEST_CASE("linear attention with a decay for each key keeps the laws of mixers",
          "[mixer][linear_attention][law]") {
  matrix_laws(matrix_subject<linear_attention<float, decay_axis::key>, 5, 3>{});
}

TEST_CASE("the gated delta rule keeps the laws of mixers", "[mixer][delta_rule][law]") {
  matrix_laws(matrix_subject<delta_rule<float, decay_axis::head>, 3, 5>{});
}

TEST_CASE("threads that share a head by columns give the same bytes",
          "[mixer][linear_attention][delta_rule][threads]") {
  const auto check = [](const auto& a) {
    for (const way& one : {way(exec::sequential{}), way(exec::chunked{.chunk = 8, .threads = 1})}) {
      const auto want = carry_out(a, one);
      for (const int threads : {2, 3, 7}) {
        const way many = std::holds_alternative<exec::sequential>(one)
                             ? way(exec::sequential{.threads = threads})
                             : way(exec::chunked{.chunk = 8, .threads = threads});
        INFO(describe(many));
        CHECK(difference(want, carry_out(a, many)) == "");
      }
    }
  };
  check(make_matrix_arrays<linear_attention<float, decay_axis::key>>(
      {.T = 21, .H = 1, .K = 9, .E = 70}, 1));
  check(make_matrix_arrays<delta_rule<float, decay_axis::head>>({.T = 21, .H = 2, .K = 9, .E = 50},
                                                                2));
}
