// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Rows of a generalised mixer with their gradients, and what a token that read some of them exchanges
/// with them: it takes its scalar product with each, and gives each its share.

#include <maslin/recurrence/weigh.hpp>
#include <maslin/scan/row_state.hpp>
#include <maslin/scan/rows.hpp>

#include <algorithm>
#include <span>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// A view [B, T, H, ...] as a pointer and strides.
template <class T>
struct head_rows {
  T* first = nullptr;
  index_t batch = 0, time = 0, head = 0;

  template <int Rank>
  [[nodiscard]] static head_rows of(const view<T, Rank>& v) noexcept {
    return {v.data_handle(), v.stride(0), v.stride(1), v.stride(2)};
  }
  explicit operator bool() const noexcept { return first != nullptr; }
  void shift(index_t b, index_t t) noexcept {
    if (first != nullptr) first += b * batch + t * time;
  }
  [[nodiscard]] T* at(index_t t, index_t h) const noexcept { return first + t * time + h * head; }
};

/// Rows of one kind, values [H, E] or keys [H, K], with their gradients. A row is a number: t for
/// token t of the call, ~e for entry e of the state before it.
template <class S>
struct row_pair {
  const S* now = nullptr;  // of token 0 of the call
  S* dnow = nullptr;       // null: not wanted
  const S* old = nullptr;  // of entry 0 of the state before
  S* dold = nullptr;
  index_t now_time = 0, now_head = 0, dnow_time = 0, dnow_head = 0;
  index_t width = 0;   // from entry to entry, H (E + K)
  index_t column = 0;  // where the kind begins in an entry
  index_t count = 0;   // numbers of a head
  bool adds = false;   // dnow holds numbers to which gradients are added

  [[nodiscard]] const S* value(index_t row, index_t h) const noexcept {
    return row >= 0 ? now + row * now_time + h * now_head : old + ~row * width + h * count;
  }
  [[nodiscard]] S* gradient(index_t row, index_t h) const noexcept {
    return row >= 0 ? dnow + row * dnow_time + h * dnow_head : dold + ~row * width + h * count;
  }
  /// True if somebody waits for the gradient of this row.
  [[nodiscard]] bool wanted(index_t row) const noexcept { return row < 0 || dnow != nullptr; }
};

/// to <- f(to, from) for `count` numbers.
template <class V, class S, class F>
inline void combine_rows(S* to, const S* from, index_t count, const F& f) noexcept {
  scan::for_each_piece<V, 4, 1>(count,
                                [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
                                  V a[static_cast<std::size_t>(C)], b[static_cast<std::size_t>(C)];
                                  scan::load_piece(a, to + c, n);
                                  scan::load_piece(b, from + c, n);
                                  each<C>([&](int k) { a[k] = f(a[k], b[k]); });
                                  scan::store_piece(to + c, a, n);
                                });
}

/// Rows that are taken side by side.
template <class S>
struct row_batch {
  static constexpr index_t most = 16;
  index_t count = 0;
  const S* from[static_cast<std::size_t>(most)];
  S* to[static_cast<std::size_t>(most)];  // null: nobody waits for it
};

/// The rows that entries [first, last) of a list of reads name, at most `most`.
template <class S>
[[nodiscard]] inline row_batch<S> batch_of(const row_pair<S>& rows,
                                           std::span<const scan::row_read> reads, index_t h,
                                           index_t first, index_t last) noexcept {
  row_batch<S> batch;
  batch.count = last - first;
  for (index_t i = 0; i < batch.count; ++i) {
    const index_t row = reads[static_cast<std::size_t>(first + i)].offset;
    batch.from[i] = rows.value(row, h);
    batch.to[i] = rows.wanted(row) ? rows.gradient(row, h) : nullptr;
  }
  return batch;
}

