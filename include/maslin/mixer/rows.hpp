// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the mixers of earlier rows share: their state, their checks, and the sum of one token.
/// Patterns are passed by value: most are empty, and a reference to an empty member of an aggregate
/// makes g++ 12 warn of memory that nobody wrote.

#include <maslin/pattern/history.hpp>
#include <maslin/scan/call.hpp>
#include <maslin/scan/solve.hpp>

#include <array>
#include <cmath>
#include <concepts>
#include <span>
#include <string>

namespace maslin::inline MASLIN_ABI {

/// Tokens that the state of a mixer of earlier rows has room for where nothing asks for another
/// number.
inline constexpr index_t default_capacity = 4096;

namespace rows {

/// Every token reads all rows before it: slot p of its coefficients belongs to position p.
template <class Pattern>
inline constexpr bool is_dense = std::same_as<Pattern, pattern::dense>;

/// Slots that `length` tokens of a sequence use.
template <pattern::any_pattern Pattern>
[[nodiscard]] index_t slots(Pattern p, index_t length) {
  return pattern::max_levels(p, length);
}

/// heads * per_head, refused where it does not fit.
[[nodiscard]] inline index_t width(const check::caller& who, std::array<index_t, 2> sizes) {
  index_t n = 0;
  if (__builtin_mul_overflow(sizes[0], sizes[1], &n))
    who.refuse("a row must fit in memory, got [H, E] = " + check::list(sizes));
  return n;
}

template <class State, pattern::any_pattern Pattern>
[[nodiscard]] State make_state(const check::caller& who, index_t batch, index_t width, Pattern p,
                               index_t capacity) {
  check::count(who, "batch", batch);
  check::count(who, "capacity", capacity);
  pattern::expect_valid(who, p, capacity);
  return State(who.mixer, batch, width, pattern::history<Pattern>(p, capacity));
}

/// Refuses a state of another shape or pattern, and tokens past its capacity. Returns the slots that
/// the coefficients of the call must have.
/// throws    shape_error
template <pattern::any_pattern Pattern, class State>
[[nodiscard]] index_t check_state(const check::caller& who, Pattern p, const State& h,
                                  std::span<const index_t> offsets, std::array<index_t, 2> tokens,
                                  index_t width, const std::string& name = "state") {
  const auto [B, T] = tokens;
  if (!offsets.empty()) check::packed(who, offsets, B, T);
  const index_t sequences = offsets.empty() ? B : static_cast<index_t>(offsets.size()) - 1;
  if (h.batch() != sequences || h.width() != width)
    who.refuse(name + " must be of B sequences and rows of H E numbers = " +
               check::list(std::array{sequences, width}) + ", got " +
               check::list(std::array{h.batch(), h.width()}));
  if (!h.made_for(p))
    who.refuse(name + " must be made by a mixer of this pattern, got another one");
  index_t needed = 0;
  for (index_t b = 0; b < sequences; ++b) {
    const auto at = static_cast<std::size_t>(b);
    const index_t length = offsets.empty() ? T : offsets[at + 1] - offsets[at];
    if (length > h.capacity() - h.position(b))
      who.refuse("tokens must fit in the " + name + "'s capacity of " +
                 std::to_string(h.capacity()) + ", got " + std::to_string(length) +
                 " after position " + std::to_string(h.position(b)));
    if (length > 0)
      needed = std::max(needed, h.history(b).levels().levels(h.position(b) + length - 1));
  }
  return needed;
}

/// Checks coefficients [B, T, H, S] of any S >= `needed`.
/// throws    shape_error
template <class S>
check::footprint check_past(const check::caller& who, const view<const S, 4>& past,
                            std::array<index_t, 3> wanted, index_t needed) {
  const auto [B, T, H] = wanted;
  const index_t given = past.extent(3);
  if (B != 0 && T != 0 && H != 0 && given < needed)
    who.refuse("past must be [B, T, H, S] with S of at least " + std::to_string(needed) + ", got " +
               check::list(past.extents()));
  return check::layout<const S, 4>(who, "past", "[B, T, H, S]", past, {B, T, H, given}, 2);
}

/// Inputs and outputs of one sequence, for kernels.
template <class S>
struct values {
  const S* input;
  S* out;
  index_t E;
  index_t input_batch, input_time, input_head, out_batch, out_time, out_head;

