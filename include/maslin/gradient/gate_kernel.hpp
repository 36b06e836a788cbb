// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a walk backwards over gate rows reads, whether its channels are numbers or blocks.

#include <maslin/gradient/reverse.hpp>
#include <maslin/mixer/layout.hpp>

namespace maslin::inline MASLIN_ABI::gradient {

/// A kernel whose gradients are those of gates and of input, in this order. `Kernel` is the class
/// that derives from this, `Forward` the kernel of the scan, whose gates are read again.
template <class Kernel, class S, gates Order, class Forward>
struct gate_kernel : reverse_kernel<Kernel, S, 2> {
  Forward forward{};
  index_t group = 1;                                // channels of a group of gates
  index_t input_step = 1, y_step = 1, dy_step = 1;  // from channel to channel

  /// The arrays of a checked call.
  template <class Tokens, class Saved, int Rank, class Gradients>
  void take(const Forward& reading, const Tokens& u, const Saved& keep,
            const view<const S, Rank>& dout, const Gradients& d) noexcept {
    using read = scan::token_rows<const S>;
    using written = scan::token_rows<S>;
    forward = reading;
    if constexpr (Order == gates::grouped) group = index_t{1} << forward.group_shift;
    this->out = {{{written::of(d.gate), d.gate.stride(2), group},
                  {written::of(d.input), d.input.stride(2), 1}}};
    this->y = read::of(keep.y);
    this->dy = read::of(dout);
    input_step = u.input.stride(2);
    y_step = keep.y.stride(2);
    dy_step = dout.stride(2);
    this->begin_at(keep.initial);
    this->length = u.input.extent(1);
    this->offsets = u.offsets;
    this->accumulate = d.accumulate;
  }
  [[nodiscard]] Kernel shifted(index_t b, index_t t) const noexcept {
    Kernel k = static_cast<const Kernel&>(*this);
    k.shift(b, t);
    k.forward = forward.shifted(b, t);
    return k;
  }
};

}  // namespace maslin::inline MASLIN_ABI::gradient
