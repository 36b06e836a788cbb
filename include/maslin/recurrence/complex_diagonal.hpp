// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// First-order recurrences of complex numbers, kept as their two parts.

#include <maslin/core/lane.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// h <- a h + b over complex a, h, b.
/// numerics  two roundings a step and part in the FMA family (four elsewhere): |err| <= 2 u W in
///           each part, where S and W carry |Re| + |Im| products: see `complex_bounds` of the tests
/// cost      step 4, append 8, compose 8 multiply-adds
template <class V>
struct complex_diagonal {
  using value = V;
  static constexpr int order = 2;

  struct token {
    V a_re, a_im, b_re, b_im;
  };
  struct state {
    V h[2];  // re, im
  };
  using map = token;

  static constexpr void step(const token& u, state& h) noexcept {
    const V re = h.h[0], im = h.h[1];
    // The real part of a carries: it is the one that comes close to one.
    h.h[0] = carry_state(u.a_re, re, lane<V>::fma(negative(u.a_im), im, u.b_re));
    h.h[1] = carry_state(u.a_re, im, lane<V>::fma(u.a_im, re, u.b_im));
  }
  [[nodiscard]] static constexpr map identity() noexcept {
    using S = typename lane<V>::scalar;
    const V zero = lane<V>::broadcast(S(0));
    return {lane<V>::broadcast(S(1)), zero, zero, zero};
  }
  static constexpr void append(map& m, const token& u) noexcept { m = compose(u, m); }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    using L = lane<V>;
    const V minus_im = negative(later.a_im);
    return {L::fma(later.a_re, earlier.a_re, minus_im * earlier.a_im),
            L::fma(later.a_re, earlier.a_im, later.a_im * earlier.a_re),
            L::fma(later.a_re, earlier.b_re, L::fma(minus_im, earlier.b_im, later.b_re)),
            L::fma(later.a_re, earlier.b_im, L::fma(later.a_im, earlier.b_re, later.b_im))};
  }
  static constexpr void apply(const map& f, state& h) noexcept { step(f, h); }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {static_cast<V>(u.a_re), static_cast<V>(u.a_im), static_cast<V>(u.b_re),
            static_cast<V>(u.b_im)};
  }

 private:
  static constexpr V negative(V x) noexcept {
    return lane<V>::broadcast(typename lane<V>::scalar(0)) - x;
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
