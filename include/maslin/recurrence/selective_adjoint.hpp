// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of one token of a selective state-space model: its N numbers of state, backward, for
/// a register of channels.

#include <maslin/recurrence/selective.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// What the adjoint of a token finds in memory. Rows, one for each n, are 16 numbers apart, as in
/// `selective_rows`.
template <class S>
struct selective_adjoint_rows {
  const S* decay;   // [N][16]: as `selective_rows` has it
  const S* rate;    // [N][16]: A
  const S* before;  // [N][16]: h[t-1]
  const S* after;   // [N][16]: h[t]
  const S* write;   // [N]
  const S* read;    // [N]
  S* carry;         // [N][16]: a[t+1] s[t+1], then a[t] s[t]
  S* into_decay;    // [N][16]: what is added to the gradient of A
  S* into_write;    // [N][16]: the same of write and read, to be summed over lanes
  S* into_read;     // [N][16]
  index_t N;
};

/// A register of channels, or the first n of one.
///   s[n]        = g C[n] + carry[n],   carry[n] <- a s[n]
///   into_input  = sum_n s w B[n]
///   into_delta  = sum_n s a (A h[t-1,n] + B[n] u)  (Euler: of the first term alone)
/// where g is the gradient of sum_n C[n] h[t,n], and `into_decay`, `into_write` and `into_read` of
/// each n receive s (Delta a h[t-1,n] + Delta^2 phi1'(Delta A) B[n] u), s w Delta u and g h[t,n].
/// numerics  sums over n ascending, one fma a term
template <discretisation Rule, class V>
struct selective_adjoint {
  using S = typename lane<V>::scalar;
  static constexpr bool hold = Rule == discretisation::zero_order_hold;

  struct token_values {
    V delta, drive, input, g;  // drive = Delta u
  };
  struct sums {
    V into_input, into_delta;
  };

  /// `normal`: no exponential leaves the range of normal numbers.
  template <class N>
  [[gnu::always_inline]] static sums token(const selective_adjoint_rows<S>& at,
                                           const token_values& x, bool normal, N n) noexcept {
    constexpr int together = lane<V>::width == 1 ? 1 : 2;
    partial p{lane<V>::broadcast(S(0)), lane<V>::broadcast(S(0)), lane<V>::broadcast(S(0))};
    index_t k = 0;
    if (!hold && normal) {
      for (; k + together <= at.N; k += together) states<together, true>(at, k, x, n, p);
      if constexpr (together > 1)
        for (; k < at.N; ++k) states<1, true>(at, k, x, n, p);
    } else {
      for (; k < at.N; ++k) states<1, false>(at, k, x, n, p);
    }
    if constexpr (hold) return {p.into_input, lane<V>::fma(x.input, p.into_drive, p.of_decay)};
    return {p.into_input, p.of_decay};
  }

 private:
  struct partial {
    V into_input, of_decay, into_drive;
  };

  /// States k .. k + Count - 1.
  template <int Count, bool Normal, class N>
  [[gnu::always_inline]] static void states(const selective_adjoint_rows<S>& at, index_t k,
                                            const token_values& x, N n, partial& p) noexcept {
    using L = lane<V>;
    constexpr auto size = static_cast<std::size_t>(Count);
    V step[size], rate[size], a[size];
    const auto place = [&](auto i) { return (k + static_cast<index_t>(i)) * lanes_apart; };
    unrolled<Count>([&](auto i) {
      step[i] = x.delta;
      rate[i] = L::load(at.decay + place(i), n);
    });
    if constexpr (Normal) {
      simd::exp2_normal<Count>(step, rate, a);
    } else {
      unrolled<Count>([&](auto i) {
        if constexpr (hold)
          a[i] = simd::exp(V(step[i] * rate[i]));
        else
          a[i] = simd::exp2(step[i], rate[i]);
      });
    }
    unrolled<Count>([&](auto i) { state(at, k + static_cast<index_t>(i), x, a[i], n, p); });
  }

  template <class N>
  [[gnu::always_inline]] static void state(const selective_adjoint_rows<S>& at, index_t k,
                                           const token_values& x, V a, N n, partial& p) noexcept {
    using L = lane<V>;
    const index_t i = k * lanes_apart;
    const V write = L::broadcast(at.write[k]), rate = L::load(at.rate + i, n);
    const V s = L::fma(x.g, L::broadcast(at.read[k]), L::load(at.carry + i, n));
    const V carry = a * s, moved = carry * L::load(at.before + i, n);
    L::store(at.carry + i, carry, n);
    add(at.into_read + i, x.g, L::load(at.after + i, n), n);
    p.of_decay = L::fma(moved, rate, p.of_decay);
    if constexpr (hold) {
      const V at_rate = x.delta * rate, phi = simd::phi1(at_rate, a), held = s * phi;
      add(at.into_write + i, held, x.drive, n);
      p.into_input = L::fma(held, write, p.into_input);
      p.into_drive = L::fma(carry, write, p.into_drive);
      const V driven = x.drive * write * simd::phi1_slope(at_rate, a, phi);
      add(at.into_decay + i, L::fma(s, driven, moved), x.delta, n);
    } else {
      add(at.into_write + i, s, x.drive, n);
      p.into_input = L::fma(s, write, p.into_input);
      add(at.into_decay + i, moved, x.delta, n);
    }
  }

  template <class N>
  [[gnu::always_inline]] static void add(S* to, V a, V b, N n) noexcept {
    lane<V>::store(to, lane<V>::fma(a, b, lane<V>::load(to, n)), n);
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
