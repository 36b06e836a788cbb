// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A small kernel for the schedules: its tokens are arrays of ready numbers, its numbers may be
/// unsigned integers, over which every schedule is exact. Beside it stand the naive loops.

#include <maslin/core/aligned.hpp>
#include <maslin/core/types.hpp>
#include <maslin/recurrence/block.hpp>
#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/scan/run.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/lane.hpp>

#include <concepts>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace maslin::test {

// ---- algebras: the recurrence for every lane type, and one step written plainly ----

struct diagonal_algebra {
  static constexpr int order = 1, outputs = 1;
  template <class V>
  using at = recurrence::diagonal<V>;
  template <class S>
  static void step(const S* u, S* h) {
    h[0] = static_cast<S>(u[0] * h[0] + u[1]);
  }
};
struct complement_algebra {
  static constexpr int order = 1, outputs = 1;
  template <class V>
  using at = recurrence::diagonal_complement<V>;
  template <class S>
  static void step(const S* u, S* h) {
    h[0] = static_cast<S>(h[0] - u[0] * h[0] + u[1]);
  }
};
template <int M>
struct companion_algebra {
  static constexpr int order = M, outputs = 1;
  template <class V>
  using at = recurrence::companion<V, M>;
  template <class S>
  static void step(const S* u, S* h) {
    S x = u[M];
    for (int k = 0; k < M; ++k) x = static_cast<S>(x + u[k] * h[k]);
    for (int k = M - 1; k > 0; --k) h[k] = h[k - 1];
    h[0] = x;
  }
};
template <int M>
struct block_algebra {
  static constexpr int order = M, outputs = M;
  template <class V>
  using at = recurrence::block<V, M>;
  template <class S>
  static void step(const S* u, S* h) {
    S x[std::size_t(M)];
    for (int i = 0; i < M; ++i) {
      x[i] = u[i * (M + 1) + M];
      for (int j = 0; j < M; ++j) x[i] = static_cast<S>(x[i] + u[i * (M + 1) + j] * h[j]);
    }
    for (int i = 0; i < M; ++i) h[i] = x[i];
  }
};

/// The same algebra where a kernel says that its output is the newest of its numbers.
template <class Algebra>
struct showing : Algebra {
  static constexpr bool output_is_newest = true;
};

/// The same algebra where a kernel does not say that its tokens widen: maps of one channel at a time.
template <class Algebra>
struct one_by_one : Algebra {
  static constexpr bool wide_lanes = false;
};

// ---- the kernel ----

/// Tokens [B][T][token_size][D] of ready numbers, outputs [B][T][D][outputs] with any time stride.
template <class S, class Algebra>
struct array_kernel {
  using scalar_type = S;
  template <class V>
  using recurrence = typename Algebra::template at<V>;
  static constexpr int order = Algebra::order, outputs = Algebra::outputs;
  static constexpr index_t token_size = sizeof(typename recurrence<S>::token) / sizeof(S);
  static constexpr bool wide_lanes = !requires { Algebra::wide_lanes; };
  static constexpr bool output_is_newest = requires { requires Algebra::output_is_newest; };
  static constexpr int arrays = 1;

  const S* numbers;
  S* out;
  index_t channels, batch_stride, out_batch, out_time;

  [[nodiscard]] array_kernel shifted(index_t b, index_t t) const noexcept {
    array_kernel k = *this;
    k.numbers += b * batch_stride + t * token_size * channels;
    k.out += b * out_batch + t * out_time;
    return k;
  }
  template <class V, class N>
  [[nodiscard]] typename recurrence<V>::token token(index_t t, index_t c, N n) const noexcept {
    V entries[static_cast<std::size_t>(token_size)];
    for (index_t e = 0; e < token_size; ++e)
      entries[e] = lane<V>::load(numbers + (t * token_size + e) * channels + c, n);
    typename recurrence<V>::token u;
    static_assert(sizeof u == sizeof entries);
    std::memcpy(static_cast<void*>(&u), entries, sizeof u);
    return u;
  }
  template <class V, class N>
  void emit(S* to, index_t stride, N n, const typename recurrence<V>::state& h) const noexcept {
    alignas(64) S lanes[static_cast<std::size_t>(lane<V>::width)];
    for (int k = 0; k < outputs; ++k) {
      lane<V>::store(lanes, h.h[k]);
      for (int l = 0; l < static_cast<int>(n); ++l) to[l * stride + k] = lanes[l];
    }
  }
  [[nodiscard]] S* y(index_t t, index_t c) const noexcept {
    return out + t * out_time + c * outputs;
  }
  [[nodiscard]] static constexpr index_t y_stride() noexcept { return outputs; }
  [[nodiscard]] scan::token_array<S> array(int) const noexcept {
    return {numbers, token_size * channels, token_size};
  }
  template <class V>
  [[nodiscard]] typename recurrence<V>::token turned_token(const S* const (&from)[1],
                                                           index_t c) const noexcept {
    V entries[static_cast<std::size_t>(token_size)];
    for (index_t e = 0; e < token_size; ++e)
      entries[e] = lane<V>::load(from[0] + (e * channels + c) * lane<V>::width);
    typename recurrence<V>::token u;
    std::memcpy(static_cast<void*>(&u), entries, sizeof u);
    return u;
  }
};

