// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the gradients of a real readout of complex states.

#include "support/backward.hpp"
#include "support/gradients.hpp"
#include "support/projection.hpp"

#include <maslin/gradient/complex_readout.hpp>
#include <maslin/reference/complex_readout.hpp>

#include <algorithm>
#include <complex>
#include <memory>
#include <vector>

namespace bench {
namespace {

using maslin::row_major;
using number = std::complex<float>;

const number* numbers(const buffer& b) { return reinterpret_cast<const number*>(b.data()); }

/// Gradients of the outputs of G channels with N states each (S4D), with a skip.
class readout_problem final : public gradient_problem {
 public:
  static constexpr index_t G = 256, N = 16;
  using mixer = maslin::complex_readout<float>;

  readout_problem(const corpus& text, index_t length)
      : T(length),
        h(T * G * N * 2),
        input(T * G),
        dy(T * G),
        y(T * G),
        read(G * N * 2),
        skip(G),
        dh(h.size()),
        dinput(T * G),
        dread(read.size()),
        dskip(G) {
    const embedding tokens(text.bytes, T);
    tokens.project(h.data(), T, G * N * 2, 61, 1.0f, 0.0f);
    tokens.project(input.data(), T, G, 62, 1.0f, 0.0f);
    tokens.project(dy.data(), T, G, 63, 1.0f, 0.0f);
    tokens.project(read.data(), 1, G * N * 2, 64, 1.0f, 0.0f);
    tokens.project(skip.data(), 1, G, 65, 1.0f, 0.0f);
    find_truth();
  }
  [[nodiscard]] mixer make() const {
    return {.read = row_major(numbers(read), G, 1, N),
            .skip = row_major(static_cast<const float*>(skip.data()), G)};
  }
  [[nodiscard]] maslin::view<const number, 3> states() const {
    return row_major(numbers(h), 1, T, G * N);
  }
  [[nodiscard]] maslin::view<float, 3> outputs(const buffer& b) const {
    return row_major(b.data(), 1, T, G);
  }
  [[nodiscard]] mixer::gradients gradients() const {
    const auto written = [](const buffer& b) { return reinterpret_cast<number*>(b.data()); };
    return {.h = row_major(written(dh), 1, T, G * N),
            .input = outputs(dinput),
            .read = row_major(written(dread), G, 1, N),
            .skip = row_major(dskip.data(), G)};
  }

  index_t T;
  buffer h, input, dy, y, read, skip, dh, dinput, dread, dskip;

 private:
  void find_truth() {
    const auto wide = [](const buffer& b) { return widened(b.data(), b.size()); };
    const auto wide_read = wide(read), wide_skip = wide(skip), wide_h = wide(h),
               wide_input = wide(input), wide_dy = wide(dy);
    std::vector<double> out(wide_dy), d_read(wide_read), d_skip(wide_skip), d_h(wide_h),
        d_input(wide_input);
    const auto tokens = [this](auto& v) { return row_major(v.data(), 1, T, G); };
    maslin::reference::complex_readout_backward<double>(
        row_major(wide_read.data(), G, 1, N, 2), row_major(wide_skip.data(), G), 2.0,
        row_major(wide_h.data(), 1, T, G * N, 2), tokens(wide_input), tokens(out), tokens(wide_dy),
        row_major(d_read.data(), G, 1, N, 2), row_major(d_skip.data(), G),
        row_major(d_h.data(), 1, T, G * N, 2), tokens(d_input));
    know(dh, d_h);
    know(dinput, d_input);
    know(dread, d_read);
    know(dskip, d_skip);
  }
};

/// The equations as one writes them.
[[gnu::noinline]] void plain_readout_backward(readout_problem& d) {
  constexpr index_t G = readout_problem::G, N = readout_problem::N;
  float* __restrict dread = d.dread.data(), * __restrict dskip = d.dskip.data();
  std::fill_n(dread, d.dread.size(), 0.0f);
  std::fill_n(dskip, G, 0.0f);
  for (index_t t = 0; t < d.T; ++t)
    for (index_t g = 0; g < G; ++g) {
      const float dy = d.dy[t * G + g], twice = 2 * dy;
      const float* __restrict h = d.h.data() + (t * G + g) * N * 2, * __restrict read =
                                                                        d.read.data() + g * N * 2;
      float* __restrict dh = d.dh.data() + (t * G + g) * N * 2;
      for (index_t n = 0; n < 2 * N; n += 2) {
        dh[n] = twice * read[n];
        dh[n + 1] = -twice * read[n + 1];
        dread[g * N * 2 + n] += twice * h[n];
        dread[g * N * 2 + n + 1] -= twice * h[n + 1];
      }
      d.dinput[t * G + g] = dy * d.skip[g];
      dskip[g] += dy * d.input[t * G + g];
    }
}

workload readout_backward(const settings& s) {
  constexpr index_t G = readout_problem::G, N = readout_problem::N;
  const index_t T =
      tokens_for(regime::dram, 4 * G * N * static_cast<index_t>(sizeof(float)), s.sizes);
  workload load;
  load.mixer = "complex_readout";
  load.call = "backward";
  load.form = "N16";
  load.regime = name_of(regime::dram);
  load.T = T;
  load.D = G;
  load.preparation = 1;
  load.prepare = [T](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<readout_problem>(text, T);
  };
  work least = streaming_work(T * G, 2 * N + 2, 2 * N + 1);
  least.slots = static_cast<double>(T * G) * 2 * (2 * N + 1);
  // Sums over all tokens, of numbers of both signs.
  constexpr double tolerance = 256;
  add_backward_rows<readout_problem>(
      load, least, tolerance,
      [](readout_problem& d) { d.make().apply(d.states(), d.outputs(d.input), d.outputs(d.y)); },
      [](readout_problem& d) {
        d.make().backward(d.states(), d.outputs(d.input), d.outputs(d.dy), d.gradients());
      },
      plain_readout_backward);
  return load;
}

}  // namespace

std::vector<workload> complex_readout_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(readout_backward(s));
  return plan;
}

}  // namespace bench
