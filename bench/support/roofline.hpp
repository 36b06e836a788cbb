// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Limits of the machine, measured in the process that uses them: streams of R rows read to one row
/// written (plain and non-temporal stores), the classic read, write, copy and triad, the rate of
/// the FMA pipes and the latency of a chain of fma. Useful bytes only: the line that a plain store
/// fetches before writing is not counted.

#include "buffer.hpp"
#include "clock.hpp"
#include "keep.hpp"

#include <maslin/simd/lane.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace bench {

using wide = maslin::simd::native<float>;
using lanes = maslin::lane<wide>;

/// `fetching` is streaming with the software prefetch of maslin's kernels on top.
enum class stores { plain, streaming, fetching };

/// Bytes that are read again from the cache level where `span` bytes lie.
struct gather {
  double bytes = 0;
  index_t span = 0;
};

/// What a kernel cannot avoid per call, from which its limit follows.
struct work {
  index_t elements = 0;  ///< numbers written to the output
  int rows_read = 0;     ///< numbers read per number written
  double slots = 0;      ///< lane slots of the FMA pipes; an exp is charged `slots_of_exp`
  index_t chain = 0;     ///< length of a chain of dependent fma, where that is what limits
  index_t reads = 0;     ///< numbers read, where next to none is written
  int threads = 1;
  std::array<gather, 4> gathered{};  ///< earlier rows, by level, beside what is streamed
  bool in_place = false;  ///< what is written is what was read: a state that stays where it is
  bool triad = false;     ///< what is read are two arrays: two streams, not one

  [[nodiscard]] double bytes() const {
    return (static_cast<double>(elements) * (rows_read + 1) + static_cast<double>(reads)) *
           sizeof(float);
  }
};

inline constexpr double slots_of_exp = 18;

/// The least time of one call, and what it comes from.
struct limit {
  double memory = 0;   ///< seconds for the bytes
  double compute = 0;  ///< seconds for the FMA slots or the chain
  stores best = stores::plain;

  [[nodiscard]] double seconds() const { return std::max(memory, compute); }
};

