// SPDX-License-Identifier: Apache-2.0
#include "generalized_subject.hpp"
#include "support/answer.hpp"

#include <maslin/mixer/generalized_scores.hpp>

#include <algorithm>
#include <sstream>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Tokens, biases and room for y of one call.
template <class M>
struct scores {
  using S = typename M::scalar_type;

  scores(rows_shape size_, index_t K, std::uint64_t seed, M mixer_ = {})
      : size(size_), mixer(mixer_) {
    const auto [B, T, H, E] = size;
    maslin::test::random r(seed);
    const auto fill = [&](std::vector<S>& x, index_t n, double deviation) {
      x.resize(static_cast<std::size_t>(n));
      r.fill_normal<S>(x, deviation);
    };
    fill(query, B * T * H * K, 1);
    fill(key, B * T * H * K, 1);
    fill(input, B * T * H * E, 1);
    fill(bias, H * T, 0.5);
    fill(self_bias, H, 0.5);
    out.resize(input.size());
    mixer.heads = H;
    mixer.key_dim = K;
    mixer.value_dim = E;
    mixer.scale = S(0.7);
    mixer.bias = row_major(std::as_const(bias).data(), H, T);
    mixer.self_bias = row_major(std::as_const(self_bias).data(), H);
    tokens = {.query = row_major(std::as_const(query).data(), B, T, H, K),
              .key = row_major(std::as_const(key).data(), B, T, H, K),
              .input = row_major(std::as_const(input).data(), B, T, H, E),
              .offsets = {}};
    y = row_major(out.data(), B, T, H, E);
  }
  scores(const scores&) = delete;
  scores& operator=(const scores&) = delete;

  template <class Policy = exec::sequential>
  std::vector<S> run(const Policy& policy = {}) {
    poison<S>::fill(out);
    auto h = mixer.make_state(size.B, size.T);
    mixer.scan(policy, tokens, y, h);
    return out;
  }
  /// (I - B)^-1 A X in double.
  [[nodiscard]] std::vector<double> reference(const reference::pattern_reads& reads, weights kind,
                                              direct form) const {
    // Not a structured binding: clang 14 captures none.
    const index_t B = size.B, T = size.T, H = size.H, E = size.E;
    const index_t K = mixer.key_dim;
    const std::vector<double> q(query.begin(), query.end()), k(key.begin(), key.end()),
        x(input.begin(), input.end()), b(bias.begin(), bias.end()),
        s(self_bias.begin(), self_bias.end());
    std::vector<double> A(static_cast<std::size_t>(B * T * H * T)), F(A.size()), wide(x.size());
    const auto matrix = [&](std::vector<double>& m) { return row_major(m.data(), B, T, H, T); };
    reference::score_matrices(reads, kind, form, double{mixer.feedback},
                              {.query = row_major(q.data(), B, T, H, K),
                               .key = row_major(k.data(), B, T, H, K),
                               .scale = double{mixer.scale},
                               .bias = row_major(b.data(), H, T),
                               .self_bias = row_major(s.data(), H)},
                              matrix(A), matrix(F));
    reference::generalized_dense(matrix(A), matrix(F), row_major(x.data(), B, T, H, E),
                                 row_major(wide.data(), B, T, H, E));
    return wide;
  }

  rows_shape size;
  M mixer;
  std::vector<S> query, key, input, bias, self_bias, out;
  typename M::tokens tokens{};
  typename M::output y{};
};

