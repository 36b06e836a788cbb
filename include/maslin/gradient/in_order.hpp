// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Policies of backward passes that walk time in order whatever the policy says of it.

#include <maslin/scan/run.hpp>

#include <concepts>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::gradient {

/// The policy itself, or `sequential` with the threads of a chunked one.
[[nodiscard]] inline exec::scalar in_order(const exec::scalar& p) noexcept { return p; }
[[nodiscard]] inline exec::sequential in_order(const exec::sequential& p) noexcept { return p; }
[[nodiscard]] inline exec::sequential in_order(const exec::chunked& p) noexcept {
  return {.threads = p.threads};
}
template <class Executor, class Policy>
[[nodiscard]] auto in_order(const exec::bound_policy<Executor, Policy>& p) noexcept {
  return exec::on(*p.where, in_order(p.policy));
}

/// f(executor, threads, type of the lanes), the last one as a std::type_identity, for a policy over
/// numbers S.
template <class S, class F>
void with_team(const exec::scalar&, const F& f) {
  exec::default_executor where{1};
  f(where, index_t{1}, std::type_identity<S>{});
}
template <class S, class F>
void with_team(const exec::sequential& p, const F& f) {
  exec::default_executor where{scan::detail::team(p.threads)};
  f(where, static_cast<index_t>(where.threads), std::type_identity<simd::native<S>>{});
}
template <class S, class Executor, class F>
void with_team(const exec::bound_policy<Executor, exec::scalar>& p, const F& f) {
  with_team<S>(p.policy, f);
}
template <class S, class Executor, class F>
void with_team(const exec::bound_policy<Executor, exec::sequential>& p, const F& f) {
  f(*p.where, static_cast<index_t>(scan::detail::team(p.policy.threads)),
    std::type_identity<simd::native<S>>{});
}

}  // namespace maslin::inline MASLIN_ABI::gradient
