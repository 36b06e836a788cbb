// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where the tasks of a scan run: on OpenMP's threads when it is linked, on the user's executor
/// when one is given, on the caller otherwise.

#include <maslin/core/types.hpp>

#include <concepts>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace maslin::inline MASLIN_ABI::exec {

/// `run(count, f)` calls f(i) once for each i in [0, count), on any threads in any order, and
/// returns when all calls have returned. Tasks never throw, and wait for nothing but what a task that
/// has already begun is about to do: one thread may run them all, in any order.
template <class E>
concept executor = requires(E& e, index_t count, void (&f)(index_t)) {
  { e.run(count, f) } -> std::same_as<void>;
};

/// OpenMP when it is linked; without it `run` is a loop of the caller's, with the same bytes.
struct default_executor {
  int threads = 1;

  template <class F>
  void run(index_t count, F&& f) const {
#if defined(_OPENMP)
    if (threads > 1 && count > 1) {
      const int team = static_cast<int>(count < threads ? count : threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
      for (index_t i = 0; i < count; ++i) f(i);
      return;
    }
#endif
    for (index_t i = 0; i < count; ++i) f(i);
  }
};

/// The number of threads that `threads = 0` stands for.
[[nodiscard]] inline int default_threads() noexcept {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// A policy whose tasks run on an executor of the user's; made by `on`.
template <class Executor, class Policy>
struct bound_policy {
  Executor* where;
  Policy policy;
};

/// The same policy on the caller's executor, which must outlive the call it is used in. `threads`
/// of the policy then says for how many threads the work is cut (0: `default_threads`). What `run`
/// of the executor throws passes through, and y and the state are then half written.
template <executor Executor, class Policy>
[[nodiscard]] bound_policy<Executor, Policy> on(Executor& where, const Policy& policy) {
  return {&where, policy};
}

}  // namespace maslin::inline MASLIN_ABI::exec
