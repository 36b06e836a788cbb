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
#include <string>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

namespace detail {

/// For each token of each channel: step(b, t, d, p) with its normalised row p. `call` names who
/// asks.
template <class Step>
void hlru_rows(const std::string& call, normalise kind, const view<const double, 4>& gate,
               const view<const double, 3>& input, const view<double, 3>& state,
               const view<double, 3>& y, double smallest_normal, const Step& step) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = state.extent(2);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, D, M + 1}) && input.extents() == y.extents() &&
                    state.extents() == (std::array{B, D, M}) && M >= 1,
                shape_error,
                call + ": gate must be [B, T, D, M+1], input and y [B, T, D], state [B, D, M]");
  std::vector<double> row(static_cast<std::size_t>(M + 1));
  const auto p = [&row](index_t k) { return row[static_cast<std::size_t>(k)]; };
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        for (index_t k = 0; k <= M; ++k) row[static_cast<std::size_t>(k)] = gate(b, t, d, k);
        normalise_row(kind, row, smallest_normal);
        step(b, t, d, p);
      }
}

}  // namespace detail

/// Higher-order recurrence of independent channels: each reads its own last M values.
///   h[t,d] = sum_{k=1..M} p[t,d,k-1] h[t-k,d] + p[t,d,M] input[t,d],   p = normalise(gate)
///   y[t,d] = h[t,d]
///   (H-LRU, arXiv 2602.12021; there a_{k,t} = p[t,k-1], a_{0,t} = p[t,M], v_t = input, m = M)
/// As one matrix a token, acting on (h[t-1], ..., h[t-M]), this is the companion matrix: the
/// coefficients in the first row, ones on the first sub-diagonal. The token that reads chooses all
/// coefficients of its step.
/// shapes    gate [B, T, D, M+1] input gate last  input, y [B, T, D]  state [B, D, M] newest first
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; for every normalisation but none, max|h| <= max(|h[-1]|..|h[-M]|, |input|)
/// cost      B*T*D*(M+1) multiply-adds and one normalised row each; one row of scratch
/// effects   state holds h[-1], ..., h[-M] on entry and h[T-1], ..., h[T-M] on return
/// throws    shape_error before any write
inline void hlru(normalise kind, view<const double, 4> gate, view<const double, 3> input,
                 view<double, 3> state, view<double, 3> y,
                 double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t M = state.extent(2);
  detail::hlru_rows("reference::hlru", kind, gate, input, state, y, smallest_normal,
                    [&](index_t b, index_t t, index_t d, const auto& p) {
                      double h = p(M) * input(b, t, d);
                      for (index_t k = 1; k <= M; ++k) h += p(k - 1) * state(b, d, k - 1);

                      for (index_t k = M - 1; k >= 1; --k) state(b, d, k) = state(b, d, k - 1);
                      state(b, d, 0) = h;
                      y(b, t, d) = h;
                    });
}

/// The transposed companion matrix: the coefficient at lag k is chosen by the token that wrote it.
///   w[t,j] = p[t,j] w[t-1,0] + w[t-1,j+1] + (j = 0) p[t,M] input[t],   w[t-1,M] = 0
///   y[t]   = w[t,0] = sum_{k=1..M} p[t-k+1,k-1] y[t-k] + p[t,M] input[t]
/// Some published code computes this form. It is another operator: rows of normalised coefficients
/// do not bound it (M = 4 and |input| <= 1 reach 3), and w is not a list of past values. It is kept
/// as the counter-example of `hlru`.
/// shapes    gate [B, T, D, M+1] input gate last  input, y [B, T, D]  state [B, D, M] w, by j
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; no bound
/// cost      B*T*D*(M+1) multiply-adds and one normalised row each; one row of scratch
/// effects   state holds w[-1] on entry and w[T-1] on return
/// throws    shape_error before any write
inline void hlru_write_side(normalise kind, view<const double, 4> gate, view<const double, 3> input,
                            view<double, 3> state, view<double, 3> y,
                            double smallest_normal = std::numeric_limits<double>::min()) {
  const index_t M = state.extent(2);
  detail::hlru_rows("reference::hlru_write_side", kind, gate, input, state, y, smallest_normal,
                    [&](index_t b, index_t t, index_t d, const auto& p) {
                      const double newest = state(b, d, 0);
                      for (index_t j = 0; j < M; ++j) {
                        const double next = j + 1 < M ? state(b, d, j + 1) : 0.0;
                        const double written = j == 0 ? p(M) * input(b, t, d) : 0.0;
                        state(b, d, j) = p(j) * newest + next + written;
                      }
                      y(b, t, d) = state(b, d, 0);
                    });
}

