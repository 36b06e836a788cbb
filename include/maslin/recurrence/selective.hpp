// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One token of a selective state-space model: the N numbers of state of a few registers of
/// channels.

#include <maslin/core/each.hpp>
#include <maslin/core/types.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/math.hpp>

#include <cstddef>

namespace maslin::inline MASLIN_ABI::recurrence {

/// Channels that lie side by side in a state.
inline constexpr index_t lanes_apart = 16;

/// Whether channels that are updated together have B and C in common.
enum class coefficients {
  shared,  ///< rows [N], the same for each lane
  own,     ///< rows [N][16], a number for each lane
};

/// What a token finds in memory. Rows of `decay` and of the state, one for each n, are 16 numbers
/// apart; the registers of a step lie side by side in them.
template <class S>
struct selective_rows {
  const S* decay;  // [N][16]: A log2(e) for the Euler rule, A for the zero-order hold
  const S* write;  // [N], or [N][16]: coefficients::own
  const S* read;   // the same
  const S* state;  // [N][16], before the token
  S* next;         // [N][16], after it; may be `state`
  S* kept;         // [N][16]: where exp(Delta A) goes, if it is kept
  index_t N;
};

/// Row k of B or C for channels from `at` on.
template <coefficients Form, class V, class S>
[[nodiscard, gnu::always_inline]] inline V coefficient(const S* rows, index_t k,
                                                       index_t at) noexcept {
  if constexpr (Form == coefficients::own)
    return lane<V>::load(rows + k * lanes_apart + at);
  else
    return lane<V>::broadcast(rows[k]);
}

/// How h is discretised, for registers of the channels that a token updates together.
///   h[n] <- exp(Delta A[n]) h[n] + drive w[n] B[n],   y <- y + sum_n C[n] h[n], n ascending
/// where drive = Delta u, and w is 1 (Euler) or phi1(Delta A[n]) (zero-order hold).
/// numerics  one fma for the state, one for y; Delta A is not rounded before the Euler rule's
///           exponential, whose relative error is 3 u (double 1.6 u), beside those of Delta
///           and A log2(e); the zero-order hold rounds Delta A, takes exp within 1 ulp and
///           phi1 within 6. With `Keeps` exp(Delta A) is written as well
template <discretisation Rule, class V, int R, coefficients Form = coefficients::shared,
          bool Keeps = false>
struct selective {
  using S = typename lane<V>::scalar;
  static constexpr auto width = static_cast<index_t>(lane<V>::width);
  static constexpr auto registers = static_cast<std::size_t>(R);

  /// The channels of R registers, or the first n of one: whole registers where n is `all_lanes`.
  /// `normal`: no exponential leaves the range of normal numbers.
  template <class N>
  [[gnu::always_inline]] static void token(const selective_rows<S>& at, const V (&delta)[registers],
                                           const V (&drive)[registers], bool normal, N n,
                                           V (&y)[registers]) noexcept {
    if (Rule == discretisation::euler && normal)
      token<true>(at, delta, drive, n, y);
    else
      token<false>(at, delta, drive, n, y);
  }
  /// The same where that is known to the compiler.
  template <bool Normal, class N>
  [[gnu::always_inline]] static void token(const selective_rows<S>& at, const V (&delta)[registers],
                                           const V (&drive)[registers], N n,
                                           V (&y)[registers]) noexcept {
    // Two chains side by side leave registers for constants and sums; four times two in a turn of the
    // loop hide the latency of each other's fma.
    constexpr bool quick = Normal && Rule == discretisation::euler;
    constexpr int together = !quick || lane<V>::width == 1 ? 1 : 2 / R;
    constexpr int rows = quick && lane<V>::width > 1 ? 4 : 1;
    index_t k = 0;
    for (; k + rows <= at.N; k += rows)
      unrolled<rows / together>([&](auto i) {
        states<together, quick>(at, k + together * static_cast<index_t>(i), delta, drive, n, y);
      });
    if constexpr (rows > 1)
      for (; k < at.N; ++k) states<1, quick>(at, k, delta, drive, n, y);
  }

 private:
  /// States k .. k + Count - 1.
  template <int Count, bool Normal, class N>
  [[gnu::always_inline]] static void states(const selective_rows<S>& at, index_t k,
                                            const V (&delta)[registers],
                                            const V (&drive)[registers], N n,
                                            V (&y)[registers]) noexcept {
    using L = lane<V>;
    constexpr int chains = Count * R;
    constexpr auto size = static_cast<std::size_t>(chains);
    V rate[size], step[size], a[size], b[size], c[size];
    const auto row = [&](auto i) { return k + static_cast<index_t>(i) / R; };
    const auto shift = [](auto i) { return static_cast<index_t>(i) % R * width; };
    const auto place = [&](auto i) { return row(i) * lanes_apart + shift(i); };
    unrolled<chains>([&](auto i) {
      step[i] = delta[i % R];
      rate[i] = L::load(at.decay + place(i), n);
    });
    if constexpr (Normal) {
      simd::exp2_normal<chains>(step, rate, a);
    } else {
      unrolled<chains>([&](auto i) {
        if constexpr (Rule == discretisation::euler)
          a[i] = simd::exp2(step[i], rate[i]);
        else
          a[i] = simd::exp(V(step[i] * rate[i]));
      });
    }
    unrolled<chains>([&](auto i) {
      if constexpr (Keeps) L::store(at.kept + place(i), a[i], n);
      b[i] = drive[i % R] * coefficient<Form, V>(at.write, row(i), shift(i));
      // Before a state is stored, which for all that a compiler knows may change it.
      c[i] = coefficient<Form, V>(at.read, row(i), shift(i));
      if constexpr (Rule == discretisation::zero_order_hold)
        b[i] = b[i] * simd::phi1(V(step[i] * rate[i]), a[i]);
    });
    unrolled<chains>([&](auto i) {
      const V h = L::fma(a[i], L::load(at.state + place(i), n), b[i]);
      L::store(at.next + place(i), h, n);
      y[i % R] = L::fma(c[i], h, y[i % R]);
    });
  }
};

}  // namespace maslin::inline MASLIN_ABI::recurrence
