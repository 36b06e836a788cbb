// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Denormal numbers as zeros for a scope, if a caller asks for it.

#include <maslin/core/config.hpp>

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI {

/// While it lives, operations of this thread take and give zeros in place of denormal numbers, those
/// below the smallest normal one (FTZ and DAZ of x86-64, FZ of AArch64; elsewhere nothing changes). Its end
/// brings back what was set before, so that scopes nest. The library never sets this by itself.
///
/// A state that decays while nothing arrives, or a gradient that goes back through such tokens, ends in
/// denormal numbers, on which some processors take a hundred cycles an operation.
///
///     maslin::flush_to_zero zeros;
///     mixer.backward(exec::sequential{1}, tokens, saved, dy, gradients, dstate);
///
/// numerics  what a scan gives moves by less than the smallest normal number times the length of its memory,
///           in each operation of a step; where no denormal number occurs, not a bit changes. Outside the FMA
///           family a state may stop above zero, where (1 - a) h has become zero. With chunked policies an Inf that is
///           carried through decays of 0 may become NaN
/// threads   of this thread alone: threads of a pool keep their own setting, so let the caller do all
///           the work, or set it in each of them
/// cost      two moves to a control register
class [[nodiscard]] flush_to_zero {
 public:
  flush_to_zero() noexcept : before_(mode()) { set(before_ | zeros); }
  ~flush_to_zero() { set(before_); }
  flush_to_zero(const flush_to_zero&) = delete;
  flush_to_zero& operator=(const flush_to_zero&) = delete;

 private:
#if defined(__SSE2__)
  using word = unsigned int;
  static constexpr word zeros = 0x8040;  // FTZ, DAZ
  [[nodiscard]] static word mode() noexcept { return _mm_getcsr(); }
  static void set(word to) noexcept { _mm_setcsr(to); }
#elif defined(__aarch64__)
  using word = std::uint64_t;
  static constexpr word zeros = word{1} << 24;  // FZ
  [[nodiscard]] static word mode() noexcept {
    word found;
    asm volatile("mrs %0, fpcr" : "=r"(found));
    return found;
  }
  static void set(word to) noexcept { asm volatile("msr fpcr, %0" : : "r"(to) : "memory"); }
#else
  using word = unsigned int;
  static constexpr word zeros = 0;
  [[nodiscard]] static word mode() noexcept { return 0; }
  static void set(word) noexcept {}
#endif

  word before_;
};

}  // namespace maslin::inline MASLIN_ABI