namespace detail {

inline constexpr int line = 64 / static_cast<int>(sizeof(float));
inline constexpr int most_rows = 18;

/// One cache line written from registers.
template <stores Kind>
inline void put(float* p, wide x) noexcept {
  if constexpr (Kind == stores::plain) {
    lanes::store(p, x);
  } else {
#if defined(__AVX512F__)
    __m512 bits;
    static_assert(sizeof bits == sizeof x);
    std::memcpy(&bits, &x, sizeof bits);
    _mm512_stream_ps(p, bits);
#elif defined(__AVX__)
    __m256 bits;
    static_assert(sizeof bits == sizeof x);
    std::memcpy(&bits, &x, sizeof bits);
    _mm256_stream_ps(p, bits);
#elif defined(__SSE2__)
    __m128 bits;
    static_assert(sizeof bits == sizeof x);
    std::memcpy(&bits, &x, sizeof bits);
    _mm_stream_ps(p, bits);
#else
    lanes::store(p, x);
#endif
  }
}

inline void fence() noexcept {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// out = sum of R rows. The rows lie side by side line by line, one stream: no layout reads faster.
template <int R, stores Kind>
[[gnu::noinline]] void mix_pass(const float* in, float* out, index_t count) noexcept {
  constexpr int step = lanes::width > line ? lanes::width : line;
  for (index_t i = 0; i + step <= count; i += step) {
    if constexpr (Kind == stores::fetching)
      maslin::simd::prefetch_ahead<index_t{step} * R * index_t{sizeof(float)}>(in + i * R);
    for (int part = 0; part < step; part += lanes::width) {
      wide sum = lanes::load(in + i * R + part);
      for (int r = 1; r < R; ++r) sum = sum + lanes::load(in + i * R + r * step + part);
      put<Kind>(out + i + part, sum);
    }
  }
}

/// out = a in + in2: two streams read, as a diagonal recurrence reads them.
template <stores Kind>
[[gnu::noinline]] void triad_pass(const float* in, const float* in2, float* out,
                                  index_t count) noexcept {
  const wide a = lanes::broadcast(0.5f);
  constexpr int unroll = 4;
  for (index_t i = 0; i + unroll * lanes::width <= count; i += unroll * lanes::width) {
    if constexpr (Kind == stores::fetching) {
      constexpr index_t bytes = index_t{unroll} * lanes::width * index_t{sizeof(float)};
      maslin::simd::prefetch_ahead<bytes>(in + i);
      maslin::simd::prefetch_ahead<bytes>(in2 + i);
    }
    for (int u = 0; u < unroll; ++u) {
      const index_t at = i + u * lanes::width;
      put<Kind>(out + at, lanes::fma(a, lanes::load(in + at), lanes::load(in2 + at)));
    }
  }
}

template <stores Kind>
[[gnu::noinline]] void copy_pass(const float* in, float* out, index_t count) noexcept {
  constexpr int unroll = 4;
  for (index_t i = 0; i + unroll * lanes::width <= count; i += unroll * lanes::width)
    for (int u = 0; u < unroll; ++u)
      put<Kind>(out + i + u * lanes::width, lanes::load(in + i + u * lanes::width));
}

/// Every number read and written where it is.
[[gnu::noinline]] inline void update_pass(float* numbers, index_t count) noexcept {
  const wide a = lanes::broadcast(0.999f);
  constexpr int unroll = 4;
  for (index_t i = 0; i + unroll * lanes::width <= count; i += unroll * lanes::width)
    for (int u = 0; u < unroll; ++u) {
      float* at = numbers + i + u * lanes::width;
      lanes::store(at, a * lanes::load(at));
    }
}

template <stores Kind>
[[gnu::noinline]] void write_pass(float* out, index_t count) noexcept {
  const wide a = lanes::broadcast(0.5f);
  constexpr int unroll = 4;
  for (index_t i = 0; i + unroll * lanes::width <= count; i += unroll * lanes::width)
    for (int u = 0; u < unroll; ++u) put<Kind>(out + i + u * lanes::width, a);
}

template <std::size_t... U>
[[gnu::noinline]] float read_pass(const float* in, index_t count,
                                  std::index_sequence<U...>) noexcept {
  wide sum[sizeof...(U)];
  ((sum[U] = lanes::broadcast(0.0f)), ...);
  constexpr index_t step = static_cast<index_t>(sizeof...(U)) * lanes::width;
  for (index_t i = 0; i + step <= count; i += step)
    ((sum[U] = sum[U] + lanes::load(in + i + static_cast<index_t>(U) * lanes::width)), ...);
  ((sum[0] = U == 0 ? sum[0] : sum[0] + sum[U]), ...);
  std::array<float, static_cast<std::size_t>(lanes::width)> out;
  lanes::store(out.data(), sum[0]);
  return out[0];
}

/// Independent chains of fma: enough for two pipes with a latency of four, few enough for the
/// registers.
inline constexpr int chains = 12;

/// `steps` dependent fma in each of sizeof...(I) chains. Constant indices keep the chains in
/// registers.
template <std::size_t... I>
[[gnu::noinline]] float fma_pass(index_t steps, std::index_sequence<I...>) noexcept {
  wide a = lanes::broadcast(0.999f), b = lanes::broadcast(0.001f);
  keep(a);
  keep(b);
  wide h[sizeof...(I)];
  ((h[I] = lanes::broadcast(static_cast<float>(I))), ...);
  for (index_t s = 0; s < steps; ++s) ((h[I] = lanes::fma(a, h[I], b)), ...);
  wide sum = lanes::broadcast(0.0f);
  ((sum = sum + h[I]), ...);
  std::array<float, static_cast<std::size_t>(lanes::width)> out;
  lanes::store(out.data(), sum);
  return out[0];
}

template <stores Kind, std::size_t... R>
void mix_pass(int rows, const float* in, float* out, index_t count, std::index_sequence<R...>) {
  using pass = void (*)(const float*, float*, index_t) noexcept;
  static constexpr std::array<pass, sizeof...(R)> passes{
      mix_pass<static_cast<int>(R) + 1, Kind>...};
  passes[static_cast<std::size_t>(rows - 1)](in, out, count);
}

/// Seconds from the first start to the last end of `f(thread)` on `threads` threads: those of OpenMP
/// where it is linked, which is where kernels run. Threads of another kind would inherit the one core
/// to which OMP_PROC_BIND binds their maker.
template <class F>
[[nodiscard]] double timed(int threads, const F& f) {
  if (threads == 1) {
    const double begin = thread_now();
    f(0);
    return thread_now() - begin;
  }
  std::vector<double> begin(static_cast<std::size_t>(threads)), end = begin;
  const auto body = [&](int thread) {
    begin[static_cast<std::size_t>(thread)] = now();
    f(thread);
    end[static_cast<std::size_t>(thread)] = now();
  };
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  {
#pragma omp barrier
    body(omp_get_thread_num());
  }
#else
  {
    std::barrier gate(threads);
    const auto gated = [&](int thread) {
      gate.arrive_and_wait();
      body(thread);
    };
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(gated, t);
    gated(0);
  }
#endif
  return *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
}

}  // namespace detail

/// Memory of somebody else to stream through: that of the kernel whose limit it is, so that both find
/// the same pages and the same numbers in the caches.
struct arrays {
  float* in = nullptr;
  float* out = nullptr;
};

/// Measures limits. Holds the memory it streams through, where none is lent, and keeps it from call to
/// call.
class roofline {
 public:
  /// Each measurement repeats its passes for about this long.
  static constexpr double least_seconds = 2e-3;

