// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/aligned.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>

#include <cstdio>
#include <fstream>
#endif

namespace {

using maslin::aligned_vector;
using maslin::large_page;

std::size_t past(const void* p, std::size_t boundary) {
  return reinterpret_cast<std::uintptr_t>(p) % boundary;
}

#if defined(__linux__) && defined(MADV_HUGEPAGE)

/// Whole large pages between others that nobody may touch, so that the system counts them alone.
class mapping {
 public:
  explicit mapping(std::size_t bytes) : bytes_(bytes), taken_(bytes + 2 * large_page) {
    void* const p = ::mmap(nullptr, taken_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    from_ = static_cast<char*>(p);
    REQUIRE(::mprotect(data(), bytes_, PROT_READ | PROT_WRITE) == 0);
  }
  ~mapping() { ::munmap(from_, taken_); }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;

  [[nodiscard]] char* data() const { return from_ + (large_page - past(from_, large_page)); }
  void touch() const {
    for (std::size_t i = 0; i < bytes_; i += 4096) data()[i] = 1;
  }
  /// Bytes that lie in large pages, as the system counts them.
  [[nodiscard]] std::size_t large() const {
    std::ifstream maps("/proc/self/smaps");
    const auto begin = reinterpret_cast<std::uintptr_t>(data());
    std::size_t found = 0;
    bool within = false;
    for (std::string line; std::getline(maps, line);) {
      unsigned long from = 0, to = 0, kib = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
        within = from < begin + bytes_ && to > begin;
      else if (within && std::sscanf(line.c_str(), "AnonHugePages: %lu", &kib) == 1)
        found += kib << 10;
    }
    return found;
  }

 private:
  std::size_t bytes_, taken_;
  char* from_;
};

#endif

}  // namespace

TEST_CASE("memory begins at a line, and much of it at a large page", "[core][aligned]") {
  using bytes = maslin::aligned_allocator<char>;
  STATIC_REQUIRE_FALSE(bytes::is_large(2 * large_page - 1));
  STATIC_REQUIRE(bytes::is_large(2 * large_page));
  STATIC_REQUIRE(maslin::aligned_allocator<double>::is_large(2 * large_page / sizeof(double)));
  for (const std::size_t n : {std::size_t{1}, std::size_t{63}, large_page, 2 * large_page - 1}) {
    const aligned_vector<char> some(n);
    CHECK(past(some.data(), 64) == 0);
  }
  for (const std::size_t n : {2 * large_page, 2 * large_page + 1, 3 * large_page - 1}) {
    const aligned_vector<char> much(n);
    CHECK(past(much.data(), large_page) == 0);
  }
}

TEST_CASE("what a large vector grows by leaves its numbers alone", "[core][aligned]") {
  aligned_vector<std::uint32_t> numbers;
  const std::size_t n = 5 * large_page / sizeof(std::uint32_t);
  for (std::size_t i = 0; i < n; ++i) numbers.push_back(static_cast<std::uint32_t>(i));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) wrong += numbers[i] != i;
  CHECK(wrong == 0);
}

#if defined(__linux__) && defined(MADV_HUGEPAGE)

TEST_CASE("memory that was used before gets large pages too", "[core][aligned]") {
  constexpr std::size_t bytes = 4 * large_page;
  const mapping fresh(bytes), used(bytes);
  maslin::detail::advise_large_pages(fresh.data(), bytes);
  fresh.touch();
  if (fresh.large() != bytes) {
    WARN("no large pages here: " << fresh.large() << " of " << bytes << " bytes");
    return;
  }
  REQUIRE(::madvise(used.data(), bytes, MADV_NOHUGEPAGE) == 0);
  used.touch();
  REQUIRE(used.large() == 0);
  maslin::detail::advise_large_pages(used.data(), bytes);
  used.touch();
  CHECK(used.large() == bytes);
}

TEST_CASE("bytes after the last whole large page are left as they are", "[core][aligned]") {
  const mapping used(4 * large_page);
  used.touch();
  maslin::detail::advise_large_pages(used.data(), 3 * large_page - 1);
  CHECK(used.data()[2 * large_page] == 1);
  CHECK(used.data()[3 * large_page] == 1);
}

#endif
