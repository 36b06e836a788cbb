// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The generalised mixer Y = (I - B)^-1 A X, its patterns as sets, and its coefficients, as the
/// formulas read.

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/normalise.hpp>
#include <maslin/reference/weigh.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// One earlier position that token t reads, and the lowest level that reads it.
struct pattern_read {
  index_t position, level;
  friend bool operator==(const pattern_read&, const pattern_read&) = default;
};

/// R_t of token t, by ascending position.
using pattern_reads = std::function<std::vector<pattern_read>(index_t t)>;

/// R_t = { t - f(k) : f(k) <= t }, f increasing, f(0) = 1   (arXiv 2605.31367, distances t - p = f(k))
/// cost      O(|R_t|) calls of f
[[nodiscard]] inline pattern_reads plain_reads(std::function<index_t(index_t)> f) {
  return [f = std::move(f)](index_t t) {
    std::vector<pattern_read> found;
    for (index_t k = 0; f(k) <= t; ++k) found.push_back({t - f(k), k});
    std::reverse(found.begin(), found.end());
    return found;
  };
}

/// S_t = { p_k(t) : f(k) <= t }, p_k(t) = a_k ceil((t + 1 - f(k)) / a_k) - 1, with a_0 = 1 and
/// a_{k+1} = a_k ceil((f(k+1) - f(k)) / a_k)          (arXiv 2605.31367, Prop. 4.12; 0-based here)
/// cost      O(|S_t| log |S_t|)
[[nodiscard]] inline pattern_reads cached_reads(std::function<index_t(index_t)> f) {
  return [f = std::move(f)](index_t t) {
    const auto rounded_up = [](index_t n, index_t a) { return a * ((n + a - 1) / a); };
    std::map<index_t, index_t> lowest;  // of each position
    index_t a = 1;
    for (index_t k = 0; f(k) <= t; ++k) {
      if (k > 0) a = rounded_up(f(k) - f(k - 1), a);
      lowest.try_emplace(rounded_up(t + 1 - f(k), a) - 1, k);
    }
    std::vector<pattern_read> found;
    for (const auto& [position, level] : lowest) found.push_back({position, level});
    return found;
  };
}

/// All earlier positions, the slot of each being the position itself.
[[nodiscard]] inline pattern_reads dense_reads() {
  return [](index_t t) {
    std::vector<pattern_read> found;
    for (index_t p = 0; p < t; ++p) found.push_back({p, p});
    return found;
  };
}

/// Forward substitution with matrices written out:
///   y_t = sum_{j <= t} A[t,j] x_j + sum_{j < t} B[t,j] y_j,   that is Y = (I - B)^-1 A X
///   (arXiv 2605.31367)
/// shapes    direct (A), feedback (B) [B, T, H, T]   input, y [B, T, H, E]
/// layout    any strides
/// aliasing  y may be input only where A is diagonal
/// numerics  double; entries of A above the diagonal and of B on and above it are not read
/// cost      B*H*T^2*E multiply-adds
/// throws    shape_error before any write
inline void generalized_dense(view<const double, 4> direct, view<const double, 4> feedback,
                              view<const double, 4> input, view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  MASLIN_EXPECT(input.extents() == y.extents() && direct.extents() == (std::array{B, T, H, T}) &&
                    feedback.extents() == direct.extents(),
                shape_error,
                "reference::generalized_dense: direct and feedback must be [B, T, H, T], input "
                "and y [B, T, H, E]");
  for (index_t b = 0; b < B; ++b)
    for (index_t h = 0; h < H; ++h)
      for (index_t t = 0; t < T; ++t)
        for (index_t e = 0; e < E; ++e) {
          double sum = 0;
          for (index_t j = 0; j <= t; ++j) sum += direct(b, t, h, j) * input(b, j, h, e);
          for (index_t j = 0; j < t; ++j) sum += feedback(b, t, h, j) * y(b, j, h, e);
          y(b, t, h, e) = sum;
        }
}

