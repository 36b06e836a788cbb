// SPDX-License-Identifier: Apache-2.0
#include "generalized_subject.hpp"

#include <maslin/gradient/generalized_scores.hpp>
#include <maslin/reference/generalized_scores.hpp>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Sizes of a problem: H, E, tokens before, capacity, L, K.
template <class S, class Pattern, weights W, direct A>
class scores_subject : public gradient_subject<S> {
 public:
  using problem = gradient_problem<S>;
  using mixer_t = generalized_scores<S, Pattern, W, A>;
  using number = typename gradient_subject<S>::number;

  explicit scores_subject(pattern_case<Pattern> which) : which_(std::move(which)) {}

  [[nodiscard]] std::vector<gradient_array> arrays() const override {
    return {{"query"}, {"key"}, {"input"}, {"bias", false, false}, {"self_bias", false, false}};
  }
  [[nodiscard]] problem draw(index_t batch, index_t length, test::random& r) const override {
    const index_t widths[] = {1, 2, 7, 8, 9, 17, 33};
    const index_t H = r.between(1, 3), E = widths[r.below(7)], K = widths[r.below(7)],
                  before = r.below(9);
    const index_t capacity = before + std::max<index_t>(batch, 1) * length + r.below(3);
    const index_t levels = std::max<index_t>(1, pattern::max_levels(which_.pattern, capacity));
    problem p;
    p.batch = batch, p.length = length, p.sizes = {H, E, before, capacity, levels, K};
    const index_t tokens = batch * length * H;
    p.inputs = {numbers<S>(tokens * K), numbers<S>(tokens * K), numbers<S>(tokens * E),
                numbers<S>(H * levels), numbers<S>(H)};
    for (auto& x : p.inputs) r.fill_normal<S>(x);
    p.dy = p.inputs[2];
    r.fill_normal<S>(p.dy);
    p.initial = state_numbers(p, before, r);
    p.dfinal = state_numbers(p, before + length, r);
    return p;
  }
  [[nodiscard]] std::vector<S> forward(const problem& p) const override {
    call c(*this, p, false);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), c.state);
    std::vector<S> out = c.y.values();
    const auto final = numbers_of_state(c.state);
    out.insert(out.end(), final.begin(), final.end());
    return out;
  }
  [[nodiscard]] gradient_arrays<S> backward(const problem& p,
                                            const backward_plan& plan) const override {
    call c(*this, p, plan.gaps);
    auto keep = c.mixer.make_saved(p.sequences(), p.sizes[3]);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), c.state, keep);
    auto dstate = c.mixer.make_state(p.sequences(), p.sizes[3]);
    fill_state(dstate, p.dfinal, c.ends);
    poisoned<S, 4> dquery(c.query.get().extents(), c.gaps), dkey(c.key.get().extents(), c.gaps),
        dinput(c.y.get().extents(), c.gaps);
    poisoned<S, 2> dbias({p.sizes[0], p.sizes[4]}, {plan.gaps ? 3 : 0, 0});
    poisoned<S, 1> dself({p.sizes[0]});
    typename mixer_t::gradients d{.query = dquery.get(),
                                  .key = dkey.get(),
                                  .input = dinput.get(),
                                  .bias = dbias.get(),
                                  .self_bias = dself.get(),
                                  .accumulate = plan.accumulate};
    if (plan.accumulate) {
      const auto preset = [&](S& x) { x = static_cast<S>(plan.preset); };
      for (auto* x : {&dquery, &dkey, &dinput}) x->each(preset);
      dbias.each(preset), dself.each(preset);
    }
    if (plan.left_out == 0) d.query = {};
    if (plan.left_out == 1) d.key = {};
    if (plan.left_out == 2) d.input = {};
    if (plan.left_out == 3) d.bias = {};
    if (plan.left_out == 4) d.self_bias = {};
    std::visit(
        [&](const auto& how) {
          c.mixer.backward(how, c.tokens, keep, std::as_const(c.dy).get(), d, dstate);
        },
        plan.how);
    REQUIRE(c.y.intact());
    gradient_arrays<S> all;
    for (const auto* x : {&dquery, &dkey, &dinput}) add_gradient(all, *x, plan);
    add_gradient(all, dbias, plan);
    add_gradient(all, dself, plan);
    all.push_back(numbers_of_state(dstate));
    return all;
  }
  [[nodiscard]] gradient_truth<double> reference(const problem& p) const override {
    return truth<double>(p);
  }
  [[nodiscard]] gradient_truth<number> bounds(const problem& p) const override {
    return truth<number>(p);
  }
  [[nodiscard]] index_t lane(const problem& p, std::size_t array, index_t element) const override {
    const index_t H = p.sizes[0];
    if (array < 2) return element / p.sizes[5] % H;
    return array < 5 && array > 2 ? -1 : element / p.sizes[1] % H;
  }
  /// As of gate logits: an exp of 4 u where `tracked` counts 2, two roundings for a division.
  [[nodiscard]] double factor(const backward_way&) const override { return 2; }
  /// Time is never cut.
  [[nodiscard]] std::vector<backward_way> ways() const override {
    return {exec::sequential{}, exec::scalar{}, exec::sequential{.threads = 2},
            exec::sequential{.threads = 7}, exec::chunked{.chunk = 3, .threads = 2}};
  }
  [[nodiscard]] std::vector<std::pair<backward_way, backward_way>> chunked_ways() const override {
    return {};
  }
  void continue_at(problem& late, index_t at) const override { late.sizes[2] += at; }

 private:
  [[nodiscard]] mixer_t mixer_of(const problem& p) const {
    mixer_t m;
    m.heads = p.sizes[0], m.key_dim = p.sizes[5], m.value_dim = p.sizes[1];
    m.scale = S(0.5), m.feedback = S(0.75), m.pattern = which_.pattern;
    if (p.inputs.size() == 5) {
      m.bias = row_major(p.inputs[3].data(), p.sizes[0], p.sizes[4]);
      m.self_bias = row_major(p.inputs[4].data(), p.sizes[0]);
    }
    return m;
  }
  [[nodiscard]] std::vector<S> state_numbers(const problem& p, index_t position,
                                             test::random& r) const {
    const auto one = mixer_of(p).make_state(1, p.sizes[3]);
    const auto kept = static_cast<index_t>(kept_positions(one, position).size());
    auto rows = numbers<S>(p.batch * one.entries() * one.width());
    for (index_t b = 0; b < p.batch; ++b)
      r.fill_normal<S>(
          std::span(rows).subspan(static_cast<std::size_t>(b * one.entries() * one.width()),
                                  static_cast<std::size_t>(kept * one.width())));
    return rows;
  }

  struct call {
    call(const scores_subject& of, const problem& p, bool with_gaps)
        : mixer(of.mixer_of(p)),
          gaps(with_gaps ? std::array<index_t, 4>{7, 5, 3, 0} : std::array<index_t, 4>{}),
          query({p.batch, p.length, p.sizes[0], p.sizes[5]}, gaps),
          key(query.get().extents(), gaps),
          input({p.batch, p.length, p.sizes[0], p.sizes[1]}, gaps),
          y(input.get().extents(), gaps),
          dy(input.get().extents(), gaps),
          state(mixer.make_state(p.sequences(), p.sizes[3])) {
      query.assign(std::span<const S>(p.inputs[0]));
      key.assign(std::span<const S>(p.inputs[1]));
      input.assign(std::span<const S>(p.inputs[2]));
      dy.assign(std::span<const S>(p.dy));
      tokens = {std::as_const(query).get(), std::as_const(key).get(), std::as_const(input).get(),
                p.offsets};
      for (std::size_t b = 0; b < static_cast<std::size_t>(p.sequences()); ++b)
        ends.push_back(p.sizes[2] +
                       (p.offsets.empty() ? p.length : p.offsets[b + 1] - p.offsets[b]));
      fill_state(state, p.initial, std::vector<index_t>(ends.size(), p.sizes[2]));
    }

    mixer_t mixer;
    std::array<index_t, 4> gaps;
    poisoned<S, 4> query, key, input, y, dy;
    typename mixer_t::state state;
    typename mixer_t::tokens tokens{};
    std::vector<index_t> ends;
  };

  /// Rows [B, n, H (E + K)] taken apart, values first, and put together.
  template <class Number>
  [[nodiscard]] static std::pair<std::vector<Number>, std::vector<Number>> apart(
      const std::vector<Number>& rows, index_t values, index_t keys) {
    std::pair<std::vector<Number>, std::vector<Number>> parts;
    for (auto at = rows.begin(); at != rows.end(); at += values + keys) {
      parts.first.insert(parts.first.end(), at, at + values);
      parts.second.insert(parts.second.end(), at + values, at + values + keys);
    }
    return parts;
  }
  template <class Number>
  [[nodiscard]] static std::vector<Number> together(const std::vector<Number>& values,
                                                    const std::vector<Number>& keys, index_t E,
                                                    index_t K) {
    std::vector<Number> rows;
    for (std::size_t v = 0, k = 0; v < values.size();
         v += static_cast<std::size_t>(E), k += static_cast<std::size_t>(K)) {
      const auto from = static_cast<index_t>(v), key = static_cast<index_t>(k);
      rows.insert(rows.end(), values.begin() + from, values.begin() + from + E);
      rows.insert(rows.end(), keys.begin() + key, keys.begin() + key + K);
    }
    return rows;
  }
  /// Rows of each sequence, those of `before` first.
  template <class Number>
  [[nodiscard]] static std::vector<Number> joined(const std::vector<Number>& before,
                                                  const std::vector<Number>& now, index_t batch) {
    std::vector<Number> all;
    for (index_t b = 0; b < batch; ++b)
      for (const auto* rows : {&before, &now}) {
        const auto size = static_cast<index_t>(rows->size()) / batch;
        all.insert(all.end(), rows->begin() + b * size, rows->begin() + (b + 1) * size);
      }
    return all;
  }

  template <class Number>
  [[nodiscard]] gradient_truth<Number> truth(const problem& p) const {
    const index_t B = p.batch, T = p.length, H = p.sizes[0], E = p.sizes[1], past = p.sizes[2],
                  L = p.sizes[4], K = p.sizes[5], width = H * (E + K);
    const auto mixer = mixer_of(p);
    const auto state = mixer.make_state(1, p.sizes[3]);
    const auto held = kept_positions(state, past), left = kept_positions(state, past + T);
    std::vector<std::vector<Number>> in;
    for (const auto& x : p.inputs) in.push_back(widened<Number>(x));
    const auto dy = widened<Number>(p.dy);
    const auto [before, keys_before] =
        apart(spread<Number>(p.initial, B, width, held, past), H * E, H * K);
    const auto [dafter, dkeys_after] =
        apart(spread<Number>(p.dfinal, B, width, left, past + T), H * E, H * K);
    auto y = dy, w = dy, dbefore = before, dkeys_before = keys_before;
    gradient_truth<Number> out{{}, in};
    const auto rows = [&](auto& x, index_t tokens, index_t n) {
      return row_major(x.data(), B, tokens, H, n);
    };
    const auto& fixed = std::as_const(in);
    reference::generalized_scores_backward<Number>(
        {.kind = W,
         .form = A,
         .reads = which_.reads,
         .smallest_normal = std::numeric_limits<S>::min(),
         .scale = Number(mixer.scale),
         .g = Number(mixer.feedback),
         .bias = row_major(fixed[3].data(), H, L),
         .self_bias = row_major(fixed[4].data(), H),
         .query = rows(fixed[0], T, K),
         .key = rows(fixed[1], T, K),
         .input = rows(fixed[2], T, E),
         .keys_before = rows(keys_before, past, K),
         .before = rows(before, past, E),
         .dy = rows(dy, T, E),
         .dkeys_after = rows(dkeys_after, past + T, K),
         .dafter = rows(dafter, past + T, E)},
        {.y = rows(y, T, E),
         .w = rows(w, T, E),
         .dbias = row_major(out.gradients[3].data(), H, L),
         .dself_bias = row_major(out.gradients[4].data(), H),
         .dquery = rows(out.gradients[0], T, K),
         .dkey = rows(out.gradients[1], T, K),
         .dinput = rows(out.gradients[2], T, E),
         .dkeys_before = rows(dkeys_before, past, K),
         .dbefore = rows(dbefore, past, E)});
    out.gradients.push_back(gather(together(dbefore, dkeys_before, H * E, H * K), B, width, held,
                                   past, state.entries()));
    out.outputs = y;
    const auto final = gather(joined(together(before, keys_before, H * E, H * K),
                                     together(w, in[1], H * E, H * K), std::max<index_t>(B, 1)),
                              B, width, left, past + T, state.entries());
    out.outputs.insert(out.outputs.end(), final.begin(), final.end());
    return out;
  }

  pattern_case<Pattern> which_;
};

