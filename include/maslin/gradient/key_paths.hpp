// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A chunk of linear attention with a decay for each key, as its adjoint sees it: what goes from token
/// to token within the chunk, and the gradients of decays. With P[r,c] = prod_{c < i <= r} a_i, a
/// row of keys, and A[r,c] = <dy_r, v_c>,
///
///   b[r,c] = a_c b[r,c-1] + A[r,c] k_c          dq_r += b[r,r]
///   f[r,c] = P[r,c] q_r                         dk_c += sum_{r >= c} A[r,c] f[r,c]
///   scores[r,c] = <f[r,c], k_c>                 dg_c += sum_{r >= c} f[r,c-1] b[r,c-1]
///
/// Decays are multiplied one after another, never divided by: one of 0 is a factor like any other.

#include <maslin/core/each.hpp>
#include <maslin/gradient/chunk_desk.hpp>
#include <maslin/recurrence/dot_row.hpp>

#include <algorithm>

namespace maslin::inline MASLIN_ABI::gradient {

/// The rows of one chunk, of at most 16 tokens. Lanes are keys, of which some registers go together.
template <class S>
struct key_paths {
  const chunk_desk<S>& d;

  static constexpr index_t most = matrix::panel_columns;

  /// Keys times the decays from each to the last token: what the last state has of them. `kept`
  /// becomes the product of all decays.
  template <class V>
  void fade_keys(index_t n) const noexcept {
    using L = lane<V>;
    const chunk_desk<S> x = d;
    for (index_t i = 0; i < x.keys; i += L::width) {
      V product = L::broadcast(S(1));
      for (index_t r = n - 1; r >= 0; --r) {
        const index_t at = r * x.keys + i;
        L::store(x.faded + at, product * L::load(x.key + at));
        product = product * L::load(x.decay + at);
      }
      L::store(x.kept + i, product);
    }
  }

  /// From A in `arrivals`, S dy in `read` and D v in `dkey`: the scores, dq, dk and, if `paths`, dg.
  /// Queries times the decays up to each, what an output has of the first state, are left in
  /// `faded_query`. To be called after `fade_keys`.
  template <class V>
  void walk(index_t n, bool paths) const noexcept {
    constexpr int R = lane<V>::width < most ? 2 : 1;
    for (index_t i = 0; i < d.keys; i += R * lane<V>::width) {
      take_first<V, R>(n, i);
      give_last<V, R>(n, i);
      if (paths) cross_states<V, R>(n, i);
    }
    index_t r = 0;
    for (; r + 2 <= n; r += 2) walk_rows<V, 2, R>(r);
    if (r < n) walk_rows<V, 1, R>(r);
  }

 private:
  template <class V, std::size_t R>
  [[gnu::always_inline]] static void load(const S* from, V (&to)[R]) noexcept {
    unrolled<static_cast<int>(R)>(
        [&](auto k) { to[k] = lane<V>::load(from + static_cast<index_t>(k()) * lane<V>::width); });
  }
  template <class V, std::size_t R>
  [[gnu::always_inline]] static void store(S* to, const V (&from)[R]) noexcept {
    unrolled<static_cast<int>(R)>(
        [&](auto k) { lane<V>::store(to + static_cast<index_t>(k()) * lane<V>::width, from[k]); });
  }
  template <class V, std::size_t R>
  [[gnu::always_inline]] static void fill(V (&x)[R], S value) noexcept {
    unrolled<static_cast<int>(R)>([&](auto k) { x[k] = lane<V>::broadcast(value); });
  }

  /// What queries have of the first state.
  template <class V, int R>
  void take_first(index_t n, index_t i) const noexcept {
    const index_t keys = d.keys;
    const S *query = d.query + i, *decay = d.decay + i;
    S *const read = d.read + i, *const faded = d.faded_query + i;
    V product[static_cast<std::size_t>(R)], x[static_cast<std::size_t>(R)],
        y[static_cast<std::size_t>(R)];
    fill(product, S(1));
    for (index_t t = 0; t < n * keys; t += keys) {
      load(decay + t, x);
      unrolled<R>([&](auto k) { product[k] = product[k] * x[k]; });
      load(read + t, x);
      load(query + t, y);
      unrolled<R>([&](auto k) {
        x[k] = product[k] * x[k];
        y[k] = product[k] * y[k];
      });
      store(read + t, x);
      store(faded + t, y);
    }
  }