  [[nodiscard]] values shifted(index_t b, index_t t) const noexcept {
    values v = *this;
    v.input += b * input_batch + t * input_time;
    v.out += b * out_batch + t * out_time;
    return v;
  }

  /// Channels e .. e + count - 1 of one head of token t: y = own x + the sum of weighted rows, which
  /// reads(add) names by add(offset, weight), farthest first. keep<V>(x, y) is the row that later
  /// tokens read; it goes to offset `newest`.
  template <class V, class Reads, class Keep>
  void mix(index_t t, index_t h, index_t e, index_t count, S* row, index_t newest, S own,
           const Reads& reads, const Keep& keep) const noexcept {
    const S* x = input + t * input_time + h * input_head + e;
    S* y = out + t * out_time + h * out_head + e;
    S* column = row + h * E + e;
    const V alpha = lane<V>::broadcast(own);
    scan::for_each_piece<V, 8, 4, 1>(
        count, [&]<int C>(std::integral_constant<int, C>, index_t c, auto n) {
          V sum[static_cast<std::size_t>(C)];
          scan::load_piece(sum, x + c, n);
          each<C>([&](int i) { sum[i] = alpha * sum[i]; });
          scan::add_rows(sum, n, [&](const auto& add) {
            reads([&](index_t offset, S weight) { add(column + offset + c, weight); });
          });
          // The input is read again rather than held: the sums fill the registers. y may be input.
          V kept[static_cast<std::size_t>(C)];
          scan::load_piece(kept, x + c, n);
          each<C>([&](int i) { kept[i] = keep(kept[i], sum[i]); });
          scan::store_piece(column + newest + c, kept, n);
          scan::store_piece(y + c, sum, n);
        });
  }
};

/// Listed reads for `values::mix`, weight(i) that of reads[i].
template <class Weight>
[[nodiscard]] auto weighted(std::span<const scan::row_read> reads, const Weight& weight) noexcept {
  return [=](const auto& add) {
    const scan::row_read* const read = reads.data();
    const auto count = static_cast<index_t>(reads.size());
    for (index_t i = 0; i < count; ++i) add(read[i].offset, weight(i));
  };
}

/// What a mixer keeps of a token where later tokens read y itself.
struct keep_output {
  template <class V>
  [[nodiscard]] V operator()(V, V y) const noexcept {
    return y;
  }
};

/// Checks input and y against each other and the state; the coefficients have been checked and
/// touch `read`. Returns where the values lie.
/// throws    shape_error
template <class S, class State, std::size_t N>
[[nodiscard]] values<S> check_values(
    const check::caller& who, const view<const S, 4>& input, const view<S, 4>& y,
    std::array<index_t, 4> wanted, const State& h,
    const std::array<std::pair<const char*, check::footprint>, N>& read) {
  const auto in = check::layout<const S, 4>(who, "input", "[B, T, H, E]", input, wanted, 2);
  const auto out = check::layout<S, 4>(who, "y", "[B, T, H, E]", y, wanted, 2);
  check::writable(who, "y", out);
  if (!check::same(input, y)) check::disjoint(who, "y", out, "input", in);
  for (const auto& [name, memory] : read) check::disjoint(who, "y", out, name, memory);
  check::disjoint(who, "y", out, "state", h.memory());
  return {.input = input.data_handle(),
          .out = y.data_handle(),
          .E = wanted[3],
          .input_batch = input.stride(0),
          .input_time = input.stride(1),
          .input_head = input.stride(2),
          .out_batch = y.stride(0),
          .out_time = y.stride(1),
          .out_head = y.stride(2)};
}

}  // namespace rows

}  // namespace maslin::inline MASLIN_ABI
