// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// From a policy and the sequences of a call to schedules and tasks.

#include <maslin/scan/choose.hpp>
#include <maslin/scan/chunked.hpp>
#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/scan/sequential.hpp>
#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// What a mixer makes of a checked call: its sequences, each as a kernel (scan/kernel.hpp).
template <class Kernel>
struct source {
  using kernel_type = Kernel;

  Kernel first;                         // the kernel of sequence 0
  index_t batch = 1, length = 1;        // B and T of the views
  std::span<const index_t> offsets{};   // packed sequences, if any
  index_t channel_count = 0;            // channels, or blocks
  index_t lane_multiple = state_lanes;  // lanes may not cross multiples of this many channels
  index_t moved_bytes = 0;              // read and written by the call
  bool may_stream = false;              // rows of y are contiguous, and no token is read from them

  [[nodiscard]] index_t sequences() const noexcept {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] index_t tokens(index_t b) const noexcept {
    if (offsets.empty()) return length;
    return offsets[static_cast<std::size_t>(b) + 1] - offsets[static_cast<std::size_t>(b)];
  }
  /// The kernel of sequence b, which is told its number if it asks: `enter(b)`.
  [[nodiscard]] Kernel kernel(index_t b) const noexcept {
    Kernel k = offsets.empty() ? first.shifted(b, 0)
                               : first.shifted(0, offsets[static_cast<std::size_t>(b)]);
    if constexpr (requires { k.enter(b); }) k.enter(b);
    return k;
  }
};

/// The same (scan/choose.hpp) for kernels of order M that read M + 1 gates a number and ask for their own of
/// the tokens to come, of those gates: where software prefetch reaches far (see simd::prefetch_row), much
/// shorter runs gain. Measured with 16 threads: at M = 4 and 8 runs of 576 to 2304 bytes take 0.4 to 0.9 of
/// the time of chunks, at M = 2 as long.
template <int M>
inline constexpr index_t gated_run_bytes =
    M >= 4 && simd::native_width<float> >= 16 ? 512 : run_bytes;

/// How many tokens ahead a run is asked for, of which a token has so many bytes: what lies ahead in memory
/// belongs to others, unless the run is long, which 0 says.
[[nodiscard]] constexpr index_t fetched_tokens(index_t bytes) noexcept {
  constexpr index_t ahead = 2 * simd::fetch_ahead, most = 16, long_run = index_t{1} << 16;
  return bytes >= long_run ? 0 : std::clamp(ahead / std::max(index_t{1}, bytes), index_t{1}, most);
}

