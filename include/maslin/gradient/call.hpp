// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What every backward call checks and how it writes: gradients may be left out, must keep apart
/// from all that is read and from each other, and are overwritten or added to, through the cache or past
/// it.

#include <maslin/core/check.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <utility>

namespace maslin::inline MASLIN_ABI::gradient {

/// The memory of one call. Arrays that are read come first.
class memory_of_call {
 public:
  explicit memory_of_call(const check::caller& who) : who_(who) {}

  /// An array that the call reads.
  void reads(const char* name, const check::footprint& where) { add(name, where); }
  /// An array that the call writes: its rows must not fold onto each other, nor share a byte with an
  /// array named before.
  /// throws    shape_error
  void writes(const char* name, const check::footprint& where) {
    check::writable(who_, name, where);
    for (std::size_t i = 0; i < count_; ++i)
      check::disjoint(who_, name, where, arrays_[i].first, arrays_[i].second);
    add(name, where);
  }

  /// Reads an array of tokens, checked as `check::layout` does.
  template <class S, int Rank>
  void reads(const char* name, const char* axes, const view<const S, Rank>& v,
             const std::array<index_t, static_cast<std::size_t>(Rank)>& wanted, int outer = 2) {
    reads(name, check::layout<const S, Rank>(who_, name, axes, v, wanted, outer));
  }
  /// Writes a gradient. One whose pointer is null is not wanted, and false is returned.
  template <class S, int Rank>
  bool writes(const char* name, const char* axes, const view<S, Rank>& v,
              const std::array<index_t, static_cast<std::size_t>(Rank)>& wanted, int outer = 2) {
    if (v.data_handle() == nullptr) return false;
    writes(name, check::layout<S, Rank>(who_, name, axes, v, wanted, outer));
    return true;
  }

 private:
  void add(const char* name, const check::footprint& where) { arrays_[count_++] = {name, where}; }

  static constexpr std::size_t limit = 32;
  const check::caller& who_;
  std::array<std::pair<const char*, check::footprint>, limit> arrays_{};
  std::size_t count_ = 0;
};

/// True if a call that moves `bytes` writes past the cache.
[[nodiscard]] inline bool streams(const exec::scalar&, index_t) noexcept { return false; }
[[nodiscard]] inline bool streams(const exec::sequential& policy, index_t bytes) noexcept {
  return policy.store == exec::stores::streaming ||
         (policy.store == exec::stores::automatic && bytes >= exec::streaming_bytes);
}
template <class Policy>
  requires(std::same_as<Policy, exec::chunked> || std::same_as<Policy, exec::automatic>)
[[nodiscard]] bool streams(const Policy&, index_t bytes) noexcept {
  return bytes >= exec::streaming_bytes;
}
template <class Executor, class Policy>
[[nodiscard]] bool streams(const exec::bound_policy<Executor, Policy>& bound,
                           index_t bytes) noexcept {
  return streams(bound.policy, bytes);
}

/// Writes a gradient, or adds it to what is there.
template <class V, class S, class N>
inline void store(S* to, V x, N n, bool accumulate) noexcept {
  // By fma, since x may be a product, which a compiler would contract with a sum.
  if (accumulate) x = lane<V>::fma(lane<V>::broadcast(S(1)), x, lane<V>::load(to, n));
  lane<V>::store(to, x, n);
}

}  // namespace maslin::inline MASLIN_ABI::gradient
