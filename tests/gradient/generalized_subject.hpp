// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Generalised mixers for the laws of gradients. The state in plain arrays: the rows that it keeps, by
/// ascending position, then zeros up to all entries.

#include "laws/gradient_laws.hpp"
#include "mixer/generalized_subject.hpp"
#include "support/poison.hpp"

#include <span>
#include <utility>
#include <vector>

namespace maslin::test {

template <class S>
[[nodiscard]] std::vector<S> numbers(index_t n) {
  return std::vector<S>(static_cast<std::size_t>(n));
}
template <class Number, class S>
[[nodiscard]] std::vector<Number> widened(const std::vector<S>& x) {
  return std::vector<Number>(x.begin(), x.end());
}

/// Positions that a state keeps once it has seen `position` tokens.
template <class State>
[[nodiscard]] std::vector<index_t> kept_positions(State h, index_t position) {
  std::vector<index_t> kept;
  h.history(0).restart(position);
  h.history(0).for_each_kept([&](index_t, index_t p) { kept.push_back(p); });
  return kept;
}

/// Rows of an empty state `h` whose sequences stand at the positions given.
template <class State, class S>
void fill_state(State& h, const std::vector<S>& rows, const std::vector<index_t>& positions) {
  for (index_t b = 0; b < h.batch(); ++b) {
    h.history(b).restart(positions[static_cast<std::size_t>(b)]);
    auto from = rows.begin() + b * h.entries() * h.width();
    h.history(b).for_each_kept([&](index_t entry, index_t) {
      std::copy_n(from, h.width(), h.row(b, entry));
      from += h.width();
    });
  }
}
template <class State>
[[nodiscard]] auto numbers_of_state(const State& h) {
  auto rows = numbers<typename State::scalar_type>(h.batch() * h.entries() * h.width());
  for (index_t b = 0; b < h.batch(); ++b) {
    auto to = rows.begin() + b * h.entries() * h.width();
    h.history(b).for_each_kept(
        [&](index_t entry, index_t) { to = std::copy_n(h.row(b, entry), h.width(), to); });
  }
  return rows;
}

/// Rows [B, entries, width] of kept positions as rows [B, positions, width] of all.
template <class Number, class S>
[[nodiscard]] std::vector<Number> spread(const std::vector<S>& rows, index_t batch, index_t width,
                                         const std::vector<index_t>& kept, index_t positions) {
  auto all = numbers<Number>(batch * positions * width);
  const index_t entries = batch == 0 ? 0 : static_cast<index_t>(rows.size()) / (batch * width);
  for (index_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < kept.size(); ++i)
      for (index_t e = 0; e < width; ++e)
        all[static_cast<std::size_t>((b * positions + kept[i]) * width + e)] = Number(
            rows[static_cast<std::size_t>((b * entries + static_cast<index_t>(i)) * width + e)]);
  return all;
}
/// And back; `entries` rows of each sequence, zeros behind those that are kept.
template <class Number>
[[nodiscard]] std::vector<Number> gather(const std::vector<Number>& all, index_t batch,
                                         index_t width, const std::vector<index_t>& kept,
                                         index_t positions, index_t entries) {
  auto rows = numbers<Number>(batch * entries * width);
  for (index_t b = 0; b < batch; ++b)
    for (std::size_t i = 0; i < kept.size(); ++i)
      for (index_t e = 0; e < width; ++e)
        rows[static_cast<std::size_t>((b * entries + static_cast<index_t>(i)) * width + e)] =
            all[static_cast<std::size_t>((b * positions + kept[i]) * width + e)];
  return rows;
}

/// Sizes of a problem: H, E, tokens before, capacity, slots.
template <class S, class Pattern, weights W = weights::given>
class generalized_gradient_subject : public gradient_subject<S> {
 public:
  using problem = gradient_problem<S>;
  using mixer_t = generalized<S, Pattern, W>;
  using number = typename gradient_subject<S>::number;

  explicit generalized_gradient_subject(pattern_case<Pattern> which) : which_(std::move(which)) {}

