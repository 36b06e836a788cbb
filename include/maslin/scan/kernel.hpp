// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a schedule wants of a kernel, and what kernels may offer.
///
/// A *kernel* is one sequence as a schedule sees it (mixers make them):
///   scalar_type, order (numbers of state a channel), outputs (numbers of y a channel)
///   recurrence<V>                      the algebra, for lanes V; in double too for exec::chunked
///   token<V>(t, c, n)                  the token at time t of the n channels from c on
///   emit<V>(to, stride, n, h)          writes the output of those channels, `stride` apart
///   y(t, c), y_stride()                where outputs go, and how far apart channels are there
///   shifted(b, t)                      itself, moved to sequence b of the batch and token t
/// `n` is `all_lanes<V>` or the number of channels left, fewer than the lanes of V.
///
/// and, where they make it faster,
///   weights                            numbers a channel of what is costly in a token, 0 if nothing
///   weigh<V>(t, c, n, to)              begins them, lanes side by side
///   raise<V>(t, c, n, to)              finishes those of n registers of channels, all of them at once
///   weighed_token<V>(t, c, n, from)    the token from them, the same bits as token<V>(t, c, n)
///   stream<V>(to, h)                   emit of all lanes, dense, past the cache
///   ages                               false: its state is moved although steps only shift it
///   output_is_newest                   true: y of a channel is its first number of state
///   fetch, fetch_line(t, c)            with it: whether tokens ask for what later ones read; asks for it,
///                                      of a cache line of channels from c on
///   fetch_tokens                       with it: how many tokens ahead of its own a run of channels asks for;
///                                      0, as made: for what lies ahead in memory
///   is_packed(), packed(), general()   whether channels lie side by side everywhere; then a kernel that
///                                      knows it, for whole registers; and this one again
///   twins                              true: two registers at once, where one would wait for long
///                                      chains of operations
///   most_lanes                         lanes of V at most, where wider registers are slower
///
/// A kernel whose arithmetic outweighs its traffic may walk its own way, and then needs none of
/// recurrence, token, emit and y:
///   walk<V>(state, first, last, begin, end)   tokens [first, last) of channels [begin, end)
///   run_bytes                                 optional: the shortest row worth a thread

#include <maslin/core/lane.hpp>
#include <maslin/core/types.hpp>

namespace maslin::inline MASLIN_ABI::scan {

/// A kernel that walks time its own way.
template <class Kernel, class V>
concept walks_itself = requires(const Kernel& kernel, typename Kernel::scalar_type* state,
                                index_t i) {
  kernel.template walk<V>(state, i, i, i, i);
};

/// A kernel whose tokens have a costly part, made for many channels before the first of them steps:
/// steps in between would keep the processor from overlapping it.
template <class Kernel>
concept weighing = requires {
  requires(Kernel::weights > 0);
};

/// A kernel that can write outputs past the cache from registers.
template <class Kernel, class V>
concept streaming = (lane<V>::width > 1) &&
                    requires(const Kernel& kernel, typename Kernel::scalar_type* to,
                             const typename Kernel::template recurrence<V>::state& h) {
  kernel.template stream<V>(to, h);
};

/// A kernel whose outputs can be copied from its state, step by step.
template <class Kernel>
concept showing_state = !weighing<Kernel> && requires {
  requires Kernel::output_is_newest;
};

/// A kernel that asks for lines to come when it is told to.
template <class Kernel>
concept fetching_lines = requires(const Kernel& kernel, index_t i) {
  kernel.fetch_line(i, i);
};

/// Steps are written out for as many ages: code grows with the square of their number.
inline constexpr int most_ages = 8;

/// A kernel that wants its state moved although steps only shift it.
template <class Kernel>
concept moving_state = requires {
  requires !Kernel::ages;
};

/// A kernel whose step makes one number of state and moves the others on, an age each.
template <class Kernel, class V>
concept making_one = requires(const typename Kernel::template recurrence<V>::token& u,
                              const typename Kernel::template recurrence<V>::state& h) {
  Kernel::template recurrence<V>::next(u, h);
};

/// Such a kernel whose state can stay in its place while it ages.
template <class Kernel, class V>
concept ageing = making_one<Kernel, V> &&(lane<V>::width > 1) && (Kernel::order > 1) &&
                 (Kernel::order <= most_ages) && !weighing<Kernel> && !moving_state<Kernel>;

/// A kernel with a form for channels side by side, the only one to have `stream`. Distances that a
/// compiler does not know cost loads, tests and registers in every step.
template <class Kernel, class V>
concept packing = (lane<V>::width > 1) && requires(const Kernel& kernel) {
  kernel.packed();
};

/// f(kernel), or f of its packed form where that serves.
template <class V, class Kernel, class F>
inline void with_form_of(const Kernel& kernel, const F& f) noexcept {
  if constexpr (packing<Kernel, V>)
    if (kernel.is_packed()) return f(kernel.packed());
  f(kernel);
}

/// The form for what does not fill a register, the same for both.
template <class Kernel>
[[nodiscard]] inline auto general_form(const Kernel& kernel) noexcept {
  if constexpr (requires { kernel.general(); })
    return kernel.general();
  else
    return kernel;
}

}  // namespace maslin::inline MASLIN_ABI::scan