/// All positions; a level is a distance here, where a slot of coefficients is a position.
pattern_case<pattern::dense> all_case() {
  return {{}, reference::plain_reads([](index_t k) { return k + 1; })};
}

template <class S, weights W = weights::softmax, direct A = direct::self, class P>
void keep_laws(pattern_case<P> which, std::uint64_t seed, int rounds) {
  check_gradient_laws(scores_subject<S, P, W, A>(std::move(which)), seed, rounds);
}

}  // namespace

TEST_CASE("gradients of scores keep the laws of backward passes",
          "[gradient][generalized_scores][law]") {
  keep_laws<float>(cached_square1_case(), 1, 6);
  keep_laws<double>(order_case(3), 2, 4);
  keep_laws<double, weights::sigmoid_l1>(order_case(3), 3, 4);
  keep_laws<float, weights::relu_l1>(cached_square1_case(), 4, 6);
}

TEST_CASE("gradients of ChaCAL keep the laws of backward passes",
          "[gradient][generalized_scores][law]") {
  keep_laws<float, weights::softmax, direct::rows>(all_case(), 5, 6);
  keep_laws<double, weights::softmax, direct::rows>(all_case(), 6, 4);
  keep_laws<double, weights::softmax, direct::rows>(cached_square1_case(), 7, 4);
}
