// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Forward substitution y_t = alpha_t x_t + sum over earlier rows: which task takes which columns,
/// and the two ways through time. `walk_rows` goes token by token and serves every history;
/// `solve_dense` goes by blocks of tokens where every token reads all rows before it.
///
/// Both read earlier rows from the entries of the state, which prefill fills as decode does: the
/// rows of a history lie close together whatever the strides of y, and both have one order of terms.

#include <maslin/scan/ring.hpp>
#include <maslin/scan/row_state.hpp>
#include <maslin/scan/rows.hpp>
#include <maslin/scan/run.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// What a mixer of rows makes of a checked call. A *kernel* is one sequence:
///   token<V>(t, rows, reads, newest, columns, coefficients)   mixes token t, where `lists`
///   token<V>(t, rows, history, stride, columns)   the same from what the history says, elsewhere
///   solve<V>(length, history, offsets, rows, stride, columns)   all tokens, where `solves`
///   shifted(b, t)                    itself, moved to sequence b of the batch and token t
template <class Kernel>
struct row_source {
  Kernel first;
  index_t batch = 1, length = 1;
  std::span<const index_t> offsets{};
  index_t columns = 0;  // H E
  index_t head = 1;     // E
  index_t unit = 1;     // tasks take whole multiples of this many columns

  [[nodiscard]] index_t sequences() const noexcept {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] index_t tokens(index_t b) const noexcept {
    if (offsets.empty()) return length;
    return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] Kernel kernel(index_t b) const noexcept {
    if (offsets.empty()) return first.shifted(b, 0);
    return first.shifted(0, offsets[static_cast<std::size_t>(b)]);
  }
};

/// Columns [begin, end) of a row [H, E], E > 0.
class column_range {
 public:
  column_range(index_t begin, index_t end, index_t E) noexcept
      : head_(begin / E), first_(begin % E), count_(end - begin), E_(E) {}

  /// f(h, e, count) for the part of each head.
  template <class F>
  void for_each_head(const F& f) const {
    index_t h = head_, e = first_;
    for (index_t left = count_; left > 0; ++h, e = 0) {
      const index_t count = std::min(left, E_ - e);
      f(h, e, count);
      left -= count;
    }
  }

 private:
  index_t head_, first_, count_, E_;
};

/// `length` tokens in order, each after the rows that it reads.
template <class V, class Kernel, class S, class History>
void walk_rows(const Kernel& kernel, History& history, row_walker<S, History>& scratch, S* rows,
               index_t stride, index_t length, column_range columns) {
  for (index_t t = 0; t < length; ++t) {
    if constexpr (Kernel::lists) {
      row_read* const reads = scratch.reads.data();
      const auto n = static_cast<std::size_t>(history.list_reads(reads, stride));
      kernel.template token<V>(t, rows, std::span<const row_read>(reads, n),
                               history.newest() * stride, columns, scratch.coefficients.data());
    } else {
      kernel.template token<V>(t, rows, history, stride, columns);
    }
    history.advance();
  }
}

namespace detail {

/// What a tile of tokens does in one pass.
struct tile_pass {
  index_t begin, end;  // positions whose rows are added
  bool starts;         // the sums begin with alpha x; later passes find them in y
  bool finishes;       // the tokens read each other, and their rows are kept
};

template <class V, int R, int C, class N, class S>
void pass_tile(const row_system<S>& s, index_t t, index_t e, tile_pass pass, N n) noexcept {
  V sum[static_cast<std::size_t>(R)][static_cast<std::size_t>(C)];
  S* y = s.y + t * s.y_time + e;
  each<R>([&](int r) {
    load_piece(sum[r], pass.starts ? s.input + (t + r) * s.input_time + e : y + r * s.y_time, n);
    if (pass.starts) {
      const V alpha = lane<V>::broadcast(s.self[(t + r) * s.self_time]);
      each<C>([&](int c) { sum[r][c] = alpha * sum[r][c]; });
    }
  });
  const S* b = s.past + t * s.past_time;
  add_tile(sum, s.rows + pass.begin * s.row_stride + e, s.row_stride, pass.end - pass.begin,
           b + pass.begin, s.past_time, n);
  if (pass.finishes) solve_tile(sum, b + pass.end, s.past_time);
  each<R>([&](int r) {
    store_piece(y + r * s.y_time, sum[r], n);
    if (!pass.finishes) return;
    const index_t p = s.first + t + r;
    store_piece(s.rows + (p < s.entries ? p : p - s.entries) * s.row_stride + e, sum[r], n);
  });
}

/// Tokens [begin, end) in tiles. Rows up to `pass.begin` .. `pass.end` are added; a finishing pass
/// also adds those of the tiles before.
template <class V, class S>
void pass_tokens(const row_system<S>& s, index_t begin, index_t end, index_t e, index_t count,
                 tile_pass pass) noexcept {
  index_t t = begin;
  const auto tiles = [&]<int R>(std::integral_constant<int, R>) {
    for (; t + R <= end; t += R) {
      if (pass.finishes) pass.end = s.first + t;
      const auto piece = [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
        pass_tile<V, R, C>(s, t, e + c, pass, n);
      };
      // A single token needs its chains side by side; several bring theirs.
      if constexpr (R == 1)
        for_each_piece<V, 8, 4, 1>(count, piece);
      else
        for_each_piece<V, 2, 1>(count, piece);
    }
  };
  tiles(std::integral_constant<int, 6>{});
  tiles(std::integral_constant<int, 4>{});
  tiles(std::integral_constant<int, 2>{});
  tiles(std::integral_constant<int, 1>{});
}

}  // namespace detail

