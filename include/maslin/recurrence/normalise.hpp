// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From a row of gate logits to its coefficients, in registers, as part of the step that uses them.

#include <maslin/recurrence/gate_row.hpp>
#include <maslin/simd/math.hpp>
#include <maslin/simd/stream.hpp>

#include <limits>

namespace maslin::inline MASLIN_ABI::recurrence {

namespace detail {

template <class V>
inline constexpr auto infinity = std::numeric_limits<typename lane<V>::scalar>::infinity();

/// Rows whose largest logit is infinite: `one` for each entry of +inf, `none` for the others; all `none`
/// in a dead row, of -inf alone. A NaN among the logits makes them all NaN.
template <class V, std::size_t K>
[[gnu::noinline]] inline void special_softmax(const V (&z)[K], V largest, V one, V none,
                                              V (&w)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V zero = L::broadcast(S(0));
  const auto top = largest == L::broadcast(infinity<V>);
  const auto dead = largest == L::broadcast(-infinity<V>);
  V poison = zero;
  for (std::size_t k = 0; k < K; ++k) poison = poison + L::select(z[k] == z[k], zero, z[k]);
  for (std::size_t k = 0; k < K; ++k) {
    const V share = L::select(z[k] == largest, one, none) + poison;
    w[k] = L::select(top, share, L::select(dead, none + poison, w[k]));
  }
}

/// The same for rows divided by their L1 norm: infinite entries share 1 by sign; rows whose norm
/// overflows are scaled first; rows below the smallest normal number, and zero rows, are all zeros. A
/// NaN makes the norm NaN, and with it every p that was given.
template <class V, std::size_t K>
[[gnu::noinline]] inline void special_l1(const V (&w)[K], V offset, V norm, V (&p)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1)), inf = L::broadcast(infinity<V>);
  const V tiny = L::broadcast(std::numeric_limits<S>::min());
  // A power of two, so that scaling changes no coefficient's bits; K <= 2^8 terms then fit.
  const V scale = L::broadcast(S(1) / S(256));
  V count = zero, scaled = offset * scale;
  for (std::size_t k = 0; k < K; ++k) {
    count = count + L::select(L::abs(w[k]) == inf, one, zero);
    scaled = L::fma(L::abs(w[k]), scale, scaled);
  }
  for (std::size_t k = 0; k < K; ++k) {
    const V sign = L::select(w[k] < zero, zero - one, one);
    const V share = L::select(L::abs(w[k]) == inf, L::div(sign, count), zero);
    const V over = L::div(w[k] * scale, scaled);
    p[k] = L::select(norm == inf, L::select(count > zero, share, over),
                     L::select(norm < tiny, zero, p[k]));
  }
}

/// Calls special(z, p) on copies if `rare`: rows whose address were taken would live in memory, where
/// each of their steps would wait for the store before.
template <class V, std::size_t K, class Special>
inline void rarely(bool rare, const V (&z)[K], V (&p)[K], const Special& special) noexcept {
  if (rare) [[unlikely]] {
    V from[K], to[K];
    each<K>([&](std::size_t k) { from[k] = z[k], to[k] = p[k]; });
    special(from, to);
    each<K>([&](std::size_t k) { p[k] = to[k]; });
  }
}

/// x[0] op x[1] op ... in pairs, pairs of pairs and so on: a fixed order of depth log2 K.
template <std::size_t K, class V, std::size_t N, class Op>
[[nodiscard]] inline V pairwise(const V (&x)[N], const Op& op) noexcept {
  if constexpr (K == 1) {
    return x[0];
  } else {
    V half[(K + 1) / 2];
    each<K / 2>([&](std::size_t k) { half[k] = op(x[2 * k], x[2 * k + 1]); });
    if constexpr (K % 2 == 1) half[K / 2] = x[K - 1];
    return pairwise<(K + 1) / 2>(half, op);
  }
}
template <class V, std::size_t K>
[[nodiscard]] inline V largest_of(const V (&z)[K]) noexcept {
  return pairwise<K>(z, [](V a, V b) { return lane<V>::max(a, b); });
}
template <class V, std::size_t K>
[[nodiscard]] inline V sum_of(const V (&x)[K]) noexcept {
  return pairwise<K>(x, [](V a, V b) { return a + b; });
}