  [[nodiscard]] std::vector<gradient_array> arrays() const override {
    return {{"self"}, {"past"}, {"input", true, true}};
  }
  [[nodiscard]] problem draw(index_t batch, index_t length, test::random& r) const override {
    const index_t widths[] = {1, 2, 7, 8, 9, 17, 33};
    const index_t H = r.between(1, 3), E = widths[r.below(7)], P = r.below(12);
    const index_t capacity = P + std::max<index_t>(batch, 1) * length + r.below(3);
    const index_t slots = std::max<index_t>(1, pattern::max_levels(which_.pattern, capacity));
    problem p;
    p.batch = batch, p.length = length, p.sizes = {H, E, P, capacity, slots};
    p.inputs = {numbers<S>(batch * length * H), numbers<S>(batch * length * H * slots),
                numbers<S>(batch * length * H * E)};
    for (const std::size_t k : {0u, 1u})
      for (S& x : p.inputs[k]) x = coefficient(slots, r);
    p.dy = p.inputs[2];
    r.fill_normal<S>(p.inputs[2]);
    r.fill_normal<S>(p.dy);
    p.initial = state_numbers(p, P, r);
    p.dfinal = state_numbers(p, P + length, r);
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
    if (plan.gaps) c.poison_unread(which_.reads, p);
    auto keep = c.mixer.make_saved(p.sequences(), p.sizes[3]);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), c.state, keep);
    auto dstate = c.mixer.make_state(p.sequences(), p.sizes[3]);
    fill_state(dstate, p.dfinal, c.ends);
    poisoned<S, 3> dself(c.self.get().extents(), c.gaps3);
    poisoned<S, 4> dpast(c.past.get().extents(), c.gaps4), dinput(c.y.get().extents(), c.gaps4);
    typename mixer_t::gradients d{.self = dself.get(),
                                  .past = dpast.get(),
                                  .input = dinput.get(),
                                  .accumulate = plan.accumulate};
    if (plan.accumulate) {
      const auto preset = [&](S& x) { x = static_cast<S>(plan.preset); };
      dself.each(preset), dpast.each(preset), dinput.each(preset);
    }
    if (plan.left_out == 0) d.self = {};
    if (plan.left_out == 1) d.past = {};
    if (plan.left_out == 2) d.input = {};
    std::visit(
        [&](const auto& how) {
          c.mixer.backward(how, c.tokens, keep, std::as_const(c.dy).get(), d, dstate);
        },
        plan.how);
    REQUIRE(c.y.intact());
    gradient_arrays<S> all;
    add_gradient(all, dself, plan);
    for (const auto* x : {&dpast, &dinput}) add_gradient(all, *x, plan);
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
    const index_t H = p.sizes[0], E = p.sizes[1];
    if (array == 0) return element;
    if (array == 1) return element / p.sizes[4];
    return element / E % H;
  }
  /// Coefficients made in the kernel: its exp errs by up to 4 u where `tracked` counts 2, and they are
  /// multiplied by an inverse, two roundings, where the reference divides.
  [[nodiscard]] double factor(const backward_way&) const override {
    return W == weights::given ? 1 : 2;
  }
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
  /// Logits away from the corners of their functions; given coefficients that keep y bounded.
  [[nodiscard]] static S coefficient(index_t slots, test::random& r) {
    const double sign = r.below(2) == 0 ? -1 : 1;
    if (W == weights::given)
      return static_cast<S>(sign * r.uniform(0.2, 1.5) / static_cast<double>(slots + 1));
    return static_cast<S>(sign * r.uniform(0.2, 1.5));
  }
  [[nodiscard]] mixer_t mixer_of(const problem& p) const {
    return {.heads = p.sizes[0], .value_dim = p.sizes[1], .pattern = which_.pattern};
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
    call(const generalized_gradient_subject& of, const problem& p, bool gaps)
        : mixer(of.mixer_of(p)),
          gaps3(gaps ? std::array<index_t, 3>{5, 3, 0} : std::array<index_t, 3>{}),
          gaps4(gaps ? std::array<index_t, 4>{7, 5, 3, 0} : std::array<index_t, 4>{}),
          self({p.batch, p.length, p.sizes[0]}, gaps3),
          past({p.batch, p.length, p.sizes[0], p.sizes[4]}, gaps4),
          input({p.batch, p.length, p.sizes[0], p.sizes[1]}, gaps4),
          y(input.get().extents(), gaps4),
          dy(input.get().extents(), gaps4),
          state(mixer.make_state(p.sequences(), p.sizes[3])) {
      self.assign(std::span<const S>(p.inputs[0]));
      past.assign(std::span<const S>(p.inputs[1]));
      input.assign(std::span<const S>(p.inputs[2]));
      dy.assign(std::span<const S>(p.dy));
      tokens = {std::as_const(self).get(), std::as_const(past).get(), std::as_const(input).get(),
                p.offsets};
      for (std::size_t b = 0; b < static_cast<std::size_t>(p.sequences()); ++b)
        ends.push_back(p.sizes[2] +
                       (p.offsets.empty() ? p.length : p.offsets[b + 1] - p.offsets[b]));
      fill_state(state, p.initial, std::vector<index_t>(ends.size(), p.sizes[2]));
    }
    void poison_unread(const reference::pattern_reads& reads, const problem& p) {
      if (!p.offsets.empty()) return;
      const auto all = past.get();
      for (index_t t = 0; t < p.length; ++t) {
        std::vector<bool> read(static_cast<std::size_t>(p.sizes[4]));
        for (const auto& [position, slot] : reads(p.sizes[2] + t))
          read[static_cast<std::size_t>(slot)] = true;
        for (index_t b = 0; b < p.batch; ++b)
          for (index_t h = 0; h < p.sizes[0]; ++h)
            for (index_t k = 0; k < p.sizes[4]; ++k)
              if (!read[static_cast<std::size_t>(k)]) poison<S>::fill({&all(b, t, h, k), 1});
      }
    }

    mixer_t mixer;
    std::array<index_t, 3> gaps3;
    std::array<index_t, 4> gaps4;
    poisoned<S, 3> self;
    poisoned<S, 4> past, input, y, dy;
    typename mixer_t::state state;
    typename mixer_t::tokens tokens{};
    std::vector<index_t> ends;
  };

  template <class Number>
  [[nodiscard]] gradient_truth<Number> truth(const problem& p) const {
    const index_t B = p.batch, T = p.length, H = p.sizes[0], E = p.sizes[1], P = p.sizes[2],
                  slots = p.sizes[4];
    const auto state = mixer_of(p).make_state(1, p.sizes[3]);
    const auto held = kept_positions(state, P), left = kept_positions(state, P + T);
    const auto self = widened<Number>(p.inputs[0]), past = widened<Number>(p.inputs[1]),
               input = widened<Number>(p.inputs[2]), dy = widened<Number>(p.dy);
    const auto before = spread<Number>(p.initial, B, H * E, held, P),
               dafter = spread<Number>(p.dfinal, B, H * E, left, P + T);
    auto y = dy, dbefore = before;
    gradient_truth<Number> out{{}, {self, past, input}};
    const auto values = [&](auto& x, index_t tokens) {
      return row_major(x.data(), B, tokens, H, E);
    };
    reference::generalized_backward<Number>(
        {.kind = W,
         .reads = which_.reads,
         .smallest_normal = std::numeric_limits<S>::min(),
         .self = row_major(self.data(), B, T, H),
         .past = row_major(past.data(), B, T, H, slots),
         .input = values(input, T),
         .before = values(before, P),
         .dy = values(dy, T),
         .dafter = values(dafter, P + T)},
        {.y = values(y, T),
         .dself = row_major(out.gradients[0].data(), B, T, H),
         .dpast = row_major(out.gradients[1].data(), B, T, H, slots),
         .dinput = values(out.gradients[2], T),
         .dbefore = values(dbefore, P)});
    out.gradients.push_back(gather(dbefore, B, H * E, held, P, state.entries()));
    std::vector<Number> all;
    for (index_t b = 0; b < B; ++b)
      for (index_t p_ = 0; p_ < P + T; ++p_) {
        const auto& rows = p_ < P ? before : y;
        const auto from = rows.begin() + (p_ < P ? b * P + p_ : b * T + p_ - P) * H * E;
        all.insert(all.end(), from, from + H * E);
      }
    out.outputs = y;
    const auto final = gather(all, B, H * E, left, P + T, state.entries());
    out.outputs.insert(out.outputs.end(), final.begin(), final.end());
    return out;
  }

  pattern_case<Pattern> which_;
};

}  // namespace maslin::test
