// SPDX-License-Identifier: Apache-2.0
#include "pattern/patterns.hpp"
#include "support/answer.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/analysis/operator.hpp>
#include <maslin/analysis/properties.hpp>
#include <maslin/maslin.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace maslin;
using analysis::token_operator;

constexpr index_t B = 2, T = 17, D = 5;  // sequences, tokens, channels or blocks

/// Numbers for the tokens of a mixer, in arrays that outlive them.
template <class S>
struct numbers {
  explicit numbers(index_t gates, double low = -2, double high = 2)
      : gate(static_cast<std::size_t>(gates)) {
    test::random r(17);
    r.fill_uniform<S>(gate, low, high);
    r.fill_uniform<S>(input, -1, 1);
  }
  std::vector<S> gate;
  std::vector<S> input = std::vector<S>(static_cast<std::size_t>(B * T * D * 4));
};

/// |got - want| of operators over u times the roundings of a path of T steps with `terms` roundings
/// each. Entries are sums of positive terms, so that relative errors add up. At most 1.
template <class S>
double distance(const token_operator& got, const token_operator& want, index_t b, index_t g,
                index_t terms) {
  double worst = 0;
  for (index_t t = 0; t < T; ++t)
    for (index_t s = 0; s < T; ++s) {
      const double error = std::abs(got(b, g, t, s) - want(0, 0, t, s));
      const double steps = static_cast<double>((std::abs(t - s) + 1) * terms);
      const double allowed = steps * test::unit_roundoff<S> * std::abs(want(0, 0, t, s));
      worst = std::max(worst, error == 0 ? 0 : error / allowed);
    }
  return worst;
}

/// |Op x - y| over the roundings of both: paths of T steps of `terms` roundings, and a sum over T.
template <class S, int Rank>
double apply_distance(const token_operator& op, const view<const S, Rank>& x, const S* y,
                      index_t terms) {
  std::vector<S> sizes;
  for (index_t i = 0; i < x.size(); ++i) sizes.push_back(std::abs(x.data_handle()[i]));
  const auto got = analysis::apply(op, x);
  const auto largest =
      analysis::apply(op, view<const S, Rank>(sizes.data(), x.extents(), x.strides()));
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double allowed = static_cast<double>(2 * T * terms) * test::unit_roundoff<S> * largest[i];
    const double error = std::abs(got[i] - static_cast<double>(y[i]));
    worst = std::max(worst, error == 0 ? 0 : error / allowed);
  }
  return worst;
}

/// The same numbers, prefill or decode.
bool same(const token_operator& a, const token_operator& b) {
  for (index_t i = 0; i < a.batch() * a.groups(); ++i)
    for (index_t t = 0; t < a.length(); ++t)
      for (index_t s = 0; s < a.length(); ++s)
        for (index_t c = 0; c < a.width() * a.width(); ++c)
          if (a(i / a.groups(), i % a.groups(), t, s, c / a.width(), c % a.width()) !=
              b(i / a.groups(), i % a.groups(), t, s, c / a.width(), c % a.width()))
            return false;
  return true;
}

