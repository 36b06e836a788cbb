// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Memory that begins at a cache line. The standard's aligned `new` does the work; xsimd's allocator
/// would not compile with exceptions off.

#include <maslin/core/types.hpp>

#include <cstddef>
#include <new>
#include <vector>

namespace maslin::inline MASLIN_ABI {

/// Allocator of cache-line-aligned memory.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  aligned_allocator() = default;
  template <class U>
  constexpr aligned_allocator(const aligned_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), alignment));
  }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, alignment); }
  friend constexpr bool operator==(const aligned_allocator&, const aligned_allocator&) = default;
};

template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

}  // namespace maslin::inline MASLIN_ABI
