// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Time in chunks: each is summarised as one affine map, the maps carry the state from chunk to
/// chunk, and chunks are replayed from their carries. One pass over memory: a task takes the next
/// chunk, summarises it, waits until the carry into it is known, hands the carry out of it on, and
/// replays the chunk while caches still hold it.
///
/// Chunks are taken in the order of time, so that a task waits only for chunks that a running task
/// has taken: no executor can make them wait for ever, be it one that runs all tasks on one thread,
/// the last one first.
///
/// numerics  the grid begins at the call's first token and every carry is the map of a chunk applied
///           to the carry before, so that neither the number of threads nor that of lanes decides a
///           byte; see scan/summary.hpp
/// cost      append + step for each token (M^3 + M^2 for blocks), where `sequential` pays step
///
/// A kernel may bring summaries of its own, which are then as many doubles as a state has numbers,
/// in its layout:
///   summarise<V>(summary, state, first, last)   of tokens [first, last); `state`, zeros of one
///                                               sequence, is kept for `relay`
///   relay(summary, state, before, after)        the carry after the chunk from the one before it
/// or say that summaries may be made in lanes, where otherwise they take one channel at a time:
///   wide_lanes                                  true: recurrence<V> and its convert take the double
///                                               registers of simd/wide.hpp too
/// and then take part in scan/narrow.hpp.

#include <maslin/scan/narrow.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/summary.hpp>

#include <algorithm>
#include <atomic>
#include <thread>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// Whose turn it is.
class turnstile {
 public:
  /// The next number that nobody has.
  [[nodiscard]] index_t take() noexcept { return taken_.fetch_add(1, std::memory_order_relaxed); }
  /// Returns when all numbers before this one have been passed on.
  void wait_for(index_t number) const noexcept {
    for (int spins = 0; passed_.load(std::memory_order_acquire) != number; ++spins) {
      // A hand-over takes a microsecond; past that the one waited for may need this very core.
      constexpr int worth_spinning = 256;
      if (spins < worth_spinning)
        pause();
      else
        std::this_thread::yield();
    }
  }
  /// Ends the turn of this number.
  void pass(index_t number) noexcept { passed_.store(number + 1, std::memory_order_release); }

 private:
  static void pause() noexcept {
#if defined(__SSE2__)
    __builtin_ia32_pause();
#endif
  }
  alignas(64) std::atomic<index_t> taken_{0};
  alignas(64) std::atomic<index_t> passed_{0};
};

/// What tasks take: a chunk, or as many chunks as a register has lanes.
struct chunk_unit {
  index_t first, last;  // tokens
  int lanes;            // chunks, if they are lanes; else 0
  bool last_of_all;     // of its sequence
};

/// How the sequences of a call are cut: sequence by sequence, in the order of time.
struct chunk_grid {
  index_t chunk, lanes;  // chunks taken together where they are lanes, else 0

  [[nodiscard]] index_t units(index_t tokens) const noexcept {
    if (!in_lanes(tokens)) return (tokens + chunk - 1) / chunk;
    return (tokens / chunk + lanes - 1) / lanes + (tokens % chunk != 0 ? 1 : 0);
  }
  [[nodiscard]] chunk_unit unit(index_t tokens, index_t i) const noexcept {
    if (!in_lanes(tokens)) {
      const index_t last = std::min((i + 1) * chunk, tokens);
      return {i * chunk, last, 0, last == tokens};
    }
    const index_t whole = tokens / chunk, count = std::min(lanes, whole - i * lanes);
    if (count <= 0) return {whole * chunk, tokens, 0, true};
    const index_t last = (i * lanes + count) * chunk;
    return {i * lanes * chunk, last, static_cast<int>(count), last == tokens};
  }

 private:
  /// Few chunks would leave lanes empty.
  [[nodiscard]] bool in_lanes(index_t tokens) const noexcept {
    return lanes > 0 && 2 * (tokens / chunk) >= lanes;
  }
};

/// A call in chunks: what its tasks share.
template <class V, class Source, class State>
class chunk_race {
 public:
  using Kernel = typename Source::kernel_type;
  using one = chunk_of<V, Kernel>;
  static constexpr bool may_turn = turns<Kernel> && simd::widens<V> && (lane<V>::width > 1);

  chunk_race(const Source& source, State& state, index_t chunk, bool streaming) noexcept
      : source_(source),
        state_(state),
        sizes_{source.channel_count, state.sequence_size()},
        grid_{chunk, lanes_of(source)},
        streaming_(streaming) {
    for (index_t b = 0; b < source.sequences(); ++b) units_ += grid_.units(source.tokens(b));
  }

  /// Chunks, or groups of them, that tasks can take.
  [[nodiscard]] index_t units() const noexcept { return units_; }
  /// Doubles of scratch for so many tasks.
  [[nodiscard]] std::size_t size(index_t tasks) const noexcept {
    return static_cast<std::size_t>(2 * one::carry_size(sizes_) + tasks * task_size());
  }

