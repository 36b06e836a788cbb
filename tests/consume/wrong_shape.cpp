// SPDX-License-Identifier: Apache-2.0
// Without exceptions a right call works, and a wrong one prints its sentence and aborts.
#include "exact_scan.hpp"

#include <cstdio>
#include <vector>

int main() {
  std::puts(scan_is_exact() ? "exact" : "wrong");
  std::fflush(stdout);

  const maslin::bdlru<float, 2> mixer{.blocks = 3};
  std::vector<float> gate(1 * 4 * 3 * 2 * 3), input(1 * 4 * 3 * 2), out(1 * 5 * 3 * 2);
  auto state = mixer.make_state();
  mixer.scan(maslin::exec::sequential{},
             {.gate = maslin::row_major(gate.data(), 1, 4, 3, 2, 3),
              .input = maslin::row_major(input.data(), 1, 4, 3, 2)},
             maslin::row_major(out.data(), 1, 5, 3, 2), state);
  std::puts("not refused");
}
