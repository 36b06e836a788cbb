// SPDX-License-Identifier: Apache-2.0
// Two ways to remember while a model generates: softmax attention keeps the keys and values of all
// tokens, or of a window, and an H-LRU four numbers a channel. Each loop draws bytes one by one from
// a small random layer; what grows, and what does not, is printed beside them.
#include <maslin/maslin.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

using maslin::index_t;

constexpr index_t H = 4, K = 16, D = H * K;  // heads, their width, channels
constexpr int M = 4;                         // lags of the recurrence
constexpr index_t vocabulary = 64, length = 2000;
using attention = maslin::attention<float>;
using recurrence = maslin::hlru<float, M>;

// The weights of the layer: a row for each byte, drawn from a seed.
std::vector<float> table(index_t width, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<float> numbers(static_cast<std::size_t>(vocabulary * width));
  for (float& x : numbers) x = static_cast<float>(engine() >> 8) * 0x1p-23f - 1;
  return numbers;
}
const float* row(const std::vector<float>& of, index_t byte, index_t width) {
  return of.data() + byte * width;
}

// The byte whose row meets the output best; the last byte is left out, so that loops do not stall.
index_t next(const std::vector<float>& rows, const std::array<float, D>& y, index_t last) {
  index_t best = 0;
  float most = -1e30f;
  for (index_t byte = 0; byte < vocabulary; ++byte) {
    float score = 0;
    for (index_t d = 0; d < D; ++d) score += row(rows, byte, D)[d] * y[static_cast<std::size_t>(d)];
    if (byte == last || score <= most) continue;
    most = score;
    best = byte;
  }
  return best;
}

// Calls step(byte, y) and draws the next byte, `length` times; `bytes` tells the size of the cache.
template <class Step, class Bytes>
void generate(const char* name, const std::vector<float>& out, const Step& step,
              const Bytes& bytes) {
  std::array<float, D> y{};
  index_t byte = 1;
  std::printf("%-18s", name);
  for (index_t t = 1; t <= length; ++t) {
    step(byte, y);
    byte = next(out, y, byte);
    if (t == 1 || t == 100 || t == length) std::printf("  %8td", bytes());
  }
  std::printf("\n");
}

int main() {
  const auto query = table(D, 1), key = table(D, 2), value = table(D, 3), out = table(D, 4),
             gates = table(D * (M + 1), 5);
  std::printf("bytes of cache after%8d  %8d  %8td tokens\n", 1, 100, length);

  // Rotated queries and keys know their distance; the values do not turn.
  const maslin::rotary<float> turn{};
  for (const index_t window : {0, 128}) {
    const attention mixer{.heads = H, .key_dim = K, .value_dim = K, .window = window};
    auto cache = window > 0 ? mixer.make_state(1) : mixer.make_state(1, 1);
    const auto step = [&](index_t byte, std::array<float, D>& y) {
      std::array<float, D> q, k;
      std::copy_n(row(query, byte, D), D, q.data());
      std::copy_n(row(key, byte, D), D, k.data());
      turn.apply(maslin::row_major(q.data(), 1, 1, H, K), cache.position(0));
      turn.apply(maslin::row_major(k.data(), 1, 1, H, K), cache.position(0));
      // Room is made by name, ahead of need: a step never allocates.
      if (cache.position(0) == cache.capacity()) mixer.reserve(cache, 2 * cache.capacity());
      mixer.step({.query = maslin::row_major(std::as_const(q).data(), 1, H, K),
                  .key = maslin::row_major(std::as_const(k).data(), 1, H, K),
                  .value = maslin::row_major(row(value, byte, D), 1, H, K)},
                 maslin::row_major(y.data(), 1, H, K), cache);
    };
    generate(window > 0 ? "attention, 128" : "attention, all", out, step,
             [&] { return cache.bytes(); });
  }

  const recurrence mixer{.channels = D};
  auto state = mixer.make_state(1);
  const auto step = [&](index_t byte, std::array<float, D>& y) {
    mixer.step({.gate = maslin::row_major(row(gates, byte, D * (M + 1)), 1, D, M + 1),
                .input = maslin::row_major(row(value, byte, D), 1, D)},
               maslin::row_major(y.data(), 1, D), state);
  };
  generate("H-LRU, order 4", out, step, [&] { return state.bytes(); });
}