/// p = w / n, n = offset + sum |w|, for weights of any sign, or for weights >= 0 and an offset > 0: then
/// |w| is w, and only a norm of inf is special.
template <bool Signed, class V, std::size_t K>
inline void divide_by_l1(const V (&w)[K], V offset, V (&p)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V inf = L::broadcast(infinity<V>);
  V size[K];
  each<K>([&](std::size_t k) { size[k] = Signed ? L::abs(w[k]) : w[k]; });
  const V norm = offset + sum_of(size);
  const V inverse = L::div(L::broadcast(S(1)), norm);
  each<K>([&](std::size_t k) { p[k] = w[k] * inverse; });
  const auto special = [&](const auto& from, auto& to) { special_l1(from, offset, norm, to); };
  if constexpr (Signed)
    rarely(L::any(!L::both(norm >= L::broadcast(std::numeric_limits<S>::min()), norm < inf)), w, p,
           special);
  else
    rarely(L::any(norm == inf), w, p, special);
}

/// What `softmax_powers` makes weights of: z_k - max z.
template <class V, std::size_t K>
inline void softmax_exponents(const V (&z)[K], V (&x)[K]) noexcept {
  using L = lane<V>;
  const V zero = L::broadcast(0), never = L::broadcast(-infinity<V>);
  const V m = largest_of(z);
  each<K>([&](std::size_t k) { x[k] = z[k] - m; });
  rarely(L::any(L::abs(m) == L::broadcast(infinity<V>)), z, x,
         [&](const auto& from, auto& to) { special_softmax(from, m, zero, never, to); });
}

/// x_k <- exp(x_k) for x_k <= 0. The quick form rounds a product outside the FMA family; there the one
/// that does not serves.
template <int K, class V>
[[gnu::always_inline]] inline void exps_of(V (&x)[static_cast<std::size_t>(K)]) noexcept {
  if constexpr (fused_family)
    simd::exp_weights<K>(x);
  else
    unrolled<K>([&](auto k) { x[k] = simd::exp_nonpositive(x[k]); });
}

/// x_k <- exp(x_k), four at a time: more would not fit in registers.
template <std::size_t K, class V>
[[gnu::always_inline]] inline void softmax_powers(V (&x)[K]) noexcept {
  unrolled<static_cast<int>((K + 3) / 4)>([&](auto q) {
    constexpr std::size_t first = 4 * q, count = K - first < 4 ? K - first : 4;
    V part[count];
    unrolled<static_cast<int>(count)>([&](auto k) { part[k] = x[first + k]; });
    exps_of<static_cast<int>(count)>(part);
    unrolled<static_cast<int>(count)>([&](auto k) { x[first + k] = part[k]; });
  });
}

/// The same for `count` registers in memory. Where as many numbers at `read` come from memory, what lies
/// ahead of them is asked for between the exps: measured, a row at a time asks for too much at once.
template <std::size_t K, class V>
[[gnu::always_inline]] inline void softmax_powers_at(typename lane<V>::scalar* x) noexcept {
  using L = lane<V>;
  V w[K];
  unrolled<static_cast<int>(K)>([&](auto k) { w[k] = L::load(x + index_t(k) * L::width); });
  softmax_powers(w);
  unrolled<static_cast<int>(K)>([&](auto k) { L::store(x + index_t(k) * L::width, w[k]); });
}
template <class V>
[[gnu::noinline]] inline void softmax_powers(typename lane<V>::scalar* x, index_t count,
                                             const typename lane<V>::scalar* read) noexcept {
  constexpr index_t at_once = 4;
  index_t i = 0;
  for (; i + at_once <= count; i += at_once) {
    if (read != nullptr)
      simd::prefetch_ahead<at_once * index_t{sizeof(V)}>(read + i * lane<V>::width);
    softmax_powers_at<at_once, V>(x + i * lane<V>::width);
  }
  for (; i < count; ++i) softmax_powers_at<1, V>(x + i * lane<V>::width);
}

/// What `softmax_pair` makes coefficients of.
template <class V>
struct pair_exponent {
  V below;  // the smaller logit less the larger one
  V top;    // the weight of the larger one, 1
};