/// The same with a diagonal A and a pattern:
///   y_t = self_t x_t + sum_{p in R_t} past[t, slot of p] y_p
/// shapes    self [B, T, H]   past [B, T, H, S]   input, y [B, T, H, E]
/// layout    any strides
/// aliasing  y may be input
/// numerics  double; slots outside R_t are not read
/// cost      B*H*E*sum_t (|R_t| + 1) multiply-adds
/// throws    shape_error before any write
inline void generalized(const pattern_reads& reads, view<const double, 3> self,
                        view<const double, 4> past, view<const double, 4> input,
                        view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  MASLIN_EXPECT(input.extents() == y.extents() && self.extents() == (std::array{B, T, H}) &&
                    past.extents() == (std::array{B, T, H, past.extent(3)}),
                shape_error,
                "reference::generalized: self must be [B, T, H], past [B, T, H, S], input and y "
                "[B, T, H, E]");
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h)
        for (index_t e = 0; e < E; ++e) {
          double sum = self(b, t, h) * input(b, t, h, e);
          for (const auto& [p, slot] : reads(t)) sum += past(b, t, h, slot) * y(b, p, h, e);
          y(b, t, h, e) = sum;
        }
}

/// One call of `generalized_backward`, in any number type. Its tokens follow `before`, the outputs of
/// all P tokens before them.
template <class Number>
struct generalized_call {
  weights kind;
  pattern_reads reads;
  double smallest_normal;        // of the type that a kernel under test computes in
  view<const Number, 3> self;    // [B, T, H]
  view<const Number, 4> past;    // [B, T, H, S]
  view<const Number, 4> input;   // [B, T, H, E]
  view<const Number, 4> before;  // [B, P, H, E]
  view<const Number, 4> dy;      // [B, T, H, E]
  view<const Number, 4> dafter;  // [B, P + T, H, E]: what later tokens say of all rows
};

/// What it answers: the outputs, and the gradients of all that it was given.
template <class Number>
struct generalized_answer {
  view<Number, 4> y;        // [B, T, H, E]
  view<Number, 3> dself;    // [B, T, H]
  view<Number, 4> dpast;    // [B, T, H, S]; 0 where nothing is read
  view<Number, 4> dinput;   // [B, T, H, E]
  view<Number, 4> dbefore;  // [B, P, H, E]
};

/// y_t = alpha_t x_t + sum_{p in R_t} beta_{t,p} y_p with (alpha, beta) = weigh(self, past), and its
/// adjoint, t descending from S = dY:
///   dalpha_t = <s_t, x_t>,  dbeta_{t,p} = <s_t, y_p>,  dx_t = alpha_t s_t,  s_p += beta_{t,p} s_t
/// that is S = (I - B)^-T dY    (arXiv 2605.31367)
/// layout    any strides
/// numerics  that of Number; slots outside R_t are not read
/// effects   every element of the answer is written
template <class Number>
void generalized_backward(const generalized_call<Number>& u,
                          const generalized_answer<Number>& out) {
  const index_t B = u.dy.extent(0), T = u.dy.extent(1), H = u.dy.extent(2), E = u.dy.extent(3);
  const index_t P = u.before.extent(1), slots = u.past.extent(3);
  const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
  for (index_t b = 0; b < B; ++b)
    for (index_t h = 0; h < H; ++h) {
      const auto row = [&](index_t p) {
        return p < P ? &u.before(b, p, h, 0) : &out.y(b, p - P, h, 0);
      };
      std::vector<weighed_row<Number>> weighed;
      for (index_t t = 0; t < T; ++t) {
        std::vector<Number> z{u.self(b, t, h)};
        for (const auto& [p, slot] : u.reads(P + t)) z.push_back(u.past(b, t, h, slot));
        weighed.push_back(weigh<Number>(u.kind, z, u.smallest_normal));
        const auto& c = weighed.back().p;
        for (index_t e = 0; e < E; ++e) {
          Number sum = c[0] * u.input(b, t, h, e);
          std::size_t i = 1;
          for (const auto& [p, slot] : u.reads(P + t)) sum = sum + c[i++] * row(p)[e];
          out.y(b, t, h, e) = sum;
        }
      }

      std::vector<std::vector<Number>> s;
      for (index_t p = 0; p < P + T; ++p) {
        s.emplace_back();
        for (index_t e = 0; e < E; ++e)
          s.back().push_back(p < P ? u.dafter(b, p, h, e)
                                   : u.dafter(b, p, h, e) + u.dy(b, p - P, h, e));
      }
      for (index_t t = T; t-- > 0;) {
        const auto reads = u.reads(P + t);
        const auto& c = weighed[at(t)].p;
        std::vector<Number> dc(reads.size() + 1, Number(0));
        for (index_t e = 0; e < E; ++e) {
          const Number given = s[at(P + t)][at(e)];
          dc[0] = dc[0] + given * u.input(b, t, h, e);
          out.dinput(b, t, h, e) = c[0] * given;
          for (std::size_t i = 0; i < reads.size(); ++i) {
            Number& to = s[at(reads[i].position)][at(e)];
            dc[i + 1] = dc[i + 1] + given * row(reads[i].position)[e];
            to = to + c[i + 1] * given;
          }
        }
        const auto dz = weigh_backward<Number>(weighed[at(t)], dc);
        out.dself(b, t, h) = dz[0];
        for (index_t k = 0; k < slots; ++k) out.dpast(b, t, h, k) = Number(0);
        for (std::size_t i = 0; i < reads.size(); ++i)
          out.dpast(b, t, h, reads[i].level) = dz[i + 1];
      }
      for (index_t p = 0; p < P; ++p)
        for (index_t e = 0; e < E; ++e) out.dbefore(b, p, h, e) = s[at(p)][at(e)];
    }
}

