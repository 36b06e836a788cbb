// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// H-LRU as a block: row 0 holds the gates, row i copies component i - 1.
template <class S>
problem<S> as_block(const problem<S>& lags, const subject<S>& block) {
  auto p = lags;
  const index_t B = p.batch, T = p.length, C = p.channels;
  const auto M = static_cast<std::size_t>(block.order);
  problem<S> q{block.each, B, T, C, {}, {}, p.initial, {}};
  q.gate.assign(static_cast<std::size_t>(B * T * C * block.each.gates), S(0));
  q.input.assign(static_cast<std::size_t>(B * T * C * block.each.values), S(0));
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < C; ++c) {
        const auto row = p.gates_at(b, t, c);
        const auto to = q.gates_at(b, t, c);
        std::copy(row.begin(), row.end(), to.begin());
        for (std::size_t i = 1; i < M; ++i) to[i * (M + 1) + i - 1] = 1;
        q.input_at(b, t, c)[0] = p.input_at(b, t, c)[0];
      }
  return q;
}

/// Component 0 of every block.
template <class S>
std::vector<S> first_components(const std::vector<S>& y, std::size_t M) {
  std::vector<S> out;
  for (std::size_t i = 0; i < y.size(); i += M) out.push_back(y[i]);
  return out;
}

template <class S, int M>
void check_block_form() {
  const subject_of<hlru<S, M, normalise::none>> lags;
  const subject_of<bdlru<S, M, normalise::none>> block;
  const index_t T = M + 9, C = 11;

  // Halves of small integers, never 0: every sum and product is exact.
  auto p = make_problem<S>(lags, 2, 5, C, 11);
  maslin::test::random r(12);
  for (auto* x : {&p.gate, &p.input, &p.initial})
    for (S& v : *x) v = static_cast<S>(r.below(2) == 0 ? r.between(1, 2) : r.between(-2, -1)) / 2;
  auto want = lags.run(p), got = block.run(as_block<S>(p, block));
  const auto y = first_components(got.y, M);
  for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(want.y[i] == y[i]);
  for (std::size_t i = 0; i < want.state.size(); ++i) REQUIRE(want.state[i] == got.state[i]);

  // In general both add the same terms in different orders, each within its bound; up to M = 2 the
  // order is the same.
  p = make_problem<S>(lags, 2, T, C, 13);
  want = lags.run(p);
  got = block.run(as_block<S>(p, block));
  const auto bounds = lags.bounds(p);
  const auto z = first_components(got.y, M);
  if (M <= 2) REQUIRE(difference(want.y, z) == "");
  REQUIRE(worst_error(z, bounds, 1.01 * lags.factor(walk::sequential)) <= 1);
}

}  // namespace

TEMPLATE_TEST_CASE("at order 1 an H-LRU, a BD-LRU and a diagonal recurrence are one",
                   "[mixer][diagonal][hlru][bdlru]", float, double) {
  using S = TestType;
  const subject_of<hlru<S, 1>> lags;
  const subject_of<bdlru<S, 1>> block;
  const subject_of<diagonal<S>> plain;
  for (const index_t C : few_channels) {
    auto p = make_problem<S>(lags, 2, 14, C, 7);
    // a = p_0, and the input is p_1 v.
    problem<S> q{plain.each, p.batch, p.length, C, {}, p.input, p.initial, {}};
    for (std::size_t i = 0; i < p.gate.size(); i += 2) {
      const auto row = lags.coefficients(std::span<const S>(p.gate).subspan(i, 2));
      q.gate.push_back(row[0]);
      q.input[i / 2] *= row[1];
    }
    for (const way& how : {way(exec::sequential{}), way(exec::scalar{}), way(decode{})}) {
      INFO(C << " channels, " << describe(how));
      const auto want = plain.run(q, how);
      REQUIRE(difference(want, lags.run(p, how)) == "");
      REQUIRE(difference(want, block.run(p, how)) == "");
    }
  }
}

TEST_CASE("an H-LRU is a BD-LRU with shift rows", "[mixer][hlru][bdlru]") {
  check_block_form<float, 1>();
  check_block_form<double, 2>();
  check_block_form<float, 3>();
  check_block_form<double, 4>();
  check_block_form<float, 8>();
}
