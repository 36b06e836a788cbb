// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The two interfaces that generic code asks for: the algebra of one step, and a mixer.

#include <maslin/core/types.hpp>

#include <concepts>
#include <utility>

namespace maslin::inline MASLIN_ABI {

/// The algebra of h[t] = A[t] h[t-1] + b[t]: one step, and the affine maps that steps compose to.
///
/// Laws, for all tokens u and maps f, g, k; exact over the integers modulo 2^64, over floating
/// point within a few roundings:
///   step(u, h)                == apply(append(identity, u), h)
///   compose(f, identity)      == f == compose(identity, f)
///   compose(f, compose(g, k)) == compose(compose(f, g), k)
///   apply(compose(f, g), h)   == apply(f, apply(g, h))
/// Later first: compose(f, g) is f after g. Maps do not commute. exec::chunked also asks for
/// `R::convert(u)`, a token of another lane type as one of R's.
template <class R>
concept linear_recurrence = requires(typename R::state& h, typename R::map& m,
                                     const typename R::map& f, const typename R::token& u) {
  typename R::value;                         // lane type: number or register
  { R::order } -> std::convertible_to<int>;  // numbers of state per channel
  { R::step(u, h) } -> std::same_as<void>;   // h <- A(u) h + b(u)
  { R::identity() } -> std::same_as<typename R::map>;
  { R::append(m, u) } -> std::same_as<void>;              // m <- token(u) after m
  { R::compose(f, f) } -> std::same_as<typename R::map>;  // compose(later, earlier)
  { R::apply(f, h) } -> std::same_as<void>;               // h <- f(h)
};

/// What a type offers that mixes tokens along the sequence, under a policy such as
/// exec::sequential.
template <class Mixer, class Policy>
concept token_mixer_with = requires(const Mixer& mixer, const Policy& policy,
                                    const typename Mixer::tokens& tokens,
                                    const typename Mixer::token& token, typename Mixer::output y,
                                    typename Mixer::output_token y_token,
                                    typename Mixer::state& state) {
  typename Mixer::scalar_type;
  { mixer.make_state(index_t{1}) } -> std::same_as<typename Mixer::state>;
  { mixer.scan(policy, tokens, y, state) } -> std::same_as<void>;
  { mixer.step(token, y_token, state) } -> std::same_as<void>;
  { tokens[index_t{0}] } -> std::same_as<typename Mixer::token>;
  { tokens.range(index_t{0}, index_t{0}) } -> std::same_as<typename Mixer::tokens>;
  { state.reset() } -> std::same_as<void>;
  { std::as_const(state).bytes() } -> std::convertible_to<index_t>;
}
&&std::copyable<typename Mixer::state>;

/// A type whose definition has been seen. Mixers declare `backward` and ask this of the class in
/// gradient/ that defines it.
template <class T>
concept complete = requires {
  sizeof(T);
};

}  // namespace maslin::inline MASLIN_ABI