namespace detail {

template <class Policy>
inline constexpr bool is_policy =
    std::same_as<Policy, exec::scalar> || std::same_as<Policy, exec::sequential> ||
    std::same_as<Policy, exec::chunked> || std::same_as<Policy, exec::automatic>;
template <class Executor, class Policy>
inline constexpr bool is_policy<exec::bound_policy<Executor, Policy>> = is_policy<Policy>;

/// The same for a kernel that says otherwise.
template <class Kernel>
inline constexpr index_t run_bytes_of = [] {
  if constexpr (requires { Kernel::run_bytes; })
    return Kernel::run_bytes;
  else
    return scan::run_bytes;
}();

/// Runs of channels that are worth a thread, at least 1.
template <class Kernel>
[[nodiscard]] constexpr index_t runs_of(index_t channels) noexcept {
  constexpr auto bytes = static_cast<index_t>(sizeof(typename Kernel::scalar_type));
  return std::max(index_t{1}, channels * Kernel::outputs * bytes / run_bytes_of<Kernel>);
}

/// Calls f with the register type of the target, of at most `Most` lanes, if its lanes stay within
/// `multiple` channels, or two groups of `multiple` fill it; with S, one channel at a time, otherwise.
template <class S, int Most = simd::native_width<S>, class F>
void with_lanes(index_t multiple, const F& f) {
  constexpr int width = std::min(simd::native_width<S>, Most);
  if constexpr (width > 1)
    if (multiple % width == 0 || (width > 8 && 2 * multiple == width))
      return f(std::type_identity<typename simd::sized<S, width>::type>{});
  f(std::type_identity<S>{});
}

/// The lanes that a kernel is walked with at most: those of the widest register, if it does not say.
template <class Kernel>
inline constexpr int most_lanes_of = [] {
  if constexpr (requires { Kernel::most_lanes; })
    return Kernel::most_lanes;
  else
    return simd::native_width<typename Kernel::scalar_type>;
}();

/// The same for the kernel of a source; one that walks its own way takes the widest register.
template <class Source, class F>
void with_lanes_of(const Source& source, const F& f) {
  using kernel = typename Source::kernel_type;
  using S = typename kernel::scalar_type;
  if constexpr (walks_itself<kernel, S>)
    f(std::type_identity<simd::native<S>>{});
  else
    with_lanes<S, most_lanes_of<kernel>>(source.lane_multiple, f);
}

[[nodiscard]] inline int team(int threads) noexcept {
  return threads == 0 ? exec::default_threads() : threads;
}

/// True if a call leaves outputs past the cache where nobody says; `alone`: in order on one thread.
template <class Source>
[[nodiscard]] bool streams(const Source& source, bool alone = false) noexcept {
  return source.may_stream &&
         source.moved_bytes >= (alone ? exec::streaming_bytes_alone : exec::streaming_bytes);
}

template <class Source, class State>
void run_on(exec::default_executor&, const exec::scalar&, const Source& source, State& state) {
  using S = typename State::scalar_type;
  for (index_t b = 0; b < source.sequences(); ++b)
    walk<S>(source.kernel(b), state.row(b), 0, source.tokens(b), 0, source.channel_count, false);
}

/// Bytes that a token moves.
template <class Source>
[[nodiscard]] index_t token_bytes(const Source& source) noexcept {
  return source.moved_bytes / std::max(index_t{1}, source.batch * source.length);
}

template <class Executor, class Source, class State>
void run_on(Executor& where, const exec::sequential& policy, const Source& source, State& state) {
  const index_t sequences = source.sequences(), channels = source.channel_count;
  if (sequences == 0 || channels == 0) return;
  const index_t threads = team(policy.threads);
  index_t runs = 1;
  if (sequences < threads)
    runs = std::clamp((threads + sequences - 1) / sequences, index_t{1},
                      runs_of<typename Source::kernel_type>(channels));
  // Runs begin at whole groups of the state, hence at whole cache lines of it.
  const index_t groups = (channels + state_lanes - 1) / state_lanes;
  const index_t run = (groups + runs - 1) / runs * state_lanes;
  runs = (channels + run - 1) / run;
  const bool streaming = policy.store == exec::stores::automatic
                             ? streams(source, threads == 1)
                             : source.may_stream && policy.store == exec::stores::streaming;
  with_lanes_of(source, [&]<class V>(std::type_identity<V>) {
    where.run(sequences * runs, [&](index_t i) {
      const index_t b = i / runs, begin = i % runs * run;
      auto kernel = source.kernel(b);
      if constexpr (requires { kernel.fetch_tokens; })
        if (runs > 1) kernel.fetch_tokens = fetched_tokens(token_bytes(source) / runs);
      walk<V>(kernel, state.row(b), 0, source.tokens(b), begin, std::min(begin + run, channels),
              streaming);
    });
  });
}

template <class Source>
[[nodiscard]] index_t chunk_of_source(const Source& source) noexcept {
  return chunk_for(token_bytes(source));
}

template <class Executor, class Source, class State>
void run_on(Executor& where, const exec::chunked& policy, const Source& source, State& state) {
  if (source.channel_count == 0) return;
  index_t longest = 0;
  for (index_t b = 0; b < source.sequences(); ++b) longest = std::max(longest, source.tokens(b));
  if (longest == 0) return;
  const index_t chunk =
      std::min(policy.chunk == 0 ? chunk_of_source(source) : policy.chunk, longest);
  with_lanes_of(source, [&]<class V>(std::type_identity<V>) {
    chunk_race<V, Source, State> race(source, state, chunk, streams(source));
    const index_t tasks = std::min<index_t>(team(policy.threads), race.units());
    race.run(where, tasks, state.workspace().reserve(race.size(tasks)));
  });
}

/// What exec::automatic sees of a call.
template <class Source>
[[nodiscard]] scan_shape shape_of(const Source& source, int threads) noexcept {
  using kernel = typename Source::kernel_type;
  scan_shape of{};
  of.threads = threads;
  of.sequences = source.sequences();
  for (index_t b = 0; b < of.sequences; ++b) of.tokens += source.tokens(b);
  of.channels = source.channel_count;
  of.runs = runs_of<kernel>(of.channels);
  if constexpr (family_of<kernel>() != cost_family::unknown) {
    of.family = family_of<kernel>();
    of.order = kernel::order;
    of.bytes = source.moved_bytes;
    of.chunk = chunk_of_source(source);
    with_lanes_of(source, [&]<class V>(std::type_identity<V>) {
      of.lanes = lane<V>::width;
      if constexpr (turns<kernel> && simd::widens<V>)
        of.turns = narrow_chunks<V, kernel>::suits(source.first, of.channels);
    });
  }
  return of;
}

template <class Executor, class Source, class State>
void run_on(Executor& where, const exec::automatic& policy, const Source& source, State& state) {
  const choice best = choose(shape_of(source, team(policy.threads)));
  const auto run = [&](auto& executor) {
    if (best.chunks)
      run_on(executor, exec::chunked{.chunk = 0, .threads = best.threads}, source, state);
    else
      run_on(executor, exec::sequential{.threads = best.threads}, source, state);
  };
  exec::default_executor here;
  if (best.threads == 1)
    run(here);
  else
    run(where);
}

/// What is wrong with a policy's numbers, or an empty text.
[[nodiscard]] inline std::string fault(const exec::scalar&) { return {}; }
[[nodiscard]] inline std::string fault(const exec::sequential& policy) {
  if (policy.threads >= 0) return {};
  return "threads of exec::sequential must be 0 or more, got " + std::to_string(policy.threads);
}
[[nodiscard]] inline std::string fault(const exec::chunked& policy) {
  if (policy.threads < 0)
    return "threads of exec::chunked must be 0 or more, got " + std::to_string(policy.threads);
  if (policy.chunk < 0)
    return "chunk of exec::chunked must be 0 or more, got " + std::to_string(policy.chunk);
  return {};
}
[[nodiscard]] inline std::string fault(const exec::automatic& policy) {
  if (policy.threads >= 0) return {};
  return "threads of exec::automatic must be 0 or more, got " + std::to_string(policy.threads);
}
template <class Executor, class Policy>
[[nodiscard]] inline std::string fault(const exec::bound_policy<Executor, Policy>& bound) {
  return fault(bound.policy);
}

[[nodiscard]] inline exec::default_executor executor_of(const exec::scalar&) { return {1}; }
[[nodiscard]] inline exec::default_executor executor_of(const exec::sequential& p) {
  return {team(p.threads)};
}
[[nodiscard]] inline exec::default_executor executor_of(const exec::chunked& p) {
  return {team(p.threads)};
}

[[nodiscard]] inline exec::default_executor executor_of(const exec::automatic& p) {
  return {team(p.threads)};
}

}  // namespace detail