/// The same where logits may be two equal infinities, which have no difference: +inf share 1, -inf are
/// dead, and their weights 0.
template <class V>
[[nodiscard, gnu::noinline]] inline pair_exponent<V> special_pair(const V (&z)[2]) noexcept {
  using L = lane<V>;
  const V zero = L::broadcast(0);
  const V inf = L::broadcast(infinity<V>), never = L::broadcast(-infinity<V>);
  const auto full = L::both(z[0] >= inf, z[1] >= inf);
  const auto dead = L::both(z[0] <= never, z[1] <= never);
  const V below = L::min(z[0] - z[1], z[1] - z[0]);
  return {L::select(full, zero, L::select(dead, zero, below)),
          L::select(dead, zero, L::broadcast(1))};
}

/// The softmax of two logits, a sigmoid of their difference: one exp, and no maximum.
template <class V>
[[gnu::always_inline]] inline void softmax_pair(const V (&z)[2], V (&p)[2]) noexcept {
  using L = lane<V>;
  const V one = L::broadcast(1), d = z[0] - z[1];
  V e[1] = {L::min(d, z[1] - z[0])}, top = one;
  if (L::any_nan(e[0])) [[unlikely]] {
    const V copies[2] = {z[0], z[1]};  // as in `rarely`
    const auto special = special_pair(copies);
    e[0] = special.below, top = special.top;
  }
  exps_of<1>(e);
  const V larger = L::div(top, one + e[0]), smaller = e[0] * larger;
  p[0] = L::select_negative(d, smaller, larger);
  p[1] = L::select_negative(d, larger, smaller);
}

/// w_k proportional to sigmoid(z_k).
template <class V, std::size_t K>
inline void sigmoid_weights(const V (&z)[K], V (&w)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V zero = L::broadcast(S(0)), one = L::broadcast(S(1));
  const V m = largest_of(z);
  // sigmoid(z) = e^z / (1 + e^z). A row of negative logits is shifted by its largest, which cancels
  // in p and keeps its weights from underflow: t = e^(z - shift), e^z = t e^shift.
  const V shift = L::select(m < zero, m, zero);
  const V back = simd::exp_nonpositive(shift);
  each<K>([&](std::size_t k) {
    const V t = simd::exp_nonpositive(V(zero - L::abs(z[k]) - shift));
    w[k] = L::div(L::select(z[k] < zero, t, one), L::fma(t, back, one));
  });
  // An infinite logit saturates, so only dead lanes are special here: the others pass as ordinary.
  const auto dead = m == L::broadcast(-infinity<V>);
  rarely(L::any(dead), z, w, [&](const auto& from, auto& to) {
    special_softmax(from, V(L::select(dead, m, zero)), one, zero, to);
  });
}

/// p_k = w_k / sum w for weights >= 0 of which one is near 1, or all are 0: then p is 0 too.
template <class V, std::size_t K>
inline void divide_by_sum(const V (&w)[K], V (&p)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  const V tiny = L::broadcast(std::numeric_limits<S>::min());
  const V inverse = L::div(L::broadcast(S(1)), L::max(tiny, sum_of(w)));
  each<K>([&](std::size_t k) { p[k] = w[k] * inverse; });
}

/// Coefficients p and the gated input p_M v.
template <class V, int M>
[[nodiscard]] inline gate_row<V, M> row_of(const V (&p)[static_cast<std::size_t>(M) + 1],
                                           V v) noexcept {
  gate_row<V, M> row;
  each<M>([&](int k) { row.gate[k] = p[k]; });
  row.input = p[M] * v;
  return row;
}

}  // namespace detail

/// True where weights cost an exp.
template <normalise N>
inline constexpr bool costly_weights =
    N == normalise::softmax || N == normalise::sigmoid_l1 || N == normalise::tanh_l1;

/// True where rows of K weights are best made for many rows in turn (`begin_row`). The one exp of a pair
/// costs less than to store and load it.
template <normalise N, std::size_t K>
inline constexpr bool bundled_weights = costly_weights<N> && !(N == normalise::softmax && K == 2);

/// True where `raise_rows` does part of the work, and fetches what it is told that the rows were read from.
template <normalise N>
inline constexpr bool raised_later = N == normalise::softmax;

