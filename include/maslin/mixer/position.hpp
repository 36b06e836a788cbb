// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where a token stands, told to attention: rotations of queries and keys, slopes of the logits.

#include <maslin/core/check.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/core/view.hpp>

#include <cmath>
#include <concepts>
#include <span>
#include <string>
#include <vector>

namespace maslin::inline MASLIN_ABI {

/// Which numbers of a head turn together.
enum class rotary_pairs {
  interleaved,  ///< 2 j and 2 j + 1
  halves,       ///< j and j + width / 2
};

/// Rotates queries and keys by their positions, so that their products depend on the distance alone.
///   (x_a, x_b) <- (x_a cos w - x_b sin w, x_a sin w + x_b cos w),   w = position base^(-2 j / width)
///   for pair j of the first `width` numbers of a head              (RoPE, arXiv 2104.09864)
/// Keys are cached as rotated. Prefill and decode are the same call, with other positions.
///
/// shapes    x [B, T, H, K]
/// layout    last axis unit stride, B, T and head strides free
/// aliasing  x in place
/// gradient  `backward` turns gradients by the negative angles, in place as well
/// numerics  angles, sines and cosines in double by the standard library, then rounded to S: the
///           angle errs by (3 + log base) of its roundings in double; a rotation is a product and
///           an fma a number
/// cost      B*T*width / 2 sines and cosines, B*T*H*width times two multiply-adds; no allocation
/// effects   x is rotated
/// throws    shape_error before any write
template <std::floating_point S>
struct rotary {
  index_t width = 0;  ///< numbers of a head that turn, an even number; 0: all
  double base = 10000;
  rotary_pairs pairs = rotary_pairs::interleaved;

  /// Token t of every sequence stands at first + t.
  void apply(view<S, 4> x, index_t first) const { turn(applied, x, first, 1); }
  /// Token t of sequence b stands at first[b] + t.
  void apply(view<S, 4> x, std::span<const index_t> first) const { turn(applied, x, first, 1); }

  /// The adjoint of `apply`: gradients of rotated queries or keys become those of what was rotated.
  void backward(view<S, 4> dx, index_t first) const { turn(reverted, dx, first, -1); }
  void backward(view<S, 4> dx, std::span<const index_t> first) const {
    turn(reverted, dx, first, -1);
  }

 private:
  static constexpr check::caller applied{"rotary", "apply"}, reverted{"rotary", "backward"};

  void turn(const check::caller& who, const view<S, 4>& x, index_t first, S sign) const {
    check_call(who, x);
    check::count(who, "first", first);
    for (index_t b = 0; b < x.extent(0); ++b) rotate(x, b, first, sign);
  }
  void turn(const check::caller& who, const view<S, 4>& x, std::span<const index_t> first,
            S sign) const {
    check_call(who, x);
    if (static_cast<index_t>(first.size()) != x.extent(0))
      who.refuse("first must be a position of each sequence, [" + std::to_string(x.extent(0)) +
                 "], got [" + std::to_string(first.size()) + "]");
    for (const index_t position : first) check::count(who, "first", position);
    for (index_t b = 0; b < x.extent(0); ++b)
      rotate(x, b, first[static_cast<std::size_t>(b)], sign);
  }

  [[nodiscard]] index_t turned(const view<S, 4>& x) const {
    return width == 0 ? x.extent(3) : width;
  }
  void check_call(const check::caller& who, const view<S, 4>& x) const {
    const auto memory = check::layout<S, 4>(who, "x", "[B, T, H, K]", x, x.extents(), 2);
    check::writable(who, "x", memory);
    if (width < 0 || turned(x) > x.extent(3) || turned(x) % 2 != 0)
      who.refuse("width must be an even number of at most K = " + std::to_string(x.extent(3)) +
                 ", got " + std::to_string(turned(x)));
    if (!(base > 0) || !std::isfinite(base))
      who.refuse("base must be a finite number above 0, got " + std::to_string(base));
  }

  void rotate(const view<S, 4>& x, index_t b, index_t first, S sign) const {
    using L = lane<S>;
    const index_t n = turned(x);
    for (index_t t = 0; t < x.extent(1); ++t)
      for (index_t j = 0; j < n / 2; ++j) {
        const double turn = std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(n));
        const double angle = static_cast<double>(first + t) * turn;
        const S c = static_cast<S>(std::cos(angle)), s = sign * static_cast<S>(std::sin(angle));
        const bool halves = pairs == rotary_pairs::halves;
        const index_t low = halves ? j : 2 * j, high = halves ? j + n / 2 : 2 * j + 1;
        for (index_t h = 0; h < x.extent(2); ++h) {
          S& left = x(b, t, h, low);
          S& right = x(b, t, h, high);
          const S turned_left = L::fma(-s, right, left * c);
          right = L::fma(s, left, right * c);
          left = turned_left;
        }
      }
  }
};

/// The slopes of ALiBi (arXiv 2108.12409) for `heads` heads: 2^(-8 (h + 1) / H) where H is a power
/// of two; else those of the largest power of two below, then 2^(-8 (2 j + 1) / (2 H')), its odd
/// refinements, for the rest.
/// throws    shape_error for a negative number, std::bad_alloc
template <std::floating_point S>
[[nodiscard]] std::vector<S> alibi_slopes(index_t heads) {
  check::count({"", "alibi_slopes"}, "heads", heads);
  index_t whole = 1;
  while (whole <= heads / 2) whole *= 2;
  std::vector<S> slopes;
  for (index_t h = 0; h < heads; ++h) {
    const double step =
        h < whole ? static_cast<double>(h + 1) : static_cast<double>(2 * (h - whole) + 1) / 2;
    slopes.push_back(static_cast<S>(std::exp2(-8 * step / static_cast<double>(whole))));
  }
  return slopes;
}

}  // namespace maslin::inline MASLIN_ABI
