// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Recurrences with a matrix for each head: which task takes which heads and columns. The columns
/// of a state never meet, so that neither the cut nor the number of tasks changes a bit.

#include <maslin/scan/call.hpp>
#include <maslin/scan/matrix_state.hpp>
#include <maslin/scan/run.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// Rows of an array [B, T, H', ...] whose heads may be fewer than those of the state.
template <class T>
struct head_rows {
  token_rows<T> rows;
  index_t head = 0;   // from head to head
  index_t share = 1;  // heads of the state that have a head in common

  explicit operator bool() const noexcept { return static_cast<bool>(rows); }
  void shift(index_t b, index_t t) noexcept { rows.shift(b, t); }
  /// Moves to head h of the state.
  void enter(index_t h) noexcept {
    if (rows.first != nullptr) rows.first += h / share * head;
  }
  [[nodiscard]] T* at(index_t t) const noexcept { return rows.at(t); }
  /// Of head h, if none was entered.
  [[nodiscard]] T* at(index_t t, index_t h) const noexcept { return at(t) + h / share * head; }
};

/// What one task does at a time: columns of one head, or all columns of several.
template <class S>
struct head_span {
  index_t head, heads;  // the first, and how many
  index_t begin, end;   // panels of 16 columns
  index_t length;       // tokens
  S* matrix;            // [E / 16][K][16] of the first head
  S* vector;            // [K] of it, where the mixer normalises
  index_t apart;        // from head to head of both
  S* scratch;

  /// The i-th head alone.
  [[nodiscard]] head_span one(index_t i) const noexcept {
    head_span s = *this;
    s.head += i;
    s.heads = 1;
    s.matrix += i * apart;
    s.vector += i * apart;
    return s;
  }
};

/// Bytes of state of the heads that go together, so that tokens, which heads have side by side, are
/// read in whole rows: they should stay in a second-level cache from one block of tokens to the next.
inline constexpr index_t bytes_together = 256 * 1024;

/// What a mixer of matrix states makes of a checked call. A *kernel* is one sequence:
///   walk<V>(span)                  its heads, token by token
///   walk_chunks<V>(span, chunk)    its heads, in chunks of so many tokens
///   chunk_of(chunk)                the tokens of a chunk where a policy says `chunk`
///   scratch(), scratch(chunk)      numbers that the two ask for
///   whole_heads()                  true if a head may not be cut into columns
///   shifted(b, t)                  itself, moved to sequence b of the batch and token t
///   enter(h)                       moves it to head h
template <class Kernel>
struct head_source {
  Kernel first;
  index_t batch = 1, length = 1;
  std::span<const index_t> offsets{};

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

namespace detail {

/// The spans of a call, in the order of sequences, heads and columns.
template <class Source, class State>
struct head_spans {
  const Source& source;
  State& state;
  index_t runs = 1, run;  // runs of columns of a head, and panels of each

  head_spans(const Source& from, State& to, index_t threads)
      : source(from), state(to), run(to.panels()) {
    const index_t heads = source.sequences() * state.heads();
    if (heads == 0 || heads >= threads || source.first.whole_heads()) return;
    const index_t wanted = std::min((threads + heads - 1) / heads, run);
    run = (run + wanted - 1) / wanted;
    runs = (state.panels() + run - 1) / run;
  }
  [[nodiscard]] index_t count() const { return source.sequences() * state.heads() * runs; }

