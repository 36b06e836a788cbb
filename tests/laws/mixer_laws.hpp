// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The laws that every recurrent mixer keeps, each written once. `mixer_laws` checks them all for
/// one mixer, a section a law; the laws that relate two mixer types are called by name.
///
/// Every problem has a nonzero initial state and, unless a law says otherwise, gates within 1e-6 of
/// 1 in two channels of three: forgetful gates and a zero start hide an operation out of order.

#include "laws/mixer_subject.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>

#if !defined(MASLIN_TEST_ORDERS)
#define MASLIN_TEST_ORDERS 1, 2, 3, 4, 5, 6, 7, 8, 16
#endif

namespace maslin::test {

/// Channel counts that reach each schedule: one channel, less than a register, more than one with a
/// tail, more than the 16 that lie side by side in a state.
inline constexpr index_t few_channels[] = {1, 3, 11, 19};

/// Every way to carry out a problem on one thread. All but chunks give the bytes of the first.
[[nodiscard]] inline std::vector<way> all_ways() {
  return {exec::sequential{}, exec::scalar{}, decode{},
          exec::sequential{.threads = 1, .store = exec::stores::streaming},
          exec::chunked{.chunk = 3, .threads = 1}};
}

/// Lengths around the order, where lags begin to come from outputs rather than from the state.
template <class S>
[[nodiscard]] index_t length_for(const subject<S>& m) {
  return std::min(m.order, 8) + 5;
}

// ---- state hand-over ----

/// Prefill [0, t) then [t, T), each whole or token by token, the state stored in between or not.
template <class S>
void split_law(const subject<S>& m) {
  const index_t T = length_for(m);
  for (const index_t C : few_channels) {
    const auto p = make_problem(m, 2, T, C, 11);
    const auto stage = m.set(p, {});
    const auto whole = stage->run({.legs = {{T, exec::sequential{}}}});
    const std::vector<std::pair<way, way>> hands = {{exec::sequential{}, exec::sequential{}},
                                                    {exec::sequential{}, decode{}},
                                                    {decode{}, exec::sequential{}},
                                                    {exec::scalar{}, exec::sequential{}}};
    for (index_t t = 0; t <= T; ++t)
      for (const auto& [first, second] : hands)
        for (const bool stored : {false, true}) {
          INFO(C << " channels, " << describe(first) << " to " << t << ", then " << describe(second)
                 << (stored ? ", stored between" : ""));
          const auto parts = stage->run({.legs = {{t, first}, {T, second}}, .stored = stored});
          REQUIRE(difference(whole, parts) == "");
        }
  }
}

template <class S>
void three_way_split_law(const subject<S>& m) {
  const index_t T = length_for(m), C = 11;
  const auto p = make_problem(m, 1, T, C, 12);
  const auto stage = m.set(p, {});
  const auto whole = stage->run({.legs = {{T, exec::sequential{}}}});
  for (index_t i = 0; i <= T; ++i)
    for (index_t j = i; j <= T; ++j) {
      INFO("split at " << i << " and " << j);
      const plan parts{.legs = {{i, exec::sequential{}}, {j, decode{}}, {T, exec::sequential{}}}};
      REQUIRE(difference(whole, stage->run(parts)) == "");
    }
}

// ---- schedules ----

/// Scalars, registers, threads, streaming stores and single steps: the same bytes.
template <class S>
void schedule_law(const subject<S>& m) {
  auto ways = all_ways();
  std::erase_if(ways, [](const way& how) { return std::holds_alternative<exec::chunked>(how); });
  for (const int threads : {0, 2, 3, 7}) ways.emplace_back(exec::sequential{.threads = threads});
  // The last shape is wide enough for seven runs of channels, and for more than one piece of a row
  // on its way past the cache.
  constexpr index_t run_bytes = 4096;
  const index_t wide = 7 * run_bytes / static_cast<index_t>(sizeof(S)) / m.each.values + 5;
  const std::array<index_t, 3> shapes[] = {{1, 9, 19}, {5, 4, 7}, {1, 3, wide}};
  for (const auto& [B, T, C] : shapes) {
    const auto p = make_problem(m, B, T, C, 21);
    const auto stage = m.set(p, {.gaps = true});
    const auto want = stage->run({.legs = {{T, exec::sequential{}}}});
    for (const way& how : ways) {
      INFO("B " << B << ", T " << T << ", C " << C << ": " << describe(how));
      REQUIRE(difference(want, stage->run({.legs = {{T, how}}})) == "");
    }
  }
}

/// A sequence alone, and in any place of a batch of any size, between neighbours that are NaN.
template <class S>
void batch_law(const subject<S>& m) {
  constexpr S nan = std::numeric_limits<S>::quiet_NaN();
  const index_t T = length_for(m), C = 11;
  auto alone = make_problem(m, 1, T, C, 31);
  const auto want = m.run(alone);
  for (const index_t B : {2, 7})
    for (index_t slot = 0; slot < B; ++slot) {
      problem<S> p{m.each, B, T, C, {}, {}, {}, {}};
      const auto place = [&](std::vector<S>& into, const std::vector<S>& item) {
        for (index_t b = 0; b < B; ++b)
          for (const S x : item) into.push_back(b == slot ? x : nan);
      };
      place(p.gate, alone.gate);
      place(p.input, alone.input);
      place(p.initial, alone.initial);
      for (const way& how :
           {way(exec::sequential{}), way(exec::sequential{.threads = 2}), way(decode{})}) {
        INFO("slot " << slot << " of " << B << ": " << describe(how));
        const auto all = m.run(p, how);
        const auto mine = [&](const std::vector<S>& from, std::size_t size) {
          const auto first = from.begin() + slot * static_cast<index_t>(size);
          return std::vector<S>(first, first + static_cast<index_t>(size));
        };
        REQUIRE(difference(want, outcome<S>{mine(all.y, want.y.size()),
                                            mine(all.state, want.state.size())}) == "");
      }
    }
}

/// Packed sequences of unequal lengths, none included, and the same sequences one by one.
template <class S>
void packed_law(const subject<S>& m) {
  const std::vector<index_t> lengths = {0, 5, 1, 0, 9, length_for(m), 0};
  const index_t C = 11, count = static_cast<index_t>(lengths.size());
  const index_t T = std::accumulate(lengths.begin(), lengths.end(), index_t{0});
  auto packed = make_problem(m, 1, T, C, 41);
  packed.initial = make_problem(m, count, 1, C, 42).initial;
  packed.offsets = {0};
  for (const index_t n : lengths) packed.offsets.push_back(packed.offsets.back() + n);

  auto ways = all_ways();
  std::erase_if(ways, [](const way& how) { return std::holds_alternative<decode>(how); });
  ways.emplace_back(exec::sequential{.threads = 3});
  ways.emplace_back(exec::chunked{.chunk = 3, .threads = 2});
  for (const way& how : ways) {
    outcome<S> want;
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      const auto cut = [&](const std::vector<S>& from, index_t begin, index_t end, index_t each) {
        return std::vector<S>(from.begin() + begin * C * each, from.begin() + end * C * each);
      };
      const index_t begin = packed.offsets[b], end = packed.offsets[b + 1];
      const auto row = static_cast<index_t>(b);
      const problem<S> one{m.each,
                           1,
                           end - begin,
                           C,
                           cut(packed.gate, begin, end, m.each.gates),
                           cut(packed.input, begin, end, m.each.values),
                           cut(packed.initial, row, row + 1, m.each.state),
                           {}};
      const auto alone = m.run(one, how);
      want.y.insert(want.y.end(), alone.y.begin(), alone.y.end());
      want.state.insert(want.state.end(), alone.state.begin(), alone.state.end());
    }
    INFO(describe(how));
    REQUIRE(difference(want, m.run(packed, how)) == "");
  }
}