/// The first half of `normalise_row`: w with p = w / n.
template <normalise N, class V, std::size_t K>
inline void gate_weights(const V (&z)[K], V (&w)[K]) noexcept {
  using L = lane<V>;
  if constexpr (N == normalise::softmax) {
    detail::softmax_exponents(z, w);
    detail::softmax_powers(w);
  } else if constexpr (N == normalise::sigmoid_l1) {
    detail::sigmoid_weights(z, w);
  } else {
    each<K>([&](std::size_t k) {
      if constexpr (N == normalise::relu_l1)
        w[k] = L::clear_negative(z[k]);
      else if constexpr (N == normalise::tanh_l1)
        w[k] = simd::tanh(z[k]);
      else
        w[k] = z[k];
    });
  }
}

/// The second half: p = w / n.
template <normalise N, class V, std::size_t K>
inline void gate_shares(const V (&w)[K], V (&p)[K]) noexcept {
  using L = lane<V>;
  using S = typename L::scalar;
  if constexpr (N == normalise::none) {
    each<K>([&](std::size_t k) { p[k] = w[k]; });
  } else if constexpr (N == normalise::softmax || N == normalise::sigmoid_l1) {
    detail::divide_by_sum(w, p);
  } else {
    constexpr bool positive = N == normalise::relu_l1;
    detail::divide_by_l1<!positive>(w, L::broadcast(positive ? S(0.001) * S(K) : S(0)), p);
  }
}

/// The coefficients p of the logits z, as core/types.hpp defines them for each `normalise`:
///   p_k = phi(z_k) / n                                       (arXiv 2602.12021)
///
/// numerics  each p_k within (K + 8) u relative for ordinary logits (softmax and sigmoid_l1: and
///           |z_k - max z| u more, what rounding the exponent costs, with a quarter of it for log2(e)
///           in softmax of the FMA family); a row of -inf gives zeros, c entries of +inf share 1 (by
///           sign in lin_l1; sigmoid and tanh saturate instead); a norm below the smallest normal
///           number gives zeros; a NaN logit makes its whole row NaN, and no other row
/// cost      softmax, tanh_l1: K exp (softmax with K = 2: one), sigmoid_l1: K + 1; one division, K
///           more for sigmoid_l1 and tanh_l1
template <normalise N, class V, std::size_t K>
inline void normalise_row(const V (&z)[K], V (&p)[K]) noexcept {
  if constexpr (N == normalise::softmax && K == 2) {
    detail::softmax_pair(z, p);
  } else {
    V w[K];
    gate_weights<N>(z, w);
    gate_shares<N>(w, p);
  }
}

/// `normalise_row` in three parts, for kernels that do each of them for many rows in turn: a step between
/// two rows would keep their long chains of operations from overlapping. What the first part makes of
/// rows of K lies row by row in memory, the second works there.
template <normalise N, class V, std::size_t K>
inline void begin_row(const V (&z)[K], V (&w)[K]) noexcept {
  if constexpr (N == normalise::softmax)
    detail::softmax_exponents(z, w);
  else
    gate_weights<N>(z, w);
}
template <normalise N, std::size_t K, class V>
inline void raise_rows([[maybe_unused]] typename lane<V>::scalar* w, [[maybe_unused]] index_t rows,
                       [[maybe_unused]] const typename lane<V>::scalar* read) noexcept {
  if constexpr (raised_later<N>) detail::softmax_powers<V>(w, rows * index_t{K}, read);
}
/// The last part: the row of a step, M coefficients of the state and the gated input p_M v.
template <normalise N, class V, int M>
[[nodiscard]] inline gate_row<V, M> finished_row(const V (&w)[static_cast<std::size_t>(M) + 1],
                                                 V v) noexcept {
  V p[static_cast<std::size_t>(M) + 1];
  gate_shares<N>(w, p);
  return detail::row_of<V, M>(p, v);
}

/// The same from M + 1 logits and value(), which is asked for last.
template <normalise N, class V, int M, class F>
[[nodiscard]] inline gate_row<V, M> normalised_row(const V (&z)[static_cast<std::size_t>(M) + 1],
                                                   const F& value) noexcept {
  V p[static_cast<std::size_t>(M) + 1];
  normalise_row<N>(z, p);
  return detail::row_of<V, M>(p, value());
}

}  // namespace maslin::inline MASLIN_ABI::recurrence
