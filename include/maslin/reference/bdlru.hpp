// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/normalise.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// Block-diagonal recurrence: G independent blocks, each with a full M x M transition.
///   h[t,g,i] = sum_{j<M} p[t,g,i,j] h[t-1,g,j] + p[t,g,i,M] input[t,g,i]
///   p[t,g,i,:] = normalise(gate[t,g,i,:])
///   y[t,g,i] = h[t,g,i]
///   (BD-LRU, arXiv 2602.12021; there A_t = p[t,:,:M] per block, a_{0,t} = p[t,:,M], v_t = input,
///   m = M; the paper puts the input gate in column 0, its code and this function in the last.)
/// Row i holds the weights with which the new component i reads the old components.
/// shapes    gate [B, T, G, M, M+1] input gate last   input, y [B, T, G, M]   state [B, G, M]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; for every normalisation but none, max|h| <= max(|h[-1]|, |input|) by block
/// cost      B*T*G*M*(M+1) multiply-adds and M normalised rows a block; two rows of scratch
/// effects   state holds h[-1] on entry and h[T-1] on return
/// throws    shape_error before any write
inline void bdlru(normalise kind, view<const double, 5> gate, view<const double, 4> input,
                  view<double, 3> state, view<double, 4> y,
                  double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t B = y.extent(0), T = y.extent(1), G = y.extent(2), M = y.extent(3);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, G, M, M + 1}) &&
                    input.extents() == y.extents() && state.extents() == (std::array{B, G, M}) &&
                    M >= 1,
                shape_error,
                "reference::bdlru: gate must be [B, T, G, M, M+1], input and y [B, T, G, M], "
                "state [B, G, M]");
  std::vector<double> row(static_cast<std::size_t>(M + 1)), old(static_cast<std::size_t>(M));
  const auto p = [&row](index_t k) { return row[static_cast<std::size_t>(k)]; };
  const auto previous = [&old](index_t j) { return old[static_cast<std::size_t>(j)]; };
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t g = 0; g < G; ++g) {
        for (index_t j = 0; j < M; ++j) old[static_cast<std::size_t>(j)] = state(b, g, j);
        for (index_t i = 0; i < M; ++i) {
          for (index_t k = 0; k <= M; ++k) row[static_cast<std::size_t>(k)] = gate(b, t, g, i, k);
          normalise_row(kind, row, smallest_normal);

          double h = p(M) * input(b, t, g, i);
          for (index_t j = 0; j < M; ++j) h += p(j) * previous(j);

          state(b, g, i) = h;
          y(b, t, g, i) = h;
        }
      }
    }
  }
}

/// The adjoint of `bdlru`, term by term: with carry the gradient of the state and s = carry + dy[t],
///   dp_k = s_i u_k, u = (h[t-1], input_i);   dz_k = phi'(z_k) / n (dp_k - e_k sum_l p_l dp_l)
///   dinput_i = s_i p[i,M];   carry_j <- sum_i p[i,j] s_i                    (arXiv 2602.12021)
/// shapes    gate, dgate [B, T, G, M, M+1]   input, dy, y, dinput [B, T, G, M]
///           initial, dstate [B, G, M]
/// numerics  Number's, terms added in the order of the formula; finite logits
/// effects   y holds the outputs; dstate holds the gradient of the final state on entry, of the
///           initial state on return
/// throws    shape_error before any write
template <class Number>
void bdlru_backward(normalise kind, view<const Number, 5> gate, view<const Number, 4> input,
                    view<const Number, 3> initial, view<const Number, 4> dy, view<Number, 4> y,
                    view<Number, 5> dgate, view<Number, 4> dinput, view<Number, 3> dstate) {
  const index_t B = y.extent(0), T = y.extent(1), G = y.extent(2), M = y.extent(3);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, G, M, M + 1}) &&
                    dgate.extents() == gate.extents() && input.extents() == y.extents() &&
                    dy.extents() == y.extents() && dinput.extents() == y.extents() &&
                    initial.extents() == (std::array{B, G, M}) &&
                    dstate.extents() == initial.extents() && M >= 1,
                shape_error,
                "reference::bdlru_backward: gate and dgate must be [B, T, G, M, M+1], input, dy, y "
                "and dinput [B, T, G, M], initial and dstate [B, G, M]");
  const auto count = static_cast<std::size_t>(M + 1);
  std::vector<Number> z(count), p(count), slope(count), share(count), dp(count), carry(count);
  const auto at = [](auto& row, index_t k) -> auto& { return row[static_cast<std::size_t>(k)]; };
  const auto normalised = [&](index_t b, index_t t, index_t g, index_t i) {
    for (index_t k = 0; k <= M; ++k) at(z, k) = gate(b, t, g, i, k);
    normalise_row_slopes<Number>(kind, z, p, slope, share);
  };
  for (index_t b = 0; b < B; ++b) {
    for (index_t g = 0; g < G; ++g) {
      const auto before = [&](index_t t, index_t j) -> Number {
        return t > 0 ? y(b, t - 1, g, j) : initial(b, g, j);
      };
      for (index_t t = 0; t < T; ++t) {
        for (index_t i = 0; i < M; ++i) {
          normalised(b, t, g, i);
          Number h = at(p, M) * input(b, t, g, i);
          for (index_t j = 0; j < M; ++j) h += at(p, j) * before(t, j);
          y(b, t, g, i) = h;
        }
      }
      for (index_t t = T - 1; t >= 0; --t) {
        for (Number& c : carry) c = 0;
        for (index_t i = 0; i < M; ++i) {
          normalised(b, t, g, i);
          const Number s = dstate(b, g, i) + dy(b, t, g, i);
          Number sum = 0;
          for (index_t k = 0; k <= M; ++k) {
            at(dp, k) = s * (k < M ? before(t, k) : input(b, t, g, i));
            sum += at(p, k) * at(dp, k);
          }
          for (index_t k = 0; k <= M; ++k)
            dgate(b, t, g, i, k) = at(slope, k) * (at(dp, k) - at(share, k) * sum);
          dinput(b, t, g, i) = s * at(p, M);
          for (index_t j = 0; j < M; ++j) at(carry, j) += at(p, j) * s;
        }
        for (index_t j = 0; j < M; ++j) dstate(b, g, j) = at(carry, j);
      }
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
