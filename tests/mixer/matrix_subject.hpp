// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Linear attention and the delta rule in plain arrays, and as the laws of mixers see them: a head is
/// a channel, its gates are what a token has beside its values.

#include "laws/mixer_laws.hpp"
#include "support/matrix_bound.hpp"
#include "support/tolerance.hpp"

#include <maslin/reference/delta_rule.hpp>
#include <maslin/reference/linear_attention.hpp>

#include <memory>

namespace maslin::test {

/// What a mixer with a matrix state is, beside its sizes.
template <class Mixer>
struct matrix_kind;
template <class S, decay_axis Axis, feature Map>
struct matrix_kind<linear_attention<S, Axis, Map>> {
  static constexpr decay_axis axis = Axis;
  static constexpr feature map = Map;
  static constexpr bool delta = false, several = false;
};
template <class S, decay_axis Axis, updates Steps>
struct matrix_kind<delta_rule<S, Axis, Steps>> {
  static constexpr decay_axis axis = Axis;
  static constexpr feature map = feature::given;
  static constexpr bool delta = true, several = Steps == updates::several;
};

struct matrix_sizes {
  index_t B = 1, T = 0, H = 1, K = 1, E = 1;
  index_t queries = 0, keys = 0, values = 0;  // heads of their own; 0: H
  index_t R = 1;
  bool normalised = false;
};

/// All arrays of a call, dense.
template <class Mixer>
struct matrix_arrays {
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;

  matrix_sizes n;
  std::vector<S> query, key, value, beta, decay, initial, sums;
  std::vector<index_t> offsets{};

  [[nodiscard]] index_t sequences() const {
    return offsets.empty() ? n.B : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] Mixer mixer() const {
    Mixer m{.heads = n.H, .key_dim = n.K, .value_dim = n.E};
    if constexpr (!kind::delta) m.normalised = n.normalised;
    return m;
  }
  [[nodiscard]] typename Mixer::tokens tokens() const {
    const auto [B, T, H, K, E, Q, P, V, R, normalised] = n;
    typename Mixer::tokens u;
    u.offsets = offsets;
    u.query = row_major(query.data(), B, T, Q, K);
    if constexpr (kind::several) {
      u.key = row_major(key.data(), B, T, R, P, K);
      u.value = row_major(value.data(), B, T, R, V, E);
      u.beta = row_major(beta.data(), B, T, R, H);
    } else {
      u.key = row_major(key.data(), B, T, P, K);
      u.value = row_major(value.data(), B, T, V, E);
      if constexpr (kind::delta) u.beta = row_major(beta.data(), B, T, H);
    }
    if constexpr (kind::axis == decay_axis::head) u.log_decay = row_major(decay.data(), B, T, H);
    if constexpr (kind::axis == decay_axis::key) u.log_decay = row_major(decay.data(), B, T, H, K);
    return u;
  }
  [[nodiscard]] matrix_call<S> call() const {
    const auto [B, T, H, K, E, Q, P, V, R, normalised] = n;
    matrix_call<S> c;
    c.query = row_major(query.data(), B, T, Q, K);
    c.key = row_major(key.data(), B, T * R, P, K);
    c.value = row_major(value.data(), B, T * R, V, E);
    if (kind::delta) c.beta = row_major(beta.data(), B, T * R, H);
    if (kind::axis == decay_axis::head) c.log_decay = row_major(decay.data(), B, T, H);
    if (kind::axis == decay_axis::key) c.log_decays = row_major(decay.data(), B, T, H, K);
    c.heads = H;
    c.map = kind::map;
    c.normalised = normalised;
    return c;
  }
  [[nodiscard]] std::size_t outputs() const {
    return static_cast<std::size_t>(n.B * n.T * n.H * n.E);
  }
};

/// Random arrays: keys of length 1 for the delta rule, decays from exp(-1e-6) to exp(-2).
template <class Mixer>
[[nodiscard]] matrix_arrays<Mixer> make_matrix_arrays(matrix_sizes n, std::uint64_t seed,
                                                      double most_beta = 1) {
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;
  for (index_t* heads : {&n.queries, &n.keys, &n.values})
    if (*heads == 0) *heads = n.H;
  random r(seed);
  const auto numbers = [&](index_t count, double low, double high) {
    std::vector<S> x(static_cast<std::size_t>(count));
    r.fill_uniform(std::span<S>(x), low, high);
    return x;
  };
  const index_t tokens = n.B * n.T;
  // A normaliser wants positive features.
  const double low = n.normalised && kind::map == feature::given ? 0.1 : -1;
  matrix_arrays<Mixer> a{n,
                         numbers(tokens * n.queries * n.K, low, 1),
                         numbers(tokens * n.R * n.keys * n.K, low, 1),
                         numbers(tokens * n.R * n.values * n.E, -2, 2),
                         numbers(kind::delta ? tokens * n.R * n.H : 0, 0, most_beta),
                         {},
                         numbers(n.B * n.H * n.K * n.E, -1, 1),
                         numbers(n.normalised ? n.B * n.H * n.K : 0, 0, 1)};
  if (kind::delta)
    for (std::size_t i = 0; i < a.key.size(); i += static_cast<std::size_t>(n.K)) {
      double square = 0;
      for (index_t k = 0; k < n.K; ++k)
        square += std::pow(double{a.key[i + static_cast<std::size_t>(k)]}, 2);
      for (index_t k = 0; k < n.K; ++k)
        a.key[i + static_cast<std::size_t>(k)] /= static_cast<S>(std::sqrt(square));
    }
  if (kind::axis != decay_axis::none)
    for (index_t i = 0; i < tokens * n.H * (kind::axis == decay_axis::key ? n.K : 1); ++i)
      a.decay.push_back(static_cast<S>(-std::exp(r.uniform(-14, 0.7))));
  return a;
}

template <class Mixer>
[[nodiscard]] outcome<typename Mixer::scalar_type> carry_out(const matrix_arrays<Mixer>& a,
                                                             const way& how) {
  using S = typename Mixer::scalar_type;
  const auto [B, T, H, K, E, Q, P, V, R, normalised] = a.n;
  const auto mixer = a.mixer();
  const auto tokens = a.tokens();
  auto state = mixer.make_state(a.sequences());
  const auto shaped = [&, K = K, H = H](auto* p) { return row_major(p, a.sequences(), H, K); };
  state.copy_from(row_major(a.initial.data(), a.sequences(), H, K, E),
                  normalised ? shaped(a.sums.data()) : view<const S, 3>{});
  outcome<S> out{std::vector<S>(a.outputs()), std::vector<S>(a.initial.size())};
  const auto y = row_major(out.y.data(), B, T, H, E);
  std::visit(
      [&, T = T](const auto& policy) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(policy)>, decode>)
          for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
        else
          mixer.scan(policy, tokens, y, state);
      },
      how);
  std::vector<S> sums(a.sums.size());
  state.copy_to(row_major(out.state.data(), a.sequences(), H, K, E),
                normalised ? shaped(sums.data()) : view<S, 3>{});
  out.state.insert(out.state.end(), sums.begin(), sums.end());
  return out;
}

