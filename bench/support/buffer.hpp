// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Memory of the benchmarks. Every contender reads and writes the same buffers, 2 MiB aligned and
/// on huge pages where the system grants them, so that no row wins by luck of the allocator.

#include <maslin/core/aligned.hpp>
#include <maslin/core/types.hpp>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace bench {

using maslin::index_t;

namespace detail {

/// Memory that was used before is used again: fresh pages cost more to make than most kernels to
/// run.
class pool {
 public:
  struct block {
    void* memory = nullptr;
    std::size_t bytes = 0;
  };
  static constexpr std::size_t alignment = maslin::large_page;

  [[nodiscard]] static pool& instance() {
    static pool shared;
    return shared;
  }

  [[nodiscard]] block take(std::size_t wanted) {
    const std::size_t bytes = (wanted + alignment - 1) / alignment * alignment;
    auto best = free_.end();
    for (auto i = free_.begin(); i != free_.end(); ++i)
      if (i->bytes >= bytes && i->bytes <= 2 * bytes &&
          (best == free_.end() || i->bytes < best->bytes))
        best = i;
    if (best != free_.end()) {
      const block found = *best;
      free_.erase(best);
      return found;
    }
    void* memory = std::aligned_alloc(alignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    maslin::detail::advise_large_pages(memory, bytes);
    return {memory, bytes};
  }
  void give(const block& b) { free_.push_back(b); }

  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

 private:
  pool() = default;
  ~pool() {
    for (const auto& b : free_) std::free(b.memory);
  }
  std::vector<block> free_;
};

}  // namespace detail

/// `count` floats, zeroed, 2 MiB aligned. Movable, not copyable.
class buffer {
 public:
  buffer() = default;
  explicit buffer(index_t count) : count_(count) {
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    if (bytes == 0) return;
    block_ = detail::pool::instance().take(bytes);
    std::memset(block_.memory, 0, bytes);
  }
  buffer(buffer&& other) noexcept
      : block_(std::exchange(other.block_, {})), count_(std::exchange(other.count_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(block_, other.block_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~buffer() {
    if (block_.memory != nullptr) detail::pool::instance().give(block_);
  }

  [[nodiscard]] float* data() const noexcept { return static_cast<float*>(block_.memory); }
  [[nodiscard]] index_t size() const noexcept { return count_; }
  [[nodiscard]] float& operator[](index_t i) const noexcept { return data()[i]; }

 private:
  detail::pool::block block_;
  index_t count_ = 0;
};

}  // namespace bench
