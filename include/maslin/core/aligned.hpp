// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Memory that begins at a cache line, and if there is much of it at a large page, which it asks the
/// system for. The standard's aligned `new` does the work; xsimd's allocator would not compile with
/// exceptions off.

#include <maslin/core/types.hpp>

#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace maslin::inline MASLIN_ABI {

/// Bytes of a large page. From a few of them on, memory is made of them where the system has some:
/// what a decode streams through crosses no small page then, at which every prefetcher starts anew.
inline constexpr std::size_t large_page = std::size_t{2} << 20;

namespace detail {

/// Asks for large pages in memory of which nothing is kept; a refusal leaves ordinary ones. Memory
/// that was used before has small pages already, which would stay: they are given back, so that the
/// next write finds large ones.
inline void advise_large_pages([[maybe_unused]] void* p,
                               [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const std::size_t whole = bytes / large_page * large_page;
  if (::madvise(p, whole, MADV_HUGEPAGE) == 0)
    static_cast<void>(::madvise(p, whole, MADV_DONTNEED));
#endif
}

}  // namespace detail

/// Allocator of cache-line-aligned memory.
template <class T>
struct aligned_allocator {
  using value_type = T;
  [[nodiscard]] static constexpr bool is_large(std::size_t n) noexcept {
    return n * sizeof(T) >= 2 * large_page;
  }
  [[nodiscard]] static constexpr std::align_val_t alignment(std::size_t n) noexcept {
    return std::align_val_t{is_large(n) ? large_page : std::size_t{64}};
  }

  aligned_allocator() = default;
  template <class U>
  constexpr aligned_allocator(const aligned_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    void* const p = ::operator new(n * sizeof(T), alignment(n));
    if (is_large(n)) detail::advise_large_pages(p, n * sizeof(T));
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) noexcept { ::operator delete(p, alignment(n)); }
  friend constexpr bool operator==(const aligned_allocator&, const aligned_allocator&) = default;
};

template <class T>
using aligned_vector = std::vector<T, aligned_allocator<T>>;

}  // namespace maslin::inline MASLIN_ABI
