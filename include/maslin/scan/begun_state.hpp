// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A state of recurrences whose first token is treated apart.

#include <maslin/scan/state.hpp>

#include <string>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI::scan {

/// One number for each channel of each sequence, and for each sequence whether its first token has
/// passed. Both are the value: copied, compared, saved and loaded together.
///
/// shapes    [B, D], as `copy_to` and `copy_from` see it
/// cost      a copy allocates, an assignment from an equal shape does not; `save` and `load`
///           allocate
/// effects   no call locks: a state belongs to one thread at a time
template <class S>
class begun_state {
 public:
  using scalar_type = S;
  using flag = unsigned char;

  /// An empty state, no sequence begun; see `lane_state`.
  /// throws    shape_error for a negative or absurd batch, std::bad_alloc
  begun_state(const char* mixer, index_t batch, index_t channels)
      : mixer_(mixer), lanes_(mixer, batch, channels, 1) {
    begun_.assign(static_cast<std::size_t>(batch), 0);
  }

  [[nodiscard]] index_t batch() const noexcept { return lanes_.batch(); }
  [[nodiscard]] index_t channels() const noexcept { return lanes_.channels(); }
  [[nodiscard]] index_t order() const noexcept { return lanes_.order(); }
  /// Bytes of the values that it carries: B D numbers and B flags.
  [[nodiscard]] index_t bytes() const noexcept { return lanes_.bytes() + batch(); }

  /// True if the first token of sequence b has passed.
  /// throws    shape_error
  [[nodiscard]] bool begun(index_t b) const {
    expect_sequence("state::begun", b);
    return begun_[static_cast<std::size_t>(b)] != 0;
  }
  /// Says so of sequence b, for states that come from elsewhere.
  /// throws    shape_error
  void set_begun(index_t b, bool begun) {
    expect_sequence("state::set_begun", b);
    begun_[static_cast<std::size_t>(b)] = begun ? 1 : 0;
  }

  /// Empties all sequences: the state before the first token.
  void reset() noexcept {
    lanes_.reset();
    std::fill(begun_.begin(), begun_.end(), flag{0});
  }
  /// Empties sequence b, NaN and Inf included.
  /// throws    shape_error
  void reset(index_t b) {
    lanes_.reset(b);
    begun_[static_cast<std::size_t>(b)] = 0;
  }

  /// Writes the numbers to `out`.
  /// throws    shape_error before any write
  void copy_to(const view<S, 2>& out) const { lanes_.copy_to(out); }
  /// Takes the numbers of `in`; which sequences have begun stays: `set_begun` says that.
  /// throws    shape_error before any write
  void copy_from(const view<const S, 2>& in) { lanes_.copy_from(in); }

  /// Writes one record of core/record.hpp: the numbers, then a 0 or 1 for each sequence.
  /// throws    state_error if the stream fails
  void save(std::ostream& out) const { record::write(out, header(), values()); }
  /// Reads a record that `save` wrote for a state of the same mixer, scalar type and shape.
  /// throws    state_error, this state unchanged
  void load(std::istream& in) {
    std::vector<S> numbers = values();
    record::read(in, header(), numbers);
    copy_from(numbers_of(std::as_const(numbers).data()));
    for (std::size_t b = 0; b < begun_.size(); ++b)
      begun_[b] = numbers[numbers.size() - begun_.size() + b] != 0 ? 1 : 0;
  }

  /// Equal shapes, equal bytes of every number, and the same sequences begun.
  [[nodiscard]] friend bool operator==(const begun_state& a, const begun_state& b) {
    return a.lanes_ == b.lanes_ && a.begun_ == b.begun_;
  }

  // For kernels:

  /// The numbers, as schedules know them.
  [[nodiscard]] lane_state<S, 2>& lanes() noexcept { return lanes_; }
  [[nodiscard]] index_t sequence_size() const noexcept { return lanes_.sequence_size(); }
  [[nodiscard]] S* row(index_t b) noexcept { return lanes_.row(b); }
  [[nodiscard]] const S* row(index_t b) const noexcept { return lanes_.row(b); }
  [[nodiscard]] check::footprint memory() const noexcept { return lanes_.memory(); }
  /// One flag a sequence.
  [[nodiscard]] const flag* flags() const noexcept { return begun_.data(); }
  /// After a call that gave sequence b `tokens` tokens.
  void advance(index_t b, index_t tokens) noexcept {
    if (tokens > 0) begun_[static_cast<std::size_t>(b)] = 1;
  }

 private:
  void expect_sequence(const char* function, index_t b) const {
    if (b < 0 || b >= batch())
      check::caller{mixer_, function}.refuse("sequence must be in [0, " + std::to_string(batch()) +
                                             "), got " + std::to_string(b));
  }
  template <class T>
  [[nodiscard]] view<T, 2> numbers_of(T* p) const {
    return row_major(p, batch(), channels());
  }
  [[nodiscard]] std::vector<S> values() const {
    std::vector<S> numbers(static_cast<std::size_t>(batch() * channels()));
    copy_to(numbers_of(numbers.data()));
    for (const flag f : begun_) numbers.push_back(static_cast<S>(f));
    return numbers;
  }
  [[nodiscard]] record::header header() const {
    record::header h;
    h.mixer = mixer_;
    h.number_size = sizeof(S);
    h.shape = {batch(), channels(), 1};
    return h;
  }

  const char* mixer_;
  lane_state<S, 2> lanes_;
  std::vector<flag> begun_;
};

}  // namespace maslin::inline MASLIN_ABI::scan
