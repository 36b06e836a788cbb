// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a recurrence carries from one token to the next, for a batch of sequences.

#include <maslin/core/aligned.hpp>
#include <maslin/core/check.hpp>
#include <maslin/core/record.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iosfwd>
#include <vector>

namespace maslin::inline MASLIN_ABI::scan {

/// Channels that lie side by side in a state: at least the widest register, so that the layout
/// never depends on the instruction set.
inline constexpr index_t state_lanes = 16;

/// Memory that a policy may ask for beside the state. It is no part of the state's value: copies
/// start without it, and assignment keeps what the target has.
template <class T>
class scratch {
 public:
  scratch() = default;
  scratch(const scratch&) noexcept {}
  scratch(scratch&&) noexcept = default;
  scratch& operator=(const scratch&) noexcept { return *this; }
  scratch& operator=(scratch&&) noexcept = default;
  ~scratch() = default;

  /// At least `n` numbers; allocates only to grow.
  [[nodiscard]] T* reserve(std::size_t n) {
    if (numbers_.size() < n) numbers_.resize(n);
    return numbers_.data();
  }

 private:
  aligned_vector<T> numbers_;
};

/// M numbers for each channel (or component) of each sequence of a batch. A value: a copy is a
/// checkpoint, and assigning it back rolls a decode back.
///
/// shapes    [B, D] for Rank 2, [B, D, M] for Rank 3, as `copy_to` and `copy_from` see it; blocks
///           count as D
/// layout    opaque: [B][ceil(D / 16)][M][16], the last group padded; padding is never read into a
///           result
/// cost      a copy allocates, an assignment from an equal shape does not; `save` and `load`
///           allocate
/// effects   no call locks: a state belongs to one thread at a time
template <class S, int Rank>
class lane_state {
  static_assert(Rank == 2 || Rank == 3);

 public:
  using scalar_type = S;

  /// An empty state; `mixer`, which must outlive it, names it in messages and in stored records (16
  /// characters of it). Mixers make their own with `make_state`.
  /// throws    shape_error for a negative or absurd batch, std::bad_alloc
  lane_state(const char* mixer, index_t batch, index_t channels, index_t order)
      : mixer_(mixer), batch_(batch), channels_(channels), order_(order) {
    const check::caller who{mixer, "make_state"};
    check::count(who, "batch", batch);
    index_t n = 0;
    if (__builtin_mul_overflow(groups(), order, &n) || __builtin_mul_overflow(batch, n, &n) ||
        __builtin_mul_overflow(n, state_lanes * static_cast<index_t>(sizeof(S)), &n))
      who.refuse("batch must be a number whose state fits in memory, got " + std::to_string(batch));
    numbers_.assign(static_cast<std::size_t>(n) / sizeof(S), S(0));
  }

  [[nodiscard]] index_t batch() const noexcept { return batch_; }
  [[nodiscard]] index_t channels() const noexcept { return channels_; }
  [[nodiscard]] index_t order() const noexcept { return order_; }
  /// Bytes of the values that it carries, B D M numbers: what grows with the model, not with T.
  [[nodiscard]] index_t bytes() const noexcept {
    return batch_ * channels_ * order_ * static_cast<index_t>(sizeof(S));
  }

  /// Empties all sequences: the state before the first token.
  void reset() noexcept { std::fill(numbers_.begin(), numbers_.end(), S(0)); }
  /// Empties sequence b, NaN and Inf included.
  /// throws    shape_error
  void reset(index_t b) {
    if (b < 0 || b >= batch_)
      check::caller{mixer_, "state::reset"}.refuse(
          "sequence must be in [0, " + std::to_string(batch_) + "), got " + std::to_string(b));
    std::fill_n(row(b), sequence_size(), S(0));
  }

  /// Writes the values to `out`.
  /// throws    shape_error before any write
  void copy_to(const view<S, Rank>& out) const {
    check::layout({mixer_, "state::copy_to"}, "out", axes(), out, shape(), 1);
    visit([&](index_t b, index_t c, index_t k) { at(out, b, c, k) = value(b, c, k); });
  }
  /// Takes the values of `in`.
  /// throws    shape_error before any write
  void copy_from(const view<const S, Rank>& in) {
    check::layout({mixer_, "state::copy_from"}, "in", axes(), in, shape(), 1);
    visit([&](index_t b, index_t c, index_t k) { row(b)[offset(c, k)] = at(in, b, c, k); });
  }

