// SPDX-License-Identifier: Apache-2.0
#include "support/answer.hpp"
#include "support/catch.hpp"

#include <maslin/core/view.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/state.hpp>

#include <string>
#include <vector>

namespace {

using maslin::index_t;
using maslin::row_major;
using maslin::view;
using maslin::test::answer;
namespace check = maslin::check;
namespace scan = maslin::scan;

constexpr check::caller who{"hlru", "scan"};

}  // namespace

TEST_CASE("input, y, offsets and state of a call are checked against each other",
          "[scan][call][errors]") {
  constexpr index_t B = 2, T = 3, D = 4;
  std::vector<float> numbers(200);
  float* const p = numbers.data();
  const auto input = row_major(p, B, T, D), y = row_major(p + 24, B, T, D);
  const auto gate_view = row_major(p + 48, B, T, D);
  const auto gate = check::layout<float, 3>(who, "gate", "[B, T, D]", gate_view, {B, T, D}, 2);
  const scan::lane_state<float, 3> state("hlru", B, D, 2);
  bool in_place = false;
  const auto call = [&](const view<const float, 3>& in, const view<float, 3>& out,
                        std::vector<index_t> offsets = {},
                        const scan::lane_state<float, 3>* h = nullptr) {
    return answer([&] {
      in_place =
          scan::check_values<float, 3>(who, "[B, T, D]", in, out, {in.extent(0), T, D}, "gate",
                                       gate, offsets, "[B, D]", h == nullptr ? state : *h);
    });
  };
  CHECK(call(input, y) == "");
  CHECK_FALSE(in_place);
  CHECK(call(input, input) == "");
  CHECK(in_place);
  CHECK(call(input, row_major(p, B, T, D + 1)) ==
        "hlru::scan: y must be [B, T, D] = [2, 3, 4], got [2, 3, 5]");
  CHECK(call(row_major(p, B, T - 1, D), y) ==
        "hlru::scan: input must be [B, T, D] = [2, 3, 4], got [2, 2, 4]");
  CHECK(call(input, row_major(p + 4, B, T, D)) ==
        "hlru::scan: y must not overlap input, got memory that does");
  CHECK(call(input, gate_view) == "hlru::scan: y must not overlap gate, got memory that does");
  CHECK(call(input, maslin::strided(p + 100, std::array<index_t, 3>{B, T, D},
                                    std::array<index_t, 3>{5, 4, 1})) ==
        "hlru::scan: y must have batch and time strides that keep its rows apart, got rows that "
        "overlap");
  const scan::lane_state<float, 3> wide("hlru", B, D + 1, 2), long_one("hlru", B + 1, D, 2);
  CHECK(call(input, y, {}, &wide) == "hlru::scan: state must be [B, D] = [2, 4], got [2, 5]");
  CHECK(call(input, y, {}, &long_one) == "hlru::scan: state must be [B, D] = [2, 4], got [3, 4]");
  scan::lane_state<float, 3> h = state;
  CHECK(call(input, row_major(h.row(0), B, T, D), {}, &h) ==
        "hlru::scan: y must not overlap state, got memory that does");

  const auto packed_in = row_major(p, 1, T, D), packed_out = row_major(p + 24, 1, T, D);
  CHECK(call(packed_in, packed_out, {0, 1, 3}) == "");
  CHECK(call(packed_in, packed_out, {0, 1, 2, 3}) ==
        "hlru::scan: state must be [B, D] = [3, 4], got [2, 4]");
  CHECK(call(input, y, {0, 1, 3}) ==
        "hlru::scan: tokens with offsets are one packed sequence: B must be 1, got 2");
}

TEST_CASE("packed sequences are asked for by their number", "[scan][call][packed]") {
  const std::vector<index_t> offsets{0, 3, 3, 10};
  CHECK(scan::packed_range(who, offsets, 0) == std::pair<index_t, index_t>{0, 3});
  CHECK(scan::packed_range(who, offsets, 1) == std::pair<index_t, index_t>{3, 3});
  CHECK(scan::packed_range(who, offsets, 2) == std::pair<index_t, index_t>{3, 10});
  for (const index_t b : {-1, 3})
    CHECK(answer([&] { static_cast<void>(scan::packed_range(who, offsets, b)); }) ==
          "hlru::scan: b must be one of 3 packed sequences, got " + std::to_string(b));
  CHECK(answer([&] { static_cast<void>(scan::packed_range(who, {}, 0)); }) ==
        "hlru::scan: b must be one of 0 packed sequences, got 0");
  CHECK(answer([&] { scan::expect_unpacked(who, {}); }) == "");
  CHECK(answer([&] { scan::expect_unpacked(who, offsets); }) ==
        "hlru::scan: tokens must not be packed, got 4 offsets");
}
