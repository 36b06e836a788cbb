// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/complex_readout.hpp>

#include <vector>

using maslin::row_major;

TEST_CASE("gradients of real outputs of three complex states, worked out by hand",
          "[reference][complex_readout][gradient]") {
  // read 2 + 3 i; states 1 - 2 i, i, 2; y = 2 Re(read h) + 5 input
  const std::vector<double> read{2, 3}, skip{5}, h{1, -2, 0, 1, 2, 0}, input{7, 0, 1}, dy{1, -1, 2};
  std::vector<double> y(3), dread(2), dskip(1), dh(6), dinput(3);
  maslin::reference::complex_readout_backward<double>(
      row_major(read.data(), 1, 1, 1, 2), row_major(skip.data(), 1), 2,
      row_major(h.data(), 1, 3, 1, 2), row_major(input.data(), 1, 3, 1),
      row_major(y.data(), 1, 3, 1), row_major(dy.data(), 1, 3, 1),
      row_major(dread.data(), 1, 1, 1, 2), row_major(dskip.data(), 1),
      row_major(dh.data(), 1, 3, 1, 2), row_major(dinput.data(), 1, 3, 1));
  CHECK(y == std::vector<double>{16 + 35, -6, 8 + 5});
  CHECK(dh == std::vector<double>{4, -6, -4, 6, 8, -12});
  // 2 ((1 + 2 i) - (-i) + 2 * 2)
  CHECK(dread == std::vector<double>{10, 6});
  CHECK(dinput == std::vector<double>{5, -5, 10});
  CHECK(dskip == std::vector<double>{9});
}