  /// Writes one record of core/record.hpp.
  /// throws    state_error if the stream fails
  void save(std::ostream& out) const { record::write(out, header(), values()); }
  /// Reads a record that `save` wrote for a state of the same mixer, scalar type and shape. A
  /// record of the other FMA family loads too; the bytes that follow then belong to this one.
  /// throws    state_error, this state unchanged
  void load(std::istream& in) {
    std::vector<S> numbers = values();
    record::read(in, header(), numbers);
    std::size_t i = 0;
    visit([&](index_t b, index_t c, index_t k) { row(b)[offset(c, k)] = numbers[i++]; });
  }

  /// Equal shapes and equal bytes of every value.
  [[nodiscard]] friend bool operator==(const lane_state& a, const lane_state& b) {
    if (a.shape() != b.shape() || a.order_ != b.order_) return false;
    bool equal = true;
    a.visit([&](index_t s, index_t c, index_t k) {
      const S x = a.value(s, c, k), y = b.value(s, c, k);
      equal = equal && std::memcmp(&x, &y, sizeof(S)) == 0;
    });
    return equal;
  }

  // For kernels:

  /// Numbers of the state of one sequence, padding included.
  [[nodiscard]] index_t sequence_size() const noexcept { return groups() * order_ * state_lanes; }
  /// The state of sequence b: [D / 16][M][16].
  [[nodiscard]] S* row(index_t b) noexcept { return numbers_.data() + b * sequence_size(); }
  [[nodiscard]] const S* row(index_t b) const noexcept {
    return numbers_.data() + b * sequence_size();
  }
  [[nodiscard]] check::footprint memory() const noexcept { return check::footprint_of(numbers_); }
  [[nodiscard]] scratch<double>& workspace() noexcept { return workspace_; }

 private:
  [[nodiscard]] index_t groups() const noexcept {
    return channels_ / state_lanes + (channels_ % state_lanes != 0 ? 1 : 0);
  }
  [[nodiscard]] index_t offset(index_t c, index_t k) const noexcept {
    return (c / state_lanes * order_ + k) * state_lanes + c % state_lanes;
  }
  [[nodiscard]] S value(index_t b, index_t c, index_t k) const noexcept {
    return row(b)[offset(c, k)];
  }
  [[nodiscard]] typename view<S, Rank>::shape shape() const noexcept {
    if constexpr (Rank == 2)
      return {batch_, channels_};
    else
      return {batch_, channels_, order_};
  }
  [[nodiscard]] static constexpr const char* axes() noexcept {
    return Rank == 2 ? "[B, D]" : "[B, D, M]";
  }
  template <class T>
  [[nodiscard]] static T& at(const view<T, Rank>& v, index_t b, index_t c, index_t k) noexcept {
    if constexpr (Rank == 2)
      return v(b, c);
    else
      return v(b, c, k);
  }
  template <class F>
  void visit(F&& f) const {
    for (index_t b = 0; b < batch_; ++b)
      for (index_t c = 0; c < channels_; ++c)
        for (index_t k = 0; k < order_; ++k) f(b, c, k);
  }
  [[nodiscard]] std::vector<S> values() const {
    std::vector<S> numbers;
    numbers.reserve(static_cast<std::size_t>(batch_ * channels_ * order_));
    visit([&](index_t b, index_t c, index_t k) { numbers.push_back(value(b, c, k)); });
    return numbers;
  }
  [[nodiscard]] record::header header() const {
    record::header h;
    h.mixer = mixer_;
    h.number_size = sizeof(S);
    h.shape = {batch_, channels_, order_};
    return h;
  }

  const char* mixer_;
  index_t batch_ = 0, channels_ = 0, order_ = 1;
  aligned_vector<S> numbers_;
  scratch<double> workspace_;
};

}  // namespace maslin::inline MASLIN_ABI::scan
