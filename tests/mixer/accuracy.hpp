// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Random shapes against the oracle: what the accuracy tests of all mixers share.

#include "laws/mixer_laws.hpp"
#include "support/tolerance.hpp"

#include <iostream>

namespace maslin::test {

/// Shapes of all mixers together: 10,000 and more, shared out below.
#if defined(MASLIN_DEBUG_CHECKS)
inline constexpr index_t diagonal_shapes = 600, float_shapes = 450,
                         double_shapes = 150;  // slow builds
#else
inline constexpr index_t diagonal_shapes = 3600, float_shapes = 2700, double_shapes = 900;
static_assert(diagonal_shapes + 2 * (float_shapes + double_shapes) >= 10000);
#endif

/// What is published: err <= 1.01 k (M + 1) u W, and c_g = M + 8 more where the kernel normalises.
/// The 1.01 covers what the first-order bound leaves out.
template <class S>
[[nodiscard]] double published_factor(const subject<S>& m, walk w) {
  constexpr double second_order = 0.01;
  return m.factor(w) + second_order * m.factor_of_recurrence(w);
}

/// The worst ratios of one mixer, by class.
struct accuracy {
  explicit accuracy(const std::string& mixer)
      : given(mixer + ", gates given, in order"),
        normalised(mixer + ", gates normalised in the kernel, in order"),
        chunks(mixer + ", in chunks") {}
  worst_ratio given, normalised, chunks;
  index_t shapes = 0, vacuous = 0;

  worst_ratio& in_order(normalise kind) { return kind == normalise::none ? given : normalised; }

  /// Prints the ratios and checks them.
  void conclude(index_t wanted) const {
    std::cout << shapes << " shapes\n";
    for (const worst_ratio* w : {&given, &normalised, &chunks}) {
      if (w->count() == 0) continue;
      std::cout << *w << '\n';
      CHECK(w->value() <= 1);
      // A bound that is never even approached would pass anything.
      CHECK(w->value() > 0.02);
    }
    CHECK(shapes >= wanted);
    CHECK(vacuous * 10 <= shapes);
  }
};

/// A random shape whose gates the oracle can evaluate in the time that it has.
template <class S>
[[nodiscard]] problem<S> random_shape(const subject<S>& m, random& r) {
  // Exponentials in 113 bits cost some microseconds each.
  const index_t most_gates = std::is_same_v<S, double> ? 4000 : 20000;
  index_t T = r.between(1, 40), C = r.between(1, 20);
  const index_t B = r.between(1, 2);
  while (B * T * C * m.each.gates > most_gates && T * C > 1) (T > C ? T : C) /= 2;
  const memory kinds[] = {memory::mixed, memory::sticky, memory::spread, memory::wild};
  return make_problem(m, B, T, C, r.bits(), kinds[r.below(4)]);
}

/// Spans of random lengths, each by one of the ways that keep to the bytes of the default policy.
[[nodiscard]] inline plan random_plan(index_t T, random& r) {
  const way ways[] = {exec::sequential{}, exec::scalar{}, decode{}};
  plan all{.legs = {}, .stored = r.below(2) == 0, .in_place = r.below(2) == 0};
  for (index_t t = 0; t < T;) {
    t = std::min(T, t + r.between(1, 40));
    all.legs.push_back({t, ways[r.below(3)]});
  }
  return all;
}

/// Adds the ratios of every value of y.
template <class S>
void add_ratios(worst_ratio& to, const std::vector<S>& y,
                const std::vector<bounded<wider_t<S>>>& want, double factor,
                const std::string& where) {
  REQUIRE(y.size() == want.size());
  for (std::size_t i = 0; i < y.size(); ++i)
    to.add(error_ratio(y[i], want[i], factor),
           [&] { return where + ", value " + std::to_string(i); });
}

/// `count` random shapes of one mixer type, in order and in chunks.
template <class S>
void check_shapes(const subject<S>& m, index_t count, std::uint64_t seed, accuracy& into) {
  random r(seed);
  for (index_t n = 0; n < count; ++n) {
    const auto p = random_shape(m, r);
    const auto want = m.bounds(p);
    const auto stage = m.set(p, {.gaps = r.below(2) == 0});
    const std::string where =
        std::string(sizeof(S) == 4 ? "float" : "double") + ", M " + std::to_string(m.order) +
        ", normalisation " + std::to_string(static_cast<int>(m.kind)) +
        ", [B, T, C] = " + check::list(std::array{p.batch, p.length, p.channels});
    add_ratios(into.in_order(m.kind), stage->run(random_plan(p.length, r)).y, want,
               published_factor(m, walk::sequential), where);
    const exec::chunked chunks{.chunk = r.between(1, 16), .threads = 1};
    add_ratios(into.chunks, stage->run({.legs = {{p.length, chunks}}}).y, want,
               published_factor(m, walk::chunked),
               where + ", chunk " + std::to_string(chunks.chunk));
    const auto zeros = std::count_if(want.begin(), want.end(),
                                     [](const auto& h) { return !(h.value < 0 || h.value > 0); });
    into.vacuous += zeros * 10 > static_cast<index_t>(want.size()) * 9;
    ++into.shapes;
  }
}

/// Every order, in float with one normalisation and in double with another.
template <template <class, int, normalise> class Mixer, std::size_t... I>
void check_orders(accuracy& into, std::index_sequence<I...>) {
  const auto each = [](index_t total) {
    const auto orders = static_cast<index_t>(sizeof...(I));
    return (total + orders - 1) / orders;
  };
  (check_shapes(subject_of<Mixer<float, test_orders[I], normalisation_at(I)>>{}, each(float_shapes),
                100 + I, into),
   ...);
  (check_shapes(subject_of<Mixer<double, test_orders[I], normalisation_at(I + 3)>>{},
                each(double_shapes), 200 + I, into),
   ...);
}

}  // namespace maslin::test
