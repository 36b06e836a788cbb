// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/maslin.hpp>

#include <cstddef>
#include <vector>

// Static, so that files compiled with different flags each have their own.
/// Scans 3 tokens through 9 equal blocks; true when every block ends as computed by hand. Gates and
/// inputs are small dyadic numbers: every value is exact, whatever the instruction set.
static bool scan_is_exact() {
  constexpr maslin::index_t T = 3, G = 9, M = 2;
  constexpr float row[M][M + 1] = {{0.5f, 0.25f, 1.0f}, {0.25f, 0.5f, 1.0f}};
  std::vector<float> gate, input, out(static_cast<std::size_t>(T * G * M));
  for (maslin::index_t block = 0; block < T * G; ++block) {
    for (const auto& gates : row) gate.insert(gate.end(), gates, gates + M + 1);
    input.insert(input.end(), {4.0f, 8.0f});
  }

  using mixer_type = maslin::bdlru<float, M, maslin::normalise::none>;
  const mixer_type mixer{.blocks = G};
  const mixer_type::tokens tokens{.gate = maslin::row_major(gate.data(), 1, T, G, M, M + 1),
                                  .input = maslin::row_major(input.data(), 1, T, G, M)};
  const auto y = maslin::row_major(out.data(), 1, T, G, M);
  auto state = mixer.make_state();
  mixer.scan(maslin::exec::sequential{}, tokens, y, state);

  // h[t] = A h[t-1] + (4, 8): (4, 8), (8, 13), (11.25, 16.5).
  bool exact = true;
  for (maslin::index_t block = 0; block < G; ++block)
    exact = exact && y(0, T - 1, block, 0) == 11.25f && y(0, T - 1, block, 1) == 16.5f;
  return exact;
}
