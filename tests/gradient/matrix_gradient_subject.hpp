// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Linear attention and the delta rule as the laws of backward passes see them. The numbers of a
/// state are the matrices of a sequence, then its normalisers.

#include "laws/gradient_laws.hpp"
#include "mixer/matrix_subject.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/delta_rule.hpp>
#include <maslin/gradient/linear_attention.hpp>

#include <array>
#include <memory>
#include <numeric>

namespace maslin::test {

/// What a problem draws its sizes from.
struct matrix_gradient_sizes {
  std::vector<index_t> heads{1, 2, 3, 4}, widths{1, 2, 7, 8, 9, 16, 17}, every{0, 1, 3, 4, 7};
  bool shared = false, normalised = false;
};

/// Tokens, or their gradients, in memory of their own.
template <class Mixer>
struct matrix_memory {
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;
  static constexpr int more = kind::several ? 1 : 0;
  static constexpr int decay_rank = kind::axis == decay_axis::key ? 4 : 3;

  poisoned<S, 4> query;
  poisoned<S, 4 + more> key, value;
  poisoned<S, 3 + more> beta;
  poisoned<S, decay_rank> decay;

  matrix_memory(const matrix_sizes& n, bool gaps)
      : query({n.B, n.T, n.queries, n.K}, spread<4>(gaps)),
        key(steps<4>({n.B, n.T, n.keys, n.K}, n.R), spread<4 + more>(gaps)),
        value(steps<4>({n.B, n.T, n.values, n.E}, n.R), spread<4 + more>(gaps)),
        beta(steps<3>({n.B, n.T, kind::delta ? n.H : 0}, n.R), spread<3 + more>(gaps)),
        decay(decays(n), spread<decay_rank>(gaps)) {}

  /// f(array) in the order of the subject.
  template <class F>
  void each(const F& f) {
    f(query);
    f(key);
    f(value);
    if constexpr (kind::delta) f(beta);
    if constexpr (kind::axis != decay_axis::none) f(decay);
  }
  /// Fills tokens or gradients, whose views have the same names; those of one array stay null.
  template <class Views>
  void fill(Views& to, int left_out = -1) {
    if (left_out != 0) to.query = query.get();
    if (left_out != 1) to.key = key.get();
    if (left_out != 2) to.value = value.get();
    if constexpr (kind::delta)
      if (left_out != 3) to.beta = beta.get();
    if constexpr (kind::axis != decay_axis::none)
      if (left_out != (kind::delta ? 4 : 3)) to.log_decay = decay.get();
  }

 private:
  template <int Rank>
  using shape = std::array<index_t, static_cast<std::size_t>(Rank)>;

