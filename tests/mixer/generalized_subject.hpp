// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Problems of generalised mixers in plain arrays, ways to carry them out, and what the result must
/// be: the sets of positions come from the reference, apart from the patterns under test.

#include "support/bits.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/mixer/generalized.hpp>
#include <maslin/reference/generalized.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace maslin::test {

/// A pattern under test with the definition of its sets.
template <class P>
struct pattern_case {
  using type = P;
  P pattern;
  reference::pattern_reads reads;
};

[[nodiscard]] inline index_t triangle(index_t k) { return k * (k + 1) / 2 + 1; }
[[nodiscard]] inline index_t power3(index_t k) {
  index_t d = 1;
  while (k-- > 0) d = pattern::product(d, 3);
  return d;
}
struct triangle_distance {
  index_t operator()(index_t k) const { return triangle(k); }
};
struct power3_distance {
  index_t operator()(index_t k) const { return power3(k); }
};

[[nodiscard]] inline auto order_case(index_t count) {
  const auto f = [=](index_t k) { return k < count ? k + 1 : pattern::beyond; };
  return pattern_case<pattern::order>{{count}, reference::plain_reads(f)};
}
[[nodiscard]] inline index_t power2_distance(index_t k) { return index_t{1} << k; }
[[nodiscard]] inline index_t square1_distance(index_t k) { return k * k + 1; }
[[nodiscard]] inline auto power2_case() {
  return pattern_case<pattern::power2>{{}, reference::plain_reads(power2_distance)};
}
[[nodiscard]] inline auto cached_power2_case() {
  return pattern_case<pattern::cached<pattern::power2>>{{},
                                                        reference::cached_reads(power2_distance)};
}
[[nodiscard]] inline auto cached_square1_case() {
  return pattern_case<pattern::cached<pattern::square1>>{{},
                                                         reference::cached_reads(square1_distance)};
}
[[nodiscard]] inline auto dense_case() {
  return pattern_case<pattern::dense>{{}, reference::dense_reads()};
}

struct rows_shape {
  index_t B = 1, T = 0, H = 1, E = 1;
};

/// Coefficients and inputs of one call, last axis fastest; slots that are not read are poison.
template <class S>
struct rows_problem {
  rows_shape size;
  index_t slots = 0;
  std::vector<S> self, past, input;

  [[nodiscard]] index_t numbers() const { return size.B * size.T * size.H * size.E; }
  [[nodiscard]] S& past_at(index_t b, index_t t, index_t h, index_t slot) {
    return past[static_cast<std::size_t>(((b * size.T + t) * size.H + h) * slots + slot)];
  }
};

/// Random coefficients whose rows, with the input's own, have an L1 norm of `norm` at most.
template <class S>
[[nodiscard]] rows_problem<S> make_rows(const reference::pattern_reads& reads, rows_shape size,
                                        std::uint64_t seed, double norm = 1) {
  const auto [B, T, H, E] = size;
  random r(seed);
  rows_problem<S> p{size, 0, {}, {}, {}};
  for (index_t t = 0; t < T; ++t)
    for (const auto& read : reads(t)) p.slots = std::max(p.slots, read.level + 1);
  // The highest level may share its position with a lower one, which is the one that reads.
  ++p.slots;
  p.self.resize(static_cast<std::size_t>(B * T * H));
  p.past.resize(static_cast<std::size_t>(B * T * H * p.slots));
  p.input.resize(static_cast<std::size_t>(p.numbers()));
  poison<S>::fill(p.past);
  r.fill_normal<S>(p.input);
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        const auto positions = reads(t);
        // The last row takes most: long memories show what is added out of order.
        const double share = norm / static_cast<double>(positions.size() + 2);
        for (const auto& read : positions)
          p.past_at(b, t, h, read.level) =
              static_cast<S>(share * (read.position == t - 1 ? 2 : r.uniform(-1, 1)));
        p.self[static_cast<std::size_t>((b * T + t) * H + h)] =
            static_cast<S>(share * r.uniform(-1, 1));
      }
  return p;
}

/// A problem in memory: gaps between batches, tokens and heads are poison, and so is y at first.
template <class S, class P, weights W = weights::given>
class rows_stage {
 public:
  using mixer_t = generalized<S, P, W>;

  rows_stage(const P& pattern, const rows_problem<S>& p, bool gaps = false)
      : mixer{.heads = p.size.H, .value_dim = p.size.E, .pattern = pattern},
        size_(p.size),
        self_({size_.B, size_.T, size_.H}, gaps ? shape3{5, 3, 0} : shape3{}),
        past_({size_.B, size_.T, size_.H, p.slots}, gaps ? shape4{3, 1, 2, 0} : shape4{}),
        input_(values(), gaps ? shape4{7, 5, 3, 0} : shape4{}),
        out_(values(), gaps ? shape4{2, 9, 1, 0} : shape4{}) {
    self_.assign(std::span<const S>(p.self));
    past_.assign(std::span<const S>(p.past));
    input_.assign(std::span<const S>(p.input));
    tokens = {.self = self_.get(), .past = past_.get(), .input = input_.get(), .offsets = {}};
    y = out_.get();
  }

