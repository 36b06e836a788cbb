// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of real outputs of complex states: maslin::complex_readout::backward.

#include <maslin/core/each.hpp>
#include <maslin/gradient/call.hpp>
#include <maslin/mixer/complex_readout.hpp>
#include <maslin/simd/lane.hpp>

#include <algorithm>
#include <complex>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace maslin::inline MASLIN_ABI::gradient {

template <class S>
struct complex_readout<maslin::complex_readout<S>> {
  using mixer = maslin::complex_readout<S>;
  using number = std::complex<S>;
  using V = simd::native<S>;
  using L = lane<V>;

  /// maslin::complex_readout::backward, which documents it.
  static void run(const mixer& m, const view<const number, 3>& h, const view<const S, 3>& input,
                  const view<const S, 3>& dy, const typename mixer::gradients& d) {
    check_call(m, h, input, dy, d);
    if (!d.accumulate) empty_sums(m, d);
    // A piece of time is summed by itself, which keeps the roundings of long sums apart.
    constexpr index_t piece = 128;
    for (index_t b = 0; b < dy.extent(0); ++b)
      for (index_t first = 0; first < dy.extent(1); first += piece) {
        const span s{b, first, std::min(first + piece, dy.extent(1))};
        if (d.read.data_handle() != nullptr) add_read(m, h, dy, d, s);
        if (d.skip.data_handle() != nullptr) add_skip(input, dy, d, s);
        for (index_t t = s.first; t < s.last; ++t) token(m, dy, d, b, t);
      }
  }

 private:
  /// Tokens [first, last) of sequence b.
  struct span {
    index_t b, first, last;
  };
  // The real numbers of complex ones, by turns: the imaginary parts of a conjugate change sign.
  alignas(64) static constexpr S signs[16] = {1, -1, 1, -1, 1, -1, 1, -1,
                                              1, -1, 1, -1, 1, -1, 1, -1};
  static constexpr bool single = L::width == 1;

  /// The signs of number i, which is even but for single lanes, and of those after it.
  [[nodiscard]] static V signs_from(index_t i) noexcept { return L::load(signs + i % 2); }

  /// f(R, i, n) for registers of `count` numbers, R of them at once: four, two lines of a cache, while
  /// there are so many.
  template <class F>
  static void registers_of(index_t count, const F& f) noexcept {
    constexpr int four = 4;
    index_t i = 0;
    for (; i + four * L::width <= count; i += four * L::width)
      f(std::integral_constant<int, four>{}, i, all_lanes<V>{});
    for (; i + L::width <= count; i += L::width)
      f(std::integral_constant<int, 1>{}, i, all_lanes<V>{});
    if constexpr (!single)
      if (i < count) f(std::integral_constant<int, 1>{}, i, static_cast<int>(count - i));
  }

  static void empty_sums(const mixer& m, const typename mixer::gradients& d) noexcept {
    const index_t E = m.read.extent(1), N = m.read.extent(2), outputs = m.read.extent(0) * E;
    for (index_t c = 0; c < outputs; ++c) {
      if (d.skip.data_handle() != nullptr) d.skip(c) = 0;
      for (index_t n = 0; n < N && d.read.data_handle() != nullptr; ++n)
        d.read(c / E, c % E, n) = 0;
    }
  }

