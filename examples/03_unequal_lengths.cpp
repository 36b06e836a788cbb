// SPDX-License-Identifier: Apache-2.0
// Sequences of unequal lengths in one call: the lines of a text, packed end to end with offsets, no
// padding. A BD-LRU layer with blocks of two reads them all, and then each line on its own.
#include <maslin/maslin.hpp>

#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

using maslin::index_t;
namespace exec = maslin::exec;

constexpr index_t G = 20;  // blocks
constexpr int M = 2;       // components of a block, which read each other
using mixer_t = maslin::bdlru<float, M>;

constexpr std::string_view lines[] = {
    "One line is one sequence.",
    "The next is longer, and nothing pads the first to its length.",
    "",
    "An empty one is allowed: its state stays as it was.",
    "End.",
};

// What the layers below would compute: a row of numbers for each value of a byte, seeded.
std::vector<float> draw(index_t count, float width) {
  static std::mt19937 engine(2026);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& x : numbers) x = width * (static_cast<float>(engine() >> 8) * 0x1p-24f - 0.5f);
  return numbers;
}
void append(std::vector<float>& to, const std::vector<float>& table, char c, index_t row) {
  const auto first = table.begin() + static_cast<unsigned char>(c) * row;
  to.insert(to.end(), first, first + row);
}

void say(const char* what, bool yes) { std::printf("%-44s %s\n", what, yes ? "yes" : "no"); }

int main() {
  const auto gates = draw(256 * G * M * (M + 1), 6), inputs = draw(256 * G * M, 2);
  std::vector<float> gate, input;
  std::vector<index_t> offsets{0};
  for (const std::string_view line : lines) {
    for (const char c : line) append(gate, gates, c, G * M * (M + 1));
    for (const char c : line) append(input, inputs, c, G * M);
    offsets.push_back(offsets.back() + static_cast<index_t>(line.size()));
  }
  const index_t T = offsets.back(), count = std::ssize(lines);
  std::printf("%td sequences, %td tokens, none of padding\n", count, T);

  // Packed: B is 1, T counts all tokens, and row b of the state belongs to sequence b.
  const mixer_t::tokens all{.gate = maslin::row_major(gate.data(), 1, T, G, M, M + 1),
                            .input = maslin::row_major(input.data(), 1, T, G, M)};
  auto packed = all;
  packed.offsets = offsets;
  const mixer_t mixer{.blocks = G};
  std::vector<float> outputs(input.size()), last(static_cast<std::size_t>(count * G * M));
  auto state = mixer.make_state(count);
  mixer.scan(exec::sequential{.threads = 2}, packed, maslin::row_major(outputs.data(), 1, T, G, M),
             state);

  // Decoding goes on as a batch: one token, the end of the line, for each of the five.
  std::vector<float> end_gate, end_input;
  for (index_t b = 0; b < count; ++b) append(end_gate, gates, '\n', G * M * (M + 1));
  for (index_t b = 0; b < count; ++b) append(end_input, inputs, '\n', G * M);
  const mixer_t::token ends{.gate = maslin::row_major(end_gate.data(), count, G, M, M + 1),
                            .input = maslin::row_major(end_input.data(), count, G, M)};
  mixer.step(ends, maslin::row_major(last.data(), count, G, M), state);

  // Each line on its own, with a state of its own.
  std::vector<float> own_outputs(outputs.size()), own_last(last.size()), own_states(last.size());
  const auto y = maslin::row_major(own_outputs.data(), 1, T, G, M);
  for (index_t b = 0; b < count; ++b) {
    const index_t begin = offsets[static_cast<std::size_t>(b)], end = begin + std::ssize(lines[b]);
    auto own = mixer.make_state();
    mixer.scan(exec::sequential{}, all.range(begin, end), maslin::time_range(y, begin, end), own);
    mixer.step({.gate = maslin::row_major(end_gate.data(), 1, G, M, M + 1),
                .input = maslin::row_major(end_input.data(), 1, G, M)},
               maslin::row_major(own_last.data() + b * G * M, 1, G, M), own);
    own.copy_to(maslin::row_major(own_states.data() + b * G * M, 1, G, M));
  }
  std::vector<float> states(last.size());
  state.copy_to(maslin::row_major(states.data(), count, G, M));
  say("same outputs as each line alone:", outputs == own_outputs);
  say("same next outputs:", last == own_last);
  say("same states:", states == own_states);
}
