// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The checks of a call: shapes, strides, null, alignment, overflow and overlap of its views. Each
/// answers with a `shape_error` that names the function, the argument, what was wanted and what
/// came.

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>

namespace maslin::inline MASLIN_ABI::check {

/// "[2, 1024, 60]"
template <class Numbers>
[[nodiscard]] inline std::string list(const Numbers& numbers) {
  std::string text = "[";
  for (const auto n : numbers) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(n);
  }
  return text + "]";
}

/// Who is asking, for messages: a function, and the mixer that it belongs to, if any.
struct caller {
  const char* mixer;
  const char* function;

  [[noreturn]] void refuse(const std::string& what) const {
    const std::string owner = *mixer == '\0' ? "" : std::string(mixer) + "::";
    raise<shape_error>(owner + function + ": " + what);
  }
};

/// A number of `name` that must not be negative.
inline void count(const caller& who, const char* name, index_t n) {
  if (n < 0) who.refuse(std::string(name) + " must be 0 or more, got " + std::to_string(n));
}

/// The memory that a view may touch, for overlap tests.
struct footprint {
  std::uintptr_t begin = 0, end = 0;  // bytes, end exclusive; equal when nothing is touched
  index_t row = 0;                    // bytes that one (batch, time) row spans
  index_t outer[2] = {0, 0};          // strides of batch and time in bytes
  index_t extent[2] = {1, 1};
};

/// The footprint of numbers that lie side by side, a vector of them.
template <class Numbers>
[[nodiscard]] footprint footprint_of(const Numbers& numbers) noexcept {
  footprint f;
  f.begin = reinterpret_cast<std::uintptr_t>(numbers.data());
  f.row = static_cast<index_t>(numbers.size() * sizeof(*numbers.data()));
  f.end = f.begin + static_cast<std::uintptr_t>(f.row);
  return f;
}

/// Checks that a view has the wanted extents and a layout that kernels take: last axis unit stride,
/// inner axes dense enough not to fold onto themselves, `outer` leading axes (batch, or batch and
/// time) with any stride of at least a row. Returns what it touches.
/// `axes` names the wanted shape, such as "[B, T, D]".
template <class S, int Rank>
footprint layout(const caller& who, const char* name, const char* axes, const view<S, Rank>& v,
                 const std::array<index_t, static_cast<std::size_t>(Rank)>& wanted, int outer) {
  const auto explain = [&](const std::string& got) {
    who.refuse(std::string(name) + " must be " + axes + " = " + list(wanted) + ", got " + got);
  };
  bool as_wanted = true, negative = false;
  for (int r = 0; r < Rank; ++r) {
    const index_t e = wanted[static_cast<std::size_t>(r)];
    as_wanted &= v.extent(r) == e;
    negative |= e < 0;
  }
  if (!as_wanted) explain(list(v.extents()));
  if (negative) explain("a negative extent");
  if (v.empty()) return {};
  if (v.data_handle() == nullptr) explain("a null pointer");

  const auto address = reinterpret_cast<std::uintptr_t>(v.data_handle());
  const auto refuse_layout = [&](const std::string& what) {
    who.refuse(std::string(name) + " " + axes + " = " + list(wanted) + " must have " + what +
               ", got strides " + list(v.strides()));
  };
  if (address % alignof(S) != 0)
    who.refuse(std::string(name) + " must be aligned to " + std::to_string(alignof(S)) +
               " bytes, got an address " + std::to_string(address % alignof(S)) + " past it");

  // Strides of axes of extent 1 are never used.
  index_t span = 1;  // elements from the first to the last of a row, inner axes only
  for (int r = Rank - 1; r >= outer; --r) {
    if (v.extent(r) == 1) continue;
    if (r == Rank - 1 && v.stride(r) != 1) refuse_layout("unit stride on its last axis");
    if (v.stride(r) < span)
      refuse_layout("inner strides that do not fold (axis " + std::to_string(r) +
                    " needs at least " + std::to_string(span) + ")");
    index_t reach = 0;
    if (__builtin_mul_overflow(v.extent(r) - 1, v.stride(r), &reach) ||
        __builtin_add_overflow(span, reach, &span))
      refuse_layout("a size that fits in memory");
  }
  footprint f;
  index_t last = span;
  for (int r = 0; r < outer; ++r) {
    f.extent[r] = v.extent(r);
    if (v.extent(r) == 1) continue;
    if (v.stride(r) < span)
      refuse_layout("strides of at least a row of " + std::to_string(span) + " on its first " +
                    std::to_string(outer) + " axes");
    index_t reach = 0;
    if (__builtin_mul_overflow(v.extent(r) - 1, v.stride(r), &reach) ||
        __builtin_add_overflow(last, reach, &last))
      refuse_layout("a size that fits in memory");
  }
  const auto bytes = static_cast<index_t>(sizeof(S));
  if (last > std::numeric_limits<index_t>::max() / bytes)
    refuse_layout("a size that fits in memory");
  for (int r = 0; r < outer; ++r) f.outer[r] = v.extent(r) == 1 ? 0 : v.stride(r) * bytes;
  f.row = span * bytes;
  f.begin = address;
  f.end = address + static_cast<std::uintptr_t>(last * bytes);
  return f;
}