/// Largest difference from the reference over the largest input.
template <class S>
double apart(const std::vector<double>& want, const std::vector<S>& got) {
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(want[i] - double{got[i]});
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

template <class S>
constexpr double u = unit_roundoff<S>;

/// Of logits up to 8, n coefficients and T tokens that hand errors on.
template <class S>
double tolerance(index_t n, index_t K, index_t T) {
  return static_cast<double>(n + 8 * K + 16) * u<S> * 4 * static_cast<double>(T);
}

template <class S, weights W, direct A = direct::self>
using cached_scores = generalized_scores<S, pattern::cached<pattern::square1>, W, A>;

template <class M, weights W>
void reference_law(index_t T) {
  for (const auto& [H, E, K] : {std::array<index_t, 3>{2, 21, 5}, {1, 8, 16}, {3, 3, 35}}) {
    scores<M> s({2, T, H, E}, K, 3);
    const auto want = s.reference(cached_square1_case().reads, W, direct::self);
    INFO("H " << H << ", E " << E << ", K " << K);
    REQUIRE(apart(want, s.run()) <= tolerance<typename M::scalar_type>(12, K, T));
  }
}

/// Every schedule and split: the same bytes.
template <class M>
void schedule_law(index_t T, M mixer = {}) {
  scores<M> s({2, T, 3, 11}, 19, 5, mixer);
  const auto want = s.run();
  REQUIRE(bits_apart(want, s.run(exec::scalar{})) == "");
  REQUIRE(bits_apart(want, s.run(exec::chunked{.chunk = 3, .threads = 2})) == "");
  for (const int threads : {2, 7})
    REQUIRE(bits_apart(want, s.run(exec::sequential{.threads = threads})) == "");
  for (index_t t = 0; t <= T; ++t) {
    poison<typename M::scalar_type>::fill(s.out);
    auto h = s.mixer.make_state(2, T), stored = h;
    s.mixer.scan(exec::sequential{}, s.tokens.range(0, t), time_range(s.y, 0, t), h);
    std::stringstream store;
    h.save(store);
    stored.load(store);
    for (index_t i = t; i < T; ++i) s.mixer.step(s.tokens[i], time_at(s.y, i), stored);
    INFO("split at " << t);
    REQUIRE(bits_apart(want, s.out) == "");
  }
  s.out = s.input;
  auto in_place = s.tokens;
  in_place.input = s.y;
  auto h = s.mixer.make_state(2, T);
  s.mixer.scan(exec::sequential{}, in_place, s.y, h);
  REQUIRE(bits_apart(want, s.out) == "");
}

}  // namespace

TEST_CASE("scores weigh rows as the reference does", "[mixer][generalized][scores]") {
  SECTION("softmax") {
    reference_law<cached_scores<float, weights::softmax>, weights::softmax>(60);
  }
  SECTION("sigmoid_l1 in double") {
    reference_law<cached_scores<double, weights::sigmoid_l1>, weights::sigmoid_l1>(40);
  }
}

TEST_CASE("schedules and splits of scores give the same bytes",
          "[mixer][generalized][scores][law][threads]") {
  SECTION("softmax over cached k^2 + 1") {
    schedule_law<cached_scores<float, weights::softmax>>(25);
  }
  SECTION("ChaCAL") {
    chacal<float> mixer;
    mixer.feedback = 0.75f;
    schedule_law(14, mixer);
  }
}

TEST_CASE("rows of softmax coefficients hand on a constant", "[mixer][generalized][scores]") {
  // (I - B)^-1 A 1 = 1: outputs of constant inputs are that constant, but for rounding.
  constexpr index_t T = 300;
  const auto check = [](auto mixer, index_t reads_at_most) {
    scores<decltype(mixer)> s({1, T, 2, 3}, 8, 7, mixer);
    std::fill(s.input.begin(), s.input.end(), 1.0f);
    const auto y = s.run();
    for (index_t i = 0; i < static_cast<index_t>(y.size()); ++i) {
      // Each row sums to 1 within (n + 8) u and adds n roundings to what it reads.
      const auto steps = static_cast<double>(i / 6 + 1);
      const double bound = steps * (2 * static_cast<double>(reads_at_most) + 16) * u<float>;
      REQUIRE(std::abs(double{y[static_cast<std::size_t>(i)]} - 1) <= bound);
    }
  };
  check(cached_scores<float, weights::softmax>{}, 20);
  chacal<float> chained;
  chained.feedback = 0.5f;
  check(chained, T);
}

TEST_CASE("ChaCAL is (1 - g) P (I - g P)^-1 V", "[mixer][generalized][scores]") {
  constexpr index_t T = 40, E = 4, K = 6;
  const auto all = reference::plain_reads([](index_t k) { return k + 1; });
  for (const double g : {0.0, 0.5, 0.9}) {
    chacal<double> mixer;
    mixer.feedback = g;
    scores<chacal<double>> s({1, T, 1, E}, K, 9, mixer);
    const auto got = s.run();
    CHECK(apart(s.reference(all, weights::softmax, direct::rows), got) <= 1e-12);
    // By the published form: P from scores, then z = (I - g P)^-1 V by substitution, y = (1-g) P z.
    std::vector<double> P(T * T), z(T * E);
    for (index_t t = 0; t < T; ++t) {
      double sum = 0;
      for (index_t p = 0; p <= t; ++p) {
        double dot = 0;
        for (index_t i = 0; i < K; ++i)
          dot += s.tokens.query(0, t, 0, i) * s.tokens.key(0, p, 0, i);
        const double offset = p == t ? s.self_bias[0] : s.bias[static_cast<std::size_t>(t - 1 - p)];
        sum += P[static_cast<std::size_t>(t * T + p)] = std::exp(0.7 * dot + offset);
      }
      for (index_t p = 0; p <= t; ++p) P[static_cast<std::size_t>(t * T + p)] /= sum;
    }
    const auto p = row_major(P.data(), T, T);
    const auto Z = row_major(z.data(), T, E);
    for (index_t t = 0; t < T; ++t)
      for (index_t e = 0; e < E; ++e) {
        double known = s.tokens.input(0, t, 0, e);
        for (index_t j = 0; j < t; ++j) known += g * p(t, j) * Z(j, e);
        Z(t, e) = known / (1 - g * p(t, t));
      }
    for (index_t t = 0; t < T; ++t)
      for (index_t e = 0; e < E; ++e) {
        double y = 0;
        for (index_t j = 0; j <= t; ++j) y += (1 - g) * p(t, j) * Z(j, e);
        REQUIRE(std::abs(y - got[static_cast<std::size_t>(t * E + e)]) <= 1e-12);
      }
  }
}

