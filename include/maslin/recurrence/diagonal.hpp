// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// First-order recurrences: one number of state a channel.

#include <maslin/core/lane.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// h <- a h + b.
/// numerics  one rounding a step in the FMA family, |err| <= u W (2 u W elsewhere)
/// cost      step 1, append 2, compose 2 multiply-adds
template <class V>
struct diagonal {
  using value = V;
  static constexpr int order = 1;

  struct token {
    V a, b;
  };
  struct state {
    V h[1];
  };
  struct map {
    V a, b;
  };

  static constexpr void step(const token& u, state& h) noexcept {
    h.h[0] = carry_state(u.a, h.h[0], u.b);
  }
  [[nodiscard]] static constexpr map identity() noexcept {
    using S = typename lane<V>::scalar;
    return {lane<V>::broadcast(S(1)), lane<V>::broadcast(S(0))};
  }
  static constexpr void append(map& m, const token& u) noexcept {
    m = {u.a * m.a, lane<V>::fma(u.a, m.b, u.b)};
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    return {later.a * earlier.a, lane<V>::fma(later.a, earlier.b, later.b)};
  }
  static constexpr void apply(const map& f, state& h) noexcept {
    h.h[0] = lane<V>::fma(f.a, h.h[0], f.b);
  }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {static_cast<V>(u.a), static_cast<V>(u.b)};
  }
};

/// h <- h + (b - d h), the same recurrence given by the complement d = 1 - a of its decay: nothing
/// of a decay close to one is lost. The map carries the complement too: q = 1 - (product of a).
/// numerics  |err| <= 2 u W in the FMA family, 3 u W elsewhere
/// cost      step 2, append 3, compose 3 operations
template <class V>
struct diagonal_complement {
  using value = V;
  static constexpr int order = 1;

  struct token {
    V d, b;
  };
  struct state {
    V h[1];
  };
  struct map {
    V q, b;
  };

  static constexpr void step(const token& u, state& h) noexcept {
    h.h[0] = reduced(u.d, h.h[0], u.b);
  }
  [[nodiscard]] static constexpr map identity() noexcept {
    using S = typename lane<V>::scalar;
    return {lane<V>::broadcast(S(0)), lane<V>::broadcast(S(0))};
  }
  static constexpr void append(map& m, const token& u) noexcept {
    m = {reduced(u.d, m.q, u.d), reduced(u.d, m.b, u.b)};
  }
  [[nodiscard]] static constexpr map compose(const map& later, const map& earlier) noexcept {
    return {reduced(later.q, earlier.q, later.q), reduced(later.q, earlier.b, later.b)};
  }
  static constexpr void apply(const map& f, state& h) noexcept {
    h.h[0] = reduced(f.q, h.h[0], f.b);
  }
  /// The same token in this lane type.
  template <class U>
  [[nodiscard]] static constexpr token convert(const U& u) noexcept {
    return {static_cast<V>(u.d), static_cast<V>(u.b)};
  }

 private:
  /// x + (b - d x); from d = 1/2 on, where that would cancel and 1 - d is exact, (1 - d) x + b.
  static constexpr V reduced(V d, V x, V b) noexcept {
    using L = lane<V>;
    using S = typename L::scalar;
    const V difference = x + L::fma(L::broadcast(S(0)) - d, x, b);
    if constexpr (std::floating_point<S>) {
      const V product = L::fma(L::broadcast(S(1)) - d, x, b);
      return L::select(d < L::broadcast(S(0.5)), difference, product);
    } else {
      return difference;
    }
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