  /// Adds factor sum_t dy conj(h) over the tokens of a span.
  static void add_read(const mixer& m, const view<const number, 3>& h, const view<const S, 3>& dy,
                       const typename mixer::gradients& d, const span& s) noexcept {
    const index_t E = m.read.extent(1), N = m.read.extent(2), outputs = m.read.extent(0) * E;
    for (index_t c = 0; c < outputs && N > 0; ++c) {
      S* const to = reinterpret_cast<S*>(&d.read(c / E, c % E, 0));
      registers_of(2 * N, [&](auto registers, index_t i, auto n) {
        constexpr int R = registers;
        V sum[static_cast<std::size_t>(R)];
        each<R>([&](int r) { sum[r] = L::broadcast(S(0)); });
        for (index_t t = s.first; t < s.last; ++t) {
          const V g = L::broadcast(dy(s.b, t, c));
          const S* const from = reinterpret_cast<const S*>(&h(s.b, t, c / E * N)) + i;
          each<R>([&](int r) { sum[r] = L::fma(g, L::load(from + r * L::width, n), sum[r]); });
        }
        each<R>([&](int r) {
          const index_t at = i + r * L::width;
          store(to + at, sum[r] * (L::broadcast(m.factor) * signs_from(at)), n, true);
        });
      });
    }
  }
  static void add_skip(const view<const S, 3>& input, const view<const S, 3>& dy,
                       const typename mixer::gradients& d, const span& s) noexcept {
    registers_of(dy.extent(2), [&](auto registers, index_t c, auto n) {
      each<int(registers)>([&](int r) {
        const index_t at = c + r * L::width;
        V sum = L::broadcast(S(0));
        for (index_t t = s.first; t < s.last; ++t)
          sum = L::fma(L::load(&dy(s.b, t, at), n), L::load(&input(s.b, t, at), n), sum);
        store(&d.skip(at), sum, n, true);
      });
    });
  }

  /// The gradients of one token.
  static void token(const mixer& m, const view<const S, 3>& dy, const typename mixer::gradients& d,
                    index_t b, index_t t) noexcept {
    const index_t G = m.read.extent(0), E = m.read.extent(1), N = m.read.extent(2);
    for (index_t g = 0; g < G && N > 0 && d.h.data_handle() != nullptr; ++g)
      registers_of(2 * N, [&](auto registers, index_t i, auto n) {
        constexpr int R = registers;
        V sum[static_cast<std::size_t>(R)];
        each<R>([&](int r) { sum[r] = L::broadcast(S(0)); });
        for (index_t e = 0; e < E; ++e) {
          const V x = L::broadcast(m.factor * dy(b, t, g * E + e));
          const S* const from = reinterpret_cast<const S*>(&m.read(g, e, 0)) + i;
          each<R>([&](int r) { sum[r] = L::fma(x, L::load(from + r * L::width, n), sum[r]); });
        }
        S* const to = reinterpret_cast<S*>(&d.h(b, t, g * N)) + i;
        each<R>([&](int r) {
          store(to + r * L::width, sum[r] * signs_from(i + r * L::width), n, d.accumulate);
        });
      });
    if (d.input.data_handle() != nullptr)
      registers_of(G * E, [&](auto registers, index_t c, auto n) {
        each<int(registers)>([&](int r) {
          const index_t at = c + r * L::width;
          store(&d.input(b, t, at), L::load(&dy(b, t, at), n) * L::load(&m.skip(at), n), n,
                d.accumulate);
        });
      });
  }

  static void check_call(const mixer& m, const view<const number, 3>& h,
                         const view<const S, 3>& input, const view<const S, 3>& dy,
                         const typename mixer::gradients& d) {
    const check::caller who{"complex_readout", "backward"};
    const index_t B = dy.extent(0), T = dy.extent(1), G = m.read.extent(0), E = m.read.extent(1),
                  N = m.read.extent(2);
    const bool skips = m.skip.data_handle() != nullptr;
    memory_of_call memory(who);
    memory.reads("h", "[B, T, G N]", h, {B, T, G * N});
    memory.reads("read", "[G, E, N]", m.read, {G, E, N});
    memory.reads("dy", "[B, T, G E]", dy, {B, T, G * E});
    if (skips) {
      memory.reads("skip", "[G E]", m.skip, {G * E}, 0);
      memory.reads("input", "[B, T, G E]", input, {B, T, G * E});
    }
    memory.writes("gradients.h", "[B, T, G N]", d.h, {B, T, G * N});
    memory.writes("gradients.read", "[G, E, N]", d.read, {G, E, N});
    const bool input_wanted =
        memory.writes("gradients.input", "[B, T, G E]", d.input, {B, T, G * E});
    const bool skip_wanted = memory.writes("gradients.skip", "[G E]", d.skip, {G * E}, 0);
    for (const auto& [name, wanted] :
         {std::pair{"input", input_wanted}, std::pair{"skip", skip_wanted}})
      if (wanted && !skips)
        who.refuse(std::string("gradients.") + name + " must be empty without skip, got a pointer");
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
