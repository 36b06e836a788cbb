// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Walking back through the rows of a generalised mixer: t descending, each token hands its gradient
/// to the rows that it read. A row's gradient is
///   what the later state's gradient says of it, then one fma for each later reader, the last first,
///   then dy
/// in this order whatever the calls, so that segments handed over give the bytes of one call.

#include <maslin/core/check.hpp>
#include <maslin/gradient/row_pair.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/scan/solve.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// Positions that a state holds, ascending, and the entries that they lie in.
struct held_rows {
  index_t* positions = nullptr;
  index_t* entries = nullptr;
  index_t count = 0;

  template <class History>
  void list(const History& history) {
    count = 0;
    history.for_each_kept([&](index_t entry, index_t position) {
      positions[count] = position;
      entries[count++] = entry;
    });
  }
};

/// Where one sequence lies in time, and what the states around it hold.
struct row_sequence {
  index_t first = 0, length = 0;  // position of its first token, and tokens
  held_rows before, after;

  /// The row at a position that a token of the call or a later one reads.
  [[nodiscard]] index_t row_of(index_t position) const noexcept {
    if (position >= first) return position - first;
    // Rings hold a run of positions; else they are looked for.
    const index_t guess = std::min(position - before.positions[0], before.count - 1);
    if (guess >= 0 && before.positions[guess] == position) return ~before.entries[guess];
    const index_t *begin = before.positions, *end = begin + before.count;
    return ~before.entries[std::lower_bound(begin, end, position) - begin];
  }
};

/// One head of one token on its way back. The numbers of its reads lie in padded rows, its own first.
template <class S>
struct head_token {
  index_t t = 0, h = 0;
  std::span<const scan::row_read> reads{};
  S *c = nullptr, *d = nullptr, *z = nullptr;  // coefficients, their gradients, logits
  S* more = nullptr;                           // `head_numbers`
  const S* sigma = nullptr;                    // what it gives to the values that it read

  [[nodiscard]] index_t count() const noexcept { return static_cast<index_t>(reads.size()); }
};

/// What a mixer of rows makes of a checked backward call. A *kernel* is one sequence:
///   tile                     tokens that go back together: several where all read the same rows
///   kinds                    its rows, `row_pair`s: values, and keys if there are any
///   shifted(b, t)            itself, moved to sequence b of the batch and token t
///   place(memory, before, size, length, sums)   told its tokens, and where its scratch, which begins
///                            with `size` numbers for the gradients of the state before, that state
///                            and its sums of parameters lie
///   begin<V>(length, heads)  before the last token
///   open<V>(w)               the coefficients and sigma of a token, all later ones having given
///   weigh<V>(w)              d, then from the coefficients' gradients what is given to keys
///   query_of(w), dquery_of(w), begin_query<V>(w), give_own_key<V>(w)   where there are keys
///   close<V>(w)              last
/// Of the reads of a `head_token` the first is the token itself.
template <class Kernel>
struct back_source {
  using kernel_type = Kernel;

  Kernel first;
  index_t batch = 1, length = 1;
  std::span<const index_t> offsets{};
  index_t heads = 1;
  index_t token_numbers = 0;     // scratch of a token
  index_t head_numbers = 0;      // scratch of a head
  index_t sequence_numbers = 0;  // sums of parameters

  [[nodiscard]] index_t sequences() const noexcept {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] index_t tokens(index_t b) const noexcept {
    if (offsets.empty()) return length;
    return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] index_t longest() const noexcept {
    index_t most = 0;
    for (index_t b = 0; b < sequences(); ++b) most = std::max(most, tokens(b));
    return most;
  }
  [[nodiscard]] Kernel kernel(index_t b) const noexcept {
    if (offsets.empty()) return first.shifted(b, 0);
    return first.shifted(0, offsets[static_cast<std::size_t>(b)]);
  }
};

/// Heads [begin, end).
struct head_range {
  index_t begin, end;
};

namespace detail {

inline constexpr index_t coefficient_rows = 3;

/// How the workspace of a call is cut: `slots` sequences at a time, each in `runs` tasks.
struct back_layout {
  index_t slots, runs, heads_of_run, entries, levels, width, slot_numbers, row, token_numbers,
      run_numbers, sums;

