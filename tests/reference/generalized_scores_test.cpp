// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/reference/generalized_scores.hpp>

#include <vector>

using namespace maslin;

TEST_CASE("gradients of two tokens of direct::rows by hand",
          "[reference][generalized_scores][gradient]") {
  // z as coefficients, g = 1/2: c_00 = 3, F_0 = -1/2, y_0 = -3, w_0 = -1;
  // c_11 = 1, c_10 = 6, F_1 = 1/2, y_1 = -10, w_1 = -4.
  const std::vector<double> q{1, 2}, k{3, 0.5}, x{1, 2}, dy{1, 2}, zeros(2), none;
  std::vector<double> y(2), w(2), dbias(1), dself(1), dq(2), dk(2), dx(2), nothing;
  const auto in = [](const std::vector<double>& v) {
    return row_major(v.data(), 1, static_cast<index_t>(v.size()), 1, 1);
  };
  const auto out = [](std::vector<double>& v) {
    return row_major(v.data(), 1, static_cast<index_t>(v.size()), 1, 1);
  };
  reference::generalized_scores_backward<double>(
      {.kind = weights::given,
       .form = direct::rows,
       .reads = reference::plain_reads([](index_t n) { return n + 1; }),
       .smallest_normal = 0,
       .scale = 1,
       .g = 0.5,
       .bias = row_major(zeros.data(), 1, 1),
       .self_bias = row_major(zeros.data(), 1),
       .query = in(q),
       .key = in(k),
       .input = in(x),
       .keys_before = in(none),
       .before = in(none),
       .dy = in(dy),
       .dkeys_after = in(zeros),
       .dafter = in(zeros)},
      {.y = out(y),
       .w = out(w),
       .dbias = row_major(dbias.data(), 1, 1),
       .dself_bias = row_major(dself.data(), 1),
       .dquery = out(dq),
       .dkey = out(dk),
       .dinput = out(dx),
       .dkeys_before = out(nothing),
       .dbefore = out(nothing)});
  CHECK(y == std::vector<double>{-3, -10});
  CHECK(w == std::vector<double>{-1, -4});
  // sigma_1 = 2 / F_1 = 4, dc_11 = -16, dc_10 = -4, omega_0 = 24;
  // sigma_0 = (1 + 24 / 2) / F_0 = -26, dc_00 = 26.
  CHECK(dx == std::vector<double>{(3 * -26 + 24) / 2, 2});
  CHECK(dq == std::vector<double>{26 * 3, -16 * 0.5 - 4 * 3});
  CHECK(dk == std::vector<double>{26 * 1 - 4 * 2, -16 * 2});
  CHECK(dself[0] == -16 + 26);
  CHECK(dbias[0] == -4);
}
