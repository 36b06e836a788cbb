// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The generalised mixer with scores and its adjoint, in any number type; its matrices are those of
/// `score_matrices`.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/generalized.hpp>

#include <cstddef>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// One call of `generalized_scores_backward`, in any number type. Its tokens follow P others, whose keys
/// and rows w are given: w = y for direct::self, (1 - g) x + g y for direct::rows.
template <class Number>
struct scores_call {
  weights kind;
  direct form;
  pattern_reads reads;
  double smallest_normal;  // of the type that a kernel under test computes in
  Number scale, g;
  view<const Number, 2> bias;                 // [H, L]
  view<const Number, 1> self_bias;            // [H]
  view<const Number, 4> query, key;           // [B, T, H, K]
  view<const Number, 4> input;                // [B, T, H, E]
  view<const Number, 4> keys_before, before;  // [B, P, H, K], [B, P, H, E]
  view<const Number, 4> dy;                   // [B, T, H, E]
  view<const Number, 4> dkeys_after, dafter;  // [B, P + T, H, K], [B, P + T, H, E]
};

/// What it answers: the outputs, the rows w, and the gradients of all that it was given.
template <class Number>
struct scores_answer {
  view<Number, 4> y, w;                   // [B, T, H, E]
  view<Number, 2> dbias;                  // [H, L]
  view<Number, 1> dself_bias;             // [H]
  view<Number, 4> dquery, dkey;           // [B, T, H, K]
  view<Number, 4> dinput;                 // [B, T, H, E]
  view<Number, 4> dkeys_before, dbefore;  // [B, P, H, K], [B, P, H, E]
};

/// One head of one sequence of `generalized_scores_backward`. The scores are those of `score_terms`,
/// c = weigh(z), and with F_t = 1 - g c_t
///   direct::self   y_t = c_t x_t + sum c_p w_p,  w = y
///   direct::rows   y_t = ((1 - g) c_t x_t + sum c_p w_p) / F_t,  w = (1 - g) x + g y
/// Backward, omega being the gradient of w, t descending:
///   direct::self   sigma = dy + omega_t,  dx_t = c_t sigma,  dc_t = <sigma, x_t>
///   direct::rows   sigma = (dy + g omega_t) / F_t,  dx_t = (1 - g) (c_t sigma + omega_t),
///                  dc_t = <sigma, w_t>
///   both           dc_p = <sigma, w_p>,  omega_p += c_p sigma,  dz from dc (`weigh_backward`),
///                  dq_t = scale sum dz k_p,  dk_p += scale dz q_t, biases: sums of dz
/// where direct::rows follows from dy_t / dc_t = ((1 - g) x_t + g y_t) / F_t = w_t / F_t.
template <class Number>
class scores_head {
 public:
  scores_head(const scores_call<Number>& call, const scores_answer<Number>& answer, index_t batch,
              index_t head)
      : u_(call), out_(answer), b_(batch), h_(head) {}

  void forward() {
    for (index_t t = 0; t < T_; ++t) {
      const auto reads = u_.reads(P_ + t);
      std::vector<Number> z{score(t, P_ + t) + u_.self_bias(h_)};
      for (const auto& [p, level] : reads) z.push_back(score(t, p) + u_.bias(h_, level));
      rows_.push_back(weigh<Number>(u_.kind, z, u_.smallest_normal));
      const auto& c = rows_.back().p;
      for (index_t e = 0; e < E_; ++e) {
        const Number x = u_.input(b_, t, h_, e);
        Number sum = shared_ ? (Number(1) - u_.g) * c[0] * x : c[0] * x;
        for (std::size_t i = 0; i < reads.size(); ++i)
          sum = sum + c[i + 1] * value(reads[i].position, e);
        if (shared_) sum = sum / divisor(t);
        out_.y(b_, t, h_, e) = sum;
        out_.w(b_, t, h_, e) = shared_ ? (Number(1) - u_.g) * x + u_.g * sum : sum;
      }
    }
  }