template <class S, int M>
void expect_hlru() {
  const hlru<S, M> mixer{.channels = D};
  numbers<S> n(B * T * D * (M + 1));
  const typename hlru<S, M>::tokens u{.gate = row_major(n.gate.data(), B, T, D, M + 1),
                                      .input = row_major(n.input.data(), B, T, D)};
  const auto op = analysis::materialize(exec::sequential{}, mixer, u);
  CHECK(analysis::is_causal(op));
  CHECK(same(op, analysis::materialize(mixer, u)));

  constexpr index_t terms = 2 * M + 9;  // a row of M + 1, its coefficients M + 8
  double worst = 0;
  for (index_t b = 0; b < B; ++b)
    for (index_t d = 0; d < D; ++d) {
      const auto row = [&](index_t t) {
        std::vector<double> z;
        for (index_t k = 0; k <= M; ++k) z.push_back(static_cast<double>(u.gate(b, t, d, k)));
        return test::coefficients(normalise::softmax, z, std::numeric_limits<S>::min());
      };
      const auto wanted = analysis::closed_form(
          pattern::order{M}, T, [&](index_t t) { return row(t).back(); },
          [&](index_t t, index_t, index_t k) { return row(t)[static_cast<std::size_t>(k)]; });
      worst = std::max(worst, distance<S>(op, wanted, b, d, terms));
    }
  CHECK(worst <= 1);

  std::vector<S> y(static_cast<std::size_t>(B * T * D));
  auto state = mixer.make_state(B);
  mixer.scan(exec::sequential{}, u, row_major(y.data(), B, T, D), state);
  CHECK(apply_distance<S, 3>(op, u.input, y.data(), terms) <= 1);

  // Inputs of 0 and a state of 1: what a row lacks to 1 is the weight of the initial state.
  std::vector<S> ones(static_cast<std::size_t>(B * D * M), S(1));
  std::fill(n.input.begin(), n.input.end(), S(0));
  state.copy_from(row_major(ones.data(), B, D, M));
  mixer.scan(exec::sequential{}, u, row_major(y.data(), B, T, D), state);
  for (index_t t = 0; t < T; ++t) {
    const auto sum = analysis::sum_of_row(op, 1, 2, t);
    CHECK(sum.sum == sum.magnitude);
    CHECK(std::abs(sum.sum + static_cast<double>(y[static_cast<std::size_t>((T + t) * D + 2)]) -
                   1) <= static_cast<double>(2 * T * terms) * test::unit_roundoff<S>);
  }
  CHECK(analysis::growth(op) <= 1 + static_cast<double>(T * terms) * test::unit_roundoff<S>);
}

}  // namespace

TEST_CASE("impulses through an H-LRU give (I - B)^-1 A with M sub-diagonals",
          "[analysis][operator][hlru]") {
  expect_hlru<float, 1>();
  expect_hlru<float, 3>();
  expect_hlru<double, 3>();
}

TEST_CASE("impulses through a diagonal recurrence give products of its decays",
          "[analysis][operator][diagonal]") {
  numbers<float> n(B * T * D, 0.1, 0.9);
  using mixer_t = diagonal<float, decay::complement>;
  const mixer_t::tokens u{.gate = row_major(n.gate.data(), B, T, D),
                          .input = row_major(n.input.data(), B, T, D)};
  const auto op = analysis::materialize(mixer_t{.channels = D}, u);
  CHECK(analysis::is_causal(op));
  for (index_t d = 0; d < D; ++d) {
    const auto wanted = analysis::closed_form(
        pattern::order{1}, T, [](index_t) { return 1.0; },
        [&](index_t t, index_t, index_t) { return 1 - static_cast<double>(u.gate(1, t, d)); });
    CHECK(distance<float>(op, wanted, 1, d, 3) <= 1);
  }
}

TEST_CASE("a decay fixed in time gives a Toeplitz operator with the memory of its series",
          "[analysis][operator][diagonal]") {
  // Powers of 1/2 are exact.
  const std::vector<double> decays{0.5, 0.25};
  const diagonal<double> mixer{.channels = 2, .decay = row_major(decays.data(), 2)};
  const std::vector<double> input(static_cast<std::size_t>(2 * T));
  const auto op =
      analysis::materialize(exec::sequential{}, mixer, {.input = row_major(input.data(), 1, T, 2)});
  double weighted = 0, total = 0;
  for (index_t t = 0; t < T; ++t) {
    for (index_t s = 0; s < T; ++s)
      for (index_t d = 0; d < 2; ++d)
        CHECK(op(0, d, t, s) == (s > t ? 0 : std::ldexp(1.0, static_cast<int>((d + 1) * (s - t)))));
    weighted += static_cast<double>(t) * std::ldexp(1.0, static_cast<int>(-t));
    total += std::ldexp(1.0, static_cast<int>(-t));
    CHECK(std::abs(analysis::effective_memory(op, 0, 0, t) - weighted / total) < 1e-14);
  }
  CHECK(analysis::effective_memory(token_operator(1, 1, 3, 1), 0, 0, 2) == 0);
}

