// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Sizes of the benchmarks, by the level of memory that a case is meant to stream from.

#include <maslin/core/types.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>

namespace bench {

using maslin::index_t;

/// Bytes of the caches that one core sees; 0 where the system does not say.
struct caches {
  index_t l1 = 0, l2 = 0, l3 = 0;

  [[nodiscard]] static caches detect() {
    caches found;
    for (const auto& cache : benchmark::CPUInfo::Get().caches) {
      if (cache.type == "Instruction") continue;
      index_t& level = cache.level == 1 ? found.l1 : cache.level == 2 ? found.l2 : found.l3;
      level = cache.size;
    }
    return found;
  }
};

/// Which part of the machine a case is limited by.
enum class regime { dram, l3, l2, latency };

[[nodiscard]] inline std::string name_of(regime r) {
  switch (r) {
    case regime::dram: return "dram";
    case regime::l3: return "l3";
    case regime::l2: return "l2";
    case regime::latency: return "latency";
  }
  return {};
}

/// Tokens of a case that streams `bytes` a token from the level `r`.
[[nodiscard]] inline index_t tokens_for(regime r, index_t bytes, const caches& sizes) {
  constexpr index_t typical_l2 = index_t{512} << 10, typical_l3 = index_t{32} << 20;
  const index_t l2 = sizes.l2 > 0 ? sizes.l2 : typical_l2;
  const index_t l3 = sizes.l3 > 0 ? sizes.l3 : typical_l3;
  index_t T = r == regime::l2 ? 64 : r == regime::l3 ? 256 : 4096;
  switch (r) {
    case regime::l2:  // at most half of it: the other half holds code, stack and the state
      while (T > 8 && 2 * T * bytes > l2) T /= 2;
      break;
    case regime::l3:  // well past L2, well inside L3
      while (2 * T * bytes < 5 * l2 && 4 * T * bytes < l3) T *= 2;
      break;
    case regime::dram:  // past L3, which a pass then finds empty of what it reads
      while (T < 65536 && 4 * T * bytes < 5 * l3) T *= 2;
      break;
    case regime::latency: break;
  }
  return T;
}

}  // namespace bench
