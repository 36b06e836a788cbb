// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// `view`: a pointer, extents and strides, with the names of `std::mdspan`. It is a class of our
/// own because a view one rank short must convert (its batch extent is then 1), which mdspan cannot
/// do.

#include <maslin/core/types.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace maslin::inline MASLIN_ABI {

/// A non-owning view of an array of any strides, counted in elements.
///   v(i, j, ...) = data_handle()[i * stride(0) + j * stride(1) + ...]
/// `view<S, R>` converts to `view<const S, R>`, never back; `view<S, R - 1>` converts to
/// `view<S, R>` with a leading extent of 1, the batch axis.
template <class S, int Rank>
class view {
  static_assert(Rank >= 1, "a view has at least one axis");

 public:
  using element_type = S;
  using value_type = std::remove_cv_t<S>;
  using shape = std::array<index_t, static_cast<std::size_t>(Rank)>;

  /// An empty view: null, all extents 0.
  constexpr view() noexcept = default;
  constexpr view(S* data, const shape& extents, const shape& strides) noexcept
      : data_(data), extents_(extents), strides_(strides) {}

  template <class U>
    requires(std::same_as<const U, S> && !std::same_as<U, S>)
  constexpr view(const view<U, Rank>& other) noexcept
      : data_(other.data_handle()), extents_(other.extents()), strides_(other.strides()) {}

  template <class U>
    requires(Rank > 1 && (std::same_as<U, S> || std::same_as<const U, S>))
  constexpr view(const view<U, Rank - 1>& other) noexcept : data_(other.data_handle()) {
    extents_[0] = 1;
    strides_[0] = 1;
    for (int r = 1; r < Rank; ++r) {
      extents_[at(r)] = other.extent(r - 1);
      strides_[at(r)] = other.stride(r - 1);
    }
    // The stride of an axis of extent 1 is never used; a batch of the whole span is the tidy
    // choice.
    if (extents_[1] > 0) strides_[0] = strides_[1] * extents_[1];
  }

  [[nodiscard]] static constexpr int rank() noexcept { return Rank; }
  [[nodiscard]] constexpr S* data_handle() const noexcept { return data_; }
  [[nodiscard]] constexpr index_t extent(int r) const noexcept { return extents_[at(r)]; }
  [[nodiscard]] constexpr index_t stride(int r) const noexcept { return strides_[at(r)]; }
  [[nodiscard]] constexpr const shape& extents() const noexcept { return extents_; }
  [[nodiscard]] constexpr const shape& strides() const noexcept { return strides_; }
  /// Number of elements.
  [[nodiscard]] constexpr index_t size() const noexcept {
    index_t n = 1;
    for (index_t e : extents_) n *= e;
    return n;
  }
  /// True if an extent is 0: their product may wrap around.
  [[nodiscard]] constexpr bool empty() const noexcept {
    for (index_t e : extents_)
      if (e == 0) return true;
    return false;
  }

  template <class... I>
    requires(sizeof...(I) == Rank && (std::convertible_to<I, index_t> && ...))
  [[nodiscard]] constexpr S& operator()(I... i) const noexcept {
    const shape position{static_cast<index_t>(i)...};
    index_t offset = 0;
    for (int r = 0; r < Rank; ++r) offset += position[at(r)] * strides_[at(r)];
    return data_[offset];
  }

 private:
  static constexpr std::size_t at(int r) noexcept { return static_cast<std::size_t>(r); }

  S* data_ = nullptr;
  shape extents_{};
  shape strides_{};
};

/// A view with any strides (in elements).
template <class S, std::size_t Rank>
[[nodiscard]] constexpr auto strided(S* data, const std::array<index_t, Rank>& extents,
                                     const std::array<index_t, Rank>& strides) noexcept {
  return view<S, static_cast<int>(Rank)>(data, extents, strides);
}

/// A view of a dense array, last axis fastest.
template <class S, std::convertible_to<index_t>... E>
[[nodiscard]] constexpr auto row_major(S* data, E... extents) noexcept {
  constexpr std::size_t rank = sizeof...(E);
  const std::array<index_t, rank> shape{static_cast<index_t>(extents)...};
  std::array<index_t, rank> strides{};
  index_t stride = 1;
  for (std::size_t r = rank; r-- > 0;) {
    strides[r] = stride;
    // Saturates: an absurd extent must reach the shape check, not wrap around on the way.
    if (shape[r] > 1 && __builtin_mul_overflow(stride, shape[r], &stride)) stride = PTRDIFF_MAX;
  }
  return view<S, static_cast<int>(rank)>(data, shape, strides);
}

/// `v` without axis `axis`, at position `i` of it; neither is checked.
template <class S, int Rank>
  requires(Rank > 1)
[[nodiscard]] constexpr view<S, Rank - 1> slice(const view<S, Rank>& v, int axis,
                                                index_t i) noexcept {
  typename view<S, Rank - 1>::shape extents{}, strides{};
  for (int r = 0, out = 0; r < Rank; ++r) {
    if (r == axis) continue;
    extents[static_cast<std::size_t>(out)] = v.extent(r);
    strides[static_cast<std::size_t>(out)] = v.stride(r);
    ++out;
  }
  S* data = v.data_handle();
  return {data == nullptr ? data : data + i * v.stride(axis), extents, strides};
}

/// Token t of a view [B, T, ...]: a view [B, ...]. Positions are not checked, here and below.
template <class S, int Rank>
[[nodiscard]] constexpr view<S, Rank - 1> time_at(const view<S, Rank>& v, index_t t) noexcept {
  return slice(v, 1, t);
}

/// Tokens begin .. end - 1 of a view [B, T, ...]: a view [B, end - begin, ...].
template <class S, int Rank>
  requires(Rank > 1)
[[nodiscard]] constexpr view<S, Rank> time_range(const view<S, Rank>& v, index_t begin,
                                                 index_t end) noexcept {
  auto extents = v.extents();
  extents[1] = end - begin;
  S* data = v.data_handle();
  return {data == nullptr ? data : data + begin * v.stride(1), extents, v.strides()};
}

/// A view [B, ...] of one token as a view [B, 1, ...] of a span of one.
template <class S, int Rank>
[[nodiscard]] constexpr view<S, Rank + 1> with_time(const view<S, Rank>& v) noexcept {
  typename view<S, Rank + 1>::shape extents{}, strides{};
  for (int r = 0, in = 0; r <= Rank; ++r) {
    extents[static_cast<std::size_t>(r)] = r == 1 ? 1 : v.extent(in);
    strides[static_cast<std::size_t>(r)] = r == 1 ? 1 : v.stride(in);
    if (r != 1) ++in;
  }
  return {v.data_handle(), extents, strides};
}

}  // namespace maslin::inline MASLIN_ABI
