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

/// The arrays of `linear_attention`; at most one of the decays has data.
struct linear_arrays {
  view<const double, 4> query{};       // [B, T, H', K]
  view<const double, 4> key{};         // [B, T, H', K]
  view<const double, 4> value{};       // [B, T, H', E]
  view<const double, 3> log_decay{};   // [B, T, H], optional
  view<const double, 4> log_decays{};  // [B, T, H, K], optional
};

/// What linear attention may be told beside its arrays.
struct linear_options {
  feature map = feature::given;
  double scale = 1;
  bool normalised = false;
};

/// Linear attention, term by term.
///   S[t] = Diag(exp g[t]) S[t-1] + phi(k[t]) v[t]^T,   y[t] = scale S[t]^T phi(q[t])
///   z[t] = exp g[t] z[t-1] + phi(k[t]),   y[t] <- y[t] / (scale <phi(q[t]), z[t]> + 1e-10)
///   phi(x) = x, or x + 1 for x > 0 and exp(x) otherwise
///   (arXiv 2006.16236, equations 18 to 20; with decays 2312.06635, equation 3)
/// shapes    as `linear_arrays`, head h of fewer than H being floor(h H' / H)   y [B, T, H, E]
///           state [B, H, K, E]   sums (the z, if normalised) [B, H, K]
/// layout    any strides
/// aliasing  none
/// numerics  double, terms added in the order of the formula
/// cost      B*T*H*K*E multiply-adds twice, B*T*H*K exp; no allocation
/// effects   state and sums hold S[-1], z[-1] on entry and S[T-1], z[T-1] on return
/// throws    shape_error before any write
inline void linear_attention(const linear_arrays& x, const linear_options& options,
                             view<double, 4> state, view<double, 3> sums, view<double, 4> y) {
  const index_t B = y.extent(0), T = y.extent(1), H = y.extent(2), E = y.extent(3);
  const index_t K = state.extent(2);
  const index_t queries = x.query.extent(2), keys = x.key.extent(2), values = x.value.extent(2);
  MASLIN_EXPECT(x.query.extent(1) == T && x.key.extent(1) == T && x.value.extent(1) == T &&
                    x.query.extent(3) == K && x.key.extent(3) == K && x.value.extent(3) == E &&
                    state.extent(0) == B && state.extent(1) == H && state.extent(3) == E,
                shape_error,
                "reference::linear_attention: query and key must be [B, T, H', K], value "
                "[B, T, H', E], state [B, H, K, E], y [B, T, H, E]");
  const auto phi = [&](double v) {
    return options.map == feature::given ? v : v > 0 ? v + 1 : std::exp(v);
  };
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        double divisor = 1e-10;
        for (index_t e = 0; e < E; ++e) y(b, t, h, e) = 0;
        for (index_t i = 0; i < K; ++i) {
          double a = 1;
          if (x.log_decay.data_handle() != nullptr) a = std::exp(x.log_decay(b, t, h));
          if (x.log_decays.data_handle() != nullptr) a = std::exp(x.log_decays(b, t, h, i));
          const double q = phi(x.query(b, t, h * queries / H, i));
          const double k = phi(x.key(b, t, h * keys / H, i));
          for (index_t e = 0; e < E; ++e) {
            double& s = state(b, h, i, e);
            s = a * s + k * x.value(b, t, h * values / H, e);
            y(b, t, h, e) += options.scale * q * s;
          }
          if (options.normalised) {
            sums(b, h, i) = a * sums(b, h, i) + k;
            divisor += options.scale * q * sums(b, h, i);
          }
        }
        if (options.normalised)
          for (index_t e = 0; e < E; ++e) y(b, t, h, e) /= divisor;
      }
}

/// One call of `linear_attention_backward`, in any number type; at most one of the decays has data.
template <class Number>
struct linear_call {
  linear_options options;
  Number scale;                        // in place of that of the options
  view<const Number, 4> query, key;    // [B, T, H', K]
  view<const Number, 4> value;         // [B, T, H', E]
  view<const Number, 3> log_decay{};   // [B, T, H], optional
  view<const Number, 4> log_decays{};  // [B, T, H, K], optional
  view<const Number, 4> initial;       // [B, H, K, E]
  view<const Number, 3> sums{};        // [B, H, K], if normalised
  view<const Number, 4> dy;            // [B, T, H, E]
  view<const Number, 4> dfinal;        // [B, H, K, E], of the final state
  view<const Number, 3> dfinal_sums{};
};

/// What it answers: the outputs, and the gradients of all that it was given.
template <class Number>
struct linear_answer {
  view<Number, 4> y;
  view<Number, 4> final;
  view<Number, 3> final_sums{};
  view<Number, 4> dquery, dkey, dvalue;
  view<Number, 3> dlog_decay{};
  view<Number, 4> dlog_decays{};
  view<Number, 4> dinitial;
  view<Number, 3> dinitial_sums{};
};

namespace detail {

/// One head of one sequence. A normaliser is a last column of values, all of them one.
template <class Number>
struct linear_head {
  const linear_call<Number>& u;
  const linear_answer<Number>& out;
  index_t b, h, T, K, E, columns;
  std::vector<Number> states{};  // [T + 1, K, columns]

