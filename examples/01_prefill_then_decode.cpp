// SPDX-License-Identifier: Apache-2.0
// Prefill a prompt, then decode byte by byte, over a real text: one H-LRU layer of order 4. Shows a
// checkpoint and a rollback, a state put away and taken up again, and what a wrong call says.
//
//   01_prefill_then_decode [--text FILE]
#include <maslin/maslin.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

using maslin::index_t;
namespace exec = maslin::exec;

constexpr const char* default_text =
    "Maslin is an old word for grain of several kinds, sown and milled together. A mixer reads one "
    "token after another and keeps a state of fixed size: it is what the layer remembers. To read "
    "a prompt at once and to read it token by token is the same sum in the same order, so both "
    "give the same bytes, and nobody has to ask which of the two made a result.";

constexpr index_t D = 60;  // channels
constexpr int M = 4;       // order: a channel reads its own last 4 values
using mixer_t = maslin::hlru<float, M>;

// What the layers below would compute: for each value of a byte the gate logits [D, M+1] and the
// inputs [D]. Here both are drawn once, from a fixed seed.
struct embedding {
  std::vector<float> gate = draw(256 * D * (M + 1), 6.0f), input = draw(256 * D, 2.0f);

  static std::vector<float> draw(index_t count, float width) {
    static std::mt19937 engine(2026);
    std::vector<float> numbers(static_cast<std::size_t>(count));
    for (float& x : numbers) x = width * (static_cast<float>(engine() >> 8) * 0x1p-24f - 0.5f);
    return numbers;
  }
  static void append(std::vector<float>& to, const std::vector<float>& table, char c, index_t row) {
    const auto first = table.begin() + static_cast<unsigned char>(c) * row;
    to.insert(to.end(), first, first + row);
  }
};

void say(const char* what, bool yes) { std::printf("%-52s %s\n", what, yes ? "yes" : "no"); }

int main(int argc, char** argv) try {
  std::string text = default_text;
  if (argc == 3 && std::string(argv[1]) == "--text") {
    std::ifstream file(argv[2], std::ios::binary);
    if (!file) return std::fprintf(stderr, "cannot read %s\n", argv[2]), 2;
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  const auto T = static_cast<index_t>(text.size()), P = T * 3 / 4, middle = (P + T) / 2;
  const embedding table;
  std::vector<float> gate, input;
  for (const char c : text) embedding::append(gate, table.gate, c, D * (M + 1));
  for (const char c : text) embedding::append(input, table.input, c, D);

  // The caller owns every buffer; a view is a pointer with extents and strides.
  const mixer_t::tokens tokens{.gate = maslin::row_major(gate.data(), 1, T, D, M + 1),
                               .input = maslin::row_major(input.data(), 1, T, D)};
  std::vector<float> at_once(input.size()), piecewise(input.size()), draft(D);
  const auto y = maslin::row_major(piecewise.data(), 1, T, D);
  const mixer_t mixer{.channels = D};
  auto state = mixer.make_state();
  std::printf("%td bytes of text, %td of them the prompt; the state holds %td bytes\n", T, P,
              state.bytes());

  mixer.scan(exec::sequential{}, tokens, maslin::row_major(at_once.data(), 1, T, D), state);
  const auto last = state;
  state.reset();
  mixer.scan(exec::sequential{}, tokens.range(0, P), maslin::time_range(y, 0, P), state);
  for (index_t t = P; t < middle; ++t) mixer.step(tokens[t], maslin::time_at(y, t), state);

  // A copy is a checkpoint. Eight drafted tokens are rejected, and leave no trace.
  const auto checkpoint = state;
  for (index_t t = 0; t < 8 && t < T; ++t)
    mixer.step(tokens[t], maslin::row_major(draft.data(), 1, D), state);
  say("eight drafts have changed the state:", !(state == checkpoint));
  state = checkpoint;

  // The decode is suspended to a stream, and resumed by a state that knows nothing of it.
  std::stringstream stored;
  state.save(stored);
  auto resumed = mixer.make_state();
  resumed.load(stored);
  for (index_t t = middle; t < T; ++t) mixer.step(tokens[t], maslin::time_at(y, t), resumed);
  say("prefill, decode, rollback, resume: same outputs:", piecewise == at_once);
  say("and the same state at the end:", resumed == last);

  // A call whose arguments do not fit writes nothing, and says what it wanted.
  mixer.scan(exec::sequential{}, tokens, maslin::time_range(y, 0, T - 1), resumed);
} catch (const maslin::shape_error& error) {
  std::printf("refused: %s\n", error.what());
}