  /// Runs all of it in `tasks` tasks, with scratch for as many.
  template <class Executor>
  void run(Executor& where, index_t tasks, double* memory) {
    double* const scratch = memory + 2 * one::carry_size(sizes_);
    where.run(tasks, [&](index_t i) { work(memory, scratch + i * task_size()); });
  }

 private:
  [[nodiscard]] static index_t lanes_of([[maybe_unused]] const Source& source) noexcept {
    if constexpr (may_turn)
      if (narrow_chunks<V, Kernel>::suits(source.first, source.channel_count))
        return lane<V>::width;
    return 0;
  }
  [[nodiscard]] index_t task_size() const noexcept {
    index_t n = one::size(sizes_);
    if constexpr (may_turn)
      if (grid_.lanes > 0)
        n += narrow_chunks<V, Kernel>::size(source_.first, sizes_.channels, grid_.chunk);
    return n;
  }

  /// One task: takes units until there are none.
  void work(double* carries, double* scratch) noexcept {
    index_t b = 0, first = 0;
    for (index_t i = turns_.take(); i < units_; i = turns_.take()) {
      index_t units = grid_.units(source_.tokens(b));
      for (; i >= first + units; units = grid_.units(source_.tokens(++b))) first += units;
      const auto kernel = source_.kernel(b);
      const chunk_unit unit = grid_.unit(source_.tokens(b), i - first);
      // Two carries are enough: whoever has a turn is the only one to read its own, and the one
      // before that has been read.
      const turn_of turn{i, i == first ? state_.row(b) : nullptr,
                         unit.last_of_all ? state_.row(b) : nullptr,
                         carries + i % 2 * one::carry_size(sizes_),
                         carries + (i + 1) % 2 * one::carry_size(sizes_)};
      if constexpr (may_turn)
        if (unit.lanes > 0) {
          run_lanes(kernel, unit, turn, scratch + one::size(sizes_));
          continue;
        }
      run_chunk(kernel, unit, turn, scratch);
    }
  }

  using S = typename Kernel::scalar_type;
  /// A unit's place in the race.
  struct turn_of {
    index_t number;
    const S* begin;  // the state, if the sequence begins here
    S* end;          // the same, if it ends here
    double *before, *after;
  };

  void run_chunk(const Kernel& kernel, const chunk_unit& unit, const turn_of& turn,
                 double* scratch) noexcept {
    const one chunk(scratch, sizes_);
    const chunk_span span{unit.first, unit.last};
    // Nobody waits for the summary of the last chunk.
    if (turn.end == nullptr) chunk.summarise(kernel, span);
    turns_.wait_for(turn.number);
    if (turn.begin != nullptr) one::enter(turn.before, turn.begin, sizes_);
    chunk.relay(kernel, turn.before, turn.end == nullptr ? turn.after : nullptr);
    turns_.pass(turn.number);
    chunk.replay(kernel, span, streaming_);
    if (turn.end != nullptr) chunk.leave(turn.end);
  }
  void run_lanes(const Kernel& kernel, const chunk_unit& unit, const turn_of& turn,
                 double* scratch) noexcept {
    const narrow_chunks<V, Kernel> chunks(scratch, kernel, sizes_.channels, grid_.chunk);
    chunks.summarise(kernel, unit.first, unit.lanes);
    turns_.wait_for(turn.number);
    if (turn.begin != nullptr) one::enter(turn.before, turn.begin, sizes_);
    chunks.relay(turn.before, turn.after, unit.lanes);
    turns_.pass(turn.number);
    chunks.replay(kernel, unit.first, unit.lanes);
    if (turn.end != nullptr) chunks.leave(turn.end, unit.lanes - 1);
  }

  const Source& source_;
  State& state_;
  chunk_sizes sizes_;
  chunk_grid grid_;
  bool streaming_;
  index_t units_ = 0;
  turnstile turns_;
};

/// The longest chunk where the policy leaves the choice to us. Not a power of two, which would put the
/// lanes of scan/narrow.hpp into the same sets of a cache.
inline constexpr index_t default_chunk = 272;

/// The chunk where the policy leaves the choice to us and tokens move so many bytes (0: nobody knows):
/// one that stays in L2 between its summary and its replay.
[[nodiscard]] constexpr index_t chunk_for(index_t bytes) noexcept {
  constexpr index_t cached = index_t{1} << 20, few_channels = 256, shortest = 16;
  if (bytes <= few_channels) return default_chunk;
  index_t chunk = 256;
  while (chunk > shortest && chunk * bytes > cached) chunk /= 2;
  return chunk;
}

}  // namespace maslin::inline MASLIN_ABI::scan
