// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The states that a scan with a matrix for each head passes through, every so many tokens: what a
/// backward pass starts again from.

#include <maslin/core/aligned.hpp>
#include <maslin/core/check.hpp>
#include <maslin/scan/heads.hpp>
#include <maslin/scan/matrix_state.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace maslin::inline MASLIN_ABI::scan {

/// The state before the first of every `spacing` tokens of each sequence. Made by `make_saved` of a
/// mixer and filled by its `scan`, for which `bytes()` says what it takes; a value.
///
/// layout    opaque: states one after another, each as a matrix_state has it
template <class S>
class matrix_checkpoints {
 public:
  /// Longest distance between two states: backward has scratch for what lies between.
  static constexpr index_t most_tokens = 256;

  matrix_checkpoints() = default;
  /// Room for B sequences of T tokens, a state every `every` tokens.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  matrix_checkpoints(const check::caller& who, const typename matrix_state<S>::shape& of, index_t B,
                     index_t T, index_t every)
      : every_(std::min(every, most_tokens)), spacing_(every_), shape_(of) {
    check::count(who, "B", B);
    check::count(who, "T", T);
    index_t n = 0, bytes = 0;
    if (__builtin_mul_overflow(pieces(T, every_), B, &n) ||
        __builtin_mul_overflow(n, of.heads, &n) || __builtin_mul_overflow(n, head_size(), &n) ||
        __builtin_mul_overflow(n, static_cast<index_t>(sizeof(S)), &bytes))
      who.refuse("T must be a number whose states fit in memory, got " + std::to_string(T));
    numbers_.resize(static_cast<std::size_t>(n));
  }
  /// The same for packed sequences, which have `offsets.back()` tokens in all.
  matrix_checkpoints(const check::caller& who, const typename matrix_state<S>::shape& of,
                     std::span<const index_t> offsets, index_t every)
      : every_(std::min(every, most_tokens)), spacing_(every_), shape_(of) {
    if (offsets.empty()) who.refuse("offsets must be given, got none");
    check::packed(who, offsets, 1, offsets.back());
    place(offsets);
    index_t n = 0;
    if (__builtin_mul_overflow(places_.back().state, of.heads, &n) ||
        __builtin_mul_overflow(n, head_size(), &n) ||
        n > std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(S)))
      who.refuse("offsets must be of tokens whose states fit in memory, got " +
                 std::to_string(offsets.back()) + " tokens");
    numbers_.resize(static_cast<std::size_t>(n));
  }

  /// Memory of the states, beyond y.
  [[nodiscard]] index_t bytes() const noexcept {
    return static_cast<index_t>(numbers_.size() * sizeof(S));
  }
  /// Tokens from state to state.
  [[nodiscard]] index_t spacing() const noexcept { return spacing_; }
  [[nodiscard]] check::footprint memory() const noexcept { return check::footprint_of(numbers_); }

  // For kernels:

  /// Makes room for the states of a call, `chunk` tokens of which go together. Allocates only to
  /// grow.
  template <class Source>
  void prepare(const Source& source, const typename matrix_state<S>::shape& of, index_t chunk) {
    shape_ = of;
    spacing_ = pieces(std::max(every_, index_t{1}), chunk) * chunk;
    batch_ = source.batch;
    sequences_ = source.sequences();
    length_ = source.length;
    if (packed()) place(source.offsets);
    const auto n = static_cast<std::size_t>(slots() * of.heads * head_size());
    if (numbers_.size() < n) numbers_.resize(n);
  }
  /// Refuses states that are not those of a call.
  template <class Source>
  void expect(const check::caller& who, const Source& source,
              const typename matrix_state<S>::shape& of) const {
    if (of != shape_ || batch_ != source.batch || sequences_ != source.sequences() ||
        length_ != source.length)
      who.refuse("saved must be filled by a scan of the same B, T, H, K, E = " +
                 describe(source.sequences(), source.length, of) + ", got " +
                 describe(sequences_, length_, shape_));
    for (index_t b = 0; packed() && b <= sequences_; ++b)
      if (places_[static_cast<std::size_t>(b)].token != source.offsets[static_cast<std::size_t>(b)])
        who.refuse("saved must be filled by a scan of the same offsets, got " +
                   std::to_string(places_[static_cast<std::size_t>(b)].token) + " for offset " +
                   std::to_string(b));
  }
  /// The first state of sequence b.
  [[nodiscard]] S* first(index_t b) noexcept { return numbers_.data() + slot(b) * sequence_size(); }
  [[nodiscard]] const S* first(index_t b) const noexcept {
    return numbers_.data() + slot(b) * sequence_size();
  }
  /// Numbers of a head, and from one state of a sequence to the next.
  [[nodiscard]] index_t head_size() const noexcept {
    constexpr index_t lanes = matrix_state<S>::panel_columns;
    return pieces(shape_.value_dim, lanes) * lanes * shape_.key_dim +
           (shape_.normalised ? pieces(shape_.key_dim, lanes) * lanes : 0);
  }
  [[nodiscard]] index_t sequence_size() const noexcept { return shape_.heads * head_size(); }

 private:
  [[nodiscard]] static index_t pieces(index_t n, index_t of) noexcept {
    return n / of + (n % of != 0 ? 1 : 0);
  }
  [[nodiscard]] bool packed() const noexcept { return sequences_ != batch_; }
  /// Where packed sequences begin, and where the last ends: in tokens and in states.
  struct place_of {
    index_t token, state;
  };
  void place(std::span<const index_t> offsets) {
    places_.assign(offsets.size(), {0, 0});
    for (std::size_t b = 1; b < offsets.size(); ++b)
      places_[b] = {offsets[b],
                    places_[b - 1].state + pieces(offsets[b] - offsets[b - 1], spacing_)};
  }
  [[nodiscard]] index_t slots() const noexcept { return slot(sequences_); }
  [[nodiscard]] index_t slot(index_t b) const noexcept {
    if (packed()) return places_[static_cast<std::size_t>(b)].state;
    return b * pieces(length_, spacing_);
  }
  [[nodiscard]] static std::string describe(index_t sequences, index_t length,
                                            const typename matrix_state<S>::shape& s) {
    return check::list(std::array{sequences, length, s.heads, s.key_dim, s.value_dim}) +
           (s.normalised ? " with a normaliser" : "");
  }

  index_t every_ = 0, spacing_ = 1;
  index_t batch_ = 0, sequences_ = 0, length_ = 0;
  typename matrix_state<S>::shape shape_{};
  std::vector<place_of> places_;  // of packed sequences
  aligned_vector<S> numbers_;
};

