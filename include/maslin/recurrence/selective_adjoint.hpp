// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The adjoint of one token of a selective state-space model: its N numbers of state, backward, for
/// registers of channels.

#include <maslin/recurrence/selective.hpp>

namespace maslin::inline MASLIN_ABI::recurrence {

/// What the adjoint of a token finds in memory. Rows, one for each n, are 16 numbers apart, as in
/// `selective_rows`; channels 16 further on are N rows further on.
template <class S>
struct selective_adjoint_rows {
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

/// R registers of channels 16 apart, whose sums over channels share their lanes, or the first n of
/// one.
///   s[n]        = g C[n] + carry[n],   carry[n] <- a s[n]
///   into_input  = sum_n s w B[n]
///   into_delta  = sum_n s a (A h[t-1,n] + B[n] u)  (Euler: of the first term alone)
/// where g is the gradient of sum_n C[n] h[t,n], and `into_decay`, `into_write` and `into_read` of
/// each n receive s (Delta a h[t-1,n] + Delta^2 phi1'(Delta A) B[n] u), s w Delta u and g h[t,n].
/// numerics  sums over n, and over channels, ascending, one fma a term. Decays are those of
///           `selective`, but that here Delta log2(e) is rounded and A is not
template <discretisation Rule, class V, int R>
struct selective_adjoint {
  using S = typename lane<V>::scalar;
  static constexpr bool hold = Rule == discretisation::zero_order_hold;
  static constexpr auto registers = static_cast<std::size_t>(R);

  struct token_values {
    V delta[registers], drive[registers], input[registers], g[registers];  // drive = Delta u
  };
  struct sums {
    V into_input[registers], into_delta[registers];
  };

  /// `normal`: no exponential leaves the range of normal numbers.
  template <class N>
  [[gnu::always_inline]] static sums token(const selective_adjoint_rows<S>& at,
                                           const token_values& x, bool normal, N n) noexcept {
    constexpr int together = lane<V>::width == 1 ? 1 : 2 / R;
    sums p;
    V driven[registers];
    unrolled<R>(
        [&](auto r) { p.into_input[r] = p.into_delta[r] = driven[r] = lane<V>::broadcast(S(0)); });
    index_t k = 0;
    if (!hold && normal) {
      for (; k + together <= at.N; k += together) states<together, true>(at, k, x, n, p, driven);
      if constexpr (together > 1)
        for (; k < at.N; ++k) states<1, true>(at, k, x, n, p, driven);
    } else {
      for (; k < at.N; ++k) states<1, false>(at, k, x, n, p, driven);
    }
    if constexpr (hold)
      unrolled<R>(
          [&](auto r) { p.into_delta[r] = lane<V>::fma(x.input[r], driven[r], p.into_delta[r]); });
    return p;
  }

 private:
  /// States k .. k + Count - 1.
  template <int Count, bool Normal, class N>
  [[gnu::always_inline]] static void states(const selective_adjoint_rows<S>& at, index_t k,
                                            const token_values& x, N n, sums& p,
                                            V (&driven)[registers]) noexcept {
    using L = lane<V>;
    constexpr int chains = Count * R;
    constexpr auto size = static_cast<std::size_t>(chains);
    V step[size], rate[size], a[size];
    unrolled<chains>([&](auto i) {
      step[i] = x.delta[i % R];
      if constexpr (!hold) step[i] = step[i] * L::broadcast(simd::exp_constants<S>::log2e);
      rate[i] = L::load(at.rate + place(at, k + static_cast<index_t>(i) / R, i % R), n);
    });
    if constexpr (Normal) {
      simd::exp2_normal<chains>(step, rate, a);
    } else {
      unrolled<chains>([&](auto i) {
        if constexpr (hold)
          a[i] = simd::exp(V(step[i] * rate[i]));
        else
          a[i] = simd::exp2(step[i], rate[i]);
      });
    }
    unrolled<Count>([&](auto i) {
      state(at, k + static_cast<index_t>(i), x, rate + i * registers, a + i * registers, n, p,
            driven);
    });
  }

  /// State n of all registers; `rates` and `decays` have one number of each.
  template <class N>
  [[gnu::always_inline]] static void state(const selective_adjoint_rows<S>& at, index_t k,
                                           const token_values& x, const V* rates, const V* decays,
                                           N n, sums& p, V (&driven)[registers]) noexcept {
    using L = lane<V>;
    const V write = L::broadcast(at.write[k]), read = L::broadcast(at.read[k]);
    S *const to_write = at.into_write + k * lanes_apart, *const to_read =
                                                             at.into_read + k * lanes_apart;
    V into_write = L::load(to_write, n), into_read = L::load(to_read, n);
    unrolled<R>([&](auto r) {
      const index_t i = place(at, k, r);
      const V s = L::fma(x.g[r], read, L::load(at.carry + i, n));
      const V carry = decays[r] * s, moved = carry * L::load(at.before + i, n);
      L::store(at.carry + i, carry, n);
      into_read = L::fma(x.g[r], L::load(at.after + i, n), into_read);
      p.into_delta[r] = L::fma(moved, rates[r], p.into_delta[r]);
      V of_decay = moved, weighed = s;
      if constexpr (hold) {
        const V rate = x.delta[r] * rates[r], phi = simd::phi1(rate, decays[r]);
        weighed = s * phi;
        driven[r] = L::fma(carry, write, driven[r]);
        of_decay = L::fma(s, x.drive[r] * write * simd::phi1_slope(rate, decays[r], phi), of_decay);
      }
      into_write = L::fma(weighed, x.drive[r], into_write);
      p.into_input[r] = L::fma(weighed, write, p.into_input[r]);
      S* const to_decay = at.into_decay + i;
      L::store(to_decay, L::fma(of_decay, x.delta[r], L::load(to_decay, n)), n);
    });
    L::store(to_write, into_write, n);
    L::store(to_read, into_read, n);
  }

  /// Where state n of register r lies.
  template <class Register>
  [[gnu::always_inline]] static index_t place(const selective_adjoint_rows<S>& at, index_t k,
                                              Register r) noexcept {
    return (k + static_cast<index_t>(r) * at.N) * lanes_apart;
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
