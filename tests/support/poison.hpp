// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace maslin::test {

/// A signalling NaN of a known payload: read into a result it spoils it, overwritten it is missed.
template <std::floating_point S>
struct poison {
  using word = std::conditional_t<std::same_as<S, float>, std::uint32_t, std::uint64_t>;
  static constexpr word bits =
      std::same_as<S, float> ? word(0x7f80deadu) : word(0x7ff000000000deadull);

  static void fill(std::span<S> out) {
    const word pattern = bits;
    for (S& x : out) std::memcpy(&x, &pattern, sizeof(S));
  }
  [[nodiscard]] static bool is(const S& x) {
    word pattern;
    std::memcpy(&pattern, &x, sizeof(S));
    return pattern == bits;
  }
};

/// An array of any strides inside poisoned memory: guard bands before and after, and `gaps[r]`
/// elements behind every position of axis r (a strided batch or time axis). Everything, elements
/// included, is poison until written.
template <std::floating_point S, int Rank>
class poisoned {
 public:
  using shape = std::array<index_t, static_cast<std::size_t>(Rank)>;
  static constexpr index_t guard = 64;

  explicit poisoned(const shape& extents, const shape& gaps = {}) : extents_(extents) {
    index_t stride = 1;
    for (std::size_t r = Rank; r-- > 0;) {
      strides_[r] = stride + gaps[r];
      stride = strides_[r] * extents_[r];
    }
    memory_.resize(static_cast<std::size_t>(stride + 2 * guard));
    reset();
  }

  /// Poisons every element again.
  void reset() { poison<S>::fill(memory_); }

  [[nodiscard]] view<S, Rank> get() {
    return view<S, Rank>(memory_.data() + guard, extents_, strides_);
  }
  [[nodiscard]] view<const S, Rank> get() const {
    return view<const S, Rank>(memory_.data() + guard, extents_, strides_);
  }

  /// Calls f(element) for each element, last axis fastest.
  template <class F>
  void each(F&& f) {
    for (const index_t offset : offsets()) f(memory_[static_cast<std::size_t>(guard + offset)]);
  }
  /// Elements in row-major order.
  [[nodiscard]] std::vector<S> values() const {
    std::vector<S> out;
    for (const index_t offset : offsets()) {
      out.push_back(memory_[static_cast<std::size_t>(guard + offset)]);
    }
    return out;
  }
  /// Writes elements from row-major order.
  template <class U>
  void assign(std::span<const U> from) {
    std::size_t i = 0;
    each([&](S& x) { x = static_cast<S>(from[i++]); });
  }

  /// True while all memory that is not an element is still poison.
  [[nodiscard]] bool intact() const {
    std::vector<bool> element(memory_.size(), false);
    for (const index_t offset : offsets()) element[static_cast<std::size_t>(guard + offset)] = true;
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (!element[i] && !poison<S>::is(memory_[i])) return false;
    }
    return true;
  }
  /// True while no element has been written: what a refused call must leave behind.
  [[nodiscard]] bool untouched() const {
    for (const S& x : memory_) {
      if (!poison<S>::is(x)) return false;
    }
    return true;
  }

 private:
  [[nodiscard]] std::vector<index_t> offsets() const {
    std::vector<index_t> all{0};
    for (std::size_t r = 0; r < Rank; ++r) {
      std::vector<index_t> finer;
      finer.reserve(all.size() * static_cast<std::size_t>(extents_[r]));
      for (const index_t base : all) {
        for (index_t i = 0; i < extents_[r]; ++i) finer.push_back(base + i * strides_[r]);
      }
      all = std::move(finer);
    }
    return all;
  }

  shape extents_{};
  shape strides_{};
  std::vector<S> memory_;
};

}  // namespace maslin::test