/// Tokens and outputs of a batch, and what the outputs and the state must become.
template <class S, class Algebra>
class problem {
 public:
  using kernel = array_kernel<S, Algebra>;
  using state = scan::lane_state<S, 3>;
  static constexpr int order = Algebra::order, outputs = Algebra::outputs;
  static constexpr index_t entries = kernel::token_size;

  /// `draw()` gives one number of a token, `draw_state()` one of the initial state. `gap` numbers lie
  /// behind each row of the outputs, whose first row is `shift` numbers into its memory.
  template <class Draw, class DrawState>
  problem(index_t batch, index_t tokens, index_t channels, Draw&& draw, DrawState&& draw_state,
          index_t gap = 0, index_t shift = 0)
      : B(batch),
        T(tokens),
        D(channels),
        out_time_(channels * outputs + gap),
        shift_(shift),
        initial_("array", batch, channels, order),
        final_(initial_) {
    numbers_.resize(std::size_t(B * T * entries * D));
    for (S& x : numbers_) x = static_cast<S>(draw());
    std::vector<S> h(std::size_t(B * D * order));
    for (S& x : h) x = static_cast<S>(draw_state());
    initial_.copy_from(row_major(std::as_const(h).data(), B, D, order));

    want_.assign(std::size_t(shift_ + B * T * out_time_), unwritten);
    std::vector<S> token(static_cast<std::size_t>(entries));
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t d = 0; d < D; ++d) {
          for (index_t e = 0; e < entries; ++e)
            token[std::size_t(e)] = numbers_[std::size_t(((b * T + t) * entries + e) * D + d)];
          S* state_of_channel = h.data() + (b * D + d) * order;
          Algebra::step(token.data(), state_of_channel);
          for (int k = 0; k < outputs; ++k)
            want_[std::size_t(shift_ + (b * T + t) * out_time_ + d * outputs + k)] =
                state_of_channel[k];
        }
    final_.copy_from(row_major(std::as_const(h).data(), B, D, order));
    out_.assign(want_.size(), unwritten);
  }

  index_t B, T, D;

  [[nodiscard]] kernel first() {
    return {numbers_.data(), out_.data() + shift_, D, T * entries * D, T * out_time_, out_time_};
  }
  /// Tokens [begin, end) of every sequence.
  [[nodiscard]] scan::source<kernel> source(index_t begin, index_t end) {
    return {.first = first().shifted(0, begin),
            .batch = B,
            .length = end - begin,
            .channel_count = D,
            .may_stream = true};
  }
  [[nodiscard]] scan::source<kernel> source() { return source(0, T); }
  /// Sequence 0 cut at `offsets`: a packed batch.
  [[nodiscard]] scan::source<kernel> packed(std::span<const index_t> offsets) {
    auto s = source();
    s.batch = 1;
    s.offsets = offsets;
    return s;
  }
  [[nodiscard]] state initial() const { return initial_; }
  [[nodiscard]] const state& final_state() const { return final_; }
  [[nodiscard]] const maslin::aligned_vector<S>& out() const { return out_; }

  void clear() { out_.assign(out_.size(), unwritten); }
  /// Every byte of the outputs, of what lies between them, and of the state.
  [[nodiscard]] bool solved(const state& h) const {
    const bool same =
        out_.empty() || std::memcmp(out_.data(), want_.data(), out_.size() * sizeof(S)) == 0;
    return same && h == final_;
  }

 private:
  static constexpr S unwritten = static_cast<S>(77777);

  index_t out_time_, shift_;
  std::vector<S> numbers_;
  maslin::aligned_vector<S> want_, out_;  // begin a cache line
  state initial_, final_;
};

}  // namespace maslin::test