/// Turns logits into coefficients, as core/types.hpp defines them for each `weights`.
inline void weigh_row(weights kind, std::span<double> row,
                      double smallest_normal = std::numeric_limits<double>::min()) {
  switch (kind) {
    case weights::given: return;
    case weights::softmax: return normalise_row(normalise::softmax, row, smallest_normal);
    case weights::sigmoid_l1: return normalise_row(normalise::sigmoid_l1, row, smallest_normal);
    case weights::relu_l1: return normalise_row(normalise::relu_l1, row, smallest_normal);
    case weights::tanh_l1: return normalise_row(normalise::tanh_l1, row, smallest_normal);
    case weights::lin_l1: return normalise_row(normalise::lin_l1, row, smallest_normal);
    case weights::sigmoid:
      for (double& z : row) z = 1 / (1 + std::exp(-z));
  }
}

/// What scores are made of: z[t,p] = scale <query[t], key[p]> + bias[h, level of p], and with
/// self_bias[h] for p = t.
struct score_terms {
  view<const double, 4> query, key;  // [B, T, H, K]
  double scale;
  view<const double, 2> bias;       // [H, L]
  view<const double, 1> self_bias;  // [H]
};

/// The matrices of a mixer with scores, P = weigh(z) over R_t and t:
///   direct::self   A = Diag(P), B = tril(P, -1)
///   direct::rows   A = (1 - g) F^-1 P, B = g F^-1 tril(P, -1), F = Diag(1 - g P_tt)
///                  (with all positions and softmax: ChaCAL, arXiv 2410.05565)
/// shapes    direct (A), feedback (B) [B, T, H, T]
/// layout    any strides
/// numerics  double
/// cost      B*H*sum_t(|R_t| + 1)*K multiply-adds
/// throws    shape_error before any write
inline void score_matrices(const pattern_reads& reads, weights kind, direct form, double g,
                           const score_terms& z, view<double, 4> direct_out,
                           view<double, 4> feedback_out) {
  const index_t B = z.query.extent(0), T = z.query.extent(1), H = z.query.extent(2);
  MASLIN_EXPECT(
      z.key.extents() == z.query.extents() && direct_out.extents() == (std::array{B, T, H, T}) &&
          feedback_out.extents() == direct_out.extents(),
      shape_error,
      "reference::score_matrices: query and key must be [B, T, H, K], direct and feedback "
      "[B, T, H, T]");
  const auto score = [&](index_t b, index_t t, index_t p, index_t h, double offset) {
    double dot = 0;
    for (index_t i = 0; i < z.query.extent(3); ++i) dot += z.query(b, t, h, i) * z.key(b, p, h, i);
    return z.scale * dot + offset;
  };
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        const auto positions = reads(t);
        std::vector<double> row{score(b, t, t, h, z.self_bias(h))};
        for (const auto& [p, level] : positions) row.push_back(score(b, t, p, h, z.bias(h, level)));
        weigh_row(kind, row);

        for (index_t p = 0; p < T; ++p) direct_out(b, t, h, p) = feedback_out(b, t, h, p) = 0;
        const bool shared = form == direct::rows;
        const double F = shared ? 1 - g * row[0] : 1;
        direct_out(b, t, h, t) = (shared ? 1 - g : 1) * row[0] / F;
        for (std::size_t i = 0; i < positions.size(); ++i) {
          const index_t p = positions[i].position;
          feedback_out(b, t, h, p) = (shared ? g : 1) * row[i + 1] / F;
          if (shared) direct_out(b, t, h, p) = (1 - g) * row[i + 1] / F;
        }
      }
}

}  // namespace maslin::inline MASLIN_ABI::reference