// ---- what depends on what ----

/// Whatever replaces the tokens from t0 on, no byte of an earlier output changes.
template <class S>
void causality_law(const subject<S>& m) {
  const index_t T = length_for(m), C = 3;
  const auto p = make_problem(m, 1, T, C, 51);
  const auto other = make_problem(m, 1, T, C, 52);
  const std::optional<S> replacements[] = {std::nullopt, std::numeric_limits<S>::quiet_NaN(),
                                           std::numeric_limits<S>::infinity()};
  for (const way& how : all_ways()) {
    const auto want = m.run(p, how);
    for (index_t t0 = 0; t0 <= T; ++t0)
      for (const auto& with : replacements) {
        auto changed = p;
        const auto replace = [&](std::vector<S>& x, const std::vector<S>& random, index_t each) {
          for (auto i = static_cast<std::size_t>(t0 * C * each); i < x.size(); ++i)
            x[i] = with.value_or(random[i]);
        };
        replace(changed.gate, other.gate, m.each.gates);
        replace(changed.input, other.input, m.each.values);
        const auto got = m.run(changed, how);
        const auto before = [&](const std::vector<S>& y) {
          return std::vector<S>(y.begin(), y.begin() + t0 * C * m.each.values);
        };
        INFO(describe(how) << ", changed from " << t0 << " on");
        REQUIRE(difference(before(want.y), before(got.y)) == "");
        if (t0 < T && with && std::isnan(*with))
          REQUIRE(std::isnan(got.y[static_cast<std::size_t>(t0 * C * m.each.values)]));
      }
  }
}

