// SPDX-License-Identifier: Apache-2.0
// A pattern of your own: token t reads at the distances f(k) = k (k + 1) / 2 + 1 = 1, 2, 4, 7, 11,
// ... A number is a sum of three triangular ones, so that few hops reach far. In its cache-efficient
// form a generalized mixer prefills a prompt, then decodes with few rows kept; both give the bytes
// of one pass over everything.
#include <maslin/analysis/hops.hpp>
#include <maslin/maslin.hpp>
#include <maslin/mixer/generalized.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using maslin::index_t;
namespace analysis = maslin::analysis;
namespace exec = maslin::exec;
namespace pattern = maslin::pattern;

struct triangular {
  constexpr index_t operator()(index_t k) const { return k * (k + 1) / 2 + 1; }
};
using plain = pattern::user<triangular>;
using efficient = pattern::cached<plain>;
static_assert(plain{}.distance(4) == 11 && plain{}.levels(1000) == 45);  // at compile time too

constexpr index_t T = 4000, P = 3000, H = 2, E = 40;  // tokens, prompt, heads, channels a head
// Coefficients are the softmax of gate logits, over the positions that a token reads and itself.
using mixer_t = maslin::generalized<float, efficient, maslin::weights::softmax>;

// Worst and mean hops to the last token, reads a token, and outputs that a decoder keeps.
template <class Pattern>
void atlas_row(const char* name, const Pattern& p) {
  const auto paths = analysis::paths_to_last(p, T);
  std::printf("%-22s %8.2f reads/token %6td kept %3td hops, %.2f on average\n", name,
              static_cast<double>(pattern::read_total(p, T)) / T, pattern::cache_entries(p, T),
              paths.worst, paths.mean);
}

int main() {
  const mixer_t mixer{.heads = H, .value_dim = E};
  const index_t levels = pattern::max_levels(mixer.pattern, T);
  std::vector<float> self(T * H), past(static_cast<std::size_t>(T * H * levels)), input(T * H * E);
  for (std::size_t i = 0; i < self.size(); ++i) self[i] = std::sin(0.37f * static_cast<float>(i));
  for (std::size_t i = 0; i < past.size(); ++i) past[i] = std::cos(0.11f * static_cast<float>(i));
  for (std::size_t i = 0; i < input.size(); ++i)
    input[i] = std::sin(0.05f * static_cast<float>(i % 9973));
  const mixer_t::tokens tokens{.self = maslin::row_major(self.data(), 1, T, H),
                               .past = maslin::row_major(past.data(), 1, T, H, levels),
                               .input = maslin::row_major(input.data(), 1, T, H, E)};

  std::vector<float> whole(T * H * E), parts(T * H * E);
  const auto y = maslin::row_major(whole.data(), 1, T, H, E);
  auto state = mixer.make_state(1, T);  // room for T tokens
  mixer.scan(exec::sequential{}, tokens, y, state);

  const auto z = maslin::row_major(parts.data(), 1, T, H, E);
  state.reset();
  mixer.scan(exec::sequential{}, tokens.range(0, P), maslin::time_range(z, 0, P), state);
  for (index_t t = P; t < T; ++t) mixer.step(tokens[t], maslin::time_at(z, t), state);
  std::printf("prefill and decode give the bytes of one pass: %s\n", whole == parts ? "yes" : "no");
  std::printf("%td tokens, %td rows of %td numbers kept: %td bytes\n\n", T, state.entries(),
              state.width(), state.bytes());

  atlas_row("k(k+1)/2 + 1", plain{});
  atlas_row("k(k+1)/2 + 1, cached", efficient{});
  atlas_row("k^2 + 1, cached", pattern::cached{pattern::square1{}});

  try {  // what is no pattern is refused before anything is written
    maslin::generalized<float, pattern::linear> never{.value_dim = E, .pattern = {.step = 0}};
    static_cast<void>(never.make_state(1, T));
  } catch (const maslin::shape_error& e) {
    std::printf("\n%s\n", e.what());
  }
}
