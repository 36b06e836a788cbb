// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Softmax-weighted means in parts: what some keys contribute to one query, and how parts merge. The
/// tiles of attention, its split decode, and users who attend to keys in several places all use it.

#include <maslin/simd/lane.hpp>
#include <maslin/simd/math.hpp>

#include <algorithm>
#include <concepts>
#include <limits>

namespace maslin::inline MASLIN_ABI::recurrence {

/// Parts of a whole that merge: associative, with the empty part as identity.
template <class M>
concept merge_monoid = requires(const M& monoid, typename M::part& a, const typename M::part& b) {
  { monoid.clear(a) } -> std::same_as<void>;     // a <- identity
  { monoid.merge(a, b) } -> std::same_as<void>;  // a <- a merged with b
};

/// The monoid of softmax attention (arXiv 1805.02867, 2307.08691): parts (m, l, acc) of one query,
///   m = max_j s_j,   l = sum_j e^(s_j - m),   acc = sum_j e^(s_j - m) v_j,   v_j of `width` numbers
///   merge: m = max(m1, m2),  c_i = e^(m_i - m),  l = c1 l1 + c2 l2,  acc = c1 acc1 + c2 acc2
///   finish: y = acc / l,  log-sum-exp = m + log l
/// The identity is (-inf, 0, 0). Merging is associative and commutative in exact arithmetic; in
/// floating point within a few roundings, so that an order of merging is part of a result's bits.
///
/// numerics  weights of -inf are 0, also where both maxima are -inf; a NaN score, maximum or sum
///           makes the whole part NaN, a NaN in v_j its own column; each merge adds at most 8 u |acc|
///           and |m1 - m2| u of the smaller side
/// cost      `width` multiply-adds and two exp; no allocation
template <std::floating_point S>
struct online_softmax {
  index_t width = 0;

  /// One query's share of some keys; `acc` points at `width` numbers of the caller's.
  struct part {
    S max = -std::numeric_limits<S>::infinity();
    S sum = 0;
    S* acc = nullptr;
  };

  /// part <- identity.
  void clear(part& p) const noexcept {
    p.max = -std::numeric_limits<S>::infinity();
    p.sum = 0;
    std::fill_n(p.acc, width, S(0));
  }

  /// into <- into merged with `other`, whose keys come later. V is a register of S, or S.
  template <class V = S>
  void merge(part& into, const part& other) const noexcept {
    const auto [max, first, second] = factors(into.max, other.max);
    into.max = max;
    into.sum = lane<S>::fma(first, into.sum, second * other.sum);
    using L = lane<V>;
    const V a = L::broadcast(first), b = L::broadcast(second);
    const auto combine = [&](index_t e, auto n) {
      L::store(into.acc + e, L::fma(a, L::load(into.acc + e, n), b * L::load(other.acc + e, n)), n);
    };
    index_t e = 0;
    for (; e + L::width <= width; e += L::width) combine(e, all_lanes<V>{});
    if (e < width) combine(e, static_cast<int>(width - e));
  }

  /// Adds one key with its score; a null value stands for zeros (a sink).
  void add(part& p, S score, const S* value) const noexcept {
    const auto [max, first, second] = factors(p.max, score);
    p.max = max;
    p.sum = lane<S>::fma(first, p.sum, second);
    for (index_t e = 0; e < width; ++e)
      p.acc[e] = lane<S>::fma(second, value == nullptr ? S(0) : value[e], first * p.acc[e]);
  }

  /// y <- acc / l, zeros where no key was seen. Returns the log-sum-exp of the scores, -inf then.
  template <class V = S>
  S finish(const part& p, S* y) const noexcept {
    mean<V>(p, y);
    return log_sum(p);
  }
  /// The two halves of `finish`.
  template <class V = S>
  void mean(const part& p, S* y) const noexcept {
    using L = lane<V>;
    const bool nothing = p.sum == 0;
    const V sum = L::broadcast(nothing ? S(1) : p.sum), zero = L::broadcast(S(0));
    // A zero is added so that no sign of a rounded sum depends on zeros added before.
    const auto divide = [&](index_t e, auto n) {
      const V mean = L::div(L::load(p.acc + e, n), sum) + zero;
      L::store(y + e, nothing ? zero : mean, n);
    };
    index_t e = 0;
    for (; e + L::width <= width; e += L::width) divide(e, all_lanes<V>{});
    if (e < width) divide(e, static_cast<int>(width - e));
  }
  [[nodiscard]] static S log_sum(const part& p) noexcept {
    return p.sum == 0 ? -std::numeric_limits<S>::infinity() : p.max + simd::log(p.sum);
  }

 private:
  struct scales {
    S max, first, second;
  };
  [[nodiscard]] static scales factors(S a, S b) noexcept {
    const S max = a > b || a != a ? a : b;
    // With nothing seen on either side both weights are exp(-inf) = 0, not exp(-inf + inf).
    const S reference = max == -std::numeric_limits<S>::infinity() ? S(0) : max;
    return {max, simd::exp_weight(a - reference), simd::exp_weight(b - reference)};
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