/// Checks what a value planted at (b0, t0, c0) reaches: every other channel and every earlier
/// output keeps its bytes. In the default policy the results that are not finite are the reference's.
template <class S>
void check_cone(const subject<S>& m, problem<S>& p, const outcome<S>& clean, const way& how,
                std::array<index_t, 3> planted) {
  const auto [b0, t0, c0] = planted;
  const auto got = m.run(p, how);
  std::size_t escaped = 0, i = 0;
  for (index_t b = 0; b < p.batch; ++b)
    for (index_t t = 0; t < p.length; ++t)
      for (index_t c = 0; c < p.channels; ++c)
        for (index_t k = 0; k < m.each.values; ++k, ++i)
          if ((b != b0 || c != c0 || t < t0) && !same_bits(clean.y[i], got.y[i])) ++escaped;
  i = 0;
  for (index_t b = 0; b < p.batch; ++b)
    for (index_t c = 0; c < p.channels; ++c)
      for (index_t k = 0; k < m.each.state; ++k, ++i)
        if ((b != b0 || c != c0) && !same_bits(clean.state[i], got.state[i])) ++escaped;
  INFO(describe(how) << ", planted at b " << b0 << ", t " << t0 << ", c " << c0);
  REQUIRE(escaped == 0);

  if (std::holds_alternative<exec::chunked>(how)) return;
  const auto want = m.reference(p);
  std::size_t differ = 0;
  for (i = 0; i < got.y.size(); ++i) differ += std::isfinite(got.y[i]) != std::isfinite(want.y[i]);
  for (i = 0; i < got.state.size(); ++i)
    differ += std::isfinite(got.state[i]) != std::isfinite(want.state[i]);
  REQUIRE(differ == 0);
}

/// One NaN or Inf in an input, a gate or the state, at every token and channel.
template <class S>
void cone_law(const subject<S>& m) {
  constexpr S inf = std::numeric_limits<S>::infinity();
  const S bad[] = {std::numeric_limits<S>::quiet_NaN(), inf, -inf};
  const index_t B = 2, T = 4, C = 3;
  const auto p = make_problem(m, B, T, C, 61);
  random r(62);
  for (const way& how : all_ways()) {
    const auto clean = m.run(p, how);
    for (index_t b = 0; b < B; ++b)
      for (index_t c = 0; c < C; ++c) {
        for (const S x : bad) {
          auto q = p;
          q.initial_at(b, c)[static_cast<std::size_t>(r.below(m.each.state))] = x;
          check_cone(m, q, clean, how, {b, 0, c});
        }
        for (index_t t = 0; t < T; ++t)
          for (const S x : bad) {
            auto q = p;
            q.input_at(b, t, c)[static_cast<std::size_t>(r.below(m.each.values))] = x;
            check_cone(m, q, clean, how, {b, t, c});
            q = p;
            q.gates_at(b, t, c)[static_cast<std::size_t>(r.below(m.each.gates))] = x;
            check_cone(m, q, clean, how, {b, t, c});
          }
      }
  }
  // Every gate of one channel, in a row of channels that fills registers and leaves a tail.
  const auto wide = make_problem(m, 1, 2, 11, 63);
  const auto clean = m.run(wide);
  for (const index_t c : {0, 7, 8, 10})
    for (index_t k = 0; k < m.each.gates; ++k) {
      auto q = wide;
      q.gates_at(0, 0, c)[static_cast<std::size_t>(k)] = bad[0];
      check_cone(m, q, clean, exec::sequential{}, {0, 0, c});
    }
}

