// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What attention carries from token to token: the keys and values of a batch of sequences.

#include <maslin/core/aligned.hpp>
#include <maslin/core/check.hpp>
#include <maslin/core/record.hpp>
#include <maslin/core/view.hpp>
#include <maslin/scan/state.hpp>
#include <maslin/simd/storage.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace maslin::inline MASLIN_ABI {

/// Sizes of a key-value cache.
struct attention_shape {
  index_t batch = 0, heads = 0;        // sequences; key-value heads
  index_t key_dim = 0, value_dim = 0;  // numbers of a key, of a value
  index_t window = 0;                  // of a ring; 0: every key is kept
  index_t capacity = 0;                // tokens that there is room for; of a ring, any number
  friend bool operator==(const attention_shape&, const attention_shape&) = default;
};

/// The key-value cache of a batch of sequences. A value: a copy is a checkpoint, and assigning it
/// back rolls a decode back; `truncate` does so without a copy.
///
/// Keys lie in blocks of 64 that begin at multiples of 64 of the position, each transposed, so that
/// a score's chain runs down a column and 64 columns are contiguous. With a window the blocks form a
/// ring that holds the window wherever it begins in a block; without one there is room for
/// `capacity` tokens and no more.
///
/// layout    opaque: [B][heads][blocks]{[K][64] keys, [64][E rounded up to 16] values}
/// cost      a copy allocates, an assignment from an equal shape does not; `reserve`, `save` and
///           `load` allocate
/// effects   no call locks: a state belongs to one thread at a time
template <class S, class C>
class attention_state {
 public:
  using scalar_type = S;
  using storage_type = C;
  /// Keys of a block.
  static constexpr index_t block = 64;

