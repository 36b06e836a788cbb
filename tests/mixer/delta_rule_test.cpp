// SPDX-License-Identifier: Apache-2.0
#include "matrix_subject.hpp"
#include "support/answer.hpp"

#include <maslin/reference/generalized.hpp>

#include <iostream>

using namespace maslin;
using namespace maslin::test;

namespace {

using plain_t = delta_rule<double>;
using gated_t = delta_rule<float, decay_axis::head>;
using product_t = delta_rule<float, decay_axis::head, updates::several>;

}  // namespace

TEMPLATE_TEST_CASE("the delta rule of every size keeps its error bound and its bytes",
                   "[mixer][delta_rule][accuracy][threads]", plain_t, gated_t, product_t) {
  worst_ratio sequential("delta_rule, token by token"), chunked("delta_rule, chunks");
  const bool several = matrix_kind<TestType>::several;
  const matrix_sizes sizes[] = {{2, 9, 1, 1, 1, 0, 0, 0, 1},
                                {1, 17, 3, 5, 7, 1, 3, 3, 3},
                                {2, 20, 4, 16, 16, 2, 2, 0, 2},
                                {1, 40, 2, 17, 19, 2, 1, 1, 1},
                                {1, 22, 1, 33, 37, 0, 0, 0, 2},
                                {1, 13, 2, 4, 90, 0, 0, 0, 5},
                                // Decoded heads hand over where their columns fill registers alike.
                                {1, 11, 3, 9, 48, 0, 1, 0, 2},
                                {2, 6, 3, 7, 24, 3, 0, 1, 3},
                                {1, 7, 4, 5, 8, 0, 2, 0, 1}};
  for (matrix_sizes n : sizes) {
    if (!several) n.R = 1;
    // The bound knows no signs and grows with every correction: small ones keep it of use.
    const auto a = make_matrix_arrays<TestType>(n, static_cast<std::uint64_t>(n.K * n.E), 0.3);
    const std::string name = "T " + std::to_string(n.T) + ", K " + std::to_string(n.K) + ", E " +
                             std::to_string(n.E) + ", R " + std::to_string(n.R);
    check_against_oracle(a, name, sequential, chunked);
  }
  std::cout << sequential << '\n' << chunked << '\n';
  CHECK(sequential.value() <= 1);
  CHECK(chunked.value() <= 1);
  CHECK(chunked.value() > 0.01);
}

TEST_CASE("full corrections over many tokens stay as close to the reference in chunks as in order",
          "[mixer][delta_rule][accuracy]") {
  // Where the bound has grown past all use: transitions of norm 1 or less forget errors too.
  const auto a = make_matrix_arrays<gated_t>({.T = 700, .H = 2, .K = 24, .E = 20}, 1, 2);
  const auto want = by_reference(a);
  for (const way& how : {way(exec::sequential{}), way(exec::chunked{}),
                         way(exec::chunked{.chunk = 128, .threads = 1})}) {
    const auto got = carry_out(a, how);
    INFO(describe(how));
    CHECK(worst_difference(got.y, want.y) <= 1e-5);
    CHECK(worst_difference(got.state, want.state) <= 1e-5);
  }
}

TEST_CASE("without beta nothing is written", "[mixer][delta_rule][reduction]") {
  auto a = make_matrix_arrays<plain_t>({.T = 21, .H = 2, .K = 6, .E = 5}, 2);
  std::fill(a.beta.begin(), a.beta.end(), 0.0);
  for (const way& how : both_forms) CHECK(difference(a.initial, carry_out(a, how).state) == "");
}