/// Channels in another order give the same bytes in that order: whole registers and tails, every
/// group and lane treat a channel alike.
template <class S>
void permutation_law(const subject<S>& m) {
  const index_t B = 2, T = 6, C = 19;
  auto p = make_problem(m, B, T, C, 71);
  const auto want = m.run(p);
  random r(72);
  for (int round = 0; round < 4; ++round) {
    std::vector<index_t> from(static_cast<std::size_t>(C));
    std::iota(from.begin(), from.end(), index_t{0});
    for (index_t c = C - 1; c > 0; --c)
      std::swap(from[static_cast<std::size_t>(c)], from[static_cast<std::size_t>(r.below(c + 1))]);
    const auto permuted = [&](const std::vector<S>& x, index_t each) {
      std::vector<S> out;
      out.reserve(x.size());
      for (index_t row = 0; row < static_cast<index_t>(x.size()) / (C * each); ++row)
        for (const index_t c : from) {
          const auto first = x.begin() + (row * C + c) * each;
          out.insert(out.end(), first, first + each);
        }
      return out;
    };
    const problem<S> q{m.each,
                       B,
                       T,
                       C,
                       permuted(p.gate, m.each.gates),
                       permuted(p.input, m.each.values),
                       permuted(p.initial, m.each.state),
                       {}};
    const outcome<S> expected{permuted(want.y, m.each.values), permuted(want.state, m.each.state)};
    REQUIRE(difference(expected, m.run(q)) == "");
  }
}

// ---- linear algebra ----

/// Inputs and state scaled by a power of two scale the result exactly.
template <class S>
void scaling_law(const subject<S>& m) {
  const auto p = make_problem(m, 2, 12, 11, 81);
  for (const way& how : all_ways()) {
    const auto once = m.run(p, how);
    for (const int power : {-20, -1, 1, 30}) {
      const auto scaled = [&](std::vector<S> x) {
        for (S& v : x) v = std::ldexp(v, power);
        return x;
      };
      auto q = p;
      q.input = scaled(p.input);
      q.initial = scaled(p.initial);
      INFO(describe(how) << ", times 2^" << power);
      REQUIRE(difference(outcome<S>{scaled(once.y), scaled(once.state)}, m.run(q, how)) == "");
    }
  }
}

/// K(a + b) - K a - K b is within the three bounds. The coefficients are the same in all three, so
/// their own errors cancel.
template <class S>
void linearity_law(const subject<S>& m) {
  using real = wider_t<S>;
  auto a = make_problem(m, 1, 12, 5, 91);
  auto b = a, sum = a;
  random r(92);
  // Multiples of 2^-8 below 8: their sums are exact.
  const auto draw = [&](std::vector<S>& x, std::vector<S>& y, std::vector<S>& z) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<S>(r.between(-2048, 2047)) / 256;
      y[i] = static_cast<S>(r.between(-2048, 2047)) / 256;
      z[i] = x[i] + y[i];
    }
  };
  draw(a.input, b.input, sum.input);
  draw(a.initial, b.initial, sum.initial);
  const auto wa = m.bounds(a), wb = m.bounds(b), ws = m.bounds(sum);
  for (const way& how : {way(exec::sequential{}), way(exec::chunked{.chunk = 3, .threads = 1})}) {
    const bool in_chunks = std::holds_alternative<exec::chunked>(how);
    const double k = m.factor_of_recurrence(in_chunks ? walk::chunked : walk::sequential);
    const auto ya = m.run(a, how).y, yb = m.run(b, how).y, ys = m.run(sum, how).y;
    double worst = 0;
    for (std::size_t i = 0; i < ys.size(); ++i) {
      const real defect =
          static_cast<real>(ys[i]) - static_cast<real>(ya[i]) - static_cast<real>(yb[i]);
      const real allowed = k * unit_roundoff<S> * (wa[i].w + wb[i].w + ws[i].w);
      worst = std::max(worst, static_cast<double>(magnitude(defect) / allowed));
    }
    INFO(describe(how));
    REQUIRE(worst <= 1.01);
    REQUIRE(worst > 0);
  }
}

/// Normalised gates keep every output within the largest of state and inputs of its channel, but
/// for the rounding of the rows' sums.
template <class S>
void maximum_law(const subject<S>& m) {
  if (m.kind == normalise::none) return;
  const index_t T = 60, C = 7;
  auto p = make_problem(m, 1, T, C, 101);
  const auto y = m.run(p).y;
  const double slack = 1 + 4.0 * m.order * unit_roundoff<S> * static_cast<double>(T);
  for (index_t c = 0; c < C; ++c) {
    double most = 0;
    for (const S h : p.initial_at(0, c)) most = std::max(most, std::abs(double{h}));
    for (index_t t = 0; t < T; ++t)
      for (index_t k = 0; k < m.each.values; ++k) {
        most = std::max(most, std::abs(double{p.input_at(0, t, c)[static_cast<std::size_t>(k)]}));
        const double h = y[static_cast<std::size_t>((t * C + c) * m.each.values + k)];
        REQUIRE(std::abs(h) <= most * slack);
      }
  }
}

