// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Copying out of cache past it: non-temporal stores of whole cache lines where the target has
/// them.

#include <maslin/core/each.hpp>
#include <maslin/core/types.hpp>
#include <maslin/simd/lane.hpp>

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace maslin::inline MASLIN_ABI::simd {

inline constexpr index_t cache_line = 64;  // bytes

/// Bytes that a kernel fetches ahead of its reads when a call streams from memory. Measured: from 4
/// KiB on, arithmetic between loads no longer keeps hardware prefetchers from running ahead.
inline constexpr index_t fetch_ahead = 4096;

/// Starts fetching the lines of [p, p + Bytes) shifted `Shift` bytes, into the first-level cache
/// (`Locality` 3) or the second (2). A hint: it reads nothing, and addresses past the ends are
/// harmless. Of the parts of a line only the first asks for it.
template <index_t Bytes, index_t Shift, int Locality = 3>
inline void prefetch_shifted(const void* p) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(Shift);
  if constexpr (Bytes < cache_line)
    if (address % static_cast<std::uintptr_t>(cache_line) >= static_cast<std::uintptr_t>(Bytes))
      return;
  each<(Bytes + cache_line - 1) / cache_line>([&](index_t line) {
    const auto at = static_cast<std::uintptr_t>(line) * static_cast<std::uintptr_t>(cache_line);
    __builtin_prefetch(reinterpret_cast<const void*>(address + at), 0, Locality);
  });
}
/// For a walk towards higher addresses.
template <index_t Bytes, index_t Distance = fetch_ahead>
inline void prefetch_ahead(const void* p) noexcept {
  prefetch_shifted<Bytes, Distance>(p);
}
/// For the rows of a scan that streams, as far ahead as its arithmetic wants. Where registers have 64
/// bytes they are asked for far ahead and into the second level: the lines that the first may wait for
/// are few there, and its own prefetcher brings them on (measured on a Xeon). Of rows that are walked in
/// part, what is `apart` bytes ahead is wanted instead, not what lies next: 0 for whole rows.
template <index_t Bytes, index_t Distance>
inline void prefetch_row(const void* p, [[maybe_unused]] index_t apart = 0) noexcept {
  if constexpr (native_width<float> >= 16) {
    const auto shift = static_cast<std::uintptr_t>(apart != 0 ? apart : fetch_ahead);
    const auto address = reinterpret_cast<std::uintptr_t>(p) + shift;
    prefetch_shifted<Bytes, 0, 2>(reinterpret_cast<const void*>(address));
  } else {
    prefetch_shifted<Bytes, Distance>(p);
  }
}
/// For a walk towards lower ones.
template <index_t Bytes>
inline void prefetch_behind(const void* p) noexcept {
  prefetch_shifted<Bytes, -fetch_ahead>(p);
}

/// Numbers from p to where a line begins.
template <class S>
[[nodiscard]] inline index_t to_line(const S* p) noexcept {
  const auto past = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(p) % cache_line);
  return past == 0 ? 0 : (cache_line - past) / static_cast<index_t>(sizeof(S));
}

/// Copies a line past the cache.
template <class S>
inline void stream_line(S* to, const S* from) noexcept {
  const auto* source = reinterpret_cast<const char*>(from);
  auto* target = reinterpret_cast<char*>(to);
#if defined(__AVX512F__)
  __m512i bits;
  std::memcpy(&bits, source, sizeof bits);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(target), bits);
#elif defined(__AVX__)
  for (int half = 0; half < 2; ++half) {
    __m256i bits;
    std::memcpy(&bits, source + 32 * half, sizeof bits);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + 32 * half), bits);
  }
#elif defined(__SSE2__)
  for (int quarter = 0; quarter < 4; ++quarter) {
    __m128i bits;
    std::memcpy(&bits, source + 16 * quarter, sizeof bits);
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + 16 * quarter), bits);
  }
#else
  std::memcpy(target, source, static_cast<std::size_t>(cache_line));
#endif
}

/// Copies `count` numbers to memory that will not be read soon. Lines that the range covers whole
/// are written without being fetched first; its ragged ends are written as usual.
template <class S>
inline void stream_copy(S* to, const S* from, index_t count) noexcept {
  constexpr index_t a_line = cache_line / static_cast<index_t>(sizeof(S));
  const index_t space = to_line(to), head = space < count ? space : count;
  std::memcpy(to, from, static_cast<std::size_t>(head) * sizeof(S));
  index_t i = head;
  for (; i + a_line <= count; i += a_line) stream_line(to + i, from + i);
  std::memcpy(to + i, from + i, static_cast<std::size_t>(count - i) * sizeof(S));
}

/// True if p is the first byte of a cache line, or of a register in memory.
[[nodiscard]] inline bool begins_line(const void* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(cache_line) == 0;
}
template <class V>
[[nodiscard]] inline bool begins_register(const void* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(V) == 0;
}

/// One register to memory that will not be read soon; `to` is aligned to its size. Whole lines must be
/// written one after another.
template <class R>
inline void stream_register(void* to, const R& x) noexcept {
#if defined(__AVX512F__)
  if constexpr (sizeof(R) == 64) {
    __m512i bits;
    std::memcpy(&bits, &x, sizeof bits);
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bits);
  }
#endif
#if defined(__AVX__)
  if constexpr (sizeof(R) == 32) {
    __m256i bits;
    std::memcpy(&bits, &x, sizeof bits);
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bits);
  }
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(R) == 16) {
    __m128i bits;
    std::memcpy(&bits, &x, sizeof bits);
    return _mm_stream_si128(reinterpret_cast<__m128i*>(to), bits);
  }
#endif
  std::memcpy(to, &x, sizeof x);
}

/// Orders earlier streaming stores before whatever publishes the result to another thread.
inline void stream_fence() noexcept {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace maslin::inline MASLIN_ABI::simd
