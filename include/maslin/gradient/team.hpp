// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Who carries out a backward pass that makes its own tasks: an executor, a number of threads, and
/// lanes. Time is walked in order, by exec::chunked too.

#include <maslin/scan/run.hpp>

#include <concepts>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// f(executor, threads, std::type_identity<V>) with the lanes V of a policy over numbers S.
template <class S, class Policy, class F>
void with_team(const Policy& policy, const F& f) {
  if constexpr (std::same_as<Policy, exec::scalar>) {
    exec::default_executor where{1};
    f(where, index_t{1}, std::type_identity<S>{});
  } else {
    exec::default_executor where{scan::detail::team(policy.threads)};
    f(where, static_cast<index_t>(where.threads), std::type_identity<simd::native<S>>{});
  }
}
template <class S, class Executor, class Policy, class F>
void with_team(const exec::bound_policy<Executor, Policy>& bound, const F& f) {
  if constexpr (std::same_as<Policy, exec::scalar>)
    with_team<S>(bound.policy, f);
  else
    f(*bound.where, static_cast<index_t>(scan::detail::team(bound.policy.threads)),
      std::type_identity<simd::native<S>>{});
}

}  // namespace maslin::inline MASLIN_ABI::gradient