  /// The stores with which what `w` must is streamed in the least time: by medians, as the least of
  /// several noisy times of loops that are equal is faster than any of them is.
  [[nodiscard]] stores fastest(const work& w, const arrays& lent = {}) {
    if (w.in_place || w.elements == 0) return stores::plain;
    std::pair<double, stores> best{0, stores::plain};
    for (const stores kind : {stores::plain, stores::streaming, stores::fetching}) {
      std::vector<double> times;
      for (int i = 0; i < 5; ++i) times.push_back(mix(w, kind, lent));
      const double time = median(std::move(times));
      if (kind == stores::plain || time < best.first) best = {time, kind};
    }
    return best.second;
  }

  /// Seconds to stream what `w` must with such stores, as fast as this machine can at that size, right
  /// now.
  [[nodiscard]] limit measure(const work& w, stores kind) {
    limit found{.best = kind};
    if (w.in_place)
      found.memory = update(w.elements);
    else if (w.elements > 0)
      found.memory = mix(w, kind);
    for (const gather& g : w.gathered)
      if (g.bytes > 0) {
        const auto numbers = g.span / static_cast<index_t>(sizeof(float));
        found.memory += g.bytes / static_cast<double>(g.span) * read(numbers);
      }
    if (w.reads > 0) found.memory = std::max(found.memory, read(w.reads, w.threads));
    found.compute = w.slots / (slot_rate() * w.threads);
    if (w.chain > 0)
      found.compute = std::max(found.compute, static_cast<double>(w.chain) * chain_step());
    return found;
  }

  /// Seconds for one pass of `w.rows_read` rows read to one written.
  [[nodiscard]] double mix(const work& w, stores kind, const arrays& lent = {}) {
    const int rows = std::clamp(w.rows_read, 1, detail::most_rows);
    const index_t count = w.elements / w.threads / detail::line * detail::line;
    if (w.triad) return triad(w.elements, kind, w.threads, lent);
    float* in = lent.in ? lent.in : reserve(in_, rows * w.elements);
    float* out = lent.out ? lent.out : reserve(out_, w.elements);
    const auto one_stream = [&](int thread) {
      constexpr auto all = std::make_index_sequence<detail::most_rows>{};
      const float* from = in + thread * count * rows;
      float* to = out + thread * count;
      if (kind == stores::plain)
        detail::mix_pass<stores::plain>(rows, from, to, count, all);
      else if (kind == stores::streaming)
        detail::mix_pass<stores::streaming>(rows, from, to, count, all);
      else
        detail::mix_pass<stores::fetching>(rows, from, to, count, all);
    };
    const double best = seconds(w.threads, one_stream);
    return rows == 2 ? std::min(best, triad(w.elements, kind, w.threads, lent)) : best;
  }