  /// f(kernel, span) for spans [begin, end).
  template <class S, class F>
  void visit(index_t begin, index_t end, S* scratch, const F& f) const {
    const index_t apart = state.head_size();
    const index_t most =
        runs > 1 ? 1
                 : std::max(bytes_together / (apart * static_cast<index_t>(sizeof(S))), index_t{1});
    for (index_t i = begin, heads = 1; i < end; i += heads) {
      const index_t b = i / runs / state.heads(), h = i / runs % state.heads();
      const index_t length = source.tokens(b), first = i % runs * run;
      heads = std::min({most, end - i, state.heads() - h});
      if (length > 0)
        f(source.kernel(b),
          head_span<S>{h, heads, first, std::min(first + run, state.panels()), length,
                       state.matrix(b, h), state.vector(b, h), apart, scratch});
    }
  }
};

/// Cuts the spans into tasks, each with `numbers` of scratch.
template <class Executor, class Source, class State, class F>
void run_heads_on(Executor& where, index_t threads, index_t numbers, const Source& source,
                  State& state, const F& f) {
  const head_spans spans(source, state, threads);
  const index_t count = spans.count();
  if (count == 0) return;
  // Two tasks a thread even out unequal speeds; more would only grow the scratch.
  const index_t tasks = std::min(threads > 1 ? 2 * threads : index_t{1}, count);
  auto* scratch = state.workspace(tasks * numbers);
  where.run(tasks, [&](index_t i) {
    spans.visit(count * i / tasks, count * (i + 1) / tasks, scratch + i * numbers, f);
  });
}

template <class V, class Executor, class Source, class State>
void walk_heads(Executor& where, index_t threads, const Source& source, State& state) {
  run_heads_on(where, threads, source.first.scratch(), source, state,
               [](const auto& kernel, const auto& span) { kernel.template walk<V>(span); });
}

template <class Executor, class Source, class State>
void run_heads(Executor& where, const exec::scalar&, const Source& source, State& state) {
  walk_heads<typename State::scalar_type>(where, 1, source, state);
}
template <class Executor, class Source, class State>
void run_heads(Executor& where, const exec::sequential& policy, const Source& source,
               State& state) {
  walk_heads<simd::native<typename State::scalar_type>>(where, team(policy.threads), source, state);
}
template <class Executor, class Source, class State>
void run_heads(Executor& where, const exec::chunked& policy, const Source& source, State& state) {
  using V = simd::native<typename State::scalar_type>;
  index_t longest = 0;
  for (index_t b = 0; b < source.sequences(); ++b) longest = std::max(longest, source.tokens(b));
  if (longest == 0) return;
  const index_t chunk = std::min(source.first.chunk_of(policy.chunk), longest);
  run_heads_on(where, team(policy.threads), source.first.scratch(chunk), source, state,
               [chunk](const auto& kernel, const auto& span) {
                 kernel.template walk_chunks<V>(span, chunk);
               });
}

/// In chunks, which have less work a token, once there is a whole one.
template <class Executor, class Source, class State>
void run_heads(Executor& where, const exec::automatic& policy, const Source& source, State& state) {
  index_t longest = 0;
  for (index_t b = 0; b < source.sequences(); ++b) longest = std::max(longest, source.tokens(b));
  if (longest >= source.first.chunk_of(0))
    run_heads(where, exec::chunked{.chunk = 0, .threads = policy.threads}, source, state);
  else
    run_heads(where, exec::sequential{.threads = policy.threads}, source, state);
}

}  // namespace detail

/// Runs a checked call under any policy. Scratch is asked for before anything is written, and stays
/// in the state.
template <policy Policy, class Source, class State>
void run_heads(const Policy& p, const Source& source, State& state) {
  if constexpr (requires { p.where; }) {
    detail::run_heads(*p.where, p.policy, source, state);
  } else {
    auto where = detail::executor_of(p);
    detail::run_heads(where, p, source, state);
  }
}

/// One token of every sequence, on the caller's thread: no allocation, no lock.
template <class Source, class State>
void run_heads_step(const Source& source, State& state) noexcept {
  using V = simd::native<typename State::scalar_type>;
  const detail::head_spans spans(source, state, 1);
  spans.visit(0, spans.count(), state.step_workspace(),
              [](const auto& kernel, const auto& span) { kernel.template walk<V>(span); });
}

/// Checks that a state, or the gradient of one, is that of the call: [B, H, K, E].
/// throws    shape_error
template <class State>
void check_matrices(const check::caller& who, const State& h, index_t sequences,
                    const typename State::shape& of, const char* name = "state") {
  if (h.batch() == sequences && h.extents() == of) return;
  const auto list = [](index_t batch, const typename State::shape& s) {
    return check::list(std::array{batch, s.heads, s.key_dim, s.value_dim}) +
           (s.normalised ? " with a normaliser" : "");
  };
  who.refuse(std::string(name) + " must be [B, H, K, E] = " + list(sequences, of) + ", got " +
             list(h.batch(), h.extents()));
}

}  // namespace maslin::inline MASLIN_ABI::scan
