// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How a scan is carried out: plain values that can be printed and compared, never templates.

#include <maslin/core/concepts.hpp>
#include <maslin/core/types.hpp>
#include <maslin/simd/lane.hpp>

namespace maslin::inline MASLIN_ABI::exec {

/// How outputs are stored. Always plain: outputs in place, and blocks that lie apart.
enum class stores {
  automatic,  ///< streaming from `streaming_bytes` on, of one thread `streaming_bytes_alone`; plain below
  plain,      ///< through the cache
  streaming,  ///< past the cache, whole lines only (x86; elsewhere the same as plain), of rows that begin lines or are long
};

/// Bytes of tokens and outputs from which `stores::automatic` streams: past a usual last-level
/// cache.
inline constexpr index_t streaming_bytes = index_t{32} << 20;

/// The same for a call in order on one thread. Half where registers have 64 bytes: one such core writes
/// past the caches faster than through those that it shares (bench/NOTES.md, Rows of gates).
inline constexpr index_t streaming_bytes_alone =
    simd::native_width<float> >= 16 ? streaming_bytes / 2 : streaming_bytes;

/// One channel at a time, in numbers, no registers, on the caller's thread: for reading and
/// debugging. The same bytes as `sequential`.
struct scalar {
  friend bool operator==(const scalar&, const scalar&) = default;
};

/// The default: time in order, channels in SIMD lanes. The result has the same bytes for every
/// split of a sequence into calls, every thread count, every place in the batch and every register
/// width. Threads take sequences of the batch first, then runs of channels of 4 KiB
/// a row or more (the last run may be shorter), of `gated_run_bytes` (scan/run.hpp) where gates of M = 4 and
/// more are fetched some tokens ahead.
struct sequential {
  int threads = 1;  ///< 0: as many as the machine offers
  stores store = stores::automatic;
  friend bool operator==(const sequential&, const sequential&) = default;
};

/// Time in chunks: each is summarised as one affine map, the maps carry the state from chunk to
/// chunk, and chunks are replayed from their carries, in parallel. The bytes depend on `chunk`, not
/// on `threads`; |err| <= 3 u W (times M + 1 at order M), where `sequential` has u W. The first
/// call with a state allocates scratch, before it writes, and leaves it in the state for the next.
/// The summaries cost (append + step) / step of the work, M^2 and more: with few threads it loses,
/// unless channels are so few that chunks fill the lanes that they leave empty (scan/narrow.hpp).
struct chunked {
  index_t chunk = 0;  ///< tokens; 0: `scan::chunk_for` the bytes of a token
  int threads = 1;    ///< 0: as many as the machine offers
  friend bool operator==(const chunked&, const chunked&) = default;
};

/// One of the two above, on one thread or on all: whichever a table of measured costs says is cheapest
/// for the shape of the call (scan/choose.hpp). Bytes and allocation are those of what it chooses,
/// which depends on shape and threads: name a policy where they matter.
struct automatic {
  int threads = 0;  ///< at most so many; 0: as many as the machine offers
  friend bool operator==(const automatic&, const automatic&) = default;
};

}  // namespace maslin::inline MASLIN_ABI::exec

namespace maslin::inline MASLIN_ABI {

/// What generic code asks for: a mixer under the default policy.
template <class Mixer>
concept token_mixer = token_mixer_with<Mixer, exec::sequential>;

}  // namespace maslin::inline MASLIN_ABI
