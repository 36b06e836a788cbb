// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What an optimiser must believe to be used.

namespace bench {

/// `x` is read here, and may be another value afterwards.
template <class T>
inline void keep(T& x) noexcept {
  asm volatile("" : "+m"(x) : : "memory");
}
template <class T>
inline void keep(const T& x) noexcept {
  asm volatile("" : : "m"(x) : "memory");
}

/// All memory is read and written here.
inline void clobber() noexcept { asm volatile("" : : : "memory"); }

}  // namespace bench