/// All M lags of every step, as the papers' layer reads them.
///   out[t,d,j] = h[t-j,d], where h[-1], ..., h[-M] is the initial state
/// shapes    y [B, T, D]   initial [B, D, M] newest first   out [B, T, D, M] lag 0 first
/// layout    any strides
/// aliasing  out overlaps neither y nor initial
/// numerics  copies
/// cost      B*T*D*M copies; no allocation
/// throws    shape_error before any write
inline void hlru_lags(view<const double, 3> y, view<const double, 3> initial, view<double, 4> out) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = out.extent(3);
  MASLIN_EXPECT(
      out.extents() == (std::array{B, T, D, M}) && initial.extents() == (std::array{B, D, M}),
      shape_error,
      "reference::hlru_lags: y must be [B, T, D], initial [B, D, M], out [B, T, D, M]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        for (index_t j = 0; j < M; ++j) {
          out(b, t, d, j) = t >= j ? y(b, t - j, d) : initial(b, d, j - t - 1);
        }
      }
    }
  }
}

/// The adjoint of `hlru` (`gate_side::read`) and of `hlru_write_side`, term by term: with carry the
/// gradient of the state and s = carry + (dy[t], 0, ..),
///   read    dp_k = s_0 h[t-1-k], dp_M = s_0 input;   carry_j <- p_j s_0 + s_{j+1}
///   write   dp_k = s_k h[t-1],   dp_M = s_0 input;   carry_0 <- sum_j p_j s_j, carry_{j+1} <- s_j
///   dz_k = phi'(z_k) / n (dp_k - e_k sum_l p_l dp_l),   dinput = s_0 p_M
///   (arXiv 2602.12021; the transposed form carries what `hlru_write_side` names w)
/// shapes    gate, dgate [B, T, D, M+1]   input, dy, y, dinput [B, T, D]   initial, dstate [B, D, M]
/// numerics  Number's, terms added in the order of the formula; finite logits
/// effects   y holds the outputs, `state` the final state; dstate holds the gradient of the final
///           state on entry, of the initial state on return
/// throws    shape_error before any write
template <class Number>
void hlru_backward(gate_side side, normalise kind, view<const Number, 4> gate,
                   view<const Number, 3> input, view<Number, 3> state, view<const Number, 3> dy,
                   view<Number, 3> y, view<Number, 4> dgate, view<Number, 3> dinput,
                   view<Number, 3> dstate) {
  const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2), M = state.extent(2);
  MASLIN_EXPECT(gate.extents() == (std::array{B, T, D, M + 1}) &&
                    dgate.extents() == gate.extents() && input.extents() == y.extents() &&
                    dy.extents() == y.extents() && dinput.extents() == y.extents() &&
                    state.extents() == (std::array{B, D, M}) &&
                    dstate.extents() == state.extents() && M >= 1,
                shape_error,
                "reference::hlru_backward: gate and dgate must be [B, T, D, M+1], input, dy, y and "
                "dinput [B, T, D], state and dstate [B, D, M]");
  const auto count = static_cast<std::size_t>(M + 1);
  std::vector<Number> z(count), p(count), slope(count), share(count), dp(count), s(count);
  const auto at = [](auto& row, index_t k) -> auto& { return row[static_cast<std::size_t>(k)]; };
  const auto normalised = [&](index_t b, index_t t, index_t d) {
    for (index_t k = 0; k <= M; ++k) at(z, k) = gate(b, t, d, k);
    normalise_row_slopes<Number>(kind, z, p, slope, share);
  };
  const bool read = side == gate_side::read;
  for (index_t b = 0; b < B; ++b) {
    for (index_t d = 0; d < D; ++d) {
      std::vector<Number> past;  // h[-M], ..., h[-1], h[0], ...; write side: w[-1][0] is h[-1]
      for (index_t k = M - 1; k >= 0; --k) past.push_back(state(b, d, k));
      for (index_t t = 0; t < T; ++t) {
        normalised(b, t, d);
        Number h = at(p, M) * input(b, t, d);
        const Number newest = state(b, d, 0);
        if (read) {
          for (index_t k = 0; k < M; ++k) h += at(p, k) * state(b, d, k);
          for (index_t k = M - 1; k >= 1; --k) state(b, d, k) = state(b, d, k - 1);
          state(b, d, 0) = h;
        } else {
          for (index_t j = 0; j < M; ++j) {
            const Number next = j + 1 < M ? state(b, d, j + 1) : Number(0);
            state(b, d, j) = at(p, j) * newest + next + (j == 0 ? h : Number(0));
          }
        }
        y(b, t, d) = state(b, d, 0);
        past.push_back(state(b, d, 0));
      }
      for (index_t t = T - 1; t >= 0; --t) {
        normalised(b, t, d);
        for (index_t k = 0; k < M; ++k) at(s, k) = dstate(b, d, k);
        at(s, 0) += dy(b, t, d);
        at(s, M) = 0;
        Number sum = 0;
        for (index_t k = 0; k <= M; ++k) {
          at(dp, k) = k == M ? at(s, 0) * input(b, t, d)
                      : read ? at(s, 0) * at(past, M + t - 1 - k)
                             : at(s, k) * at(past, M + t - 1);
          sum += at(p, k) * at(dp, k);
        }
        for (index_t k = 0; k <= M; ++k)
          dgate(b, t, d, k) = at(slope, k) * (at(dp, k) - at(share, k) * sum);
        dinput(b, t, d) = at(s, 0) * at(p, M);
        Number carried = 0;
        for (index_t j = 0; j < M; ++j) carried += at(p, j) * at(s, j);
        for (index_t j = 0; j < M; ++j)
          dstate(b, d, j) = read     ? at(p, j) * at(s, 0) + at(s, j + 1)
                            : j == 0 ? carried
                                     : at(s, j - 1);
      }
    }
  }
}