// ---- memory ----

/// y = input gives the same bytes as an output of its own.
template <class S>
void in_place_law(const subject<S>& m) {
  const index_t T = length_for(m);
  for (const bool gaps : {false, true})
    for (const index_t C : few_channels) {
      const auto stage = m.set(make_problem(m, 2, T, C, 111), {.gaps = gaps});
      for (const way& how : all_ways()) {
        INFO(C << " channels, " << describe(how));
        const auto want = stage->run({.legs = {{T, how}}});
        REQUIRE(difference(want, stage->run({.legs = {{T, how}}, .in_place = true})) == "");
      }
    }
}

/// Batch, time and channel strides with poison between: nothing of it is read, or written.
template <class S>
void stride_law(const subject<S>& m) {
  const index_t T = length_for(m);
  for (const index_t C : few_channels) {
    const auto p = make_problem(m, 3, T, C, 121);
    const auto dense = m.set(p, {}), strided = m.set(p, {.gaps = true});
    for (const way& how : all_ways()) {
      INFO(C << " channels, " << describe(how));
      REQUIRE(difference(dense->run({.legs = {{T, how}}}), strided->run({.legs = {{T, how}}})) ==
              "");
    }
  }
}

/// Nothing to do is legal: no output, state unchanged.
template <class S>
void empty_law(const subject<S>& m) {
  const std::array<index_t, 3> shapes[] = {{2, 0, 5}, {0, 3, 5}, {2, 3, 0}, {0, 0, 0}};
  for (const auto& [B, T, C] : shapes)
    for (const way& how : all_ways()) {
      if (T == 0 && std::holds_alternative<decode>(how)) continue;
      const auto p = make_problem(m, B, T, C, 131);
      INFO("B " << B << ", T " << T << ", C " << C << ": " << describe(how));
      const auto got = m.run(p, how);
      REQUIRE(got.y.empty());
      REQUIRE(difference(p.initial, got.state) == "");
    }
}

/// Sequences shorter than the order: every lag that is read comes from the initial state.
template <class S>
void short_law(const subject<S>& m) {
  for (index_t T = 1; T <= m.order; ++T) {
    const auto p = make_problem(m, 2, T, 5, 141);
    const auto want = m.bounds(p);
    for (const way& how : all_ways()) {
      const bool in_chunks = std::holds_alternative<exec::chunked>(how);
      INFO("T " << T << ", " << describe(how));
      REQUIRE(worst_error(m.run(p, how).y, want,
                          1.01 * m.factor(in_chunks ? walk::chunked : walk::sequential)) <= 1);
    }
  }
}

// ---- chunks ----

/// Chunks keep to 3 u W whatever their length, to the bytes whatever the threads, and to the sum of
/// both bounds against a decode.
template <class S>
void chunk_law(const subject<S>& m) {
  constexpr index_t default_chunk = scan::default_chunk;
  const std::array<index_t, 3> shapes[] = {{1, 70, 5}, {3, 70, 2}, {64, 135, 3}, {0, 0, 1}};
  for (auto [chunk, T, C] : shapes) {
    if (chunk == 0) T = default_chunk + 9;
    const auto p = make_problem(m, 1, T, C, 151);
    const auto want = m.bounds(p);
    const auto got = m.run(p, exec::chunked{.chunk = chunk, .threads = 1});
    INFO("chunk " << chunk << ", T " << T << ", C " << C);
    for (const int threads : {2, 3}) {
      const auto same = m.run(p, exec::chunked{.chunk = chunk, .threads = threads});
      REQUIRE(difference(got, same) == "");
    }
    REQUIRE(worst_error(got.y, want, 1.01 * m.factor(walk::chunked)) <= 1);

    const auto decoded = m.run(p, decode{}).y;
    const double k =
        m.factor_of_recurrence(walk::chunked) + m.factor_of_recurrence(walk::sequential);
    double worst = 0;
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      const double apart = std::abs(double{got.y[i]} - double{decoded[i]});
      const auto allowed = static_cast<double>(k * unit_roundoff<S> * want[i].w);
      worst = std::max(worst, apart / allowed);
    }
    REQUIRE(worst <= 1.01);
  }
}