/// y and state of the reference.
template <class Mixer>
[[nodiscard]] outcome<double> by_reference(const matrix_arrays<Mixer>& a) {
  using kind = matrix_kind<Mixer>;
  const auto [B, T, H, K, E, Q, P, V, R, normalised] = a.n;
  const auto wide = [](const auto& x) { return std::vector<double>(x.begin(), x.end()); };
  const auto query = wide(a.query), key = wide(a.key), value = wide(a.value), beta = wide(a.beta),
             decay = wide(a.decay);
  outcome<double> out{std::vector<double>(a.outputs()), wide(a.initial)};
  auto sums = wide(a.sums);
  const auto state = row_major(out.state.data(), B, H, K, E);
  const auto y = row_major(out.y.data(), B, T, H, E);
  const double scale = 1 / std::sqrt(static_cast<double>(K));
  const auto q = row_major(query.data(), B, T, Q, K);
  view<const double, 3> one{};
  if (kind::axis == decay_axis::head) one = row_major(decay.data(), B, T, H);
  if constexpr (kind::delta) {
    reference::delta_rule({.query = q,
                           .key = row_major(key.data(), B, T, R, P, K),
                           .value = row_major(value.data(), B, T, R, V, E),
                           .beta = row_major(beta.data(), B, T, R, H),
                           .log_decay = one},
                          scale, state, y);
  } else {
    reference::linear_arrays x{.query = q,
                               .key = row_major(key.data(), B, T, P, K),
                               .value = row_major(value.data(), B, T, V, E),
                               .log_decay = one};
    if (kind::axis == decay_axis::key) x.log_decays = row_major(decay.data(), B, T, H, K);
    reference::linear_attention(x, {kind::map, scale, normalised}, state,
                                row_major(sums.data(), B, H, K), y);
  }
  out.state.insert(out.state.end(), sums.begin(), sums.end());
  return out;
}