  /// What the last state has of keys, and of dg what goes from the first state to outputs.
  template <class V, int R>
  void give_last(index_t n, index_t i) const noexcept {
    const index_t keys = d.keys;
    const S *query = d.query + i, *key = d.key + i, *decay = d.decay + i, *read = d.read + i;
    S *const dkey = d.dkey + i, *const ddecay = d.ddecay + i, *const to_state = d.to_state + i;
    V product[static_cast<std::size_t>(R)], sum[static_cast<std::size_t>(R)],
        x[static_cast<std::size_t>(R)], y[static_cast<std::size_t>(R)];
    fill(product, S(1));
    fill(sum, S(0));
    for (index_t t = (n - 1) * keys; t >= 0; t -= keys) {
      load(read + t, x);
      load(query + t, y);
      unrolled<R>([&](auto k) { sum[k] = lane<V>::fma(x[k], y[k], sum[k]); });
      store(ddecay + t, sum);
      load(dkey + t, x);
      load(key + t, y);
      unrolled<R>([&](auto k) {
        x[k] = product[k] * x[k];
        y[k] = x[k] * y[k];
      });
      store(dkey + t, x);
      store(to_state + t, y);
      load(decay + t, x);
      unrolled<R>([&](auto k) { product[k] = product[k] * x[k]; });
    }
  }

  /// Of dg what goes from the first state to the last, and from keys to the last.
  template <class V, int R>
  void cross_states(index_t n, index_t i) const noexcept {
    const index_t keys = d.keys;
    S *const ddecay = d.ddecay + i, *const to_state = d.to_state + i;
    V sum[static_cast<std::size_t>(R)], x[static_cast<std::size_t>(R)],
        y[static_cast<std::size_t>(R)];
    meet(i, sum);
    load(d.kept + i, x);
    unrolled<R>([&](auto k) { sum[k] = x[k] * sum[k]; });
    for (index_t t = 0; t < n * keys; t += keys) {
      load(ddecay + t, x);
      load(to_state + t, y);
      unrolled<R>([&](auto k) {
        x[k] = x[k] + sum[k];
        sum[k] = sum[k] + y[k];
      });
      store(ddecay + t, x);
    }
  }

  /// sum_e D S of the first state and the gradient of the last, in two chains.
  template <class V, std::size_t R>
  void meet(index_t i, V (&sum)[R]) const noexcept {
    const S *state = d.lying(d.state_by_key, d.lines).at(0, i),
            *carried = d.lying(d.carried_by_key, d.lines).at(0, i);
    V odd[R], x[R], y[R];
    fill(sum, S(0));
    fill(odd, S(0));
    const auto add = [&](index_t e, V(&to)[R]) __attribute__((always_inline)) {
      load(state + e * most, x);
      load(carried + e * most, y);
      unrolled<static_cast<int>(R)>([&](auto k) { to[k] = lane<V>::fma(x[k], y[k], to[k]); });
    };
    const index_t lines = d.lines;
    for (index_t e = 0; e + 1 < lines; e += 2) {
      add(e, sum);
      add(e + 1, odd);
    }
    if (lines % 2 != 0) add(lines - 1, sum);
    unrolled<static_cast<int>(R)>([&](auto k) { sum[k] = sum[k] + odd[k]; });
  }

  /// T rows from r on with all before them and themselves.
  template <class V, int T, int R>
  void walk_rows(index_t r) const noexcept {
    std::fill_n(d.chains, T * most * most, S(0));
    for (index_t i = 0; i < d.keys; i += R * lane<V>::width) walk_keys<V, T, R>(r, i);
    for (index_t s = 0; s < T; ++s)
      recurrence::fold_chains<V>(static_cast<const S*>(d.chains + s * most * most), r + s + 1,
                                 d.scores + (r + s) * d.side);
  }

  /// Where the numbers of these rows and keys begin.
  struct places {
    const S *query, *key, *decay, *arrivals;
    S *read, *dkey, *ddecay, *chains;
    index_t keys, side;

    places(const chunk_desk<S>& d, index_t r, index_t i) noexcept
        : query(d.query + r * d.keys + i),
          key(d.key + i),
          decay(d.decay + i),
          arrivals(d.arrivals + r * d.side),
          read(d.read + r * d.keys + i),
          dkey(d.dkey + i),
          ddecay(d.ddecay + i),
          chains(d.chains + i % most),
          keys(d.keys),
          side(d.side) {}
    template <class V>
    [[nodiscard, gnu::always_inline]] V arrival(std::size_t s, index_t c) const noexcept {
      return lane<V>::broadcast(arrivals[static_cast<index_t>(s) * side + c]);
    }
  };

