// SPDX-License-Identifier: Apache-2.0
// Gradients on a tape of one's own. A tape is a list of closures: each operation pushes how its
// gradients flow back, and `run_back` calls them from the last to the first. The mixer needs one
// such closure; what its backward wants is the output and the state before the first token, which the
// scan that takes `saved` notes.
//
// The program learns the coefficients of an H-LRU channel (arXiv 2602.12021) from its outputs. The
// sequence is taken in two segments: the gradient of the state between them is handed from the later
// to the earlier, so that the result is that of one long call.
#include <maslin/maslin.hpp>

#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

using maslin::index_t;
namespace exec = maslin::exec;

constexpr index_t T = 128, D = 2;  // tokens, channels
constexpr int M = 3, gates = M + 1;
using mixer_t = maslin::hlru<double, M>;
using numbers = std::vector<double>;

struct tape {
  std::vector<std::function<void()>> steps;
  void run_back() {
    for (; !steps.empty(); steps.pop_back()) steps.back()();
  }
};

/// Logits [gates] repeated for every token and channel; back: their gradients summed.
void broadcast(tape& t, const numbers& z, numbers& dz, numbers& all, numbers& dall) {
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = z[i % gates];
  t.steps.push_back([&] {
    for (std::size_t i = 0; i < dall.size(); ++i) dz[i % gates] += dall[i];
  });
}

/// Tokens [begin, end) of the mixer. `state` goes on from call to call, `dstate` the other way.
void mix(tape& t, const mixer_t& mixer, const numbers& gate, numbers& dgate, const numbers& input,
         numbers& y, const numbers& dy, index_t begin, index_t end, mixer_t::state& state,
         mixer_t::state& dstate) {
  const auto tokens = mixer_t::tokens{.gate = maslin::row_major(gate.data(), 1, T, D, gates),
                                      .input = maslin::row_major(input.data(), 1, T, D)}
                          .range(begin, end);
  auto saved = mixer.make_saved(1, end - begin);
  mixer.scan(exec::sequential{}, tokens,
             maslin::time_range(maslin::row_major(y.data(), 1, T, D), begin, end), state, saved);
  t.steps.push_back([&, tokens, saved, begin, end] {
    const auto to = maslin::row_major(dgate.data(), 1, T, D, gates);
    mixer.backward(exec::sequential{}, tokens, saved,
                   maslin::time_range(maslin::row_major(dy.data(), 1, T, D), begin, end),
                   {.gate = maslin::time_range(to, begin, end)}, dstate);
  });
}

/// Mean squared distance from `want`; back: its derivative.
double distance(tape& t, const numbers& y, numbers& dy, const numbers& want) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += (y[i] - want[i]) * (y[i] - want[i]);
  const double n = static_cast<double>(y.size());
  t.steps.push_back([&, n] {
    for (std::size_t i = 0; i < y.size(); ++i) dy[i] = 2 * (y[i] - want[i]) / n;
  });
  return sum / n;
}

int main() {
  numbers input(T * D), all(T * D * gates), dall(all.size()), y(T * D), dy(T * D), want(T * D);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(0.7 * double(i * i % 101));
  const mixer_t mixer{.channels = D};
  const numbers truth{std::log(0.5), std::log(0.1), std::log(0.3), std::log(0.1)};
  numbers z(gates, 0.0), dz(gates);
  tape t;
  auto state = mixer.make_state(), dstate = state;
  broadcast(t, truth, dz, all, dall);
  mix(t, mixer, all, dall, input, want, dy, 0, T, state, dstate);
  t.steps.clear();

  for (int step = 0; step <= 2000; ++step) {
    state.reset();
    dstate.reset();
    std::fill(dz.begin(), dz.end(), 0.0);
    broadcast(t, z, dz, all, dall);
    mix(t, mixer, all, dall, input, y, dy, 0, T / 2, state, dstate);
    mix(t, mixer, all, dall, input, y, dy, T / 2, T, state, dstate);
    const double loss = distance(t, y, dy, want);
    t.run_back();
    if (step % 500 == 0) std::printf("step %4d  loss %.6f\n", step, loss);
    for (std::size_t k = 0; k < z.size(); ++k) z[k] -= 40 * dz[k];
  }
  double sum = 0;
  for (const double x : z) sum += std::exp(x);
  for (int k = 0; k < gates; ++k)
    std::printf("%s %d  %.3f, learned %.3f\n", k < M ? "lag" : "input", k < M ? k + 1 : 0,
                std::exp(truth[std::size_t(k)]), std::exp(z[std::size_t(k)]) / sum);
}