/// y of the oracle, and the state after it.
template <class Mixer>
[[nodiscard]] std::vector<bounded<wider_t<typename Mixer::scalar_type>>> bounds_of(
    const matrix_arrays<Mixer>& a,
    std::vector<bounded<wider_t<typename Mixer::scalar_type>>>& state) {
  using S = typename Mixer::scalar_type;
  using real = wider_t<S>;
  matrix_numbers<real> h{exact_state<real, S>(a.initial), exact_state<real, S>(a.sums)};
  std::vector<bounded<real>> y;
  if constexpr (matrix_kind<Mixer>::delta)
    y = delta_bounds<real, S>(a.call(), a.n.R, a.n.E, h);
  else
    y = linear_bounds<real, S>(a.call(), a.n.E, h);
  state = h.matrix;
  state.insert(state.end(), h.vector.begin(), h.vector.end());
  return y;
}

/// Every way against the oracle, and against each other where they owe the same bytes.
template <class Mixer>
void check_against_oracle(const matrix_arrays<Mixer>& a, const std::string& name,
                          worst_ratio& sequential, worst_ratio& chunked) {
  std::vector<bounded<wider_t<typename Mixer::scalar_type>>> state;
  const auto want = bounds_of(a, state);
  const auto compare = [&](const auto& got, walk w, worst_ratio& worst) {
    for (std::size_t i = 0; i < got.y.size(); ++i)
      worst.add(error_ratio(got.y[i], want[i], 1.01 * per_term(w)), [&] { return name + ", y"; });
    for (std::size_t i = 0; i < got.state.size(); ++i)
      worst.add(error_ratio(got.state[i], state[i], 1.01 * per_term(w)),
                [&] { return name + ", state"; });
  };
  const auto same = carry_out(a, exec::sequential{});
  compare(same, walk::sequential, sequential);
  for (const way& how : {way(exec::scalar{}), way(decode{}), way(exec::sequential{.threads = 3})}) {
    INFO(name << ", " << describe(how));
    REQUIRE(difference(same, carry_out(a, how)) == "");
  }
  for (const index_t chunk : {0, 1, 5, 16, 24, 500}) {
    const auto chunks = carry_out(a, exec::chunked{.chunk = chunk, .threads = 1});
    INFO(name << ", chunk " << chunk);
    REQUIRE(difference(chunks, carry_out(a, exec::chunked{.chunk = chunk, .threads = 3})) == "");
    compare(chunks, walk::chunked, chunked);
  }
}

/// A problem of the laws in memory, with poison in the gaps between batches, tokens and heads.
template <class Mixer>
class matrix_stage final : public stage<typename Mixer::scalar_type> {
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;
  using shape = std::array<index_t, 4>;

 public:
  matrix_stage(matrix_arrays<Mixer> arrays, bool gaps)
      : a_(std::move(arrays)),
        gaps_(gaps ? shape{9, 4, 3, 0} : shape{}),
        query_(filled(a_.query, a_.n.K)),
        key_(filled(a_.key, a_.n.K)),
        value_(filled(a_.value, a_.n.E)) {}

  outcome<S> run(const plan& how) override {
    const auto [B, T, H, K, E, Q, P, V, R, normalised] = a_.n;
    poisoned<S, 4> y({B, T, H, E}, gaps_);
    const auto mixer = a_.mixer();
    auto tokens = a_.tokens();
    tokens.query = std::as_const(query_).get();
    tokens.key = std::as_const(key_).get();
    tokens.value = std::as_const(value_).get();
    auto state = mixer.make_state(a_.sequences());
    state.copy_from(row_major(std::as_const(a_.initial).data(), a_.sequences(), H, K, E));
    run_legs(mixer, how, tokens, y.get(), state);
    if (!y.intact()) FAIL("the call wrote outside the elements of y");
    outcome<S> result{y.values(), std::vector<S>(a_.initial.size())};
    state.copy_to(row_major(result.state.data(), a_.sequences(), H, K, E));
    return result;
  }

 private:
  [[nodiscard]] poisoned<S, 4> filled(const std::vector<S>& from, index_t width) const {
    poisoned<S, 4> to({a_.n.B, a_.n.T, a_.n.H, width}, gaps_);
    to.assign(std::span<const S>(from));
    return to;
  }

  matrix_arrays<Mixer> a_;
  shape gaps_;
  poisoned<S, 4> query_, key_, value_;
};

