// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the complex diagonal recurrence, decays fixed in time (LRU, S4D) and one a token, and of
/// the gradients of what reads its states.

#include "support/backward.hpp"
#include "support/gradients.hpp"
#include "support/problem_rows.hpp"
#include "support/projection.hpp"

#include <maslin/gradient/complex_readout.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/lru_parameters.hpp>
#include <maslin/reference/complex_diagonal.hpp>
#include <maslin/reference/complex_readout.hpp>
#include <maslin/scan/policy.hpp>

#include <complex>

namespace bench {
namespace {

using maslin::row_major;
namespace exec = maslin::exec;
using number = std::complex<float>;

const number* numbers(const buffer& b) { return reinterpret_cast<const number*>(b.data()); }

/// The plain loop, one complex product a channel; `gate_time` is 0 for fixed decays.
[[gnu::noinline]] void plain_complex(index_t T, index_t D, const float* __restrict gate,
                                     index_t gate_time, const float* __restrict x,
                                     float* __restrict h, float* __restrict y) {
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < 2 * D; d += 2) {
      const float re = gate[t * gate_time + d], im = gate[t * gate_time + d + 1];
      const float last = h[d];
      y[t * 2 * D + d] = h[d] = re * last - im * h[d + 1] + x[t * 2 * D + d];
      y[t * 2 * D + d + 1] = h[d + 1] = re * h[d + 1] + im * last + x[t * 2 * D + d + 1];
    }
}

template <bool Fixed>
class complex_problem final : public reference_problem {
 public:
  using mixer = maslin::diagonal<number>;

  complex_problem(const corpus& text, const extents& e)
      : reference_problem(e, 2), gate((Fixed ? 1 : e.T) * e.D * 2) {
    const auto [B, T, D] = e;
    const embedding tokens(text.bytes, T);
    tokens.project(input.data(), T, 2 * D, 51, 1.0f, 0.0f);
    tokens.project(gate.data(), Fixed ? 1 : T, 2 * D, 53, 1.0f, 0.0f);
    // Moduli in [0.8, 0.999], phases up to a quarter turn.
    for (index_t i = 0; i < gate.size(); i += 2) {
      const auto unit = [&](index_t k) { return 1 / (1 + std::exp(-gate[k])); };
      const auto p = maslin::lru_ring(0.8f, 0.999f, 1.57f, unit(i), unit(i + 1));
      const number decay = maslin::lru_decay(p);
      gate[i] = decay.real();
      gate[i + 1] = decay.imag();
    }
    using wide_number = std::complex<double>;
    const auto wa = widened(gate.data(), gate.size()), wx = widened(input.data(), input.size());
    const auto* a = reinterpret_cast<const wide_number*>(wa.data());
    exact.resize(wx.size());
    std::vector<wide_number> h(static_cast<std::size_t>(D));
    maslin::reference::complex_diagonal(
        maslin::strided(a, std::array{index_t{1}, T, D},
                        std::array{D, Fixed ? index_t{0} : D, index_t{1}}),
        row_major(reinterpret_cast<const wide_number*>(wx.data()), 1, T, D),
        row_major(h.data(), 1, D),
        row_major(reinterpret_cast<wide_number*>(exact.data()), 1, T, D));
  }

  [[nodiscard]] mixer make() const {
    if constexpr (Fixed)
      return {.channels = size.D, .decay = row_major(numbers(gate), size.D)};
    else
      return {.channels = size.D, .decay = {}};
  }
  [[nodiscard]] mixer::tokens tokens() const {
    mixer::tokens u{.gate = {}, .input = row_major(numbers(input), 1, size.T, size.D)};
    if constexpr (!Fixed) u.gate = row_major(numbers(gate), 1, size.T, size.D);
    return u;
  }
  [[nodiscard]] maslin::view<number, 3> out() const {
    return row_major(reinterpret_cast<number*>(y.data()), 1, size.T, size.D);
  }
  [[nodiscard]] static index_t state_size(index_t D) { return 2 * D; }
  void plain(index_t T, float* h) const {
    plain_complex(T, size.D, gate.data(), Fixed ? 0 : 2 * size.D, input.data(), h, y.data());
  }

  buffer gate;
};

template <bool Fixed>
workload streamed(const settings& s) {
  constexpr index_t D = 512;  // complex
  const index_t rows = Fixed ? 1 : 2;
  const index_t T =
      tokens_for(regime::dram, (rows + 1) * 2 * D * static_cast<index_t>(sizeof(float)), s.sizes);
  const work least{.elements = T * D * 2,
                   .rows_read = static_cast<int>(rows),
                   .slots = 4 * static_cast<double>(T * D)};
  return problem_rows<complex_problem<Fixed>, call::scan>(
             "diagonal", Fixed ? "complex-fixed" : "complex", {.T = T, .D = D}, least, "dram")
      .library("sequential", exec::sequential{})
      .plain_loop()
      .take();
}

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

std::vector<workload> complex_diagonal_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(streamed<true>(s));
  plan.push_back(streamed<false>(s));
  plan.push_back(readout_backward(s));
  return plan;
}

}  // namespace bench
