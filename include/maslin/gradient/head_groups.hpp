// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Which task of a backward call takes which heads. Those that share a query, a key or a value go
/// together, since the gradient of what they share is their sum.

#include <maslin/gradient/call.hpp>
#include <maslin/mixer/matrix_rows.hpp>
#include <maslin/scan/matrix_checkpoints.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <numeric>
#include <string>

namespace maslin::inline MASLIN_ABI::gradient {

/// Rows of a gradient [B, T, H', width] or of micro-steps, to which `share` heads in a row add.
template <class S>
struct shared_gradient {
  scan::head_rows<S> rows;
  index_t step = 0, steps = 1;  // from micro-step to micro-step
  bool streaming = false;       // rows of whole lines go past the cache; nothing is added
  static constexpr index_t a_line = simd::cache_line / static_cast<index_t>(sizeof(S));

  explicit operator bool() const noexcept { return static_cast<bool>(rows); }

  /// Micro-step m of those from token t on; a token that has one is no division.
  [[nodiscard]] S* at(index_t t, index_t m) const noexcept {
    return steps == 1 ? rows.at(t + m) : rows.at(t + m / steps) + m % steps * step;
  }

  /// Takes n rows of head h, `stride` apart: the last of the heads in common writes their sum,
  /// which `sum` holds until then.
  template <class V>
  void put(index_t h, index_t t, index_t n, const S* from, index_t stride, index_t count, S* sum,
           bool accumulate) const noexcept {
    if (!rows) return;
    const index_t place = h % rows.share;
    for (index_t m = 0; m < n; ++m) {
      const S* row = from + m * stride;
      if (rows.share > 1) {
        S* const kept = sum + m * stride;
        matrix::for_each_piece<V, 1>(count, [&](auto, index_t i, auto lanes) {
          store<V>(kept + i, lane<V>::load(row + i, lanes), lanes, place > 0);
        });
        row = kept;
      }
      if (place + 1 < rows.share) continue;
      S* const to = at(t, m);
      if (streaming && count % a_line == 0 && simd::begins_line(to)) {
        for (index_t i = 0; i < count; i += lane<V>::width)
          simd::stream_register(to + i, lane<V>::load(row + i));
        continue;
      }
      matrix::for_each_piece<V, 1>(count, [&](auto, index_t i, auto lanes) {
        store<V>(to + i, lane<V>::load(row + i, lanes), lanes, accumulate);
      });
    }
  }
};

/// Bytes of arrays, of which those whose pointers are null have none.
template <class... Views>
[[nodiscard]] index_t bytes_of(const Views&... arrays) noexcept {
  const auto bytes = [](const auto& v) {
    auto n = static_cast<index_t>(v.data_handle() == nullptr ? 0 : sizeof(*v.data_handle()));
    for (const index_t extent : v.extents()) n *= extent;
    return n;
  };
  return (bytes(arrays) + ...);
}

namespace detail {

/// More heads than must go together: their rows lie side by side, and all of one segment's come
/// from the same pages of memory. Measured: a tenth to a fifth of a call with 16 heads of 64 keys.
template <class Source>
[[nodiscard]] index_t heads_of_task(const Source& source, index_t threads) noexcept {
  constexpr index_t most = 8;
  const index_t heads = source.first.heads;
  const index_t tasks_wanted = threads > 1 ? 2 * threads : 1;
  index_t group = source.first.group;
  while (2 * group <= most && heads % (2 * group) == 0 &&
         source.sequences() * heads / (2 * group) >= tasks_wanted)
    group *= 2;
  return group;
}

/// walk(kernel, b, group, length, scratch) for the groups of heads of each sequence.
/// `numbers(kernel)` is the scratch of a task.
template <class Executor, class Source, class State, class Numbers, class Walk>
void run_groups_on(Executor& where, index_t threads, Source source, State& dstate,
                   const Numbers& numbers_of, const Walk& walk) {
  source.first.group = heads_of_task(source, threads);
  const index_t groups = source.first.heads / source.first.group;
  const index_t count = source.sequences() * groups;
  if (count == 0) return;
  // As in scan/heads.hpp.
  const index_t tasks = std::min(threads > 1 ? 2 * threads : index_t{1}, count);
  const index_t numbers = numbers_of(source.first);
  auto* scratch = dstate.workspace(tasks * numbers);
  where.run(tasks, [&](index_t task) {
    for (index_t i = count * task / tasks; i < count * (task + 1) / tasks; ++i) {
      const index_t b = i / groups, length = source.tokens(b);
      if (length > 0) walk(source.kernel(b), b, i % groups, length, scratch + task * numbers);
    }
    simd::stream_fence();
  });
}

template <class V, class Executor, class Source, class State>
void walk_groups(Executor& where, index_t threads, const Source& source, State& dstate) {
  run_groups_on(
      where, threads, source, dstate, [](const auto& kernel) { return kernel.scratch(); },
      [&](const auto& kernel, index_t b, index_t group, index_t length, auto* scratch) {
        kernel.template walk<V>(b, group, length, dstate, scratch);
      });
}

template <class Executor, class Source, class State>
void run_groups(Executor& where, const exec::scalar&, const Source& source, State& dstate) {
  walk_groups<typename State::scalar_type>(where, 1, source, dstate);
}
template <class Executor, class Source, class State>
void run_groups(Executor& where, const exec::sequential& policy, const Source& source,
                State& dstate) {
  walk_groups<simd::native<typename State::scalar_type>>(where, scan::detail::team(policy.threads),
                                                         source, dstate);
}
template <class Executor, class Source, class State>
void run_groups(Executor& where, const exec::chunked& policy, const Source& source, State& dstate) {
  using V = simd::native<typename State::scalar_type>;
  const index_t chunk = source.first.chunk_of(policy.chunk);
  run_groups_on(
      where, scan::detail::team(policy.threads), source, dstate,
      [chunk](const auto& kernel) { return kernel.scratch(chunk); },
      [&](const auto& kernel, index_t b, index_t group, index_t length, auto* scratch) {
        kernel.template walk_chunks<V>(b, group, length, dstate, scratch, chunk);
      });
}
/// As scan/heads.hpp chooses.
template <class Executor, class Source, class State>
void run_groups(Executor& where, const exec::automatic& policy, const Source& source,
                State& dstate) {
  index_t longest = 0;
  for (index_t b = 0; b < source.sequences(); ++b) longest = std::max(longest, source.tokens(b));
  if (longest >= source.first.chunk_of(0))
    run_groups(where, exec::chunked{.chunk = 0, .threads = policy.threads}, source, dstate);
  else
    run_groups(where, exec::sequential{.threads = policy.threads}, source, dstate);
}

}  // namespace detail

/// Runs a checked backward call. A kernel, besides what scan/heads.hpp asks for:
///   heads, group                        H, and how many of them must go together
///   walk<V>(b, group, length, dstate, scratch), which needs `scratch()` numbers
///   walk_chunks<V>(b, group, length, dstate, scratch, chunk), which needs `scratch(chunk)`,
///   and chunk_of(asked), the chunk that it goes by
/// Scratch is asked for before anything is written, and stays in dstate.
template <scan::policy Policy, class Source, class State>
void run_groups(const Policy& p, const Source& source, State& dstate) {
  if constexpr (requires { p.where; }) {
    detail::run_groups(*p.where, p.policy, source, dstate);
  } else {
    auto where = scan::detail::executor_of(p);
    detail::run_groups(where, p, source, dstate);
  }
}

/// The segments of the heads of a group, from the last to the first: f(kernel of the head, its number
/// in the group, first token, tokens, the state before them).
template <class Kernel, class F>
void for_each_segment(const Kernel& kernel, index_t b, index_t number, index_t length,
                      const F& f) noexcept {
  const auto& keep = *kernel.keep;
  const index_t first = number * kernel.group, spacing = keep.spacing();
  for (index_t t = (length - 1) / spacing * spacing; t >= 0; t -= spacing) {
    const auto* states = keep.first(b) + t / spacing * keep.sequence_size();
    for (index_t j = 0; j < kernel.group; ++j) {
      Kernel head = kernel;
      head.enter(first + j);
      f(head, j, t, std::min(spacing, length - t), states + (first + j) * keep.head_size());
    }
  }
}

/// Heads that go together: the least number that is a multiple of all shares.
template <class... Rows>
[[nodiscard]] index_t heads_together(const Rows&... rows) noexcept {
  index_t group = 1;
  ((group = std::lcm(group, std::max(rows.share, index_t{1}))), ...);
  return group;
}

}  // namespace maslin::inline MASLIN_ABI::gradient