TEST_CASE("gate logits are weighed over the rows that are read", "[mixer][generalized]") {
  const auto c = cached_square1_case();
  constexpr index_t T = 50, H = 2, E = 9;
  const auto check = [&]<weights W>(std::integral_constant<weights, W>) {
    auto p = make_rows<float>(c.reads, {1, T, H, E}, 11, 12);
    // The same coefficients, from the reference, given.
    auto given = p;
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        const auto positions = c.reads(t);
        float& self = given.self[static_cast<std::size_t>(t * H + h)];
        std::vector<double> row{self};
        for (const auto& read : positions) row.push_back(p.past_at(0, t, h, read.level));
        reference::weigh_row(W, row, double{std::numeric_limits<float>::min()});
        self = static_cast<float>(row[0]);
        for (std::size_t i = 0; i < positions.size(); ++i)
          given.past_at(0, t, h, positions[i].level) = static_cast<float>(row[i + 1]);
      }
    rows_stage<float, pattern::cached<pattern::square1>, W> stage(c.pattern, p);
    const auto got = stage.run();
    REQUIRE(bits_apart(got, stage.run(exec::scalar{})) == "");
    rows_stage<float, pattern::cached<pattern::square1>> plain(c.pattern, given);
    const auto want = plain.run();
    double worst = 0, largest = 1;
    for (std::size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(double{got[i]} - double{want[i]}));
      largest = std::max(largest, std::abs(double{want[i]}));
    }
    INFO("weights " << static_cast<int>(W));
    REQUIRE(worst <= tolerance<float>(12, 0, T) * largest);
    REQUIRE(worst < 1e-2 * largest);
  };
  check(std::integral_constant<weights, weights::softmax>{});
}

TEST_CASE("wrong scores are refused before anything is written", "[mixer][generalized][scores]") {
  using mixer_t = cached_scores<float, weights::softmax>;
  scores<mixer_t> s({1, 20, 2, 3}, 4, 13);
  poison<float>::fill(s.out);
  auto h = s.mixer.make_state(1, 20);
  const auto says = [&](const std::string& text) {
    const std::string said = answer([&] { s.mixer.scan(exec::sequential{}, s.tokens, s.y, h); });
    INFO(said);
    CHECK(said.starts_with("generalized_scores::scan: " + text));
    for (const float& x : s.out) REQUIRE(poison<float>::is(x));
  };
  SECTION("query") {
    s.tokens.query = time_range(s.tokens.query, 0, 19);
    says("query must be [B, T, H, K] = [1, 20, 2, 4], got [1, 19, 2, 4]");
  }
  SECTION("key") {
    s.tokens.key = time_range(s.tokens.key, 0, 19);
    says("key must be [B, T, H, K] = [1, 20, 2, 4], got [1, 19, 2, 4]");
  }
  SECTION("bias") {
    s.mixer.bias = row_major(std::as_const(s.bias).data(), 2, 3);
    says("bias must be [H, L] with L of at least 5, got [2, 3]");
  }
  SECTION("self_bias") {
    s.mixer.self_bias = row_major(std::as_const(s.self_bias).data(), 1);
    says("self_bias must be [H] = [2], got [1]");
  }
  SECTION("y over key") {
    s.y = row_major(const_cast<float*>(s.key.data()), 1, 20, 2, 3);
    says("y must not overlap key");
  }
  SECTION("state") {
    h = s.mixer.make_state(2, 20);
    says("state must be of B sequences and rows of H E numbers");
  }
}