  [[nodiscard]] Number& state(index_t t, index_t i, index_t e) {
    return states[static_cast<std::size_t>((t * K + i) * columns + e)];
  }
  [[nodiscard]] index_t shared(const view<const Number, 4>& v) const {
    return h * v.extent(2) / u.dy.extent(2);
  }
  [[nodiscard]] Number feature_of(const Number& x) const {
    using std::exp;
    if (u.options.map == feature::given) return x;
    return x > Number(0) ? x + Number(1) : exp(x);
  }
  [[nodiscard]] Number slope(const Number& x) const {
    using std::exp;
    return u.options.map == feature::given || x > Number(0) ? Number(1) : exp(x);
  }
  [[nodiscard]] const Number& query(index_t t, index_t i) const {
    return u.query(b, t, shared(u.query), i);
  }
  [[nodiscard]] const Number& key(index_t t, index_t i) const {
    return u.key(b, t, shared(u.key), i);
  }
  [[nodiscard]] Number value(index_t t, index_t e) const {
    return e < E ? u.value(b, t, shared(u.value), e) : Number(1);
  }
  [[nodiscard]] bool decays() const {
    return u.log_decay.data_handle() != nullptr || u.log_decays.data_handle() != nullptr;
  }
  [[nodiscard]] Number kept(index_t t, index_t i) const {
    using std::exp;
    if (u.log_decay.data_handle() != nullptr) return exp(u.log_decay(b, t, h));
    return exp(u.log_decays(b, t, h, i));
  }

  void forward() {
    states.assign(static_cast<std::size_t>((T + 1) * K * columns), Number(0));
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < columns; ++e)
        state(0, i, e) = e < E ? u.initial(b, h, i, e) : u.sums(b, h, i);
    for (index_t t = 0; t < T; ++t) {
      for (index_t i = 0; i < K; ++i)
        for (index_t e = 0; e < columns; ++e) {
          const Number write = feature_of(key(t, i)) * value(t, e);
          state(t + 1, i, e) =
              decays() ? kept(t, i) * state(t, i, e) + write : state(t, i, e) + write;
        }
      const Number n = divisor(t);
      for (index_t e = 0; e < E; ++e) out.y(b, t, h, e) = read(t, e) / n;
    }
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < columns; ++e)
        (e < E ? out.final(b, h, i, e) : out.final_sums(b, h, i)) = state(T, i, e);
  }
  /// scale S[t]^T phi(q[t])
  [[nodiscard]] Number read(index_t t, index_t e) {
    Number sum(0);
    for (index_t i = 0; i < K; ++i) sum += feature_of(query(t, i)) * state(t + 1, i, e);
    return u.scale * sum;
  }
  [[nodiscard]] Number divisor(index_t t) {
    return columns > E ? read(t, E) + Number(1e-10) : Number(1);
  }

  void backward() {
    std::vector<Number> grad(static_cast<std::size_t>(K * columns));
    const auto d = [&](index_t i, index_t e) -> Number& {
      return grad[static_cast<std::size_t>(i * columns + e)];
    };
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < columns; ++e)
        d(i, e) = e < E ? u.dfinal(b, h, i, e) : u.dfinal_sums(b, h, i);
    for (index_t t = T; t-- > 0;) {
      const Number n = divisor(t);
      Number along(0);
      for (index_t e = 0; e < E; ++e) along += u.dy(b, t, h, e) * out.y(b, t, h, e);
      for (index_t i = 0; i < K; ++i) {
        Number dq(0), dk(0), da(0);
        for (index_t e = 0; e < columns; ++e) {
          const Number dy = (e < E ? u.dy(b, t, h, e) : -along) / n;
          d(i, e) += u.scale * feature_of(query(t, i)) * dy;
          dq += state(t + 1, i, e) * dy;
          dk += d(i, e) * value(t, e);
          if (e < E) out.dvalue(b, t, shared(u.value), e) += d(i, e) * feature_of(key(t, i));
          da += d(i, e) * state(t, i, e);
          if (decays()) d(i, e) = kept(t, i) * d(i, e);
        }
        out.dquery(b, t, shared(u.query), i) += u.scale * dq * slope(query(t, i));
        out.dkey(b, t, shared(u.key), i) += dk * slope(key(t, i));
        if (u.log_decay.data_handle() != nullptr) out.dlog_decay(b, t, h) += kept(t, i) * da;
        if (u.log_decays.data_handle() != nullptr) out.dlog_decays(b, t, h, i) = kept(t, i) * da;
      }
    }
    for (index_t i = 0; i < K; ++i)
      for (index_t e = 0; e < columns; ++e)
        (e < E ? out.dinitial(b, h, i, e) : out.dinitial_sums(b, h, i)) = d(i, e);
  }
};

}  // namespace detail

/// The forward pass of `linear_attention` and its adjoint, t descending; dS after the last token is
/// dfinal:
///   dS += scale phi(q[t]) dy[t]^T,   dq = scale phi'(q[t]) S[t] dy[t]
///   dk = phi'(k[t]) dS v[t],   dv = dS^T phi(k[t]),   dg[i] = exp g[t,i] sum_e dS[i,e] S[t-1][i,e]
///   dS <- Diag(exp g[t]) dS
/// with a normaliser n dy becomes dy / n, and ones are one more column of values, of which y's
/// gradient is -<dy, y> / n (arXiv 2006.16236, 2312.06635; plain differentiation).
/// shapes    as `linear_call`; gradients as what they belong to
/// layout    any strides
/// numerics  that of Number
/// cost      B*T*H*K*E multiply-adds 6 times; (T + 1) states of a head
/// effects   gradients of tokens must be zeros on entry: heads that share one add to it
template <class Number>
void linear_attention_backward(const linear_call<Number>& u, const linear_answer<Number>& out) {
  const index_t B = u.dy.extent(0), T = u.dy.extent(1), H = u.dy.extent(2), E = u.dy.extent(3);
  const index_t K = u.query.extent(3);
  for (index_t b = 0; b < B; ++b)
    for (index_t h = 0; h < H; ++h) {
      detail::linear_head<Number> head{u, out, b, h, T, K, E, E + (u.options.normalised ? 1 : 0)};
      head.forward();
      head.backward();
    }
}

}  // namespace maslin::inline MASLIN_ABI::reference