// ---- all of them ----

/// Every law of one mixer.
template <class S>
void mixer_laws(const subject<S>& m) {
  SECTION("a sequence split anywhere gives the same bytes") { split_law(m); }
  SECTION("a sequence split twice gives the same bytes") { three_way_split_law(m); }
  SECTION("scalars, registers, threads and steps give the same bytes") { schedule_law(m); }
  SECTION("neither the place in a batch nor the neighbours change a byte") { batch_law(m); }
  SECTION("packed sequences give the bytes of separate ones") { packed_law(m); }
  SECTION("no output depends on a later token") { causality_law(m); }
  SECTION("NaN and Inf stay in their channel, later in time") { cone_law(m); }
  SECTION("permuted channels give permuted bytes") { permutation_law(m); }
  SECTION("a power of two passes through exactly") { scaling_law(m); }
  SECTION("the result is linear in inputs and state") { linearity_law(m); }
  SECTION("normalised gates never exceed the largest value") { maximum_law(m); }
  SECTION("working in place gives the same bytes") { in_place_law(m); }
  SECTION("strides with gaps give the same bytes") { stride_law(m); }
  SECTION("no tokens, sequences or channels are legal") { empty_law(m); }
  SECTION("sequences shorter than the order read the initial state") { short_law(m); }
  SECTION("chunks keep to their bound") { chunk_law(m); }
}

// ---- laws of two mixer types ----

/// Grouped gates give the bytes of natural ones, for every group size; what pads the last group is
/// never read into a result.
template <class S>
void grouped_law(const subject<S>& natural, const subject<S>& grouped) {
  for (const index_t C : {1, 4, 11, 37}) {
    const index_t T = length_for(natural);
    const auto p = make_problem(natural, 2, T, C, 161);
    const auto plain = natural.set(p, {});
    for (const index_t L : {1, 2, 4, 8, 16, 32})
      for (const bool gaps : {false, true}) {
        const auto lanes = grouped.set(p, {.gaps = gaps, .group = L});
        for (const way& how : all_ways()) {
          INFO(C << " channels, L " << L << (gaps ? ", gaps, " : ", ") << describe(how));
          REQUIRE(difference(plain->run({.legs = {{T, how}}}), lanes->run({.legs = {{T, how}}})) ==
                  "");
        }
      }
  }
}

/// Logits normalised in the kernel give the bytes of the same coefficients given.
template <class S>
void given_law(const subject<S>& normalised, const subject<S>& given) {
  for (const index_t C : few_channels) {
    const auto p = make_problem(normalised, 2, length_for(normalised), C, 171);
    auto q = p;
    const auto row = static_cast<std::size_t>(normalised.row_size());
    for (std::size_t i = 0; i < p.gate.size(); i += row) {
      const auto coefficients = normalised.coefficients(std::span<const S>(p.gate).subspan(i, row));
      std::copy(coefficients.begin(), coefficients.end(), q.gate.begin() + static_cast<index_t>(i));
    }
    for (const way& how : all_ways()) {
      INFO(C << " channels, " << describe(how));
      REQUIRE(difference(given.run(q, how), normalised.run(p, how)) == "");
    }
  }
}

// ---- which mixer types are tested ----

/// The orders that this build instantiates.
inline constexpr int test_orders[] = {MASLIN_TEST_ORDERS};
inline constexpr std::size_t order_count = std::size(test_orders);

inline constexpr normalise normalisations[] = {normalise::softmax, normalise::sigmoid_l1,
                                               normalise::relu_l1, normalise::tanh_l1,
                                               normalise::lin_l1,  normalise::none};

/// The i-th normalisation, round and round.
constexpr normalise normalisation_at(std::size_t i) {
  return normalisations[i % std::size(normalisations)];
}

/// One mixer type for each order, as Catch2 takes lists of types: std::tuple<At<0>, At<1>, ...>.
template <template <std::size_t> class At, class = std::make_index_sequence<order_count>>
struct for_each_order;
template <template <std::size_t> class At, std::size_t... I>
struct for_each_order<At, std::index_sequence<I...>> {
  using type = std::tuple<At<I>...>;
};

/// float and double by turns.
template <std::size_t I>
using scalar_at = std::conditional_t<I % 2 == 0, float, double>;

}  // namespace maslin::test