  template <class Source, class State>
  back_layout(const Source& source, const State& before, index_t threads) {
    const index_t sequences = source.sequences();
    slots = std::min(threads, sequences);
    runs = std::min((threads + sequences - 1) / sequences, source.heads);
    heads_of_run = (source.heads + runs - 1) / runs;
    runs = (source.heads + heads_of_run - 1) / heads_of_run;
    entries = before.entries();
    width = before.stride();
    levels = before.history(0).levels().size();
    constexpr auto pad = static_cast<index_t>(State::coefficient_lanes);
    const auto padded = [](index_t n) { return (n + pad - 1) / pad * pad; };
    row = padded(levels + 1);
    token_numbers = coefficient_rows * row + padded(source.head_numbers);
    run_numbers = Source::kernel_type::tile * token_numbers;
    slot_numbers = padded(entries * width + source.longest() * source.token_numbers);
    sums = sequences * source.sequence_numbers;
  }
  [[nodiscard]] std::size_t numbers() const {
    return static_cast<std::size_t>(slots * (slot_numbers + runs * run_numbers) + sums);
  }
  [[nodiscard]] std::size_t indices() const {
    return static_cast<std::size_t>(slots * runs * 4 * entries);
  }
};

/// The rows of token gradients, zeros but for what the state after the call says of them.
template <class S, class State>
void open_kind(const row_pair<S>& kind, const row_sequence& q, const State& dstate, index_t b,
               head_range heads) noexcept {
  for (index_t h = heads.begin; h < heads.end; ++h) {
    if (kind.dnow != nullptr && !kind.adds)
      for (index_t t = 0; t < q.length; ++t) std::fill_n(kind.gradient(t, h), kind.count, S(0));
    for (index_t i = 0; i < q.before.count; ++i)
      std::fill_n(kind.gradient(~q.before.entries[i], h), kind.count, S(0));
    for (index_t i = 0; i < q.after.count; ++i) {
      const index_t row = q.row_of(q.after.positions[i]);
      if (!kind.wanted(row)) continue;
      const S* from = dstate.row(b, q.after.entries[i]) + kind.column + h * kind.count;
      S* to = kind.gradient(row, h);
      for (index_t e = 0; e < kind.count; ++e)
        to[e] = kind.adds && row >= 0 ? to[e] + from[e] : from[e];
    }
  }
}

/// The gradients of the rows that the state before the call holds.
template <class S, class State>
void close_kind(const row_pair<S>& kind, const row_sequence& q, State& dstate, index_t b,
                head_range heads) noexcept {
  for (index_t i = 0; i < q.before.count; ++i)
    for (index_t h = heads.begin; h < heads.end; ++h)
      std::copy_n(kind.gradient(~q.before.entries[i], h), kind.count,
                  dstate.row(b, q.before.entries[i]) + kind.column + h * kind.count);
}

/// Values of rows [first, last) that all tokens of a tile read, a few rows at a time.
template <class V, class Kernel, class S>
void exchange_values(const Kernel& kernel, std::span<head_token<S>> tile, index_t first,
                     index_t last) noexcept {
  const row_pair<S>& values = kernel.kinds[0];
  for (index_t i = first; i < last; i += row_batch<S>::most) {
    const head_token<S>& w = tile[0];
    const auto rows = batch_of(values, w.reads, w.h, i, std::min(i + row_batch<S>::most, last));
    if (tile.size() == 1) {
      gradient::exchange_values<V>(w.sigma, values.count, rows, w.c + i, w.d + i);
    } else {
      token_batch<S, Kernel::tile> tokens;
      for (std::size_t k = tile.size(); k-- > 0; ++tokens.count) {
        tokens.given[tokens.count] = tile[k].sigma;
        tokens.coefficients[tokens.count] = tile[k].c + i;
        tokens.products[tokens.count] = tile[k].d + i;
      }
      gradient::exchange_values<V>(tokens, values.count, rows);
    }
  }
}

/// The same for keys.
template <class V, class Kernel, class S>
void exchange_keys_of(const Kernel& kernel, std::span<head_token<S>> tile, index_t first,
                      index_t last) noexcept {
  const row_pair<S>& keys = kernel.kinds[1];
  for (index_t i = first; i < last; i += row_batch<S>::most) {
    const head_token<S>& w = tile[0];
    const auto rows = batch_of(keys, w.reads, w.h, i, std::min(i + row_batch<S>::most, last));
    if (tile.size() == 1) {
      gradient::exchange_keys<V>(kernel.query_of(w), kernel.dquery_of(w), keys.count, rows,
                                 w.d + i);
    } else {
      token_batch<S, Kernel::tile> tokens;
      for (std::size_t k = tile.size(); k-- > 0; ++tokens.count) {
        tokens.given[tokens.count] = kernel.query_of(tile[k]);
        tokens.taken[tokens.count] = kernel.dquery_of(tile[k]);
        tokens.coefficients[tokens.count] = tile[k].d + i;
      }
      gradient::exchange_keys<V>(tokens, keys.count, rows);
    }
  }
}

/// Keys of all rows: those that the first token of the tile reads come first, then those of the tile,
/// its last token first, so that every sum has one order wherever tiles begin.
template <class V, class Kernel, class S>
void exchange_keys(const Kernel& kernel, std::span<head_token<S>> tile) noexcept {
  const index_t shared = tile[0].count();
  for (const head_token<S>& w : tile) kernel.template begin_query<V>(w);
  exchange_keys_of<V>(kernel, tile, 1, shared);
  for (std::size_t k = tile.size(); k-- > 0;) {
    kernel.template give_own_key<V>(tile[k]);
    exchange_keys_of<V>(kernel, tile.subspan(k, 1), shared, tile[k].count());
  }
}

/// One head of tokens [tile[0].t, ...] that read the rows of the last of them as far as they are earlier.
template <class V, class Kernel, class S>
void tile_back(const Kernel& kernel, std::span<head_token<S>> tile) noexcept {
  const index_t shared = tile[0].count();
  for (std::size_t k = tile.size(); k-- > 0;) {
    kernel.template open<V>(tile[k]);
    exchange_values<V>(kernel, tile.subspan(k, 1), shared, tile[k].count());
  }
  exchange_values<V>(kernel, tile, 1, shared);
  for (std::size_t k = tile.size(); k-- > 0;) kernel.template weigh<V>(tile[k]);
  if constexpr (std::tuple_size_v < decltype(kernel.kinds) >> 1) exchange_keys<V>(kernel, tile);
  for (const head_token<S>& w : tile) kernel.template close<V>(w);
}

/// One task: some heads of sequence b.
template <class V, class Kernel, class State, class S>
void walk_back(const Kernel& kernel, const row_sequence& q, const pattern::table& levels,
               State& dstate, index_t b, head_range heads, scan::row_read* reads, S* scratch,
               const back_layout& cut) noexcept {
  for (const auto& kind : kernel.kinds) open_kind(kind, q, dstate, b, heads);
  kernel.template begin<V>(q.length, heads);
  std::array<head_token<S>, static_cast<std::size_t>(Kernel::tile)> tile;
  for (index_t end = q.length; end > 0;) {
    const index_t begin = std::max<index_t>(0, end - Kernel::tile);
    std::size_t n = 1;
    pattern::for_each_read(levels, q.first + end - 1, [&](index_t position, index_t level) {
      reads[n++] = {q.row_of(position), level};
    });
    const auto count = static_cast<std::size_t>(end - begin);
    for (index_t h = heads.begin; h < heads.end; ++h) {
      for (std::size_t k = 0; k < count; ++k) {
        S* const at = scratch + static_cast<index_t>(k) * cut.token_numbers;
        // A tile of several tokens is of a pattern that adds a row a token, the last one.
        tile[k] = {.t = begin + static_cast<index_t>(k),
                   .h = h,
                   .reads = {reads, n - (count - 1 - k)},
                   .c = at,
                   .d = at + cut.row,
                   .z = at + 2 * cut.row,
                   .more = at + 3 * cut.row};
      }
      tile_back<V>(kernel, std::span(tile).first(count));
    }
    end = begin;
  }
  for (const auto& kind : kernel.kinds) close_kind(kind, q, dstate, b, heads);
}

/// Sequence b, its lists in memory of 4 entries() indices.
template <class State>
[[nodiscard]] row_sequence sequence_of(const State& before, const State& dstate, index_t b,
                                       index_t tokens, index_t* memory) {
  const index_t n = before.entries();
  row_sequence q{
      before.position(b), tokens, {memory, memory + n, 0}, {memory + 2 * n, memory + 3 * n, 0}};
  q.before.list(before.history(b));
  if (dstate.position(b) == q.first + q.length) q.after.list(dstate.history(b));
  return q;
}

/// Some sequences at a time, so that the scratch grows with the threads and not with the batch.
/// Returns the sums of parameters.
template <class V, class Executor, class Source, class State>
const typename State::scalar_type* run_back_on(Executor& where, index_t threads,
                                               const Source& source, const State& before,
                                               State& dstate) {
  using S = typename State::scalar_type;
  const index_t sequences = source.sequences();
  const auto go_back = [&] {
    for (index_t b = 0; b < sequences; ++b)
      if (source.tokens(b) > 0) dstate.history(b) = before.history(b);
  };
  if (sequences == 0 || source.heads == 0) return go_back(), nullptr;
  const back_layout cut(source, before, threads);
  auto& memory = dstate.workspace();
  S* const numbers = memory.numbers.reserve(cut.numbers());
  index_t* const indices = memory.indices.reserve(cut.indices());
  scan::row_read* const reads =
      memory.reads.reserve(static_cast<std::size_t>(cut.slots * cut.runs * (cut.levels + 1)));
  S* const coefficients = numbers + cut.slots * cut.slot_numbers;
  S* const sums = coefficients + cut.slots * cut.runs * cut.run_numbers;
  std::fill_n(sums, cut.sums, S(0));
  for (index_t base = 0; base < sequences; base += cut.slots) {
    const index_t now = std::min(cut.slots, sequences - base);
    where.run(now * cut.runs, [&](index_t i) {
      const index_t slot = i / cut.runs, b = base + slot;
      if (source.tokens(b) == 0) return;
      // Every task lists for itself: the lists are short beside the walk.
      const row_sequence q =
          sequence_of(before, dstate, b, source.tokens(b), indices + i * 4 * cut.entries);
      auto kernel = source.kernel(b);
      kernel.place(numbers + slot * cut.slot_numbers, before.row(b, 0), cut.entries * cut.width,
                   q.length, sums + b * source.sequence_numbers);
      const index_t begin = i % cut.runs * cut.heads_of_run;
      walk_back<V>(kernel, q, before.history(b).levels(), dstate, b,
                   {begin, std::min(begin + cut.heads_of_run, source.heads)},
                   reads + i * (cut.levels + 1), coefficients + i * cut.run_numbers, cut);
    });
  }
  go_back();
  return sums;
}

}  // namespace detail