TEST_CASE("orthonormal keys of full beta store their values", "[mixer][delta_rule][reduction]") {
  constexpr index_t K = 16, E = 5;
  auto a = make_matrix_arrays<plain_t>({.T = K, .H = 1, .K = K, .E = E}, 3);
  // Rows of a Hadamard matrix, in another order.
  for (index_t t = 0; t < K; ++t)
    for (index_t k = 0; k < K; ++k)
      a.key[static_cast<std::size_t>(t * K + k)] =
          std::popcount(static_cast<unsigned>((t * 5 % K) & k)) % 2 == 0 ? 0.25 : -0.25;
  std::fill(a.beta.begin(), a.beta.end(), 1.0);
  for (const way& how : both_forms) {
    const auto got = carry_out(a, how);
    for (index_t t = 0; t < K; ++t)
      for (index_t e = 0; e < E; ++e) {
        double answer = 0;
        for (index_t k = 0; k < K; ++k)
          answer += got.state[static_cast<std::size_t>(k * E + e)] *
                    a.key[static_cast<std::size_t>(t * K + k)];
        REQUIRE(std::abs(answer - a.value[static_cast<std::size_t>(t * E + e)]) <= 1e-13);
      }
  }
}

TEST_CASE("one micro-step a token is the gated delta rule", "[mixer][delta_rule][reduction]") {
  const matrix_sizes n{.B = 2, .T = 19, .H = 2, .K = 7, .E = 21};
  const auto gated = make_matrix_arrays<gated_t>(n, 4);
  const auto product = make_matrix_arrays<product_t>(n, 4);
  for (const way& how : all_ways())
    CHECK(difference(carry_out(gated, how), carry_out(product, how)) == "");
}

TEST_CASE("micro-steps are tokens without decay that are read once at the end",
          "[mixer][delta_rule][reduction]") {
  constexpr index_t T = 11, R = 3, H = 2, K = 5, E = 6;
  const auto product = make_matrix_arrays<product_t>({.T = T, .H = H, .K = K, .E = E, .R = R}, 5);
  auto tokens = make_matrix_arrays<gated_t>({.T = T * R, .H = H, .K = K, .E = E}, 5);
  tokens.key = product.key;
  tokens.value = product.value;
  tokens.beta = product.beta;
  tokens.initial = product.initial;
  tokens.query.clear();
  tokens.decay.clear();
  for (index_t m = 0; m < T * R; ++m) {
    const auto q = product.query.begin() + m / R * H * K;
    tokens.query.insert(tokens.query.end(), q, q + H * K);
    for (index_t h = 0; h < H; ++h)
      tokens.decay.push_back(m % R == 0 ? product.decay[static_cast<std::size_t>(m / R * H + h)]
                                        : 0.0f);
  }
  for (const way& how : both_forms) {
    const auto got = carry_out(product, how);
    const auto want = by_reference(tokens);
    CHECK(worst_difference(got.state, want.state) <= 1e-5);
    for (index_t t = 0; t < T; ++t)
      for (index_t i = 0; i < H * E; ++i)
        REQUIRE(std::abs(got.y[static_cast<std::size_t>(t * H * E + i)] -
                         want.y[static_cast<std::size_t>((t * R + R - 1) * H * E + i)]) <= 1e-5);
  }
}

TEST_CASE("the delta rule is a dense triangular solve and a readout",
          "[mixer][delta_rule][reduction]") {
  // u = (I - B)^-1 Diag(beta) V with B[i,j] = -beta_i e^{g_{j+1} + ... + g_i} <k_i, k_j>.
  constexpr index_t T = 23, K = 6, E = 4;
  auto a = make_matrix_arrays<gated_t>({.T = T, .H = 1, .K = K, .E = E}, 6);
  std::fill(a.initial.begin(), a.initial.end(), 0.0f);
  const auto c = a.call();
  const auto dot = [&](const auto& x, index_t i, index_t j) {
    double sum = 0;
    for (index_t k = 0; k < K; ++k) sum += double{x(0, i, 0, k)} * c.key(0, j, 0, k);
    return sum;
  };
  const auto faded = [&](index_t i, index_t j) {
    double sum = 0;
    for (index_t s = j + 1; s <= i; ++s) sum += double{c.log_decay(0, s, 0)};
    return std::exp(sum);
  };
  std::vector<double> direct(T * T), past(T * T), value(a.value.begin(), a.value.end()), u(T * E);
  for (index_t i = 0; i < T; ++i) {
    row_major(direct.data(), T, T)(i, i) = c.beta(0, i, 0);
    for (index_t j = 0; j < i; ++j)
      row_major(past.data(), T, T)(i, j) = -c.beta(0, i, 0) * faded(i, j) * dot(c.key, i, j);
  }
  reference::generalized_dense(row_major(std::as_const(direct).data(), 1, T, 1, T),
                               row_major(std::as_const(past).data(), 1, T, 1, T),
                               row_major(std::as_const(value).data(), 1, T, 1, E),
                               row_major(u.data(), 1, T, 1, E));
  std::vector<double> want(T * E);
  for (index_t i = 0; i < T; ++i)
    for (index_t j = 0; j <= i; ++j)
      for (index_t e = 0; e < E; ++e)
        row_major(want.data(), T, E)(i, e) += faded(i, j) * dot(c.query, i, j) *
                                              row_major(u.data(), T, E)(j, e) /
                                              std::sqrt(static_cast<double>(K));
  for (const way& how : both_forms) CHECK(worst_difference(carry_out(a, how).y, want) <= 1e-5);
}