  [[nodiscard]] double triad(index_t elements, stores kind, int threads = 1,
                             const arrays& lent = {}) {
    const index_t count = elements / threads / detail::line * detail::line;
    float* in = lent.in ? lent.in : reserve(in_, 2 * elements);
    float* out = lent.out ? lent.out : reserve(out_, elements);
    return seconds(threads, [&](int thread) {
      const index_t at = thread * count;
      if (kind == stores::plain)
        detail::triad_pass<stores::plain>(in + at, in + elements + at, out + at, count);
      else if (kind == stores::streaming)
        detail::triad_pass<stores::streaming>(in + at, in + elements + at, out + at, count);
      else
        detail::triad_pass<stores::fetching>(in + at, in + elements + at, out + at, count);
    });
  }

  [[nodiscard]] double copy(index_t elements, stores kind, int threads = 1) {
    const index_t count = elements / threads / detail::line * detail::line;
    float* in = reserve(in_, elements);
    float* out = reserve(out_, elements);
    return seconds(threads, [&](int thread) {
      const index_t at = thread * count;
      if (kind == stores::plain)
        detail::copy_pass<stores::plain>(in + at, out + at, count);
      else
        detail::copy_pass<stores::streaming>(in + at, out + at, count);
    });
  }

  [[nodiscard]] double write(index_t elements, stores kind, int threads = 1) {
    const index_t count = elements / threads / detail::line * detail::line;
    float* out = reserve(out_, elements);
    return seconds(threads, [&](int thread) {
      if (kind == stores::plain)
        detail::write_pass<stores::plain>(out + thread * count, count);
      else
        detail::write_pass<stores::streaming>(out + thread * count, count);
    });
  }

  [[nodiscard]] double update(index_t elements) {
    float* numbers = reserve(out_, elements);
    return seconds(1, [&](int) { detail::update_pass(numbers, elements); });
  }

  [[nodiscard]] double read(index_t elements, int threads = 1) {
    const index_t count = elements / threads / detail::line * detail::line;
    float* in = reserve(in_, elements);
    return seconds(threads, [&](int thread) {
      constexpr auto unroll = std::make_index_sequence<8>{};
      keep(detail::read_pass(in + thread * count, count, unroll));
    });
  }

  /// FMA-pipe lane slots a second of one thread.
  [[nodiscard]] double slot_rate() {
    constexpr index_t steps = 4096;
    constexpr auto chains = std::make_index_sequence<detail::chains>{};
    const double one = seconds(1, [&](int) { keep(detail::fma_pass(steps, chains)); });
    return static_cast<double>(steps * detail::chains * lanes::width) / one;
  }

  /// Seconds of one step of a chain of dependent fma.
  [[nodiscard]] double chain_step() {
    constexpr index_t steps = 8192;
    constexpr auto single = std::make_index_sequence<1>{};
    const double one = seconds(1, [&](int) { keep(detail::fma_pass(steps, single)); });
    return one / static_cast<double>(steps);
  }

 private:
  static float* reserve(buffer& memory, index_t count) {
    if (memory.size() < count) {
      memory = buffer();  // given back first: the next one may take its place
      memory = buffer(count);
    }
    return memory.data();
  }

  /// Seconds of one pass, from as many as fill `least_seconds`.
  template <class Pass>
  [[nodiscard]] static double seconds(int threads, const Pass& pass) {
    const auto run = [&](index_t passes) {
      return detail::timed(threads, [&](int thread) {
        for (index_t p = 0; p < passes; ++p) {
          pass(thread);
          clobber();
        }
        detail::fence();
      });
    };
    // The first pass also brings the data to the level of the cache where it will stay.
    double spent = run(1);
    if (spent >= least_seconds) return spent;
    for (index_t passes = 2;; passes *= 2) {
      spent = run(passes);
      if (spent >= least_seconds / 2) return spent / static_cast<double>(passes);
      if (spent < least_seconds / 16) passes *= 4;
    }
  }

  buffer in_, out_;
};

}  // namespace bench
