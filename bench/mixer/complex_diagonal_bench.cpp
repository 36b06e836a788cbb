// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the complex diagonal recurrence, decays fixed in time (LRU, S4D) and one a token.

#include "support/problem_rows.hpp"
#include "support/projection.hpp"

#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/lru_parameters.hpp>
#include <maslin/reference/complex_diagonal.hpp>
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

}  // namespace

std::vector<workload> complex_diagonal_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(streamed<true>(s));
  plan.push_back(streamed<false>(s));
  return plan;
}

}  // namespace bench