  /// An empty cache; `mixer`, which must outlive it, names it in messages and in stored records.
  /// Mixers make their own with `make_state`.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  attention_state(const char* mixer, const attention_shape& shape) : mixer_(mixer), shape_(shape) {
    const check::caller who{mixer, "make_state"};
    check::count(who, "batch", shape.batch);
    check::count(who, "capacity", shape.capacity);
    value_row_ = (shape.value_dim + 15) / 16 * 16;
    blocks_ = is_ring() ? ring_blocks(shape.window) : blocks_for(shape.capacity);
    memory_.resize(numbers(who, blocks_));
    sequences_.resize(static_cast<std::size_t>(shape.batch));
  }

  [[nodiscard]] const attention_shape& shape() const noexcept { return shape_; }
  [[nodiscard]] index_t batch() const noexcept { return shape_.batch; }
  /// Tokens that a sequence may have: calls that would go past it are refused.
  [[nodiscard]] index_t capacity() const noexcept { return shape_.capacity; }
  [[nodiscard]] bool is_ring() const noexcept { return shape_.window > 0; }
  /// Tokens that sequence b has seen.
  [[nodiscard]] index_t position(index_t b) const noexcept { return sequence(b).position; }
  /// Bytes of the keys and values that there is room for.
  [[nodiscard]] index_t bytes() const noexcept {
    return static_cast<index_t>(memory_.size() * sizeof(C));
  }

  /// Empties all sequences: the state before the first token.
  void reset() noexcept {
    for (progress& s : sequences_) s = {};
  }
  /// Empties sequence b.
  /// throws    shape_error
  void reset(index_t b) { at(b, "state::reset") = {}; }

  /// Forgets the last tokens of sequence b: it has seen `tokens` of them then, and goes on as if it
  /// had never seen more. A ring forgets no further back than its blocks reach.
  /// throws    shape_error, nothing changed
  void truncate(index_t b, index_t tokens) {
    progress& s = at(b, "state::truncate");
    const check::caller who{mixer_, "state::truncate"};
    if (tokens < 0 || tokens > s.position)
      who.refuse("tokens must be in [0, " + std::to_string(s.position) + "], got " +
                 std::to_string(tokens));
    if (first_needed(tokens) < s.oldest && first_needed(tokens) < tokens)
      who.refuse("tokens must leave a window that the ring still holds, from key " +
                 std::to_string(s.oldest) + " on, got " + std::to_string(tokens));
    s.position = tokens;
    if (tokens == 0) s.oldest = 0;
  }

  /// Makes room for `tokens` tokens of each sequence, if there is less; keeps what there is. A ring
  /// needs none.
  /// throws    shape_error for an absurd size, std::bad_alloc; nothing changed then
  void reserve(index_t tokens) {
    const check::caller who{mixer_, "reserve"};
    check::count(who, "tokens", tokens);
    if (is_ring() || tokens <= shape_.capacity) return;
    const index_t wanted = blocks_for(tokens);
    if (wanted > blocks_) {
      aligned_vector<C> grown(numbers(who, wanted));
      const index_t old_size = blocks_ * block_numbers(), new_size = wanted * block_numbers();
      for (index_t i = 0; i < shape_.batch * shape_.heads; ++i)
        std::copy_n(memory_.data() + i * old_size, old_size, grown.data() + i * new_size);
      memory_ = std::move(grown);
      blocks_ = wanted;
    }
    shape_.capacity = tokens;
  }

  /// Writes keys first, first + 1, ... of sequence b to `key` [n, H', K] and their values to `value`
  /// [n, H', E], of any strides.
  /// throws    shape_error before any write, also for keys that are no longer kept
  void copy_to(index_t b, index_t first, const view<S, 3>& key, const view<S, 3>& value) const {
    const check::caller who{mixer_, "state::copy_to"};
    if (b < 0 || b >= batch())
      who.refuse("sequence must be in [0, " + std::to_string(batch()) + "), got " +
                 std::to_string(b));
    const index_t n = key.extent(0), H = shape_.heads;
    check::layout(who, "key", "[n, H', K]", key, {n, H, shape_.key_dim}, 1);
    check::layout(who, "value", "[n, H', E]", value, {n, H, shape_.value_dim}, 1);
    if (n > 0 && (first < first_needed(position(b)) || first > position(b) - n))
      who.refuse("keys must be of those from " + std::to_string(first_needed(position(b))) +
                 " to " + std::to_string(position(b)) + ", got " + std::to_string(n) + " from " +
                 std::to_string(first));
    for (index_t i = 0; i < n; ++i)
      for (index_t h = 0; h < H; ++h) {
        const C* const keys = block_of(b, h, first + i) + (first + i) % block;
        const C* const row =
            block_of(b, h, first + i) + block * shape_.key_dim + (first + i) % block * value_row_;
        for (index_t k = 0; k < shape_.key_dim; ++k) key(i, h, k) = static_cast<S>(keys[k * block]);
        for (index_t e = 0; e < shape_.value_dim; ++e) value(i, h, e) = static_cast<S>(row[e]);
      }
  }

  /// Writes one record of core/record.hpp: the keys and values that later tokens may read, as
  /// numbers of S.
  /// throws    state_error if the stream fails
  void save(std::ostream& out) const {
    std::vector<S> numbers = blank();
    auto to = numbers.begin();
    for (const std::uint64_t x : fingerprint()) record::write_digits(to, x);
    for (index_t b = 0; b < batch(); ++b) {
      record::write_digits(to, static_cast<std::uint64_t>(position(b)));
      const auto rows = to;
      for (index_t j = first_needed(position(b)); j < position(b); ++j)
        for_each_number(*this, b, j, rows + j % slots() * row_numbers(),
                        [](const C& x, S& y) { y = static_cast<S>(x); });
      to += slots() * row_numbers();
    }
    record::write(out, header(), numbers);
  }
  /// Reads a record that `save` wrote for a state of the same mixer, types and shape. A record of the
  /// other FMA family loads too; the bytes that follow then belong to this one.
  /// throws    state_error, this state unchanged
  void load(std::istream& in) {
    std::vector<S> numbers = blank();
    record::read(in, header(), numbers);
    auto from = numbers.begin();
    const auto refuse = [&](const char* what) {
      raise<state_error>(std::string(mixer_) + "::state::load: " + what);
    };
    for (const std::uint64_t x : fingerprint())
      if (record::read_digits(from) != x)
        refuse("the record must be of the same heads, widths, window and storage, got others");
    for (auto at = from; at != numbers.end(); at += slots() * row_numbers())
      if (record::read_digits(at) > static_cast<std::uint64_t>(capacity()))
        refuse("the record's positions must be within the capacity, got one past it");
    for (index_t b = 0; b < batch(); ++b) {
      const auto tokens = static_cast<index_t>(record::read_digits(from));
      sequences_[static_cast<std::size_t>(b)] = {tokens, first_needed(tokens)};
      for (index_t j = first_needed(tokens); j < tokens; ++j)
        for_each_number(*this, b, j, from + j % slots() * row_numbers(),
                        [](C& x, const S& y) { x = static_cast<C>(y); });
      from += slots() * row_numbers();
    }
  }

  /// Equal shapes and positions, and equal bytes of every key and value that may still be read.
  [[nodiscard]] friend bool operator==(const attention_state& a, const attention_state& b) {
    if (!(a.shape_ == b.shape_)) return false;
    for (index_t s = 0; s < a.batch(); ++s)
      if (a.position(s) != b.position(s) || a.kept(s) != b.kept(s)) return false;
    return true;
  }

  // For mixers:

  /// Numbers from one value to the next.
  [[nodiscard]] index_t value_row() const noexcept { return value_row_; }
  /// The first key that a token at `position` or a later one may read.
  [[nodiscard]] index_t first_needed(index_t position) const noexcept {
    return is_ring() ? std::max(index_t{0}, position - shape_.window + 1) : 0;
  }
  /// The block of key j of a head: its keys [K][64], then its values [64][value_row].
  [[nodiscard]] C* block_of(index_t b, index_t head, index_t j) noexcept {
    return memory_.data() + block_offset(b, head, j);
  }
  [[nodiscard]] const C* block_of(index_t b, index_t head, index_t j) const noexcept {
    return memory_.data() + block_offset(b, head, j);
  }
  /// Becomes a copy of `from` with room for no more than it has seen. Allocates only to grow.
  /// throws    std::bad_alloc, nothing changed then
  void keep(const attention_state& from) {
    index_t seen = 0;
    for (index_t b = 0; b < from.batch(); ++b) seen = std::max(seen, from.position(b));
    const index_t blocks = from.is_ring() ? from.blocks_ : blocks_for(seen);
    const index_t pairs = from.shape_.batch * from.shape_.heads, size = from.block_numbers();
    memory_.reserve(static_cast<std::size_t>(pairs * blocks * size));
    sequences_.reserve(from.sequences_.size());
    memory_.resize(static_cast<std::size_t>(pairs * blocks * size));
    sequences_ = from.sequences_;
    for (index_t i = 0; i < pairs; ++i)
      std::copy_n(from.memory_.data() + i * from.blocks_ * size, blocks * size,
                  memory_.data() + i * blocks * size);
    mixer_ = from.mixer_;
    shape_ = from.shape_;
    if (!is_ring()) shape_.capacity = seen;
    value_row_ = from.value_row_;
    blocks_ = blocks;
  }
  /// Notes that the keys of sequence b that later tokens may read are those up to `tokens`.
  void stand_at(index_t b, index_t tokens) noexcept {
    sequences_[static_cast<std::size_t>(b)] = {tokens, first_needed(tokens)};
  }
  /// Notes that the keys of `tokens` more tokens were written.
  void advance(index_t b, index_t tokens) noexcept {
    progress& s = sequences_[static_cast<std::size_t>(b)];
    s.position += tokens;
    if (is_ring() && s.position > 0)
      s.oldest = std::max(s.oldest, ((s.position - 1) / block - blocks_ + 1) * block);
  }
  [[nodiscard]] check::footprint memory() const noexcept { return check::footprint_of(memory_); }
  /// Parts of a split decode; no part of the value.
  [[nodiscard]] scan::scratch<S>& workspace() noexcept { return workspace_; }

 private:
  struct progress {
    index_t position = 0;
    index_t oldest = 0;  // of a ring: the first key that no later one was written over
  };

  // Any window touches so many blocks at most.
  [[nodiscard]] static index_t ring_blocks(index_t window) noexcept {
    return (window - 1 + block - 1) / block + 1;
  }
  [[nodiscard]] static index_t blocks_for(index_t tokens) noexcept {
    return tokens / block + (tokens % block != 0 ? 1 : 0);
  }
  [[nodiscard]] index_t block_numbers() const noexcept {
    return block * (shape_.key_dim + value_row_);
  }
  [[nodiscard]] index_t row_numbers() const noexcept {
    return shape_.heads * (shape_.key_dim + shape_.value_dim);
  }
  [[nodiscard]] index_t slots() const noexcept { return blocks_ * block; }
  [[nodiscard]] index_t block_offset(index_t b, index_t head, index_t j) const noexcept {
    const index_t slot = is_ring() ? j / block % blocks_ : j / block;
    return ((b * shape_.heads + head) * blocks_ + slot) * block_numbers();
  }
  [[nodiscard]] const progress& sequence(index_t b) const noexcept {
    return sequences_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] progress& at(index_t b, const char* function) {
    if (b < 0 || b >= batch())
      check::caller{mixer_, function}.refuse("sequence must be in [0, " + std::to_string(batch()) +
                                             "), got " + std::to_string(b));
    return sequences_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] std::size_t numbers(const check::caller& who, index_t blocks) const {
    index_t per_key = 0, n = 0, bytes = 0;
    if (__builtin_add_overflow(shape_.key_dim, value_row_, &per_key) ||
        __builtin_mul_overflow(per_key, block, &n) || __builtin_mul_overflow(n, blocks, &n) ||
        __builtin_mul_overflow(n, shape_.heads, &n) ||
        __builtin_mul_overflow(n, shape_.batch, &n) ||
        __builtin_mul_overflow(n, static_cast<index_t>(sizeof(S)), &bytes))
      who.refuse("batch, sizes and capacity must be numbers whose state fits in memory, got " +
                 check::list(std::array{shape_.batch, shape_.heads, shape_.key_dim,
                                        shape_.value_dim, blocks * block}));
    return static_cast<std::size_t>(n);
  }

  /// f(number of the cache, number of a plain row) for key j: all heads' keys, then their values.
  template <class Self, class Row, class F>
  static void for_each_number(Self& self, index_t b, index_t j, Row row, const F& f) {
    const index_t K = self.shape_.key_dim, E = self.shape_.value_dim, at = j % block;
    for (index_t h = 0; h < self.shape_.heads; ++h) {
      auto* keys = self.block_of(b, h, j);
      auto* value = keys + block * K + at * self.value_row_;
      for (index_t k = 0; k < K; ++k) f(keys[k * block + at], *row++);
      for (index_t e = 0; e < E; ++e) f(value[e], *row++);
    }
  }
  [[nodiscard]] std::vector<unsigned char> kept(index_t b) const {
    std::vector<unsigned char> bytes;
    std::vector<S> row(static_cast<std::size_t>(row_numbers()));
    for (index_t j = first_needed(position(b)); j < position(b); ++j) {
      for_each_number(*this, b, j, row.begin(), [&](const C& x, S&) {
        const auto* p = reinterpret_cast<const unsigned char*>(&x);
        bytes.insert(bytes.end(), p, p + sizeof x);
      });
    }
    return bytes;
  }

  /// What the header of a record has no room for.
  [[nodiscard]] std::array<std::uint64_t, 4> fingerprint() const noexcept {
    const std::uint64_t storage = std::is_same_v<C, bf16> ? 1 : std::is_same_v<C, fp16> ? 2 : 0;
    return {static_cast<std::uint64_t>(shape_.key_dim),
            static_cast<std::uint64_t>(shape_.value_dim), static_cast<std::uint64_t>(shape_.window),
            storage};
  }
  [[nodiscard]] std::vector<S> blank() const {
    return std::vector<S>(static_cast<std::size_t>(
        4 * record::digits + batch() * (record::digits + slots() * row_numbers())));
  }
  [[nodiscard]] record::header header() const {
    record::header h;
    h.mixer = mixer_;
    h.number_size = sizeof(S);
    h.shape = {batch(), shape_.heads, is_ring() ? slots() : capacity()};
    return h;
  }

  const char* mixer_;
  attention_shape shape_;
  index_t value_row_ = 0, blocks_ = 0;
  aligned_vector<C> memory_;
  std::vector<progress> sequences_;
  scan::scratch<S> workspace_;
};

}  // namespace maslin::inline MASLIN_ABI