/// True if the rows of one output may fall onto each other.
[[nodiscard]] inline bool folds(const footprint& f) {
  if (f.extent[0] == 1 || f.extent[1] == 1) return false;
  const index_t fast = std::min(f.outer[0], f.outer[1]), slow = std::max(f.outer[0], f.outer[1]);
  const index_t fast_extent = f.outer[0] <= f.outer[1] ? f.extent[0] : f.extent[1];
  return slow < fast * (fast_extent - 1) + f.row;
}

/// True if two views may share a byte. Exact where both step through memory with one common period
/// (slices of one buffer); elsewhere it errs on the safe side.
[[nodiscard]] inline bool overlap(const footprint& a, const footprint& b) {
  if (a.begin == a.end || b.begin == b.end) return false;
  if (a.end <= b.begin || b.end <= a.begin) return false;
  // The smallest stride in use is the period; every other stride must be a multiple of it.
  index_t period = 0;
  for (const footprint* f : {&a, &b})
    for (const index_t s : f->outer)
      if (s != 0) period = period == 0 ? s : std::min(period, s);
  if (period == 0) return true;
  for (const footprint* f : {&a, &b})
    for (const index_t s : f->outer)
      if (s % period != 0) return true;
  const index_t distance =
      b.begin >= a.begin ? static_cast<index_t>(b.begin - a.begin) % period
                         : (period - static_cast<index_t>(a.begin - b.begin) % period) % period;
  return distance < a.row || period - distance < b.row;
}

/// Refuses an output whose rows fall onto each other.
inline void writable(const caller& who, const char* name, const footprint& f) {
  if (folds(f))
    who.refuse(std::string(name) +
               " must have batch and time strides that keep its rows apart, got rows that overlap");
}

/// Refuses an output that shares memory with another argument.
inline void disjoint(const caller& who, const char* name, const footprint& out, const char* other,
                     const footprint& in) {
  if (overlap(out, in))
    who.refuse(std::string(name) + " must not overlap " + other + ", got memory that does");
}

/// True if two views are the same elements in the same places: an operation in place.
template <class A, class B, int Rank>
[[nodiscard]] bool same(const view<A, Rank>& a, const view<B, Rank>& b) {
  if (a.data_handle() != b.data_handle() || a.extents() != b.extents()) return false;
  for (int r = 0; r < Rank; ++r)
    if (a.extent(r) > 1 && a.stride(r) != b.stride(r)) return false;
  return true;
}

/// Checks offsets of packed sequences: not decreasing, from 0 to the number of tokens.
template <class Offsets>
void packed(const caller& who, const Offsets& offsets, index_t batch, index_t tokens) {
  if (batch != 1)
    who.refuse("tokens with offsets are one packed sequence: B must be 1, got " +
               std::to_string(batch));
  const auto explain = [&](const std::string& got) {
    who.refuse("offsets must not decrease, from 0 to T = " + std::to_string(tokens) + ", got " +
               got);
  };
  if (offsets.front() != 0) explain("a first offset of " + std::to_string(offsets.front()));
  for (std::size_t i = 1; i < offsets.size(); ++i)
    if (offsets[i] < offsets[i - 1])
      explain(std::to_string(offsets[i - 1]) + " followed by " + std::to_string(offsets[i]));
  if (offsets.back() != tokens) explain("a last offset of " + std::to_string(offsets.back()));
}

}  // namespace maslin::inline MASLIN_ABI::check