  template <class V, int T, int R>
  void walk_keys(index_t r, index_t i) const noexcept {
    const places p(d, r, i);
    constexpr auto rows = static_cast<std::size_t>(T), registers = static_cast<std::size_t>(R);
    V f[rows][registers], b[static_cast<std::size_t>(most)][rows][registers];
    gather<0, true>(p, 0, f, b[0]);
    for (index_t c = 1; c <= r; ++c) gather<0, false>(p, c, f, b[c]);
    unrolled<T - 1>([&](auto s) {
      gather<static_cast<int>(s()) + 1, false>(p, r + 1 + static_cast<index_t>(s()), f,
                                               b[r + 1 + static_cast<index_t>(s())]);
    });
    unrolled<T>([&](auto s) {
      const index_t row = static_cast<index_t>(s()) * p.keys;
      V x[registers];
      load(p.read + row, x);
      unrolled<R>([&](auto k) { x[k] = x[k] + f[s][k]; });
      store(p.read + row, x);
      load(p.query + row, f[s]);
    });
    unrolled<T - 1>([&](auto back) {
      constexpr int s = T - 1 - static_cast<int>(back());
      give<s>(p, r + s, f);
      cross<s>(p, r + s, f, b[r + s - 1]);
    });
    for (index_t c = r; c > 0; --c) {
      give<0>(p, c, f);
      cross<0>(p, c, f, b[c - 1]);
    }
    give<0>(p, 0, f);
  }

  // Of rows from `First` on, those that have token c before them or are it.

  /// b of token c, which f holds, from b of the one before.
  template <int First, bool Begin, class V, std::size_t T, std::size_t R>
  [[gnu::always_inline]] static void gather(const places& p, index_t c, V (&f)[T][R],
                                            V (&b)[T][R]) noexcept {
    V a[R], key[R];
    load(p.key + c * p.keys, key);
    load(p.decay + c * p.keys, a);
    unrolled<static_cast<int>(T) - First>([&](auto j) __attribute__((always_inline)) {
      constexpr std::size_t s = j() + First;
      const V weight = p.template arrival<V>(s, c);
      unrolled<static_cast<int>(R)>([&](auto k) {
        const V own = weight * key[k];
        f[s][k] = Begin ? own : lane<V>::fma(a[k], f[s][k], own);
        b[s][k] = f[s][k];
      });
    });
  }
  /// dk and scores of token c, of which f is f.
  template <int First, class V, std::size_t T, std::size_t R>
  [[gnu::always_inline]] static void give(const places& p, index_t c, const V (&f)[T][R]) noexcept {
    V x[R], key[R];
    load(p.dkey + c * p.keys, x);
    load(p.key + c * p.keys, key);
    unrolled<static_cast<int>(T) - First>([&](auto j) __attribute__((always_inline)) {
      constexpr std::size_t s = j() + First;
      const V weight = p.template arrival<V>(s, c);
      S* const chain = p.chains + (static_cast<index_t>(s) * most + c) * most;
      V sum[R];
      load(chain, sum);
      unrolled<static_cast<int>(R)>([&](auto k) {
        x[k] = lane<V>::fma(weight, f[s][k], x[k]);
        sum[k] = lane<V>::fma(f[s][k], key[k], sum[k]);
      });
      store(chain, sum);
    });
    store(p.dkey + c * p.keys, x);
  }
  /// f of the token before c, and what crosses c.
  template <int First, class V, std::size_t T, std::size_t R>
  [[gnu::always_inline]] static void cross(const places& p, index_t c, V (&f)[T][R],
                                           const V (&before)[T][R]) noexcept {
    V x[R], a[R];
    load(p.ddecay + c * p.keys, x);
    load(p.decay + c * p.keys, a);
    unrolled<static_cast<int>(T) - First>([&](auto j) __attribute__((always_inline)) {
      constexpr std::size_t s = j() + First;
      unrolled<static_cast<int>(R)>([&](auto k) {
        f[s][k] = a[k] * f[s][k];
        x[k] = lane<V>::fma(f[s][k], before[s][k], x[k]);
      });
    });
    store(p.ddecay + c * p.keys, x);
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