  void backward() {
    copy_after();
    for (index_t t = T_; t-- > 0;) {
      const auto reads = u_.reads(P_ + t);
      const auto& c = rows_[at(t)].p;
      std::vector<Number> dc(reads.size() + 1, Number(0));
      for (index_t e = 0; e < E_; ++e) {
        const Number omega_t = omega_[at(P_ + t)][at(e)], dy = u_.dy(b_, t, h_, e);
        const Number sigma = shared_ ? (dy + u_.g * omega_t) / divisor(t) : dy + omega_t;
        dc[0] = dc[0] + sigma * (shared_ ? out_.w(b_, t, h_, e) : u_.input(b_, t, h_, e));
        out_.dinput(b_, t, h_, e) =
            shared_ ? (Number(1) - u_.g) * (c[0] * sigma + omega_t) : c[0] * sigma;
        for (std::size_t i = 0; i < reads.size(); ++i) {
          dc[i + 1] = dc[i + 1] + sigma * value(reads[i].position, e);
          Number& to = omega_[at(reads[i].position)][at(e)];
          to = to + c[i + 1] * sigma;
        }
      }
      give_scores(t, reads, weigh_backward<Number>(rows_[at(t)], dc));
    }
    copy_before();
  }

 private:
  [[nodiscard]] static std::size_t at(index_t i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] Number value(index_t p, index_t e) const {
    return p < P_ ? u_.before(b_, p, h_, e) : out_.w(b_, p - P_, h_, e);
  }
  [[nodiscard]] Number key(index_t p, index_t k) const {
    return p < P_ ? u_.keys_before(b_, p, h_, k) : u_.key(b_, p - P_, h_, k);
  }
  [[nodiscard]] Number score(index_t t, index_t p) const {
    Number dot(0);
    for (index_t k = 0; k < K_; ++k) dot = dot + u_.query(b_, t, h_, k) * key(p, k);
    return u_.scale * dot;
  }
  [[nodiscard]] Number divisor(index_t t) const { return Number(1) - u_.g * rows_[at(t)].p[0]; }

  void give_scores(index_t t, const std::vector<pattern_read>& reads,
                   const std::vector<Number>& dz) {
    out_.dself_bias(h_) = out_.dself_bias(h_) + dz[0];
    for (std::size_t i = 0; i < reads.size(); ++i)
      out_.dbias(h_, reads[i].level) = out_.dbias(h_, reads[i].level) + dz[i + 1];
    for (index_t k = 0; k < K_; ++k) {
      Number dq(0);
      for (std::size_t i = 0; i < dz.size(); ++i) {
        const index_t p = i == 0 ? P_ + t : reads[i - 1].position;
        const Number scaled = u_.scale * dz[i];
        dq = dq + scaled * key(p, k);
        Number& to = dkeys_[at(p)][at(k)];
        to = to + scaled * u_.query(b_, t, h_, k);
      }
      out_.dquery(b_, t, h_, k) = dq;
    }
  }
  void copy_after() {
    for (index_t p = 0; p < P_ + T_; ++p) {
      omega_.emplace_back();
      dkeys_.emplace_back();
      for (index_t e = 0; e < E_; ++e) omega_.back().push_back(u_.dafter(b_, p, h_, e));
      for (index_t k = 0; k < K_; ++k) dkeys_.back().push_back(u_.dkeys_after(b_, p, h_, k));
    }
  }
  void copy_before() {
    for (index_t p = 0; p < P_ + T_; ++p) {
      for (index_t k = 0; k < K_; ++k)
        (p < P_ ? out_.dkeys_before(b_, p, h_, k) : out_.dkey(b_, p - P_, h_, k)) =
            dkeys_[at(p)][at(k)];
      for (index_t e = 0; e < E_ && p < P_; ++e) out_.dbefore(b_, p, h_, e) = omega_[at(p)][at(e)];
    }
  }

  const scores_call<Number>& u_;
  const scores_answer<Number>& out_;
  index_t b_, h_;
  index_t T_ = u_.dy.extent(1), E_ = u_.dy.extent(3), K_ = u_.query.extent(3),
          P_ = u_.before.extent(1);
  bool shared_ = u_.form == direct::rows;
  std::vector<weighed_row<Number>> rows_;
  std::vector<std::vector<Number>> omega_, dkeys_;
};

/// The mixer with scores and its adjoint; see `scores_head`.
/// layout    any strides
/// numerics  that of Number
/// cost      B*H*sum_t(|R_t| + 1)*(2 K + 3 E) multiply-adds
/// effects   every element of the answer is written
template <class Number>
void generalized_scores_backward(const scores_call<Number>& u, const scores_answer<Number>& out) {
  for (index_t h = 0; h < u.dy.extent(2); ++h) {
    out.dself_bias(h) = Number(0);
    for (index_t k = 0; k < out.dbias.extent(1); ++k) out.dbias(h, k) = Number(0);
    for (index_t b = 0; b < u.dy.extent(0); ++b) {
      scores_head<Number> head(u, out, b, h);
      head.forward();
      head.backward();
    }
  }
}

}  // namespace maslin::inline MASLIN_ABI::reference