/// Runs a checked call under any policy. Time is never cut, as in `scan::run_rows`. Returns the sums
/// of parameters of each sequence, in the memory of dstate; null where there are none.
template <scan::policy Policy, class Source, class State>
const typename State::scalar_type* run_rows_back(const Policy& p, const Source& source,
                                                 const State& before, State& dstate) {
  using S = typename State::scalar_type;
  using bare_type = std::remove_cvref_t<decltype(scan::detail::bare(p))>;
  const index_t threads = scan::detail::threads_of(scan::detail::bare(p));
  if constexpr (std::same_as<bare_type, exec::scalar>) {
    exec::default_executor here{1};
    return detail::run_back_on<S>(here, 1, source, before, dstate);
  } else if constexpr (requires { p.where; }) {
    return detail::run_back_on<simd::native<S>>(*p.where, threads, source, before, dstate);
  } else {
    auto where = scan::detail::executor_of(p);
    return detail::run_back_on<simd::native<S>>(where, threads, source, before, dstate);
  }
}

/// Refuses a state's gradient of another shape, or one that is neither empty, which says nothing, nor at
/// the positions after the call.
/// throws    shape_error
template <class Pattern, class State>
void expect_dstate(const check::caller& who, Pattern p, const State& before, const State& dstate,
                   std::span<const index_t> offsets, index_t T) {
  const auto shape = [](const State& h) {
    return check::list(std::array{h.batch(), h.width(), h.capacity()});
  };
  if (shape(dstate) != shape(before) || !dstate.made_for(p))
    who.refuse("dstate must be of the batch, row width, capacity and pattern of saved.initial, " +
               shape(before) + ", got " + shape(dstate));
  for (index_t b = 0; b < before.batch(); ++b) {
    const auto at = static_cast<std::size_t>(b);
    const index_t last = before.position(b) + (offsets.empty() ? T : offsets[at + 1] - offsets[at]);
    if (dstate.position(b) != 0 && dstate.position(b) != last)
      who.refuse("dstate must be empty or at position " + std::to_string(last) + ", got position " +
                 std::to_string(dstate.position(b)) + " in sequence " + std::to_string(b));
  }
}

}  // namespace maslin::inline MASLIN_ABI::gradient
