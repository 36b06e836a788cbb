// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a mixer that reads whole earlier rows carries from token to token: the rows that later
/// tokens read, in the entries of a history (pattern/history.hpp).

#include <maslin/core/aligned.hpp>
#include <maslin/core/check.hpp>
#include <maslin/core/record.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/stream.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI::scan {

/// One earlier row of a token: where it begins among the rows of its sequence, and the level that
/// reads it.
struct row_read {
  index_t offset, level;
};

/// Numbers from row to row of `width` of them. Rows of whole KiB have one more cache line between
/// them, since rows that are powers of two apart would else share few sets of a cache.
template <class S>
[[nodiscard]] constexpr index_t row_stride(index_t width) noexcept {
  constexpr index_t line = simd::cache_line / static_cast<index_t>(sizeof(S)), whole = 16 * line;
  return width > 0 && width % whole == 0 ? width + line : width;
}

/// What one task of a walk needs beside the rows: its own place in time and lists of one token.
template <class S, class History>
struct row_walker {
  History history;
  std::vector<row_read> reads;     // of one token, farthest first
  std::vector<index_t> offsets;    // of one token, by level
  aligned_vector<S> coefficients;  // of one head of one token: itself, then `reads`
};

/// Memory of calls beside the state's value.
template <class S>
struct row_workspace {
  scratch<S> numbers;
  scratch<index_t> indices;
  scratch<row_read> reads;
};

/// For each sequence of a batch: its position and the rows that token `position` or a later one may
/// read. A value: a copy is a checkpoint, and assigning it back rolls a decode back.
///
/// layout    opaque: [B][entries][row_stride(width)]
/// cost      a copy allocates, an assignment from an equal shape does not; `save` and `load`
///           allocate
/// effects   no call locks: a state belongs to one thread at a time
template <class S, class History>
class row_state {
 public:
  using scalar_type = S;
  using walker = row_walker<S, History>;

  /// An empty state; `mixer`, which must outlive it, names it in messages and in stored records.
  /// Mixers make their own with `make_state`.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  row_state(const char* mixer, index_t batch, index_t width, const History& empty)
      : mixer_(mixer), width_(width) {
    const check::caller who{mixer, "make_state"};
    check::count(who, "batch", batch);
    index_t n = 0, bytes = 0;
    if (__builtin_add_overflow(width, index_t{simd::cache_line}, &n) ||
        __builtin_mul_overflow(empty.entries(), stride(), &n) ||
        __builtin_mul_overflow(batch, n, &n) ||
        __builtin_mul_overflow(n, static_cast<index_t>(sizeof(S)), &bytes))
      who.refuse("batch and capacity must be numbers whose state fits in memory, got " +
                 std::to_string(batch) + " and " + std::to_string(empty.limit()));
    rows_.assign(static_cast<std::size_t>(n), S(0));
    histories_.assign(static_cast<std::size_t>(batch), empty);
    empty_ = empty;
    reserve_walkers(1);
  }

  [[nodiscard]] index_t batch() const noexcept { return static_cast<index_t>(histories_.size()); }
  /// Numbers of one row.
  [[nodiscard]] index_t width() const noexcept { return width_; }
  /// Numbers from row to row.
  [[nodiscard]] index_t stride() const noexcept { return row_stride<S>(width_); }
  /// Rows that there is room for, in each sequence.
  [[nodiscard]] index_t entries() const noexcept { return empty_.entries(); }
  /// Tokens that a sequence may have: calls that would go past it are refused.
  [[nodiscard]] index_t capacity() const noexcept { return empty_.limit(); }
  /// Tokens that sequence b has seen.
  [[nodiscard]] index_t position(index_t b) const noexcept { return history(b).time(); }
  /// Rows of sequence b that a later token may read.
  [[nodiscard]] index_t kept(index_t b) const {
    index_t count = 0;
    history(b).for_each_kept([&](index_t, index_t) { ++count; });
    return count;
  }
  /// Bytes of the rows that there is room for.
  [[nodiscard]] index_t bytes() const noexcept {
    return static_cast<index_t>(rows_.size() * sizeof(S));
  }

  /// Empties all sequences: the state before the first token.
  void reset() {
    for (index_t b = 0; b < batch(); ++b) history(b).restart(0);
  }
  /// Empties sequence b.
  /// throws    shape_error
  void reset(index_t b) {
    if (b < 0 || b >= batch())
      check::caller{mixer_, "state::reset"}.refuse(
          "sequence must be in [0, " + std::to_string(batch()) + "), got " + std::to_string(b));
    history(b).restart(0);
  }

