// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The ABI namespace. Every entity lives in `namespace maslin::inline MASLIN_ABI`, whose name
/// spells what the compiler's flags decide: version, instruction set, exceptions, debug checks,
/// OpenMP. Two translation units with different flags then own different symbols; without that one
/// weak copy of a shared inline function survives the link, and a baseline program may run its AVX
/// body.

#include <maslin/core/version.hpp>

#if defined(__AVX512F__)
#define MASLIN_ISA avx512
#define MASLIN_FUSED 1
#elif defined(__AVX2__) && defined(__FMA__)
#define MASLIN_ISA fma3_avx2
#define MASLIN_FUSED 1
#elif defined(__AVX2__)
#define MASLIN_ISA avx2
#define MASLIN_FUSED 0
#elif defined(__AVX__) && defined(__FMA__)
#define MASLIN_ISA fma3_avx
#define MASLIN_FUSED 1
#elif defined(__AVX__)
#define MASLIN_ISA avx
#define MASLIN_FUSED 0
#elif defined(__SSE4_2__)
#define MASLIN_ISA sse42
#define MASLIN_FUSED 0
#elif defined(__SSE2__)
#define MASLIN_ISA sse2
#define MASLIN_FUSED 0
#elif defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define MASLIN_SVE_(bits) sve##bits
#define MASLIN_SVE(bits) MASLIN_SVE_(bits)
#define MASLIN_ISA MASLIN_SVE(__ARM_FEATURE_SVE_BITS)
#define MASLIN_FUSED 1
#elif defined(__aarch64__)
#define MASLIN_ISA neon64
#define MASLIN_FUSED 1
#else
#define MASLIN_ISA generic
#define MASLIN_FUSED 0
#endif

#if defined(__cpp_exceptions)
#define MASLIN_ABI_EXCEPTIONS
#else
#define MASLIN_ABI_EXCEPTIONS _nx
#endif

#if defined(MASLIN_DEBUG_CHECKS)
#define MASLIN_ABI_DEBUG _dbg
#else
#define MASLIN_ABI_DEBUG
#endif

#if defined(_OPENMP)
#define MASLIN_ABI_OPENMP _omp
#else
#define MASLIN_ABI_OPENMP
#endif

#define MASLIN_JOIN_(a, b, c, d, e, f, g) a##b##_##c##_##d##e##f##g
#define MASLIN_JOIN(a, b, c, d, e, f, g) MASLIN_JOIN_(a, b, c, d, e, f, g)
#define MASLIN_ABI                                                                              \
  MASLIN_JOIN(v, MASLIN_VERSION_MAJOR, MASLIN_VERSION_MINOR, MASLIN_ISA, MASLIN_ABI_EXCEPTIONS, \
              MASLIN_ABI_DEBUG, MASLIN_ABI_OPENMP)

/// Before a loop whose trip count is a small compile-time constant and whose arrays should live in
/// registers: unrolls it at every optimisation level.
#if defined(__clang__)
#define MASLIN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MASLIN_UNROLL _Pragma("GCC unroll 17")
#endif

/// Before a loop of any length over little more than arithmetic: four turns at a time, so that its
/// counting takes fewer of the slots in which a core begins an instruction.
#if defined(__clang__)
#define MASLIN_UNROLL_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define MASLIN_UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif

#define MASLIN_TEXT_(x) #x
#define MASLIN_TEXT(x) MASLIN_TEXT_(x)

namespace maslin::inline MASLIN_ABI {

/// Name of the ABI namespace: version and instruction set as text, such as `v0_1_fma3_avx2`.
inline constexpr const char* abi_name = MASLIN_TEXT(MASLIN_ABI);

/// True in the FMA family of targets: `lane<V>::fma` rounds once. False in the non-FMA family,
/// where it is a product and a sum. Results are the same bytes on all targets of one family.
inline constexpr bool fused_family = MASLIN_FUSED != 0;

}  // namespace maslin::inline MASLIN_ABI