  /// Gaps behind batches and tokens, and behind heads where they are not the last axis.
  template <int Rank>
  static shape<Rank> spread(bool gaps) {
    shape<Rank> all{};
    if (gaps) std::iota(all.rbegin() + 1, all.rend(), index_t{3});
    return all;
  }
  template <int Rank>
  static shape<Rank + more> steps(const shape<Rank>& token, index_t R) {
    shape<Rank + more> all{};
    std::copy(token.begin(), token.end(), all.begin());
    if constexpr (more == 1) {
      std::rotate(all.begin() + 2, all.end() - 1, all.end());
      all[2] = R;
    }
    return all;
  }
  static shape<decay_rank> decays(const matrix_sizes& n) {
    shape<decay_rank> all{n.B, n.T, kind::axis == decay_axis::none ? 0 : n.H};
    if constexpr (decay_rank == 4) all[3] = n.K;
    return all;
  }
};

namespace detail {

/// Arrays of one sequence in the reference's number, T tokens from `begin` on.
template <class Number>
struct reference_arrays {
  std::vector<std::vector<Number>> inputs, gradients;
  std::vector<Number> y, initial, final, dinitial, dy, dfinal;
};

template <class Mixer, class Number>
void run_reference(reference_arrays<Number>& a, const matrix_sizes& n, index_t T) {
  using kind = matrix_kind<Mixer>;
  const auto [unused, tokens, H, K, E, Q, P, V, R, normalised] = n;
  const Number scale = [K = K] {
    using std::sqrt;
    return Number(1) / sqrt(Number(static_cast<double>(K)));
  }();
  const auto in = [](const std::vector<Number>& x, auto... extents) {
    return row_major(x.data(), index_t{1}, extents...);
  };
  const auto out = [](std::vector<Number>& x, auto... extents) {
    return row_major(x.data(), index_t{1}, extents...);
  };
  if constexpr (kind::delta) {
    reference::delta_call<Number> u;
    reference::delta_answer<Number> w;
    u.scale = scale;
    u.query = in(a.inputs[0], T, Q, K), w.dquery = out(a.gradients[0], T, Q, K);
    u.key = in(a.inputs[1], T, R, P, K), w.dkey = out(a.gradients[1], T, R, P, K);
    u.value = in(a.inputs[2], T, R, V, E), w.dvalue = out(a.gradients[2], T, R, V, E);
    u.beta = in(a.inputs[3], T, R, H), w.dbeta = out(a.gradients[3], T, R, H);
    if constexpr (kind::axis == decay_axis::head)
      u.log_decay = in(a.inputs[4], T, H), w.dlog_decay = out(a.gradients[4], T, H);
    u.dy = in(a.dy, T, H, E), w.y = out(a.y, T, H, E);
    u.initial = in(a.initial, H, K, E), w.dinitial = out(a.dinitial, H, K, E);
    u.dfinal = in(a.dfinal, H, K, E), w.final = out(a.final, H, K, E);
    reference::delta_rule_backward(u, w);
  } else {
    reference::linear_call<Number> u;
    reference::linear_answer<Number> w;
    u.options = {.map = kind::map, .normalised = normalised};
    u.scale = scale;
    u.query = in(a.inputs[0], T, Q, K), w.dquery = out(a.gradients[0], T, Q, K);
    u.key = in(a.inputs[1], T, P, K), w.dkey = out(a.gradients[1], T, P, K);
    u.value = in(a.inputs[2], T, V, E), w.dvalue = out(a.gradients[2], T, V, E);
    if constexpr (kind::axis == decay_axis::head)
      u.log_decay = in(a.inputs[3], T, H), w.dlog_decay = out(a.gradients[3], T, H);
    if constexpr (kind::axis == decay_axis::key)
      u.log_decays = in(a.inputs[3], T, H, K), w.dlog_decays = out(a.gradients[3], T, H, K);
    u.dy = in(a.dy, T, H, E), w.y = out(a.y, T, H, E);
    u.initial = in(a.initial, H, K, E), w.dinitial = out(a.dinitial, H, K, E);
    u.dfinal = in(a.dfinal, H, K, E), w.final = out(a.final, H, K, E);
    if (normalised) {
      const index_t from = H * K * E;
      const auto sums = [&](auto* p) { return row_major(p + from, index_t{1}, n.H, n.K); };
      u.sums = sums(std::as_const(a.initial).data());
      u.dfinal_sums = sums(std::as_const(a.dfinal).data());
      w.final_sums = sums(a.final.data());
      w.dinitial_sums = sums(a.dinitial.data());
    }
    reference::linear_attention_backward(u, w);
  }
}

}  // namespace detail

template <class Mixer>
class matrix_gradient_subject final : public gradient_subject<typename Mixer::scalar_type> {
 public:
  using S = typename Mixer::scalar_type;
  using kind = matrix_kind<Mixer>;
  using base = gradient_subject<S>;
  using typename base::number;
  using problem = gradient_problem<S>;

  explicit matrix_gradient_subject(matrix_gradient_sizes sizes = {}) : from_(std::move(sizes)) {}

  [[nodiscard]] std::vector<gradient_array> arrays() const override {
    std::vector<gradient_array> all{{"query"}, {"key"}, {"value", true, true}};
    // What is normalised has a state that enters twice.
    all[2].linear = !from_.normalised;
    if (kind::delta) all.push_back({"beta"});
    if (kind::axis != decay_axis::none) all.push_back({"log_decay"});
    return all;
  }