/// d[i] = <s, row i> with the bits of recurrence::dot_row, and its gradient += c[i] s, for a head of
/// `count` numbers: each row is read once for both. The chains of a scalar product wait in memory
/// between the pieces of a head.
template <class V, class S>
[[gnu::noinline, gnu::flatten]] void exchange_values(const S* s, index_t count,
                                                     const row_batch<S>& rows, const S* c,
                                                     S* d) noexcept {
  using L = lane<V>;
  constexpr index_t lanes = recurrence::row_lanes, width = L::width;
  alignas(64) S chains[static_cast<std::size_t>(row_batch<S>::most * lanes)];
  std::fill_n(chains, rows.count * lanes, S(0));
  scan::for_each_piece<V, 8, 4, 2, 1>(
      count, [&]<int C>(std::integral_constant<int, C>, index_t at, auto n) {
        // A piece begins at a chain that is a multiple of its registers.
        constexpr int registers = std::min(C, recurrence::detail::row_registers<V>);
        S* chain = chains + (registers == C ? at % lanes : 0);
        V given[static_cast<std::size_t>(C)];
        scan::load_piece(given, s + at, n);
        for (index_t i = 0; i < rows.count; ++i, chain += lanes) {
          const V weight = L::broadcast(c[i]);
          V part[static_cast<std::size_t>(registers)];
          each<registers>([&](int k) { part[k] = L::load(chain + k * width); });
          V x[static_cast<std::size_t>(C)], sum[static_cast<std::size_t>(C)];
          scan::load_piece(x, rows.from[i] + at, n);
          scan::load_piece(sum, rows.to[i] + at, n);
          each<C>([&](int k) {
            part[k % registers] = L::fma(given[k], x[k], part[k % registers]);
            sum[k] = L::fma(weight, given[k], sum[k]);
          });
          scan::store_piece(rows.to[i] + at, sum, n);
          each<registers>([&](int k) { L::store(chain + k * width, part[k]); });
        }
      });
  for (index_t i = 0; i < rows.count; i += width)
    recurrence::fold_chains<V>(chains + i * lanes, std::min<index_t>(width, rows.count - i), d + i);
}

/// dq += d[i] row i, and the row's gradient += d[i] q, for a head of `count` numbers.
template <class V, class S>
[[gnu::noinline, gnu::flatten]] void exchange_keys(const S* q, S* dq, index_t count,
                                                   const row_batch<S>& rows, const S* d) noexcept {
  using L = lane<V>;
  scan::for_each_piece<V, 4, 2, 1>(
      count, [&]<int C>(std::integral_constant<int, C>, index_t at, auto n) {
        V given[static_cast<std::size_t>(C)], taken[static_cast<std::size_t>(C)];
        scan::load_piece(given, q + at, n);
        scan::load_piece(taken, dq + at, n);
        for (index_t i = 0; i < rows.count; ++i) {
          const V weight = L::broadcast(d[i]);
          V x[static_cast<std::size_t>(C)];
          scan::load_piece(x, rows.from[i] + at, n);
          each<C>([&](int k) { taken[k] = L::fma(weight, x[k], taken[k]); });
          if (rows.to[i] == nullptr) continue;
          scan::load_piece(x, rows.to[i] + at, n);
          each<C>([&](int k) { x[k] = L::fma(weight, given[k], x[k]); });
          scan::store_piece(rows.to[i] + at, x, n);
        }
        scan::store_piece(dq + at, taken, n);
      });
}

/// target[i] += sum_k coefficient(i, k) source[k], k ascending, for heads of `count` numbers: several
/// targets, of which there are at most `Most`, stay in registers while the sources pass.
template <index_t Most, class V, class S, class Coefficient>
inline void add_products(S* const* target, index_t targets, const S* const* source, index_t sources,
                         index_t count, const Coefficient& coefficient) noexcept {
  using L = lane<V>;
  scan::for_each_piece<V, 4, 2, 1>(
      count, [&]<int C>(std::integral_constant<int, C>, index_t at, auto n) {
        index_t i = 0;
        const auto group = [&]<int R>(std::integral_constant<int, R>) {
          for (; i + R <= targets; i += R) {
            V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(C)];
            each<R>([&](int r) { scan::load_piece(sum[r], target[i + r] + at, n); });
            for (index_t k = 0; k < sources; ++k) {
              V x[static_cast<std::size_t>(C)];
              scan::load_piece(x, source[k] + at, n);
              each<R>([&](int r) {
                const V weight = L::broadcast(coefficient(i + r, k));
                each<C>([&](int c) { sum[r][c] = L::fma(weight, x[c], sum[r][c]); });
              });
            }
            each<R>([&](int r) { scan::store_piece(target[i + r] + at, sum[r], n); });
          }
        };
        if constexpr (Most > 1) group(std::integral_constant<int, 2>{});
        group(std::integral_constant<int, 1>{});
      });
}