  [[nodiscard]] auto fresh() const { return mixer.make_state(size_.B, size_.T); }
  template <class Policy>
  void scan(const Policy& policy, index_t begin, index_t end, typename mixer_t::state& h) {
    mixer.scan(policy, tokens.range(begin, end), time_range(y, begin, end), h);
  }
  void decode(index_t begin, index_t end, typename mixer_t::state& h) {
    for (index_t t = begin; t < end; ++t) mixer.step(tokens[t], time_at(y, t), h);
  }
  /// All tokens under a policy, from nothing.
  template <class Policy = exec::sequential>
  [[nodiscard]] std::vector<S> run(const Policy& policy = {}) {
    out_.reset();
    auto h = fresh();
    scan(policy, 0, size_.T, h);
    return result();
  }
  [[nodiscard]] std::vector<S> result() const {
    REQUIRE(out_.intact());
    return out_.values();
  }
  void work_in_place() {
    out_.assign(std::span<const S>(input_.values()));
    tokens.input = y;
  }
  void forget() { out_.reset(); }

  mixer_t mixer;
  typename mixer_t::tokens tokens{};
  typename mixer_t::output y{};

 private:
  using shape3 = std::array<index_t, 3>;
  using shape4 = std::array<index_t, 4>;
  [[nodiscard]] shape4 values() const { return {size_.B, size_.T, size_.H, size_.E}; }

  rows_shape size_;
  poisoned<S, 3> self_;
  poisoned<S, 4> past_, input_, out_;
};

/// Forward substitution as the order of terms says, in S: alpha x, then ascending positions, one fma
/// a term. No row is ever dropped.
template <class S>
[[nodiscard]] std::vector<S> full_solve(const reference::pattern_reads& reads, rows_problem<S> p) {
  const auto [B, T, H, E] = p.size;
  std::vector<S> out(p.input.size());
  const auto y = row_major(out.data(), B, T, H, E);
  const auto x = row_major(std::as_const(p.input).data(), B, T, H, E);
  const auto self = row_major(std::as_const(p.self).data(), B, T, H);
  for (index_t t = 0; t < T; ++t) {
    const auto positions = reads(t);
    for (index_t b = 0; b < B; ++b)
      for (index_t h = 0; h < H; ++h)
        for (index_t e = 0; e < E; ++e) {
          S sum = self(b, t, h) * x(b, t, h, e);
          for (const auto& [position, slot] : positions)
            sum = lane<S>::fma(p.past_at(b, t, h, slot), y(b, position, h, e), sum);
          y(b, t, h, e) = sum;
        }
  }
  return out;
}

/// The worst |A x - (I - B) y| in units of (n_t + 2) u (|A| |x| + |I - B| |y|), n_t terms in row t.
template <class S>
[[nodiscard]] double backward_error(const reference::pattern_reads& reads, rows_problem<S> p,
                                    const std::vector<S>& got) {
  using real = wider_t<S>;
  const auto [B, T, H, E] = p.size;
  const auto y = row_major(got.data(), B, T, H, E);
  const auto x = row_major(std::as_const(p.input).data(), B, T, H, E);
  const auto self = row_major(std::as_const(p.self).data(), B, T, H);
  double worst = 0;
  for (index_t t = 0; t < T; ++t) {
    const auto positions = reads(t);
    const auto allowed =
        static_cast<real>(positions.size() + 3) * static_cast<real>(unit_roundoff<S>);
    for (index_t b = 0; b < B; ++b)
      for (index_t h = 0; h < H; ++h)
        for (index_t e = 0; e < E; ++e) {
          const real own = static_cast<real>(self(b, t, h)) * static_cast<real>(x(b, t, h, e));
          real sum = own - static_cast<real>(y(b, t, h, e));
          real size = magnitude(own) + magnitude(static_cast<real>(y(b, t, h, e)));
          for (const auto& [position, slot] : positions) {
            const real term = static_cast<real>(p.past_at(b, t, h, slot)) *
                              static_cast<real>(y(b, position, h, e));
            sum = sum + term;
            size = size + magnitude(term);
          }
          const auto ratio = static_cast<double>(magnitude(sum) / (allowed * size));
          if (!(ratio <= worst)) worst = ratio;
        }
  }
  return worst;
}

}  // namespace maslin::test