/// Solves `length` tokens of channels e .. e + count - 1, each reading all rows before it: blocks of
/// tokens gather the rows of finished blocks, a panel at a time, then solve their own triangle.
/// Sums wait in y from panel to panel.
template <class V, class S>
void solve_dense(const row_system<S>& s, index_t length, index_t e, index_t count) noexcept {
  // Up to here the rows that a tile reads stay in a first-level cache by themselves.
  constexpr index_t unblocked = 256, block = 96, panel = 128;
  const index_t step = s.first + length <= unblocked ? length : block;
  for (index_t begin = 0; begin < length; begin += step) {
    const index_t end = std::min(begin + step, length);
    const index_t finished = step == length ? 0 : s.first + begin;
    for (index_t p = 0; p < finished; p += panel)
      detail::pass_tokens<V>(s, begin, end, e, count,
                             {p, std::min(p + panel, finished), p == 0, false});
    detail::pass_tokens<V>(s, begin, end, e, count, {finished, 0, finished == 0, true});
  }
}

namespace detail {

template <class V, class Source, class State>
void mix_columns(const Source& source, State& state, typename State::walker& scratch,
                 std::remove_reference_t<decltype(scratch.history)>& history, index_t b,
                 column_range columns) {
  const auto kernel = source.kernel(b);
  const index_t length = source.tokens(b);
  if (length == 0) return;
  if constexpr (std::remove_cvref_t<decltype(kernel)>::solves) {
    kernel.template solve<V>(length, history, scratch.offsets.data(), state.row(b, 0),
                             state.stride(), columns);
    history.restart(history.time() + length);
  } else {
    walk_rows<V>(kernel, history, scratch, state.row(b, 0), state.stride(), length, columns);
  }
}

template <class Policy>
[[nodiscard]] const Policy& bare(const Policy& p) {
  return p;
}
template <class Executor, class Policy>
[[nodiscard]] const Policy& bare(const exec::bound_policy<Executor, Policy>& p) {
  return p.policy;
}
[[nodiscard]] inline index_t threads_of(const exec::scalar&) { return 1; }
template <class Policy>
[[nodiscard]] index_t threads_of(const Policy& p) {
  return team(p.threads);
}

template <class V, class Executor, class Source, class State>
void run_rows_on(Executor& where, index_t threads, const Source& source, State& state) {
  const index_t sequences = source.sequences();
  if (sequences == 0 || source.columns == 0) return;
  const index_t units = (source.columns + source.unit - 1) / source.unit;
  index_t runs = 1;
  if (sequences < threads) runs = std::min((threads + sequences - 1) / sequences, units);
  const index_t run = (units + runs - 1) / runs * source.unit;
  runs = (source.columns + run - 1) / run;
  const index_t tasks = sequences * runs;
  state.reserve_walkers(tasks);
  // The first run of a sequence moves its history on; the others have a copy from before.
  for (index_t i = 0; i < tasks; ++i)
    if (i % runs != 0) state.walker_at(i).history = state.history(i / runs);
  where.run(tasks, [&](index_t i) {
    const index_t b = i / runs, begin = i % runs * run;
    auto& scratch = state.walker_at(i);
    auto& history = begin == 0 ? state.history(b) : scratch.history;
    mix_columns<V>(source, state, scratch, history, b,
                   {begin, std::min(begin + run, source.columns), source.head});
  });
}

/// On the caller's thread: no allocation.
template <class V, class Source, class State>
void run_rows_here(const Source& source, State& state) {
  if (source.columns == 0) return;
  for (index_t b = 0; b < source.sequences(); ++b)
    mix_columns<V>(source, state, state.walker_at(0), state.history(b), b,
                   {0, source.columns, source.head});
}

}  // namespace detail

/// Runs a checked call under any policy. Time is never cut: exec::chunked walks as exec::sequential
/// does, since every token waits for the one before it. One thread allocates nothing; more ask for
/// scratch, before anything is written, that stays in the state.
template <policy Policy, class Source, class State>
void run_rows(const Policy& p, const Source& source, State& state) {
  using S = typename State::scalar_type;
  using bare_type = std::remove_cvref_t<decltype(detail::bare(p))>;
  if constexpr (std::same_as<bare_type, exec::scalar>) {
    detail::run_rows_here<S>(source, state);
  } else if constexpr (requires { p.where; }) {
    detail::run_rows_on<simd::native<S>>(*p.where, detail::threads_of(p.policy), source, state);
  } else {
    const index_t threads = detail::threads_of(p);
    if (threads == 1) return detail::run_rows_here<simd::native<S>>(source, state);
    auto where = detail::executor_of(p);
    detail::run_rows_on<simd::native<S>>(where, threads, source, state);
  }
}

/// One token of every sequence, on the caller's thread: no allocation, no lock.
template <class Source, class State>
void run_rows_step(const Source& source, State& state) {
  detail::run_rows_here<simd::native<typename State::scalar_type>>(source, state);
}

}  // namespace maslin::inline MASLIN_ABI::scan
