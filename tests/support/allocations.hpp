// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Counts what a program allocates: replaces the global operator new, plain and aligned, for the whole
/// program, of which one file alone may include this. The replacements count, and otherwise do the
/// usual.

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> allocations{0};

void* or_throw(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* plain(std::size_t size) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
void* aligned(std::size_t size, std::align_val_t alignment) noexcept {
  ++allocations;
  const auto to = static_cast<std::size_t>(alignment);
  // std::aligned_alloc wants whole multiples of the alignment.
  return std::aligned_alloc(to, (size / to + 1) * to);
}

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) { return or_throw(plain(size)); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return or_throw(plain(size)); }
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return plain(size);
}
[[gnu::noinline]] void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return plain(size);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t to) {
  return or_throw(aligned(size, to));
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::align_val_t to) {
  return or_throw(aligned(size, to));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace maslin::test {

/// How often f allocates.
template <class F>
long allocations_of(const F& f) {
  const long before = allocations;
  f();
  return allocations - before;
}

}  // namespace maslin::test
