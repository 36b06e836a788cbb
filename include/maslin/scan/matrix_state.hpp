// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a mixer with a matrix for each head carries from one token to the next.

#include <maslin/core/aligned.hpp>
#include <maslin/core/check.hpp>
#include <maslin/core/record.hpp>
#include <maslin/core/view.hpp>
#include <maslin/scan/state.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iosfwd>
#include <string>
#include <vector>

namespace maslin::inline MASLIN_ABI::scan {

/// A K x E matrix for each head of each sequence of a batch, and where a mixer normalises a vector of
/// K numbers beside it. A value: a copy is a checkpoint, and assigning it back rolls a decode back.
///
/// shapes    [B, H, K, E], the vectors [B, H, K], as `copy_to` and `copy_from` see them
/// layout    opaque: [B][H], each ceil(E / 16) panels [K][16], the last one padded, then the vector;
///           padding is never read into a result
/// cost      a copy allocates, an assignment from an equal shape does not; `save` and `load`
///           allocate
/// effects   no call locks: a state belongs to one thread at a time
template <class S>
class matrix_state {
 public:
  using scalar_type = S;
  static constexpr index_t panel_columns = state_lanes;

  /// H, K, E, and whether there are vectors.
  struct shape {
    index_t heads = 0, key_dim = 0, value_dim = 0;
    bool normalised = false;
    friend bool operator==(const shape&, const shape&) = default;
  };

  /// An empty state; `mixer`, which must outlive it, names it in messages and in stored records (16
  /// characters of it). Scratch of `step_rows` rows of K comes with it, and with every copy. Mixers
  /// make their own with `make_state`.
  /// throws    shape_error for a negative or absurd batch, std::bad_alloc
  matrix_state(const char* mixer, index_t batch, const shape& of, index_t step_rows)
      : mixer_(mixer), batch_(batch), shape_(of) {
    const check::caller who{mixer, "make_state"};
    check::count(who, "batch", batch);
    index_t columns = 0, n = 0, bytes = 0;
    if (__builtin_add_overflow(of.value_dim, 2 * panel_columns, &columns) ||
        __builtin_mul_overflow(columns, of.key_dim, &n) ||
        __builtin_mul_overflow(n, of.heads, &n) || __builtin_mul_overflow(n, batch, &n) ||
        __builtin_mul_overflow(n, static_cast<index_t>(sizeof(S)), &bytes) ||
        __builtin_mul_overflow(columns, step_rows + 1, &n) ||
        __builtin_mul_overflow(n, of.key_dim, &n))
      who.refuse("batch must be a number whose state fits in memory, got " + std::to_string(batch));
    numbers_.assign(static_cast<std::size_t>(batch * of.heads * head_size()), S(0));
    scratch_ = workbench(step_rows * round_up(of.key_dim));
  }

  [[nodiscard]] index_t batch() const noexcept { return batch_; }
  [[nodiscard]] index_t heads() const noexcept { return shape_.heads; }
  [[nodiscard]] index_t key_dim() const noexcept { return shape_.key_dim; }
  [[nodiscard]] index_t value_dim() const noexcept { return shape_.value_dim; }
  /// Bytes of the values that it carries: what grows with the model, not with T.
  [[nodiscard]] index_t bytes() const noexcept { return count() * static_cast<index_t>(sizeof(S)); }

  /// Empties all sequences: the state before the first token.
  void reset() noexcept { std::fill(numbers_.begin(), numbers_.end(), S(0)); }
  /// Empties sequence b, NaN and Inf included.
  /// throws    shape_error
  void reset(index_t b) {
    if (b < 0 || b >= batch_)
      check::caller{mixer_, "state::reset"}.refuse(
          "sequence must be in [0, " + std::to_string(batch_) + "), got " + std::to_string(b));
    std::fill_n(numbers_.begin() + b * shape_.heads * head_size(), shape_.heads * head_size(),
                S(0));
  }

