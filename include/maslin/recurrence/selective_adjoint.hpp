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
  const S* kept;    // [N][16]: a[t] = exp(Delta A)
  const S* before;  // [N][16]: h[t-1]
  const S* after;   // [N][16]: h[t]
  const S* write;   // [N], or [N][16]: coefficients::own
  const S* read;    // the same
  S* carry;         // [N][16]: a[t+1] s[t+1], then a[t] s[t]
  S* into_decay;    // [N][16]: what is added to the gradient of A
  S* into_write;    // [N][16]: the same of write and read, to be summed over lanes
  S* into_read;     // [N][16]
  index_t N;
};

/// R registers of channels 16 apart, whose sums over channels share their lanes.
///   s[n]        = g C[n] + carry[n],   carry[n] <- a s[n]
///   into_input += sum_n s w B[n]
///   into_delta += sum_n s a A h[t-1,n]
///   driven     += sum_n s a B[n]       (zero-order hold: du/dDelta of what is put in, over u)
/// where g is the gradient of sum_n C[n] h[t,n], and `into_decay`, `into_write` and `into_read` of
/// each n receive s (Delta a h[t-1,n] + Delta^2 phi1'(Delta A) B[n] u), s w Delta u and g h[t,n].
/// numerics  sums over n, and over channels, ascending, one fma a term; a is what the token had
template <discretisation Rule, class V, int R, coefficients Form>
struct selective_adjoint {
  using S = typename lane<V>::scalar;
  static constexpr bool hold = Rule == discretisation::zero_order_hold;
  static constexpr auto registers = static_cast<std::size_t>(R);

  struct token_values {
    V delta[registers], drive[registers], g[registers];  // drive = Delta u
  };
  struct sums {
    V into_input[registers], into_delta[registers], driven[registers];
  };

  [[gnu::always_inline]] static void token(const selective_adjoint_rows<S>& at,
                                           const token_values& x, sums& p) noexcept {
    for (index_t k = 0; k < at.N; ++k) state(at, k, x, p);
  }

 private:
  /// State n of all registers.
  [[gnu::always_inline]] static void state(const selective_adjoint_rows<S>& at, index_t k,
                                           const token_values& x, sums& p) noexcept {
    using L = lane<V>;
    const V write = coefficient<Form, V>(at.write, k, 0),
            read = coefficient<Form, V>(at.read, k, 0);
    V into_write = L::load(at.into_write + k * lanes_apart),
      into_read = L::load(at.into_read + k * lanes_apart);
    unrolled<R>([&](auto r) {
      const index_t i = (k + static_cast<index_t>(r) * at.N) * lanes_apart;
      const V rate = L::load(at.rate + i), a = L::load(at.kept + i);
      const V s = L::fma(x.g[r], read, L::load(at.carry + i));
      const V carry = a * s, moved = carry * L::load(at.before + i);
      L::store(at.carry + i, carry);
      into_read = L::fma(x.g[r], L::load(at.after + i), into_read);
      p.into_delta[r] = L::fma(moved, rate, p.into_delta[r]);
      V of_decay = moved, weighed = s;
      if constexpr (hold) {
        const V step = x.delta[r] * rate, phi = simd::phi1(step, a);
        weighed = s * phi;
        p.driven[r] = L::fma(carry, write, p.driven[r]);
        of_decay = L::fma(s, x.drive[r] * write * simd::phi1_slope(step, a, phi), of_decay);
      }
      into_write = L::fma(weighed, x.drive[r], into_write);
      p.into_input[r] = L::fma(weighed, write, p.into_input[r]);
      S* const to_decay = at.into_decay + i;
      L::store(to_decay, L::fma(of_decay, x.delta[r], L::load(to_decay)));
    });
    L::store(at.into_write + k * lanes_apart, into_write);
    L::store(at.into_read + k * lanes_apart, into_read);
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