  [[nodiscard]] problem draw(index_t batch, index_t length, random& r) const override {
    const auto pick = [&](const std::vector<index_t>& of) {
      return of[static_cast<std::size_t>(r.below(static_cast<index_t>(of.size())))];
    };
    const index_t H = pick(from_.heads), K = pick(from_.widths), E = pick(from_.widths);
    const auto divisor = [&] {
      index_t n = from_.shared ? r.between(1, H) : H;
      while (H % n != 0) ++n;
      return n;
    };
    problem p;
    p.batch = batch;
    p.length = length;
    p.sizes = {H,
               K,
               E,
               divisor(),
               divisor(),
               divisor(),
               kind::several ? r.between(1, 3) : 1,
               pick(from_.every)};
    const auto n = sizes_of(p);
    const index_t tokens = batch * length, rows = tokens * n.R;
    p.inputs = {normal(r, tokens * n.queries * K, 1), keys(r, n, rows),
                normal(r, rows * n.values * E, 1)};
    if (kind::delta) p.inputs.push_back(uniform(r, rows * H, 0, 1));
    if (kind::axis != decay_axis::none) {
      p.inputs.push_back(uniform(r, tokens * H * (kind::axis == decay_axis::key ? K : 1), -6, 1));
      for (S& g : p.inputs.back()) g = static_cast<S>(-std::exp(double{g}));
    }
    for (std::vector<S>* x : {&p.initial, &p.dfinal})
      for (index_t b = 0; b < batch; ++b) {
        const auto matrix = normal(r, H * K * E, 0.5);
        const auto sums = uniform(r, n.normalised ? H * K : 0, 0.1, 1);
        x->insert(x->end(), matrix.begin(), matrix.end());
        x->insert(x->end(), sums.begin(), sums.end());
      }
    p.dy = normal(r, tokens * H * E, 1);
    return p;
  }

  [[nodiscard]] std::vector<S> forward(const problem& p) const override {
    const auto n = sizes_of(p);
    matrix_memory<Mixer> memory(n, false);
    const auto tokens = tokens_of(p, memory);
    const Mixer mixer = mixer_of(n);
    auto state = state_of(mixer, p, p.initial);
    std::vector<S> out(p.dy.size());
    mixer.scan(exec::sequential{}, tokens, row_major(out.data(), n.B, n.T, n.H, n.E), state);
    const auto last = numbers_of(state, p);
    out.insert(out.end(), last.begin(), last.end());
    return out;
  }

  [[nodiscard]] gradient_arrays<S> backward(const problem& p,
                                            const backward_plan& plan) const override {
    const auto n = sizes_of(p);
    matrix_memory<Mixer> memory(n, plan.gaps), gradients(n, plan.gaps);
    const auto tokens = tokens_of(p, memory);
    poisoned<S, 4> y({n.B, n.T, n.H, n.E}), dy({n.B, n.T, n.H, n.E}, gaps_of_dy(plan.gaps));
    dy.assign(std::span<const S>(p.dy));
    const Mixer mixer = mixer_of(n);
    auto keep = p.offsets.empty() ? mixer.make_saved(n.B, n.T, p.sizes[7])
                                  : mixer.make_saved(p.offsets, p.sizes[7]);
    auto state = state_of(mixer, p, p.initial), dstate = state_of(mixer, p, p.dfinal);
    typename Mixer::gradients d;
    gradients.fill(d, plan.left_out);
    d.accumulate = plan.accumulate;
    if (plan.accumulate)
      gradients.each(
          [&](auto& array) { array.each([&](S& x) { x = static_cast<S>(plan.preset); }); });
    std::visit(
        [&](const auto& policy) {
          mixer.scan(policy, tokens, y.get(), state, keep);
          mixer.backward(policy, tokens, keep, dy.get(), d, dstate);
        },
        plan.how);
    gradient_arrays<S> all;
    gradients.each([&](auto& array) {
      if (!array.intact()) FAIL("the call wrote outside the elements of a gradient");
      const bool out = static_cast<int>(all.size()) == plan.left_out;
      if (out && !array.untouched()) FAIL("the call wrote a gradient that was left out");
      all.push_back(array.values());
      if (out) std::fill(all.back().begin(), all.back().end(), S(0));
    });
    all.push_back(numbers_of(dstate, p));
    return all;
  }

  [[nodiscard]] gradient_truth<double> reference(const problem& p) const override {
    return by_reference<double>(p);
  }
  [[nodiscard]] gradient_truth<number> bounds(const problem& p) const override {
    return by_reference<number>(p);
  }

