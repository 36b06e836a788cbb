// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/types.hpp>

#include <atomic>
#include <thread>
#include <vector>

namespace maslin::test {

/// Runs tasks on the caller, the last one first.
struct reverse_executor {
  template <class F>
  void run(index_t count, F&& f) {
    for (index_t i = count; i-- > 0;) f(i);
  }
};

/// Runs tasks on threads of its own, which take them as they come.
struct thread_executor {
  int threads = 4;

  template <class F>
  void run(index_t count, F&& f) {
    std::atomic<index_t> next{0};
    const auto work = [&] {
      for (index_t i = next++; i < count; i = next++) f(i);
    };
    std::vector<std::thread> team;
    for (int i = 1; i < threads; ++i) team.emplace_back(work);
    work();
    for (std::thread& t : team) t.join();
  }
};

/// Notes how many tasks each call had, and runs them on the caller.
struct counting_executor {
  std::vector<index_t> counts;

  template <class F>
  void run(index_t count, F&& f) {
    counts.push_back(count);
    for (index_t i = 0; i < count; ++i) f(i);
  }
};

}  // namespace maslin::test