  /// Writes the matrices to `out`, and the vectors to `sums`, which is empty where there are none.
  /// throws    shape_error before any write
  void copy_to(const view<S, 4>& out, const view<S, 3>& sums = {}) const {
    const check::caller who{mixer_, "state::copy_to"};
    check::layout(who, "out", "[B, H, K, E]", out, matrix_extents(), 1);
    check::layout(who, "sums", "[B, H, K]", sums, vector_extents(), 1);
    for_each_matrix_number([&](index_t b, index_t h, index_t i, index_t j) {
      out(b, h, i, j) = matrix(b, h)[offset(i, j)];
    });
    for_each_vector_number(
        [&](index_t b, index_t h, index_t i) { sums(b, h, i) = vector(b, h)[i]; });
  }
  /// Takes the matrices of `in`, and the vectors of `sums`.
  /// throws    shape_error before any write
  void copy_from(const view<const S, 4>& in, const view<const S, 3>& sums = {}) {
    const check::caller who{mixer_, "state::copy_from"};
    check::layout(who, "in", "[B, H, K, E]", in, matrix_extents(), 1);
    check::layout(who, "sums", "[B, H, K]", sums, vector_extents(), 1);
    for_each_matrix_number([&](index_t b, index_t h, index_t i, index_t j) {
      matrix(b, h)[offset(i, j)] = in(b, h, i, j);
    });
    for_each_vector_number(
        [&](index_t b, index_t h, index_t i) { vector(b, h)[i] = sums(b, h, i); });
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
    if (numbers[0] != static_cast<S>(shape_.key_dim) ||
        numbers[1] != static_cast<S>(shape_.value_dim))
      raise<state_error>(
          std::string(mixer_) + "::state::load: the record must be of matrices [K, E] = " +
          check::list(std::array{shape_.key_dim, shape_.value_dim}) + ", got others");
    auto from = numbers.begin() + leading;
    for_each_matrix_number(
        [&](index_t b, index_t h, index_t i, index_t j) { matrix(b, h)[offset(i, j)] = *from++; });
    for_each_vector_number([&](index_t b, index_t h, index_t i) { vector(b, h)[i] = *from++; });
  }

  /// Equal shapes and equal bytes of every value.
  [[nodiscard]] friend bool operator==(const matrix_state& a, const matrix_state& b) {
    if (a.batch_ != b.batch_ || a.shape_ != b.shape_) return false;
    const auto x = a.values(), y = b.values();
    return std::memcmp(x.data(), y.data(), x.size() * sizeof(S)) == 0;
  }

  // For kernels:

  /// Numbers of a head, padding included.
  [[nodiscard]] index_t head_size() const noexcept {
    return panels() * shape_.key_dim * panel_columns +
           (shape_.normalised ? round_up(shape_.key_dim) : 0);
  }
  [[nodiscard]] index_t panels() const noexcept {
    return round_up(shape_.value_dim) / panel_columns;
  }
  /// Head h of sequence b: [E / 16][K][16].
  [[nodiscard]] S* matrix(index_t b, index_t h) noexcept {
    return numbers_.data() + (b * shape_.heads + h) * head_size();
  }
  [[nodiscard]] const S* matrix(index_t b, index_t h) const noexcept {
    return numbers_.data() + (b * shape_.heads + h) * head_size();
  }
  /// Its vector, [K]; where there is none, past the end of the matrix.
  [[nodiscard]] S* vector(index_t b, index_t h) noexcept {
    return matrix(b, h) + panels() * shape_.key_dim * panel_columns;
  }
  [[nodiscard]] const S* vector(index_t b, index_t h) const noexcept {
    return matrix(b, h) + panels() * shape_.key_dim * panel_columns;
  }
  [[nodiscard]] const shape& extents() const noexcept { return shape_; }
  [[nodiscard]] check::footprint memory() const noexcept { return check::footprint_of(numbers_); }
  /// Scratch of at least n numbers, no part of the value; allocates only to grow.
  [[nodiscard]] S* workspace(index_t n) { return scratch_.reserve(n); }
  [[nodiscard]] S* step_workspace() noexcept { return scratch_.data(); }