  /// Writes one record of core/record.hpp.
  /// throws    state_error if the stream fails
  void save(std::ostream& out) const {
    std::vector<S> numbers = blank();
    auto to = numbers.begin();
    record::write_digits(to, fingerprint());
    for (index_t b = 0; b < batch(); ++b) {
      record::write_digits(to, static_cast<std::uint64_t>(position(b)));
      auto place = to;
      history(b).for_each_kept(
          [&](index_t entry, index_t) { place = std::copy_n(row(b, entry), width_, place); });
      to += entries() * width_;
    }
    record::write(out, header(), numbers);
  }
  /// Reads a record that `save` wrote for a state of the same mixer, pattern, scalar type and shape.
  /// A record of the other FMA family loads too; the bytes that follow then belong to this one.
  /// throws    state_error, this state unchanged
  void load(std::istream& in) {
    std::vector<S> numbers = blank();
    record::read(in, header(), numbers);
    auto from = std::as_const(numbers).begin();
    const auto refuse = [&](const char* what) {
      raise<state_error>(std::string(mixer_) + "::state::load: " + what);
    };
    if (record::read_digits(from) != fingerprint())
      refuse("the record must be of the same pattern, got another one");
    for (auto at = from; at != numbers.end(); at += entries() * width_)
      if (record::read_digits(at) > static_cast<std::uint64_t>(capacity()))
        refuse("the record's positions must be within the capacity, got one past it");
    for (index_t b = 0; b < batch(); ++b) {
      history(b).restart(static_cast<index_t>(record::read_digits(from)));
      auto place = from;
      history(b).for_each_kept([&](index_t entry, index_t) {
        std::copy_n(place, width_, row(b, entry));
        place += width_;
      });
      from += entries() * width_;
    }
  }

  /// Equal shapes and positions, and equal bytes of every row that may still be read.
  [[nodiscard]] friend bool operator==(const row_state& a, const row_state& b) {
    if (a.batch() != b.batch() || a.width_ != b.width_ || a.capacity() != b.capacity() ||
        a.fingerprint() != b.fingerprint())
      return false;
    for (index_t s = 0; s < a.batch(); ++s)
      if (a.position(s) != b.position(s) || a.kept_rows(s) != b.kept_rows(s)) return false;
    return true;
  }

  // For mixers:

  /// True if `pattern` has the distances that this state was made for, as far as its last ones tell.
  template <class Pattern>
  [[nodiscard]] bool made_for(const Pattern& pattern) const {
    const auto& levels = empty_.levels();
    const index_t n = levels.size();
    return (n == 0 || pattern.distance(n - 1) == levels.distance(n - 1)) &&
           pattern.distance(n) >= capacity();
  }
  [[nodiscard]] S* row(index_t b, index_t entry) noexcept {
    return rows_.data() + (b * entries() + entry) * stride();
  }
  [[nodiscard]] const S* row(index_t b, index_t entry) const noexcept {
    return rows_.data() + (b * entries() + entry) * stride();
  }
  [[nodiscard]] History& history(index_t b) noexcept {
    return histories_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] const History& history(index_t b) const noexcept {
    return histories_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] check::footprint memory() const noexcept { return check::footprint_of(rows_); }
  /// Scratch for `count` tasks at once, no part of the value; allocates only to grow.
  void reserve_walkers(index_t count) {
    const auto levels = static_cast<std::size_t>(empty_.levels().size());
    const auto padded = (levels + 1 + coefficient_lanes - 1) / coefficient_lanes;
    while (static_cast<index_t>(walkers_.list.size()) < count) {
      walkers_.list.push_back({empty_, std::vector<row_read>(levels), std::vector<index_t>(levels),
                               aligned_vector<S>(padded * coefficient_lanes)});
    }
  }
  [[nodiscard]] walker& walker_at(index_t i) noexcept {
    return walkers_.list[static_cast<std::size_t>(i)];
  }

  [[nodiscard]] row_workspace<S>& workspace() noexcept { return workspace_; }

  /// Coefficients of a token are padded to a multiple of this, a whole number of registers.
  static constexpr std::size_t coefficient_lanes = 16;

 private:
  /// Walkers are no part of the value: a copy makes its own, an assignment keeps what there is.
  struct walkers {
    std::vector<walker> list;
    walkers() = default;
    walkers(const walkers& other) : list(other.list) {}
    walkers(walkers&&) noexcept = default;
    walkers& operator=(const walkers& other) {
      if (list.empty() || list[0].reads.size() != other.list[0].reads.size()) list = other.list;
      return *this;
    }
    walkers& operator=(walkers&&) noexcept = default;
    ~walkers() = default;
  };

  /// Of the distances and spacings of the pattern, so that a record of another is refused.
  [[nodiscard]] std::uint64_t fingerprint() const {
    const auto& levels = empty_.levels();
    std::uint32_t crc = 0;
    for (index_t k = 0; k < levels.size(); ++k)
      for (const index_t number : {levels[k].distance, levels[k].spacing}) {
        unsigned char bytes[8];
        record::put(bytes, static_cast<std::uint64_t>(number));
        crc = record::crc32(crc, bytes, sizeof bytes);
      }
    return crc;
  }
  [[nodiscard]] std::vector<S> blank() const {
    return std::vector<S>(
        static_cast<std::size_t>(record::digits + batch() * (record::digits + entries() * width_)));
  }
  [[nodiscard]] record::header header() const {
    record::header h;
    h.mixer = mixer_;
    h.number_size = sizeof(S);
    h.shape = {batch(), width_, entries()};
    return h;
  }
  [[nodiscard]] std::vector<unsigned char> kept_rows(index_t b) const {
    std::vector<unsigned char> bytes;
    history(b).for_each_kept([&](index_t entry, index_t) {
      const auto* p = reinterpret_cast<const unsigned char*>(row(b, entry));
      bytes.insert(bytes.end(), p, p + static_cast<std::size_t>(width_) * sizeof(S));
    });
    return bytes;
  }

  const char* mixer_;
  index_t width_ = 0;
  History empty_;
  std::vector<History> histories_;
  aligned_vector<S> rows_;
  walkers walkers_;
  row_workspace<S> workspace_;
};

}  // namespace maslin::inline MASLIN_ABI::scan