/// d[k][i] = <s[k], from[i]> with the bits of recurrence::dot_row, for heads of `count` numbers and at
/// most `row_batch::most` rows: two by two of them share what is loaded.
template <class V, class S>
inline void dot_tile(const S* const* s, index_t tokens, const S* const* from, index_t rows,
                     index_t count, S* const* d) noexcept {
  using L = lane<V>;
  constexpr index_t lanes = recurrence::row_lanes;
  constexpr int registers = recurrence::detail::row_registers<V>, side = registers > 2 ? 1 : 2;
  constexpr auto sides = static_cast<std::size_t>(side);
  alignas(64) S chains[static_cast<std::size_t>(side * row_batch<S>::most * lanes)];
  const auto chain = [&](index_t k, index_t i) {
    return chains + (k * row_batch<S>::most + i) * lanes;
  };
  for (index_t k = 0; k < tokens; k += side) {
    for (index_t i = 0; i < rows; i += side) {
      // Past the last row or token the last is taken again.
      const S *a[sides], *b[sides];
      each<side>([&](int n) {
        a[n] = s[std::min<index_t>(k + n, tokens - 1)];
        b[n] = from[std::min<index_t>(i + n, rows - 1)];
      });
      V part[sides][sides][static_cast<std::size_t>(registers)];
      const auto zero = [&](int r) {
        each<side>([&](int n) { each<side>([&](int m) { part[n][m][r] = L::broadcast(S(0)); }); });
      };
      const auto add = [&](int r, index_t at, auto left) {
        V x[sides], y[sides];
        each<side>([&](int n) {
          x[n] = L::load(a[n] + at, left);
          y[n] = L::load(b[n] + at, left);
        });
        each<side>([&](int n) {
          each<side>([&](int m) { part[n][m][r] = L::fma(x[n], y[m], part[n][m][r]); });
        });
      };
      each<registers>(zero);
      index_t at = 0;
      for (; at + lanes <= count; at += lanes)
        each<registers>([&](int r) { add(r, at + r * L::width, all_lanes<V>{}); });
      each<registers>([&](int r) {
        const index_t last = at + r * L::width;
        if (last < count) add(r, last, static_cast<int>(std::min<index_t>(L::width, count - last)));
      });
      each<side>([&](int n) {
        each<side>([&](int m) {
          if (i + m < rows)
            each<registers>(
                [&](int r) { L::store(chain(n, i + m) + r * L::width, part[n][m][r]); });
        });
      });
    }
    for (index_t n = 0; n < std::min<index_t>(side, tokens - k); ++n)
      for (index_t i = 0; i < rows; i += L::width)
        recurrence::fold_chains<V>(chain(n, i), std::min<index_t>(L::width, rows - i),
                                   d[k + n] + i);
  }
}

/// Tokens of a tile, the last one first, as the functions above take them.
template <class S, index_t Most>
struct token_batch {
  index_t count = 0;
  const S* given[static_cast<std::size_t>(Most)];  // what a token gives: sigma, or its query
  S* taken[static_cast<std::size_t>(Most)];        // what it takes: of keys its query's gradient
  const S* coefficients[static_cast<std::size_t>(Most)];  // with which it gives
  S* products[static_cast<std::size_t>(Most)];            // with the rows
};

/// `exchange_values` for several tokens, the same bits: a row takes the last token first.
template <class V, class S, index_t Most>
[[gnu::noinline, gnu::flatten]] void exchange_values(const token_batch<S, Most>& tokens,
                                                     index_t count,
                                                     const row_batch<S>& rows) noexcept {
  dot_tile<V>(tokens.given, tokens.count, rows.from, rows.count, count, tokens.products);
  add_products<row_batch<S>::most, V>(
      rows.to, rows.count, tokens.given, tokens.count, count,
      [&](index_t i, index_t k) { return tokens.coefficients[k][i]; });
}

/// `exchange_keys` for several tokens, the same bits. Rows that nobody waits for come last.
template <class V, class S, index_t Most>
[[gnu::noinline, gnu::flatten]] void exchange_keys(const token_batch<S, Most>& tokens,
                                                   index_t count,
                                                   const row_batch<S>& rows) noexcept {
  add_products<Most, V>(tokens.taken, tokens.count, rows.from, rows.count, count,
                        [&](index_t k, index_t i) { return tokens.coefficients[k][i]; });
  index_t wanted = rows.count;
  while (wanted > 0 && rows.to[wanted - 1] == nullptr) --wanted;
  add_products<row_batch<S>::most, V>(
      rows.to, wanted, tokens.given, tokens.count, count,
      [&](index_t i, index_t k) { return tokens.coefficients[k][i]; });
}

}  // namespace maslin::inline MASLIN_ABI::gradient