TEST_CASE("impulses through a BD-LRU give products of its blocks", "[analysis][operator][bdlru]") {
  constexpr int M = 3;
  using mixer_t = bdlru<double, M>;
  numbers<double> n(B * T * D * M * (M + 1));
  const mixer_t mixer{.blocks = D};
  const mixer_t::tokens u{.gate = row_major(n.gate.data(), B, T, D, M, M + 1),
                          .input = row_major(n.input.data(), B, T, D, M)};
  const auto op = analysis::materialize(exec::sequential{}, mixer, u);
  CHECK(op.width() == M);
  CHECK(analysis::is_causal(op));
  CHECK(same(op, analysis::materialize(mixer, u)));
  CHECK(analysis::growth(op) <= 1 + 1e-13);

  const auto row = [&](index_t t, index_t i) {
    std::vector<double> z;
    for (index_t k = 0; k <= M; ++k) z.push_back(u.gate(1, t, 2, i, k));
    return test::coefficients(normalise::softmax, z, std::numeric_limits<double>::min());
  };
  double worst = 0;
  for (index_t s = 0; s < T; ++s)
    for (index_t j = 0; j < M; ++j) {
      std::vector<double> h(M, 0.0);
      h[static_cast<std::size_t>(j)] = row(s, j).back();
      for (index_t t = s; t < T; ++t) {
        if (t > s) {
          std::vector<double> next(M, 0.0);
          for (index_t i = 0; i < M; ++i)
            for (std::size_t c = 0; c < M; ++c)
              next[static_cast<std::size_t>(i)] += row(t, i)[c] * h[c];
          h = next;
        }
        for (index_t i = 0; i < M; ++i) {
          const double want = h[static_cast<std::size_t>(i)];
          const double allowed = static_cast<double>((t - s + 1) * (2 * M + 9)) * 0x1p-53 * want;
          const double error = std::abs(op(1, 2, t, s, i, j) - want);
          worst = std::max(worst, error == 0 ? 0 : error / allowed);
        }
      }
    }
  CHECK(worst <= 1);

  std::vector<double> y(static_cast<std::size_t>(B * T * D * M));
  auto state = mixer.make_state(B);
  mixer.scan(exec::sequential{}, u, row_major(y.data(), B, T, D, M), state);
  CHECK(apply_distance<double, 4>(op, u.input, y.data(), 2 * M + 9) <= 1);
}

TEST_CASE("what the past can say has the rank of the state", "[analysis][operator][rank]") {
  const auto rank_at = [](const token_operator& op, index_t r) {
    return analysis::past_rank(op, 0, 1, r);
  };
  numbers<double> n(B * T * D * 3 * 4, 0.1, 0.9);
  const auto input = row_major(n.input.data(), 1, T, D);
  const auto first = analysis::materialize(
      diagonal<double>{.channels = D}, {.gate = row_major(n.gate.data(), 1, T, D), .input = input});
  const auto third =
      analysis::materialize(hlru<double, 3>{.channels = D},
                            {.gate = row_major(n.gate.data(), 1, T, D, 4), .input = input});
  const auto blocks = analysis::materialize(bdlru<double, 3>{.blocks = 2},
                                            {.gate = row_major(n.gate.data(), 1, T, 2, 3, 4),
                                             .input = row_major(n.input.data(), 1, T, 2, 3)});
  for (const index_t r : {4, 8, 12}) {
    CHECK(rank_at(first, r) == 1);
    CHECK(rank_at(third, r) == 3);
    CHECK(rank_at(blocks, r) == 3);
  }
  CHECK(rank_at(third, 0) == 0);
  CHECK(rank_at(third, 2) == 2);
  CHECK(rank_at(third, T) == 0);
}

TEST_CASE("rows of a softmax along a pattern sum to one, and their rank is what the cache holds",
          "[analysis][operator][pattern]") {
  const index_t n = 60;
  test::random r(5);
  std::vector<double> weight(static_cast<std::size_t>(n * n));
  for (double& w : weight) w = r.uniform(0.1, 1);
  const auto check = [&](const auto& p) {
    std::vector<double> total(static_cast<std::size_t>(n), 1.0);
    const auto score = [&](index_t t, index_t s) {
      return weight[static_cast<std::size_t>(t * n + s)];
    };
    for (index_t t = 0; t < n; ++t)
      pattern::for_each_read(
          p, t, [&](index_t s, index_t) { total[static_cast<std::size_t>(t)] += score(t, s); });
    const auto op = analysis::closed_form(
        p, n, [&](index_t t) { return 1 / total[static_cast<std::size_t>(t)]; },
        [&](index_t t, index_t s, index_t) {
          return score(t, s) / total[static_cast<std::size_t>(t)];
        });
    CHECK(analysis::is_causal(op));
    for (index_t t = 0; t < n; ++t) {
      const auto sum = analysis::sum_of_row(op, 0, 0, t);
      CHECK(std::abs(sum.sum - 1) <= static_cast<double>(n * n) * 0x1p-53);
      CHECK(sum.magnitude == sum.sum);
    }
    for (const index_t at : {10, 31, 50})
      CHECK(analysis::past_rank(op, 0, 0, at) <= pattern::read_count(p, at));
  };
  check(pattern::order{4});
  check(pattern::dense{});
  check(pattern::cached{pattern::power2{}});
  check(pattern::cached{pattern::square1{}});
  check(pattern::cached{test::triangle});
}

