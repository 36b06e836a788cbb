// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The checks that mixers with a matrix state have in common, and views of heads as kernels read
/// them.

#include <maslin/core/check.hpp>
#include <maslin/scan/heads.hpp>

#include <cmath>
#include <optional>
#include <string>

namespace maslin::inline MASLIN_ABI::heads {

/// Refuses sizes and a scale that make no sense.
template <class S>
void check_sizes(const check::caller& who, index_t heads, index_t key_dim, index_t value_dim,
                 const std::optional<S>& scale) {
  check::count(who, "heads", heads);
  const auto positive = [&](const char* name, index_t n) {
    if (n < 1) who.refuse(std::string(name) + " must be 1 or more, got " + std::to_string(n));
  };
  positive("key_dim", key_dim);
  positive("value_dim", value_dim);
  if (scale && !(*scale > 0 && std::isfinite(*scale)))
    who.refuse("scale must be positive and finite, got " + std::to_string(*scale));
}

/// scale, or K^-1/2.
template <class S>
[[nodiscard]] S scale_of(const std::optional<S>& scale, index_t key_dim) {
  return scale ? *scale : S(1) / std::sqrt(static_cast<S>(key_dim));
}

/// Refuses a number of heads that does not divide that of the state.
inline void check_divides(const check::caller& who, const char* name, index_t own, index_t H) {
  if (own < 0 || (own == 0 ? H != 0 : H % own != 0))
    who.refuse(std::string(name) + " must have heads that divide heads = " + std::to_string(H) +
               ", got " + std::to_string(own));
}

/// An array [B, T, H', width] whose heads divide those of the state; `axes` names them.
template <class S>
check::footprint check_shared(const check::caller& who, const char* name, const char* axes,
                              const view<S, 4>& v, index_t B, index_t T, index_t H, index_t width) {
  check_divides(who, name, v.extent(2), H);
  return check::layout<S, 4>(who, name, axes, v, {B, T, v.extent(2), width}, 2);
}
/// An array [B, T, R, H', width] likewise.
template <class S>
check::footprint check_shared(const check::caller& who, const char* name, const char* axes,
                              const view<S, 5>& v, index_t B, index_t T, index_t R, index_t H,
                              index_t width) {
  check_divides(who, name, v.extent(3), H);
  return check::layout<S, 5>(who, name, axes, v, {B, T, R, v.extent(3), width}, 2);
}

/// The heads of an array whose last axes are H' and a width, each for as many of the H heads of the
/// state as have it in common.
template <class S, int Rank>
[[nodiscard]] scan::head_rows<S> shared_rows(const view<S, Rank>& v, index_t H) noexcept {
  const index_t own = v.extent(Rank - 2);
  return {scan::token_rows<S>::of(v), own > 1 ? v.stride(Rank - 2) : 0, own > 0 ? H / own : 1};
}

/// The heads of an array that all have their own, along `axis`.
template <class S, int Rank>
[[nodiscard]] scan::head_rows<S> rows_of(const view<S, Rank>& v, int axis) noexcept {
  return {scan::token_rows<S>::of(v), v.stride(axis), 1};
}

/// Refuses inputs that share memory with an output.
class inputs {
 public:
  inputs(const check::caller& who, const check::footprint& out) : who_(who), out_(out) {}
  void add(const char* name, const check::footprint& in) const {
    check::disjoint(who_, "y", out_, name, in);
  }

 private:
  const check::caller& who_;
  const check::footprint& out_;
};

/// Refuses an output in the memory of what a scan keeps.
template <class S, class Saved>
void check_saved(const check::caller& who, const view<S, 4>& y, const Saved& keep) {
  const auto out = check::layout<S, 4>(who, "y", "[B, T, H, E]", y, y.extents(), 2);
  check::disjoint(who, "y", out, "saved", keep.memory());
}

}  // namespace maslin::inline MASLIN_ABI::heads
