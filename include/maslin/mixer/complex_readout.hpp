// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Real outputs of models with complex states: what follows a complex `diagonal`.

#include <maslin/core/check.hpp>
#include <maslin/core/concepts.hpp>
#include <maslin/core/view.hpp>
#include <maslin/fwd.hpp>
#include <maslin/recurrence/weigh.hpp>
#include <maslin/simd/lane.hpp>

#include <complex>
#include <concepts>
#include <string>

namespace maslin::inline MASLIN_ABI {

/// Reads E real outputs out of the N complex states of each of G groups.
///   y[t,g,e] = factor Re(sum_{n<N} read[g,e,n] h[t,g,n]) + skip[g,e] input[t,g,e]
/// S4D (arXiv 2206.11893): a group is a channel, E = 1, and factor 2 stands for the conjugates of
/// its states, which are not stored. LRU (arXiv 2303.06349): one group of all states, E outputs,
/// factor 1. The papers' C is our read, their D our skip.
///
/// shapes    h [B, T, G N], the output of a complex `diagonal`   input, y [B, T, G E]
///           read [G, E, N]   skip [G E] (optional, and then input too)
/// layout    last axes unit stride; B and T strides free, and those of G and E in read
/// aliasing  y may be input; y must not overlap h, read or skip
/// numerics  16 chains of fma over the 2 N real products, added by halves: |err| <= (N / 8 + 7) u
///           (factor sum |Re read Re h| + |Im read Im h|, and |skip input|), twice that outside the
///           FMA family; each token by itself, so that no split changes a byte. NaN and Inf stay in
///           their token and group
/// cost      B*T*G*E*2N multiply-adds on the caller's thread; no allocation. A span of a few tokens
///           finds h in the cache, where `diagonal` has just put it; for a large dense `read` the
///           product of a matrix library is the better choice
/// throws    shape_error before any write
template <class S>
struct complex_readout {
  static_assert(std::floating_point<S>, "complex_readout gives float or double");

  view<const std::complex<S>, 3> read{};  // [G, E, N]
  view<const S, 1> skip{};                // [G E]; empty: none
  S factor = 2;

  /// The outputs of a span of tokens.
  void apply(view<const std::complex<S>, 3> h, view<const S, 3> input, view<S, 3> y) const {
    const check::caller who{"complex_readout", "apply"};
    const index_t B = y.extent(0), T = y.extent(1), G = read.extent(0), E = read.extent(1),
                  N = read.extent(2);
    const auto states =
        check::layout<const std::complex<S>, 3>(who, "h", "[B, T, G N]", h, {B, T, G * N}, 2);
    const auto weights =
        check::layout<const std::complex<S>, 3>(who, "read", "[G, E, N]", read, {G, E, N}, 2);
    const auto out = check::layout<S, 3>(who, "y", "[B, T, G E]", y, {B, T, G * E}, 2);
    check::writable(who, "y", out);
    check::disjoint(who, "y", out, "h", states);
    check::disjoint(who, "y", out, "read", weights);
    const bool skips = skip.data_handle() != nullptr;
    if (skips) {
      const auto in =
          check::layout<const S, 3>(who, "input", "[B, T, G E]", input, {B, T, G * E}, 2);
      if (!check::same(input, y)) check::disjoint(who, "y", out, "input", in);
      check::disjoint(who, "y", out, "skip",
                      check::layout<const S, 1>(who, "skip", "[G E]", skip, {G * E}, 0));
    }
    using V = simd::native<S>;
    for (index_t b = 0; b < B; ++b)
      for (index_t t = 0; t < T; ++t)
        for (index_t g = 0; g < G; ++g)
          for (index_t e = 0; e < E; ++e) {
            const index_t c = g * E + e;
            S sum = 0;
            if (N > 0)
              sum = factor * recurrence::real_dot_row<V>(&read(g, e, 0), &h(b, t, g * N), N);
            y(b, t, c) = skips ? lane<S>::fma(skip(c), input(b, t, c), sum) : sum;
          }
  }
  /// The same without skip.
  void apply(view<const std::complex<S>, 3> h, view<S, 3> y) const {
    if (skip.data_handle() != nullptr)
      check::caller{"complex_readout", "apply"}.refuse("input must be given with skip, got none");
    apply(h, {}, y);
  }

  /// Where gradients go. A view whose pointer is null is not wanted.
  struct gradients {
    view<std::complex<S>, 3> h{};     // [B, T, G N]
    view<S, 3> input{};               // [B, T, G E], with a skip
    view<std::complex<S>, 3> read{};  // [G, E, N], summed over B and T
    view<S, 1> skip{};                // [G E], with a skip: the same
    bool accumulate = false;          // add to what is there
  };

  /// The adjoint of `apply`: gradients of a loss whose derivatives by y are `dy`, for complex x as
  /// d/d Re x + i d/d Im x.
  ///   dh[t,g,n]    = factor sum_e dy[t,g,e] conj(read[g,e,n])       dinput = dy skip
  ///   dread[g,e,n] = factor sum_t dy[t,g,e] conj(h[t,g,n])          dskip  = sum_t dy input
  ///
  /// shapes    dy as y; gradients as what they belong to; input may be empty without a skip
  /// layout    as in `apply`
  /// aliasing  no gradient may overlap anything that is read, nor another gradient
  /// numerics  one fma a term, e ascending; sums over tokens in pieces of 128, these then added,
  ///           sequence by sequence. NaN and Inf of dy stay in their token and group, but for the
  ///           sums. The same bytes for every split and batch but for the sums
  /// cost      2*B*T*G*E*2N multiply-adds on the caller's thread; reads h once for each of the E
  ///           outputs of its group; no allocation
  /// throws    shape_error before any write
  template <class Adjoint = gradient::complex_readout<complex_readout>>
  void backward(view<const std::complex<S>, 3> h, view<const S, 3> input, view<const S, 3> dy,
                const gradients& d) const {
    static_assert(complete<Adjoint>,
                  "complex_readout::backward is defined in <maslin/gradient/complex_readout.hpp>: "
                  "include it");
    Adjoint::run(*this, h, input, dy, d);
  }
};

}  // namespace maslin::inline MASLIN_ABI
