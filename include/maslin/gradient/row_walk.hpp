// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Walking back through the rows of a generalised mixer: t descending, each token hands its gradient
/// to the rows that it read. A row's gradient is
///   what the later state's gradient says of it, then one fma for each later reader, the last first,
///   then dy
/// in this order whatever the calls, so that segments handed over give the bytes of one call.

#include <maslin/core/check.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/scan/solve.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string>
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

/// row(i) += coefficients[i] s for i in [first, last), the gradients of rows that a token reads; s is a
/// head of `count` numbers.
template <class V, class S, class Row>
inline void give_rows(const S* s, index_t count, index_t first, index_t last, const Row& row,
                      const S* coefficients) noexcept {
  using L = lane<V>;
  scan::for_each_piece<V, 4, 2, 1>(
      count, [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
        V given[static_cast<std::size_t>(C)];
        scan::load_piece(given, s + c, n);
        for (index_t i = first; i < last; ++i) {
          S* to = row(i) + c;
          const V weight = L::broadcast(coefficients[i]);
          V sum[static_cast<std::size_t>(C)];
          scan::load_piece(sum, to, n);
          each<C>([&](int k) { sum[k] = L::fma(weight, given[k], sum[k]); });
          scan::store_piece(to, sum, n);
        }
      });
}

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

/// What a mixer of rows makes of a checked backward call. A *kernel* is one sequence:
///   shifted(b, t)            itself, moved to sequence b of the batch and token t
///   place(memory, before, size, length, sums)   told its tokens, and where its scratch, which begins
///                            with `size` numbers for the gradients of the state before, that state
///                            and its sums of parameters lie
///   kinds                    its rows, `row_pair`s
///   open<V>(length, heads)   before the last token
///   token<V>(t, h, reads, scratch)   head h of token t; of `reads` the first is the token itself
/// `scratch` is `coefficient_rows` padded rows of a number for each of the reads, then `head_numbers`.
template <class Kernel>
struct back_source {
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
  index_t slots, runs, heads_of_run, entries, levels, width, slot_numbers, run_numbers, sums;

  template <class Source, class State>
  back_layout(const Source& source, const State& before, index_t threads) {
    const index_t sequences = source.sequences();
    slots = std::min(threads, sequences);
    runs = std::min((threads + sequences - 1) / sequences, source.heads);
    heads_of_run = (source.heads + runs - 1) / runs;
    runs = (source.heads + heads_of_run - 1) / heads_of_run;
    entries = before.entries();
    width = before.width();
    levels = before.history(0).levels().size();
    constexpr auto pad = static_cast<index_t>(State::coefficient_lanes);
    const auto padded = [](index_t n) { return (n + pad - 1) / pad * pad; };
    run_numbers = coefficient_rows * padded(levels + 1) + padded(source.head_numbers);
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

/// One task: some heads of sequence b.
template <class V, class Kernel, class State, class S>
void walk_back(const Kernel& kernel, const row_sequence& q, const pattern::table& levels,
               State& dstate, index_t b, head_range heads, scan::row_read* reads,
               S* scratch) noexcept {
  for (const auto& kind : kernel.kinds) open_kind(kind, q, dstate, b, heads);
  kernel.template open<V>(q.length, heads);
  for (index_t t = q.length; t-- > 0;) {
    std::size_t n = 1;
    reads[0] = {t, 0};
    pattern::for_each_read(levels, q.first + t, [&](index_t position, index_t level) {
      reads[n++] = {q.row_of(position), level};
    });
    for (index_t h = heads.begin; h < heads.end; ++h)
      kernel.template token<V>(t, h, std::span<const scan::row_read>(reads, n), scratch);
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
                   reads + i * (cut.levels + 1), coefficients + i * cut.run_numbers);
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