  /// The default chunk among them.
  [[nodiscard]] std::vector<std::pair<backward_way, backward_way>> chunked_ways() const override {
    auto all = base::chunked_ways();
    all.push_back({exec::chunked{}, exec::chunked{.threads = 2}});
    return all;
  }
  /// Heads that share something are one lane.
  [[nodiscard]] index_t lane(const problem& p, std::size_t array, index_t element) const override {
    const auto n = sizes_of(p);
    const index_t group = std::lcm(std::lcm(n.H / n.queries, n.H / n.keys), n.H / n.values);
    const std::size_t count = arrays().size();
    if (array == count) return -1;
    const std::size_t decay = kind::delta ? 4 : 3;
    index_t heads = n.H, width = n.E;
    if (array == 0) heads = n.queries, width = n.K;
    if (array == 1) heads = n.keys, width = n.K;
    if (array == 2) heads = n.values;
    if (array == 3 && kind::delta) width = 1;
    if (array == decay && array < count) width = kind::axis == decay_axis::key ? n.K : 1;
    return element / width % heads * (n.H / heads) / group;
  }
  /// As tests/support/bound.hpp: without fma the carried product is written as a difference, which
  /// rounds once more.
  [[nodiscard]] double factor(const backward_way& how) const override {
    return per_term(std::holds_alternative<exec::chunked>(how) ? walk::chunked : walk::sequential);
  }

 private:
  [[nodiscard]] matrix_sizes sizes_of(const problem& p) const {
    return {p.batch,    p.length,   p.sizes[0], p.sizes[1], p.sizes[2],
            p.sizes[3], p.sizes[4], p.sizes[5], p.sizes[6], from_.normalised};
  }
  [[nodiscard]] static Mixer mixer_of(const matrix_sizes& n) {
    Mixer m{.heads = n.H, .key_dim = n.K, .value_dim = n.E};
    if constexpr (!kind::delta) m.normalised = n.normalised;
    return m;
  }
  [[nodiscard]] static std::array<index_t, 4> gaps_of_dy(bool gaps) {
    return gaps ? std::array<index_t, 4>{9, 4, 3, 0} : std::array<index_t, 4>{};
  }
  [[nodiscard]] static std::vector<S> normal(random& r, index_t count, double deviation) {
    std::vector<S> x(static_cast<std::size_t>(count));
    r.fill_normal(std::span<S>(x), deviation);
    return x;
  }
  [[nodiscard]] static std::vector<S> uniform(random& r, index_t count, double low, double high) {
    std::vector<S> x(static_cast<std::size_t>(count));
    r.fill_uniform(std::span<S>(x), low, high);
    return x;
  }
  /// Keys of the delta rule have length 1.
  [[nodiscard]] static std::vector<S> keys(random& r, const matrix_sizes& n, index_t rows) {
    auto key = normal(r, rows * n.keys * n.K, 1 / std::sqrt(static_cast<double>(n.K)));
    if (!kind::delta) return key;
    for (auto row = key.begin(); row != key.end(); row += n.K) {
      const double square = std::inner_product(row, row + n.K, row, 0.0);
      std::transform(row, row + n.K, row,
                     [&](S x) { return static_cast<S>(double{x} / std::sqrt(square)); });
    }
    return key;
  }

