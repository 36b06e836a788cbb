// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/analysis/operator.hpp>
#include <maslin/analysis/properties.hpp>
#include <maslin/mixer/generalized.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

using namespace maslin;

constexpr index_t B = 2, T = 40, H = 3, E = 5;

/// Coefficients of a generalized mixer, positive: entries of its operator are sums without
/// cancellation, so that relative errors add up along a path.
template <class Mixer>
struct problem {
  explicit problem(index_t levels)
      : self(static_cast<std::size_t>(B * T * H)),
        past(static_cast<std::size_t>(B * T * H * levels)),
        input(static_cast<std::size_t>(B * T * H * E)) {
    test::random r(23);
    r.fill_uniform<double>(self, 0.1, 1);
    r.fill_uniform<double>(past, 0.01, 0.4);
    r.fill_uniform<double>(input, -1, 1);
    tokens = {.self = row_major(self.data(), B, T, H),
              .past = row_major(past.data(), B, T, H, levels),
              .input = row_major(input.data(), B, T, H, E)};
  }
  std::vector<double> self, past, input;
  typename Mixer::tokens tokens;
};

template <class P>
void expect_closed_form(const P& p) {
  using mixer_t = generalized<double, P>;
  const mixer_t mixer{.heads = H, .value_dim = E, .pattern = p};
  const index_t slots = std::same_as<P, pattern::dense> ? T : pattern::max_levels(p, T);
  const problem<mixer_t> q(slots);
  const auto op = analysis::materialize(exec::sequential{}, mixer, q.tokens);
  CHECK(op.groups() == H);
  CHECK(op.width() == 1);
  CHECK(analysis::is_causal(op));
  const auto decoded = analysis::materialize(mixer, q.tokens);

  double worst = 0;
  index_t most = 0, unlike_decode = 0;
  for (index_t t = 0; t < T; ++t) most = std::max(most, pattern::read_count(p, t));
  for (index_t b = 0; b < B; ++b)
    for (index_t h = 0; h < H; ++h) {
      const auto wanted = analysis::closed_form(
          p, T, [&](index_t t) { return q.tokens.self(b, t, h); },
          [&](index_t t, index_t s, index_t level) {
            return q.tokens.past(b, t, h, std::same_as<P, pattern::dense> ? s : level);
          });
      for (index_t t = 0; t < T; ++t)
        for (index_t s = 0; s < T; ++s) {
          const double want = wanted(0, 0, t, s), error = std::abs(op(b, h, t, s) - want);
          const auto roundings = static_cast<double>(2 * (std::abs(t - s) + 1) * (most + 2));
          worst = std::max(worst, error == 0 ? 0 : error / (roundings * 0x1p-53 * want));
          unlike_decode += op(b, h, t, s) != decoded(b, h, t, s);
        }
    }
  CHECK(worst <= 1);
  CHECK(unlike_decode == 0);
  for (const index_t r : {5, 17, 33})
    CHECK(analysis::past_rank(op, 1, 2, r) <=
          (pattern::is_cached<P> ? pattern::read_count(p, r) : pattern::cache_entries(p, T)));

  std::vector<double> y(q.input.size());
  auto state = mixer.make_state(B, T);
  mixer.scan(exec::sequential{}, q.tokens, row_major(y.data(), B, T, H, E), state);
  const auto applied = analysis::apply(op, q.tokens.input);
  double off = 0;
  for (std::size_t i = 0; i < y.size(); ++i) off = std::max(off, std::abs(applied[i] - y[i]));
  CHECK(off <= static_cast<double>(2 * T * (most + 3)) * 0x1p-53 * analysis::growth(op));
}

}  // namespace

TEST_CASE("impulses through a generalized mixer give (I - B)^-1 A of its pattern",
          "[analysis][operator][generalized]") {
  expect_closed_form(pattern::order{3});
  expect_closed_form(pattern::square1{});
  expect_closed_form(pattern::dense{});
  expect_closed_form(pattern::cached{pattern::square1{}});
}

TEST_CASE("rows of a softmax generalized mixer sum to one", "[analysis][operator][generalized]") {
  using mixer_t = generalized<double, pattern::cached<pattern::power2>, weights::softmax>;
  const mixer_t mixer{.heads = H, .value_dim = E};
  const problem<mixer_t> q(pattern::max_levels(mixer.pattern, T));
  const auto op = analysis::materialize(exec::sequential{}, mixer, q.tokens);
  double worst = 0;
  for (index_t t = 0; t < T; ++t) {
    const auto sum = analysis::sum_of_row(op, 1, 2, t);
    worst = std::max(worst, std::abs(sum.sum - 1));
    CHECK(sum.sum == sum.magnitude);
  }
  // A row of at most 7 coefficients, of a relative error of 15 u, at each of T steps.
  CHECK(worst <= static_cast<double>(T) * (7 + 15) * 0x1p-53);
}