 private:
  /// A copy has what a step needs, and an assignment keeps what there is.
  class workbench {
   public:
    workbench() = default;
    explicit workbench(index_t least) : least_(static_cast<std::size_t>(least)), numbers_(least_) {}
    workbench(const workbench& other) : least_(other.least_), numbers_(least_) {}
    workbench(workbench&&) noexcept = default;
    workbench& operator=(const workbench& other) {
      least_ = other.least_;
      if (numbers_.size() < least_) numbers_.resize(least_);
      return *this;
    }
    workbench& operator=(workbench&&) noexcept = default;
    ~workbench() = default;
    [[nodiscard]] S* reserve(index_t n) {
      if (numbers_.size() < static_cast<std::size_t>(n))
        numbers_.resize(static_cast<std::size_t>(n));
      return numbers_.data();
    }
    [[nodiscard]] S* data() noexcept { return numbers_.data(); }

   private:
    std::size_t least_ = 0;
    aligned_vector<S> numbers_;
  };

  // A record begins with K and E, which the three numbers of its header do not tell apart.
  static constexpr index_t leading = 2;

  [[nodiscard]] static index_t round_up(index_t n) noexcept {
    return n / panel_columns * panel_columns + (n % panel_columns != 0 ? panel_columns : 0);
  }
  [[nodiscard]] index_t count() const noexcept {
    return batch_ * shape_.heads * shape_.key_dim *
           (shape_.value_dim + (shape_.normalised ? 1 : 0));
  }
  [[nodiscard]] index_t offset(index_t i, index_t j) const noexcept {
    return (j / panel_columns * shape_.key_dim + i) * panel_columns + j % panel_columns;
  }
  [[nodiscard]] std::array<index_t, 4> matrix_extents() const noexcept {
    return {batch_, shape_.heads, shape_.key_dim, shape_.value_dim};
  }
  [[nodiscard]] std::array<index_t, 3> vector_extents() const noexcept {
    if (!shape_.normalised) return {};
    return {batch_, shape_.heads, shape_.key_dim};
  }
  template <class F>
  void for_each_matrix_number(F&& f) const {
    for_each_vector_of(true, [&](index_t b, index_t h, index_t i) {
      for (index_t j = 0; j < shape_.value_dim; ++j) f(b, h, i, j);
    });
  }
  template <class F>
  void for_each_vector_number(F&& f) const {
    for_each_vector_of(shape_.normalised, f);
  }
  template <class F>
  void for_each_vector_of(bool any, F&& f) const {
    if (!any) return;
    for (index_t b = 0; b < batch_; ++b)
      for (index_t h = 0; h < shape_.heads; ++h)
        for (index_t i = 0; i < shape_.key_dim; ++i) f(b, h, i);
  }
  [[nodiscard]] std::vector<S> values() const {
    std::vector<S> numbers{static_cast<S>(shape_.key_dim), static_cast<S>(shape_.value_dim)};
    numbers.reserve(static_cast<std::size_t>(leading + count()));
    for_each_matrix_number([&](index_t b, index_t h, index_t i, index_t j) {
      numbers.push_back(matrix(b, h)[offset(i, j)]);
    });
    for_each_vector_number(
        [&](index_t b, index_t h, index_t i) { numbers.push_back(vector(b, h)[i]); });
    return numbers;
  }
  [[nodiscard]] record::header header() const {
    record::header h;
    h.mixer = mixer_;
    h.number_size = sizeof(S);
    h.shape = {batch_, shape_.heads,
               shape_.key_dim * (shape_.value_dim + (shape_.normalised ? 1 : 0))};
    return h;
  }

  const char* mixer_;
  index_t batch_ = 0;
  shape shape_;
  aligned_vector<S> numbers_;
  workbench scratch_;
};

}  // namespace maslin::inline MASLIN_ABI::scan