/// A policy that `run` knows, possibly bound to an executor.
template <class Policy>
concept policy = detail::is_policy<Policy>;

/// Refuses a policy whose numbers make no sense.
template <policy Policy>
void check_policy(const check::caller& who, const Policy& p) {
  if (const std::string what = detail::fault(p); !what.empty()) who.refuse(what);
}

/// Runs a checked call: nothing is checked here, so a caller that is no mixer answers for its
/// kernel and for a state of as many sequences, channels and numbers a channel.
template <policy Policy, class Source, class State>
void run(const Policy& p, const Source& source, State& state) {
  auto where = detail::executor_of(p);
  detail::run_on(where, p, source, state);
}
template <class Executor, policy Policy, class Source, class State>
void run(const exec::bound_policy<Executor, Policy>& bound, const Source& source, State& state) {
  if constexpr (std::same_as<Policy, exec::scalar>)
    run(bound.policy, source, state);
  else
    detail::run_on(*bound.where, bound.policy, source, state);
}

/// One token of every sequence, on the caller's thread: no allocation, no lock.
template <class Source, class State>
void run_step(const Source& source, State& state) noexcept {
  detail::with_lanes_of(source, [&]<class V>(std::type_identity<V>) {
    for (index_t b = 0; b < source.sequences(); ++b) {
      step_row<V>(source.kernel(b), state.row(b), source.channel_count);
    }
  });
}

}  // namespace maslin::inline MASLIN_ABI::scan
