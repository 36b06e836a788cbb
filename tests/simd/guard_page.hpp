// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/types.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>

namespace maslin::test {

/// Memory between two pages that may not be touched: one number too far ends the program.
class guarded {
 public:
  explicit guarded(std::size_t bytes) : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    size_ = (bytes + page_ - 1) / page_ * page_;
    void* all = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw std::runtime_error("mmap failed");
    begin_ = static_cast<char*>(all) + page_;
    if (mprotect(begin_, size_, PROT_READ | PROT_WRITE) != 0)
      throw std::runtime_error("mprotect failed");
  }
  guarded(const guarded&) = delete;
  guarded& operator=(const guarded&) = delete;
  ~guarded() { munmap(begin_ - page_, size_ + 2 * page_); }

  /// The first bytes after the guard in front.
  template <class S>
  [[nodiscard]] S* front() const {
    return reinterpret_cast<S*>(begin_);
  }
  /// The last `count` numbers before the guard behind.
  template <class S>
  [[nodiscard]] S* back(index_t count) const {
    return reinterpret_cast<S*>(begin_ + size_) - count;
  }

 private:
  std::size_t page_, size_ = 0;
  char* begin_ = nullptr;
};

}  // namespace maslin::test