namespace detail {

/// A kernel that copies the state on its way.
template <class Kernel>
struct keeping_kernel : Kernel {
  using S = typename Kernel::scalar_type;

  S* states;  // of this sequence
  index_t head_size, sequence_size, spacing;

  template <class V>
  void walk(const head_span<S>& span) const noexcept {
    in_segments(span, [](const Kernel& kernel, const head_span<S>& part) {
      kernel.template walk<V>(part);
    });
  }
  template <class V>
  void walk_chunks(const head_span<S>& span, index_t chunk) const noexcept {
    in_segments(span, [chunk](const Kernel& kernel, const head_span<S>& part) {
      kernel.template walk_chunks<V>(part, chunk);
    });
  }

 private:
  template <class F>
  void in_segments(const head_span<S>& span, const F& walk_segment) const noexcept {
    S* to = states + span.head * head_size;
    for (index_t t = 0; t < span.length; t += spacing, to += sequence_size) {
      for (index_t i = 0; i < span.heads; ++i) keep_head(span.one(i), to + i * head_size);
      head_span<S> part = span;
      part.length = std::min(spacing, span.length - t);
      walk_segment(Kernel::shifted(0, t), part);
    }
  }
  void keep_head(const head_span<S>& span, S* to) const noexcept {
    const index_t panel = Kernel::K * matrix_state<S>::panel_columns;
    const index_t begin = span.begin * panel, end = span.end * panel;
    const index_t matrix = span.vector - span.matrix;
    std::copy(span.matrix + begin, span.matrix + end, to + begin);
    std::copy(span.vector, span.vector + (head_size - matrix), to + matrix);
  }
};

/// The source of a call whose states are kept.
template <class Kernel>
struct keeping_source : head_source<keeping_kernel<Kernel>> {
  const head_source<Kernel>& plain;
  matrix_checkpoints<typename Kernel::scalar_type>& keep;

  keeping_source(const head_source<Kernel>& from,
                 matrix_checkpoints<typename Kernel::scalar_type>& to)
      : head_source<keeping_kernel<Kernel>>{{from.first, nullptr, 0, 0, 1},
                                            from.batch,
                                            from.length,
                                            from.offsets},
        plain(from),
        keep(to) {}
  [[nodiscard]] keeping_kernel<Kernel> kernel(index_t b) const noexcept {
    return {plain.kernel(b), keep.first(b), keep.head_size(), keep.sequence_size(), keep.spacing()};
  }
};

/// Tokens that a policy takes together.
template <class Kernel, class Policy>
[[nodiscard]] index_t chunk_of(const Kernel& kernel, const Policy& p) {
  if constexpr (requires { p.where; })
    return chunk_of(kernel, p.policy);
  else if constexpr (std::is_same_v<Policy, exec::chunked>)
    return kernel.chunk_of(p.chunk);
  else
    return 1;
}

}  // namespace detail

/// `run_heads`, with the states on its way copied to `keep`: the bytes of y and of the state are
/// those of a call without. States lie whole chunks of exec::chunked apart.
template <policy Policy, class Kernel, class State>
void run_heads(const Policy& p, const head_source<Kernel>& source, State& state,
               matrix_checkpoints<typename State::scalar_type>& keep) {
  keep.prepare(source, state.extents(), detail::chunk_of(source.first, p));
  run_heads(p, detail::keeping_source<Kernel>(source, keep), state);
}

}  // namespace maslin::inline MASLIN_ABI::scan