TEST_CASE("rows that sum to more than one grow, and the operator tells",
          "[analysis][operator][growth]") {
  const auto op = analysis::closed_form(
      pattern::order{1}, 40, [](index_t) { return 1.0; },
      [](index_t, index_t, index_t) { return 1.1; });
  CHECK(std::abs(analysis::growth(op) / ((std::pow(1.1, 40) - 1) / 0.1) - 1) < 1e-12);
  CHECK(std::abs(op(0, 0, 39, 0) / std::pow(1.1, 39) - 1) < 1e-13);
}

TEST_CASE("operators of no tokens, sequences or channels are empty", "[analysis][operator][edge]") {
  const hlru<float, 3> mixer{.channels = D};
  const auto none = analysis::materialize(exec::sequential{}, mixer,
                                          {.gate = row_major<const float>(nullptr, B, 0, D, 4),
                                           .input = row_major<const float>(nullptr, B, 0, D)});
  CHECK(none.length() == 0);
  CHECK(analysis::is_causal(none));
  CHECK(analysis::growth(none) == 0);
  CHECK(analysis::apply(none, row_major<const float>(nullptr, B, 0, D)).empty());
  const hlru<float, 3> empty{.channels = 0};
  const auto no_channels =
      analysis::materialize(empty, {.gate = row_major<const float>(nullptr, B, T, 0, 4),
                                    .input = row_major<const float>(nullptr, B, T, 0)});
  CHECK(no_channels.groups() == 0);
  CHECK(no_channels.length() == T);
}

TEST_CASE("operators refuse what does not fit", "[analysis][operator][bad_input]") {
  numbers<float> n(T * D * 2);
  const hlru<float, 1> mixer{.channels = D};
  const std::vector<index_t> offsets{0, 4, T};
  hlru<float, 1>::tokens u{.gate = row_major(n.gate.data(), 1, T, D, 2),
                           .input = row_major(n.input.data(), 1, T, D),
                           .offsets = offsets};
  CHECK(test::answer([&] { static_cast<void>(analysis::materialize(mixer, u)); }) ==
        "analysis::materialize: tokens must not be packed: take tokens.sequence(b), got offsets");
  CHECK(analysis::materialize(mixer, u.sequence(1)).length() == T - 4);
  u.offsets = {};
  u.gate = row_major(n.gate.data(), 1, T - 1, D, 2);
  CHECK(test::answer([&] {
          static_cast<void>(analysis::materialize(exec::sequential{}, mixer, u));
        }).starts_with("hlru::scan: gate must be"));

  CHECK(
      test::answer([] { token_operator(1, 1, -1, 1); }).starts_with("analysis::token_operator: "));
  CHECK(test::answer([] { token_operator(1, 1, index_t{1} << 31, 1); }) ==
        "analysis::token_operator: [B, G, T, M] must be sizes whose square over T and M fits in "
        "memory, got [1, 1, 2147483648, 1]");
  const token_operator op(1, D, T, 1);
  CHECK(test::answer([&] {
          static_cast<void>(
              analysis::apply(op, row_major<const float>(n.input.data(), 1, T - 1, D)));
        }) == "analysis::apply: x must be [B, T, G, M] = [1, 17, 5, 1], got [1, 16, 5, 1]");
  const pattern::user falls{[](index_t k) { return 1 - k; }};
  CHECK(
      test::answer([&] {
        static_cast<void>(analysis::closed_form(
            falls, 5, [](index_t) { return 1.0; }, [](index_t, index_t, index_t) { return 1.0; }));
      }).starts_with("pattern::table: f must increase"));
}