  template <class Memory>
  [[nodiscard]] static typename Mixer::tokens tokens_of(const problem& p, Memory& memory) {
    std::size_t k = 0;
    memory.each([&](auto& array) { array.assign(std::span<const S>(p.inputs[k++])); });
    typename Mixer::tokens u;
    memory.fill(u);
    u.offsets = p.offsets;
    return u;
  }
  /// f(b, matrices, sums) of each sequence, in the order of `initial`.
  template <class F>
  void for_each_state(const problem& p, S* numbers, const F& f) const {
    const auto n = sizes_of(p);
    const index_t matrix = n.H * n.K * n.E, sums = n.normalised ? n.H * n.K : 0;
    for (index_t b = 0; b < p.sequences(); ++b, numbers += matrix + sums)
      f(b, numbers, numbers + matrix);
  }
  [[nodiscard]] typename Mixer::state state_of(const Mixer& mixer, const problem& p,
                                               std::vector<S> from) const {
    const auto n = sizes_of(p);
    const index_t B = p.sequences();
    std::vector<S> matrices, sums;
    for_each_state(p, from.data(), [&](index_t, S* matrix, S* sum) {
      matrices.insert(matrices.end(), matrix, matrix + n.H * n.K * n.E);
      sums.insert(sums.end(), sum, sum + (n.normalised ? n.H * n.K : 0));
    });
    auto state = mixer.make_state(B);
    state.copy_from(
        row_major(std::as_const(matrices).data(), B, n.H, n.K, n.E),
        n.normalised ? row_major(std::as_const(sums).data(), B, n.H, n.K) : view<const S, 3>{});
    return state;
  }
  [[nodiscard]] std::vector<S> numbers_of(const typename Mixer::state& state,
                                          const problem& p) const {
    const auto n = sizes_of(p);
    const index_t B = p.sequences();
    std::vector<S> matrices(static_cast<std::size_t>(B * n.H * n.K * n.E)),
        sums(static_cast<std::size_t>(n.normalised ? B * n.H * n.K : 0)), out(p.initial.size());
    state.copy_to(row_major(matrices.data(), B, n.H, n.K, n.E),
                  n.normalised ? row_major(sums.data(), B, n.H, n.K) : view<S, 3>{});
    for_each_state(p, out.data(), [&](index_t b, S* matrix, S* sum) {
      std::copy_n(matrices.begin() + b * n.H * n.K * n.E, n.H * n.K * n.E, matrix);
      if (n.normalised) std::copy_n(sums.begin() + b * n.H * n.K, n.H * n.K, sum);
    });
    return out;
  }

  template <class Number>
  [[nodiscard]] gradient_truth<Number> by_reference(const problem& p) const;

  matrix_gradient_sizes from_;
};

/// Sequence by sequence.
template <class Mixer>
template <class Number>
gradient_truth<Number> matrix_gradient_subject<Mixer>::by_reference(const problem& p) const {
  gradient_truth<Number> all;
  for (std::size_t k = 0; k < p.inputs.size(); ++k) all.gradients.emplace_back();
  std::vector<Number> finals, dinitials;
  const auto n = sizes_of(p);
  const index_t rest_of_state = n.H * n.K * n.E + (n.normalised ? n.H * n.K : 0);
  for (index_t b = 0; b < p.sequences(); ++b) {
    const auto at = static_cast<std::size_t>(b);
    const index_t begin = p.offsets.empty() ? b * p.length : p.offsets[at];
    const index_t T = p.offsets.empty() ? p.length : p.offsets[at + 1] - begin;
    const auto part = [&](const std::vector<S>& x) {
      const index_t rest =
          p.batch * p.length == 0 ? 0 : static_cast<index_t>(x.size()) / (p.batch * p.length);
      return std::vector<Number>(x.begin() + begin * rest, x.begin() + (begin + T) * rest);
    };
    const auto row = [&](const std::vector<S>& x) {
      return std::vector<Number>(x.begin() + b * rest_of_state,
                                 x.begin() + (b + 1) * rest_of_state);
    };
    detail::reference_arrays<Number> a;
    for (const auto& x : p.inputs) {
      a.inputs.push_back(part(x));
      a.gradients.emplace_back(a.inputs.back().size(), Number(0));
    }
    a.initial = row(p.initial);
    a.dfinal = row(p.dfinal);
    a.final = a.dinitial = a.initial;
    a.dy = part(p.dy);
    a.y.resize(a.dy.size());
    detail::run_reference<Mixer>(a, n, T);
    all.outputs.insert(all.outputs.end(), a.y.begin(), a.y.end());
    finals.insert(finals.end(), a.final.begin(), a.final.end());
    for (std::size_t k = 0; k < p.inputs.size(); ++k)
      all.gradients[k].insert(all.gradients[k].end(), a.gradients[k].begin(), a.gradients[k].end());
    dinitials.insert(dinitials.end(), a.dinitial.begin(), a.dinitial.end());
  }
  all.outputs.insert(all.outputs.end(), finals.begin(), finals.end());
  all.gradients.push_back(dinitials);
  return all;
}

}  // namespace maslin::test