TEST_CASE("a decay of minus infinity empties the state of the delta rule", "[mixer][delta_rule]") {
  auto a = make_matrix_arrays<gated_t>({.T = 30, .H = 1, .K = 4, .E = 5}, 7);
  for (const index_t t : {0, 9, 22})
    a.decay[static_cast<std::size_t>(t)] = -std::numeric_limits<float>::infinity();
  const auto want = by_reference(a);
  for (const way& how : both_forms) {
    const auto got = carry_out(a, how);
    CHECK(worst_difference(got.y, want.y) <= 1e-5);
    CHECK(worst_difference(got.state, want.state) <= 1e-5);
  }
}

TEST_CASE("NaN in a value of the delta rule reaches its column, in a query its token",
          "[mixer][delta_rule][nan]") {
  nan_law(make_matrix_arrays<product_t>({.T = 17, .H = 1, .K = 5, .E = 20, .R = 2}, 9));
}

TEST_CASE("packed tokens of the delta rule are separate sequences", "[mixer][delta_rule]") {
  auto a = make_matrix_arrays<product_t>({.B = 3, .T = 6, .H = 2, .K = 4, .E = 5, .R = 2}, 11);
  auto packed = a;
  packed.n.B = 1;
  packed.n.T = 18;
  packed.offsets = {0, 6, 12, 18};
  for (const way& how : both_forms)
    CHECK(difference(carry_out(a, how), carry_out(packed, how)) == "");
  const auto u = packed.tokens();
  CHECK_THROWS_AS(u.range(0, 3), shape_error);
  CHECK_THROWS_AS(u.sequence(3), shape_error);
  const auto mixer = packed.mixer();
  auto state = mixer.make_state();
  state.copy_from(row_major(std::as_const(packed.initial).data() + 2 * 2 * 4 * 5, 1, 2, 4, 5));
  std::vector<float> y(6 * 2 * 5);
  mixer.scan(exec::sequential{}, u.sequence(2), row_major(y.data(), 1, 6, 2, 5), state);
  const auto all = carry_out(packed, exec::sequential{}).y;
  CHECK(difference(std::vector<float>(all.begin() + 12 * 2 * 5, all.end()), y) == "");
}