/// The adjoint of `hlru_lags`: what arrives at each lag of each step, folded onto the step that made
/// it, or onto the initial state.
///   dy[t,d] = sum_j dlags[t+j,d,j],   dinitial[d,k] += sum over t, j with t - j = -1 - k
/// shapes    dlags [B, T, D, M]   dy [B, T, D]   dinitial [B, D, M]
/// effects   dy is overwritten, dinitial is added to
/// throws    shape_error before any write
template <class Number>
void hlru_lags_backward(view<const Number, 4> dlags, view<Number, 3> dy, view<Number, 3> dinitial) {
  const index_t B = dy.extent(0), T = dy.extent(1), D = dy.extent(2), M = dlags.extent(3);
  MASLIN_EXPECT(
      dlags.extents() == (std::array{B, T, D, M}) && dinitial.extents() == (std::array{B, D, M}),
      shape_error,
      "reference::hlru_lags_backward: dlags must be [B, T, D, M], dy [B, T, D], "
      "dinitial [B, D, M]");
  for (index_t b = 0; b < B; ++b) {
    for (index_t t = 0; t < T; ++t) {
      for (index_t d = 0; d < D; ++d) {
        dy(b, t, d) = 0;
        for (index_t j = 0; j < M; ++j) {
          if (t + j < T) dy(b, t, d) += dlags(b, t + j, d, j);
          if (j > t) dinitial(b, d, j - t - 1) += dlags(b, t, d, j);
        }
      }
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
