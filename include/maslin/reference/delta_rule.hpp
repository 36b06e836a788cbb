// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/config.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace maslin::inline MASLIN_ABI::reference {

/// The arrays of `delta_rule`; R is 1 but for DeltaProduct.
struct delta_arrays {
  view<const double, 4> query{};      // [B, T, H', K]
  view<const double, 5> key{};        // [B, T, R, H', K]
  view<const double, 5> value{};      // [B, T, R, H', E]
  view<const double, 4> beta{};       // [B, T, R, H]
  view<const double, 3> log_decay{};  // [B, T, H], optional
};

/// The delta rule, term by term.
///   S  <- exp(g[t]) S
///   for r = 0 .. R - 1:  u = beta[t,r] (v[t,r] - S^T k[t,r]),   S <- S + k[t,r] u^T
///   y[t] = scale S^T q[t]
///   (arXiv 2412.06464, equation 10; R micro-steps: 2502.10297, section 3)
/// shapes    as `delta_arrays`, head h of fewer than H being floor(h H' / H)   y [B, T, H, E]
///           state [B, H, K, E]
/// layout    any strides
/// aliasing  none
/// numerics  double, terms added in the order of the formula
/// cost      B*T*H*K*E multiply-adds 2 R + 1 times; no allocation
/// effects   state holds S[-1] on entry and S[T-1] on return
/// throws    shape_error before any write
inline void delta_rule(const delta_arrays& x, double scale, view<double, 4> state,
                       view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  const index_t K = state.extent(2), R = x.key.extent(2);
  const index_t queries = x.query.extent(2), keys = x.key.extent(3), values = x.value.extent(3);
  MASLIN_EXPECT(x.query.extent(1) == T && x.key.extent(1) == T && x.value.extent(1) == T &&
                    x.beta.extent(1) == T && x.value.extent(2) == R && x.beta.extent(2) == R &&
                    x.query.extent(3) == K && x.key.extent(4) == K && x.value.extent(4) == E &&
                    state.extent(0) == B && state.extent(1) == H && state.extent(3) == E,
                shape_error,
                "reference::delta_rule: query must be [B, T, H', K], key [B, T, R, H', K], value "
                "[B, T, R, H', E], beta [B, T, R, H], state [B, H, K, E], y [B, T, H, E]");
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h)
        for (index_t e = 0; e < E; ++e) {
          if (x.log_decay.data_handle() != nullptr)
            for (index_t i = 0; i < K; ++i) state(b, h, i, e) *= std::exp(x.log_decay(b, t, h));
          for (index_t r = 0; r < R; ++r) {
            const auto k = [&](index_t i) { return x.key(b, t, r, h * keys / H, i); };
            double predicted = 0;
            for (index_t i = 0; i < K; ++i) predicted += k(i) * state(b, h, i, e);
            const double u = x.beta(b, t, r, h) * (x.value(b, t, r, h * values / H, e) - predicted);
            for (index_t i = 0; i < K; ++i) state(b, h, i, e) += k(i) * u;
          }
          double sum = 0;
          for (index_t i = 0; i < K; ++i)
            sum += state(b, h, i, e) * x.query(b, t, h * queries / H, i);
          y(b, t, h, e) = scale * sum;
        }
}

/// One call of `delta_rule_backward`, in any number type; R is 1 but for DeltaProduct.
template <class Number>
struct delta_call {
  Number scale;
  view<const Number, 4> query;        // [B, T, H', K]
  view<const Number, 5> key, value;   // [B, T, R, H', K], [B, T, R, H', E]
  view<const Number, 4> beta;         // [B, T, R, H]
  view<const Number, 3> log_decay{};  // [B, T, H], optional
  view<const Number, 4> initial;      // [B, H, K, E]
  view<const Number, 4> dy;           // [B, T, H, E]
  view<const Number, 4> dfinal;       // [B, H, K, E], of the final state
};

/// What it answers: the outputs, and the gradients of all that it was given.
template <class Number>
struct delta_answer {
  view<Number, 4> y, final, dquery;
  view<Number, 5> dkey, dvalue;
  view<Number, 4> dbeta;
  view<Number, 3> dlog_decay{};
  view<Number, 4> dinitial;
};

namespace detail {

/// One head of one sequence. States are kept after each decay and each micro-step of it.
template <class Number>
struct delta_head {
  const delta_call<Number>& u;
  const delta_answer<Number>& out;
  index_t b, h, T, K, E, R;
  std::vector<Number> states{}, errors{};  // [1 + T (R + 1), K, E], [T, R, E]

  [[nodiscard]] Number& state(index_t row, index_t i, index_t e) {
    return states[static_cast<std::size_t>((row * K + i) * E + e)];
  }
  /// S~ of micro-step r of token t; its successor is what the micro-step leaves.
  [[nodiscard]] index_t row(index_t t, index_t r) const { return t * (R + 1) + 1 + r; }
  [[nodiscard]] Number& error(index_t t, index_t r, index_t e) {
    return errors[static_cast<std::size_t>((t * R + r) * E + e)];
  }
  [[nodiscard]] const Number& query(index_t t, index_t i) const {
    return u.query(b, t, h * u.query.extent(2) / u.dy.extent(2), i);
  }
  [[nodiscard]] index_t shared(const view<const Number, 5>& v) const {
    return h * v.extent(3) / u.dy.extent(2);
  }
  [[nodiscard]] const Number& key(index_t t, index_t r, index_t i) const {
    return u.key(b, t, r, shared(u.key), i);
  }
  [[nodiscard]] bool decays() const { return u.log_decay.data_handle() != nullptr; }