/// A head as the laws see it: query, key, beta and decay are its gates, a value is its input.
template <class Mixer, index_t K, index_t E>
class matrix_subject final : public subject<typename Mixer::scalar_type> {
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;
  using real = wider_t<S>;
  static_assert(!kind::several);
  static constexpr index_t decays = kind::axis == decay_axis::none   ? 0
                                    : kind::axis == decay_axis::head ? 1
                                                                     : K;
  static constexpr index_t betas = kind::delta ? 1 : 0;

 public:
  matrix_subject() : subject<S>({2 * K + betas + decays, E, K * E}, 1, normalise::none, {}) {}

  double factor(walk w) const override { return per_term(w); }
  double factor_of_recurrence(walk w) const override { return per_term(w); }

  bool fill_gates(std::span<S> gates, bool sticky, random& r) const override {
    r.fill_normal(gates.subspan(0, 2 * K), 1 / std::sqrt(static_cast<double>(K)));
    for (S& g : gates.subspan(2 * K)) g = static_cast<S>(-r.uniform(0, sticky ? 1e-6 : 2));
    // Corrections that keep the bound, which knows no signs, from growing past all use.
    if (kind::delta) gates[2 * K] = static_cast<S>(r.uniform(0, sticky ? 0.05 : 0.5));
    return true;
  }
  std::unique_ptr<stage<S>> set(const problem<S>& p, const placement& where) const override {
    return std::make_unique<matrix_stage<Mixer>>(arrays_of(p), where.gaps);
  }
  outcome<double> reference(const problem<S>& p) const override {
    return by_reference(arrays_of(p));
  }
  std::vector<bounded<real>> bounds(const problem<S>& p) const override {
    std::vector<bounded<real>> state;
    return bounds_of(arrays_of(p), state);
  }
  std::vector<S> coefficients(std::span<const S>) const override { return {}; }

 private:
  static matrix_arrays<Mixer> arrays_of(const problem<S>& p) {
    const index_t C = p.channels;
    matrix_arrays<Mixer> a{
        {p.batch, p.length, C, K, E, C, C, C}, {}, {}, p.input, {}, {}, p.initial, {}, p.offsets};
    for (auto row = p.gate.begin(); row != p.gate.end();) {
      const auto take = [&](std::vector<S>& into, index_t count) {
        into.insert(into.end(), row, row + count);
        row += count;
      };
      take(a.query, K);
      take(a.key, K);
      take(a.beta, betas);
      take(a.decay, decays);
    }
    return a;
  }
};

/// Token by token, and in chunks whose length divides nothing.
inline const std::vector<way> both_forms{exec::sequential{},
                                         exec::chunked{.chunk = 7, .threads = 1}};

template <class S>
[[nodiscard]] double worst_difference(const std::vector<S>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  return worst;
}

/// Of one head: NaN in the value of a token, its last where it has several, reaches this column
/// from then on, in a query that token alone; all else has the bytes of the call without.
template <class Mixer>
void nan_law(const matrix_arrays<Mixer>& clean) {
  const index_t T = clean.n.T, K = clean.n.K, E = clean.n.E, R = clean.n.R;
  constexpr auto nan = std::numeric_limits<typename Mixer::scalar_type>::quiet_NaN();
  for (const way& how : both_forms) {
    const auto want = carry_out(clean, how);
    const auto check = [&](const auto& a, auto inside) {
      const auto got = carry_out(a, how);
      for (index_t t = 0; t < T; ++t)
        for (index_t e = 0; e < E; ++e) {
          const auto i = static_cast<std::size_t>(t * E + e);
          INFO(describe(how) << ", t " << t << ", e " << e);
          const bool as_wanted =
              inside(t, e) ? std::isnan(got.y[i]) : same_bits(got.y[i], want.y[i]);
          REQUIRE(as_wanted);
        }
    };
    for (const index_t t : {index_t{0}, index_t{5}, index_t{7}, T - 1})
      for (const index_t e : {index_t{0}, index_t{9}, index_t{16}, E - 1}) {
        auto a = clean;
        a.value[static_cast<std::size_t>((t * R + R - 1) * E + e)] = nan;
        check(a, [&](index_t s, index_t c) { return s >= t && c == e; });
        a = clean;
        a.query[static_cast<std::size_t>(t * K + 2)] = nan;
        check(a, [&](index_t s, index_t) { return s == t; });
      }
  }
}

}  // namespace maslin::test