TEST_CASE("a wrong call of delta_rule names what it wanted and writes nothing",
          "[mixer][delta_rule][check]") {
  const auto a = make_matrix_arrays<product_t>({.B = 2, .T = 3, .H = 4, .K = 5, .E = 6, .R = 2}, 1);
  const auto good = a.mixer();
  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    auto u = a.tokens();
    poisoned<float, 4> y({2, 3, 4, 6});
    auto out = y.get();
    auto state = good.make_state(2);
    change(mixer, u, out, state);
    const auto before = state;
    const std::string said = answer([&] { mixer.scan(exec::chunked{}, u, out, state); });
    CHECK(said == "delta_rule::scan: " + text);
    CHECK(y.untouched());
    CHECK(state == before);
  };
  refuses("heads must be 0 or more, got -2", [](auto& m, auto&, auto&, auto&) { m.heads = -2; });
  refuses("key_dim must be 1 or more, got 0", [](auto& m, auto&, auto&, auto&) { m.key_dim = 0; });
  refuses("value_dim must be 1 or more, got 0",
          [](auto& m, auto&, auto&, auto&) { m.value_dim = 0; });
  refuses("scale must be positive and finite, got -1.000000",
          [](auto& m, auto&, auto&, auto&) { m.scale = -1.0f; });
  refuses("query must be [B, T, H', K] = [2, 3, 4, 5], got [2, 2, 4, 5]",
          [](auto&, auto& u, auto&, auto&) { u.query = time_range(u.query, 0, 2); });
  refuses("key must be [B, T, R, H', K] = [2, 3, 2, 4, 5], got [2, 2, 2, 4, 5]",
          [](auto&, auto& u, auto&, auto&) { u.key = time_range(u.key, 0, 2); });
  refuses("key must have 1 micro-step or more, got 0",
          [&](auto&, auto& u, auto&, auto&) { u.key = row_major(a.key.data(), 2, 3, 0, 4, 5); });
  refuses("key must have heads that divide heads = 4, got 8",
          [&](auto&, auto& u, auto&, auto&) { u.key = row_major(a.key.data(), 2, 3, 2, 8, 5); });
  refuses(
      "value must be [B, T, R, H', E] = [2, 3, 2, 4, 6], got [2, 3, 3, 4, 6]",
      [&](auto&, auto& u, auto&, auto&) { u.value = row_major(a.value.data(), 2, 3, 3, 4, 6); });
  refuses("beta must be [B, T, R, H] = [2, 3, 2, 4], got [2, 3, 1, 4]",
          [&](auto&, auto& u, auto&, auto&) { u.beta = row_major(a.beta.data(), 2, 3, 1, 4); });
  refuses("log_decay must be [B, T, H] = [2, 3, 4], got [2, 2, 4]",
          [](auto&, auto& u, auto&, auto&) { u.log_decay = time_range(u.log_decay, 0, 2); });
  refuses("y must be [B, T, H, E] = [2, 3, 4, 6], got [2, 3, 4, 5]",
          [](auto&, auto&, auto& y, auto&) { y = row_major(y.data_handle(), 2, 3, 4, 5); });
  refuses("y must not overlap query, got memory that does", [](auto&, auto& u, auto& y, auto&) {
    u.query = row_major(static_cast<const float*>(y.data_handle()), 2, 3, 4, 5);
  });
  refuses("y must not overlap state, got memory that does",
          [](auto&, auto&, auto& y, auto& h) { y = row_major(h.matrix(0, 0), 2, 3, 4, 6); });
  refuses("state must be [B, H, K, E] = [2, 4, 5, 6], got [3, 4, 5, 6]",
          [](auto& m, auto&, auto&, auto& h) { h = m.make_state(3); });
  refuses("tokens with offsets are one packed sequence: B must be 1, got 2",
          [](auto&, auto& u, auto&, auto&) {
            static const std::vector<index_t> ends{0, 3};
            u.offsets = ends;
          });

  const auto plain = make_matrix_arrays<plain_t>({.T = 2, .H = 1, .K = 2, .E = 2}, 1);
  auto u = plain.tokens();
  u.log_decay = row_major(plain.query.data(), 1, 2, 1);
  poisoned<double, 4> y({1, 2, 1, 2});
  auto h = plain.mixer().make_state();
  CHECK_THROWS_WITH(plain.mixer().step(u[0], time_at(y.get(), 0), h),
                    "delta_rule::step: log_decay must be empty with decay_axis::none, got "
                    "[1, 1, 1]");
  CHECK_THROWS_WITH(plain.mixer().scan(exec::sequential{.threads = -1}, plain.tokens(), y.get(), h),
                    "delta_rule::scan: threads of exec::sequential must be 0 or more, got -1");
  CHECK_THROWS_WITH(plain.mixer().make_state(-1),
                    "delta_rule::make_state: batch must be 0 or more, got -1");
  CHECK(y.untouched());
}