  void forward() {
    using std::exp;
    states.assign(static_cast<std::size_t>((1 + T * (R + 1)) * K * E), Number(0));
    errors.assign(static_cast<std::size_t>(T * R * E), Number(0));
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < E; ++e) state(0, i, e) = u.initial(b, h, i, e);
    for (index_t t = 0; t < T; ++t)
      for (index_t e = 0; e < E; ++e) {
        for (index_t i = 0; i < K; ++i) {
          const Number& before = state(row(t, 0) - 1, i, e);
          state(row(t, 0), i, e) = decays() ? exp(u.log_decay(b, t, h)) * before : before;
        }
        for (index_t r = 0; r < R; ++r) {
          Number predicted(0);
          for (index_t i = 0; i < K; ++i) predicted += key(t, r, i) * state(row(t, r), i, e);
          error(t, r, e) = u.value(b, t, r, shared(u.value), e) - predicted;
          const Number write = u.beta(b, t, r, h) * error(t, r, e);
          for (index_t i = 0; i < K; ++i)
            state(row(t, r) + 1, i, e) = state(row(t, r), i, e) + key(t, r, i) * write;
        }
        Number sum(0);
        for (index_t i = 0; i < K; ++i) sum += query(t, i) * state(row(t, R), i, e);
        out.y(b, t, h, e) = u.scale * sum;
      }
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < E; ++e) out.final(b, h, i, e) = state(T * (R + 1), i, e);
  }

  void backward() {
    using std::exp;
    std::vector<Number> grad;
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < E; ++e) grad.push_back(u.dfinal(b, h, i, e));
    const auto d = [&](index_t i, index_t e) -> Number& {
      return grad[static_cast<std::size_t>(i * E + e)];
    };
    for (index_t t = T; t-- > 0;) {
      for (index_t i = 0; i < K; ++i) {
        Number dq(0);
        for (index_t e = 0; e < E; ++e) {
          dq += state(row(t, R), i, e) * u.dy(b, t, h, e);
          d(i, e) += u.scale * query(t, i) * u.dy(b, t, h, e);
        }
        out.dquery(b, t, h * u.query.extent(2) / u.dy.extent(2), i) += u.scale * dq;
      }
      for (index_t r = R; r-- > 0;) correct(t, r, d);
      if (!decays()) continue;
      const Number kept = exp(u.log_decay(b, t, h));
      Number sum(0);
      for (index_t i = 0; i < K; ++i)
        for (index_t e = 0; e < E; ++e) {
          sum += d(i, e) * state(row(t, 0), i, e);
          d(i, e) = kept * d(i, e);
        }
      out.dlog_decay(b, t, h) = sum;
    }
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < E; ++e) out.dinitial(b, h, i, e) = d(i, e);
  }

  /// From the gradient of what a micro-step leaves to that of what it finds.
  template <class D>
  void correct(index_t t, index_t r, const D& d) {
    const Number& beta = u.beta(b, t, r, h);
    std::vector<Number> dvalue;
    for (index_t e = 0; e < E; ++e) {
      Number dwrite(0);
      for (index_t i = 0; i < K; ++i) dwrite += d(i, e) * key(t, r, i);
      out.dbeta(b, t, r, h) += dwrite * error(t, r, e);
      dvalue.push_back(beta * dwrite);
      out.dvalue(b, t, r, shared(u.value), e) += dvalue.back();
    }
    for (index_t i = 0; i < K; ++i) {
      Number dk(0);
      for (index_t e = 0; e < E; ++e) {
        const Number& dv = dvalue[static_cast<std::size_t>(e)];
        dk += d(i, e) * (beta * error(t, r, e)) - state(row(t, r), i, e) * dv;
        d(i, e) -= key(t, r, i) * dv;
      }
      out.dkey(b, t, r, shared(u.key), i) += dk;
    }
  }
};

}  // namespace detail

/// The forward pass of `delta_rule` and its adjoint, t descending; dS after the last token is
/// dfinal:
///   dS += scale q[t] dy[t]^T,   dq = scale S[t] dy[t]
///   for r = R - 1 .. 0, with e = v - S~^T k and u = beta e:
///     du = dS^T k,   dbeta = <du, e>,   dv = beta du,   dk = dS u - S~ dv,   dS <- dS - k dv^T
///   dg = <dS, S~>,   dS <- exp g[t] dS
/// (arXiv 2406.06484, 2412.06464, 2502.10297; plain differentiation)
/// shapes    as `delta_call`; gradients as what they belong to
/// layout    any strides
/// numerics  that of Number
/// cost      B*T*H*K*E multiply-adds 5 R + 3 times; T (R + 1) + 1 states of a head
/// effects   gradients of tokens must be zeros on entry: heads that share one add to it
template <class Number>
void delta_rule_backward(const delta_call<Number>& u, const delta_answer<Number>& out) {
  const index_t B = u.dy.extent(0), T = u.dy.extent(1), H = u.dy.extent(2), E = u.dy.extent(3);
  const index_t K = u.query.extent(3), R = u.key.extent(2);
  for (index_t b = 0; b < B; ++b)
    for (index_t h = 0; h < H; ++h) {
      detail::delta_head<Number> head{u, out, b, h, T, K, E, R};
      head.forward();
      head.backward();
    }
}

}  // namespace maslin::inline MASLIN_ABI::reference
