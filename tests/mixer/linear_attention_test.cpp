// SPDX-License-Identifier: Apache-2.0
#include "matrix_subject.hpp"
#include "support/answer.hpp"

#include <iostream>
#include <iterator>

using namespace maslin;
using namespace maslin::test;

namespace {

using plain_t = linear_attention<float>;
using faded_t = linear_attention<float, decay_axis::head>;
using keyed_t = linear_attention<double, decay_axis::key, feature::elu_plus_one>;

}  // namespace

TEMPLATE_TEST_CASE("linear attention of every size keeps its error bound and its bytes",
                   "[mixer][linear_attention][accuracy][threads]", plain_t, faded_t, keyed_t) {
  worst_ratio sequential("linear_attention, token by token"), chunked("linear_attention, chunks");
  // Odd widths, columns past a register and a panel, fewer heads of keys, a chunk's corner and more.
  const matrix_sizes sizes[] = {{2, 9, 1, 1, 1},          {1, 21, 3, 5, 7, 1, 3, 3},
                                {2, 33, 4, 16, 16, 2, 2}, {1, 70, 2, 17, 19, 2, 1, 1},
                                {1, 40, 1, 33, 37},       {1, 13, 2, 4, 90},
                                {1, 300, 1, 8, 3},        {1, 67, 4, 9, 18, 1, 1}};
  for (matrix_sizes n : sizes) {
    n.normalised = n.K != 5 && n.E != 90;
    const auto a = make_matrix_arrays<TestType>(n, static_cast<std::uint64_t>(n.K * n.E));
    const std::string name =
        "T " + std::to_string(n.T) + ", K " + std::to_string(n.K) + ", E " + std::to_string(n.E);
    check_against_oracle(a, name, sequential, chunked);
  }
  std::cout << sequential << '\n' << chunked << '\n';
  CHECK(sequential.value() <= 1);
  CHECK(chunked.value() <= 1);
  CHECK(chunked.value() > 0.01);
}

TEST_CASE("plain linear attention is the lower triangle of Q K^T times V",
          "[mixer][linear_attention][reduction]") {
  auto a = make_matrix_arrays<plain_t>({.T = 30, .H = 2, .K = 6, .E = 5}, 3);
  std::fill(a.initial.begin(), a.initial.end(), 0.0f);
  const auto c = a.call();
  std::vector<double> want;
  for (index_t t = 0; t < 30; ++t)
    for (index_t h = 0; h < 2; ++h)
      for (index_t e = 0; e < 5; ++e) {
        double sum = 0;
        for (index_t j = 0; j <= t; ++j) {
          double score = 0;
          for (index_t k = 0; k < 6; ++k) score += double{c.query(0, t, h, k)} * c.key(0, j, h, k);
          sum += score * c.value(0, j, h, e);
        }
        want.push_back(sum / std::sqrt(6.0));
      }
  for (const way& how : both_forms) CHECK(worst_difference(carry_out(a, how).y, want) <= 2e-5);
}

TEST_CASE("decays of 0 in the logarithm are no decays", "[mixer][linear_attention][reduction]") {
  const matrix_sizes n{.T = 40, .H = 2, .K = 9, .E = 11};
  auto faded = make_matrix_arrays<faded_t>(n, 4);
  const auto plain = make_matrix_arrays<plain_t>(n, 4);
  std::fill(faded.decay.begin(), faded.decay.end(), 0.0f);
  const auto want = by_reference(plain);
  for (const way& how : both_forms)
    CHECK(worst_difference(carry_out(faded, how).y, want.y) <= 2e-5);
}

TEST_CASE("the state-space dual is linear attention of scale 1, its state transposed",
          "[mixer][linear_attention][reduction]") {
  // S[t] = exp(a[t]) S[t-1] + x b^T, y = S c (arXiv 2405.21060), B and C of one group for all heads.
  constexpr index_t T = 37, H = 3, N = 5, P = 6;
  const auto a = make_matrix_arrays<faded_t>({1, T, H, N, P, 1, 1}, 5);
  const auto u = a.tokens();
  std::vector<double> want;
  std::vector<double> state(static_cast<std::size_t>(H * P * N));
  for (index_t h = 0; h < H; ++h)
    for (index_t n = 0; n < N; ++n)
      for (index_t p = 0; p < P; ++p)
        row_major(state.data(), H, P, N)(h, p, n) = row_major(a.initial.data(), H, N, P)(h, n, p);
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h)
      for (index_t p = 0; p < P; ++p) {
        double y = 0;
        for (index_t n = 0; n < N; ++n) {
          double& s = row_major(state.data(), H, P, N)(h, p, n);
          s = std::exp(double{u.log_decay(0, t, h)}) * s +
              double{u.value(0, t, h, p)} * u.key(0, t, 0, n);
          y += s * u.query(0, t, 0, n);
        }
        want.push_back(y);
      }
  for (const bool chunks : {false, true}) {
    auto mixer = a.mixer();
    mixer.scale = 1.0f;
    auto h = mixer.make_state();
    h.copy_from(row_major(a.initial.data(), 1, H, N, P));
    std::vector<float> y(want.size());
    const auto out = row_major(y.data(), 1, T, H, P);
    if (chunks)
      mixer.scan(exec::chunked{.chunk = 16}, u, out, h);
    else
      mixer.scan(exec::sequential{}, u, out, h);
    CHECK(worst_difference(y, want) <= 5e-5);
  }
}

TEST_CASE("a decay of minus infinity empties a finite state and gives no NaN",
          "[mixer][linear_attention]") {
  const matrix_sizes n{.T = 40, .H = 1, .K = 4, .E = 5};
  auto a = make_matrix_arrays<faded_t>(n, 6);
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const index_t t : {11, 12, 30}) a.decay[static_cast<std::size_t>(t)] = -inf;
  auto late = a;
  late.n.T = 10;
  const auto cut = [](auto& x, index_t width) { x.erase(x.begin(), x.begin() + 30 * width); };
  cut(late.query, 4);
  cut(late.key, 4);
  cut(late.value, 5);
  cut(late.decay, 1);
  std::fill(late.initial.begin(), late.initial.end(), 0.0f);
  for (const way& how : both_forms) {
    const auto all = carry_out(a, how), fresh = carry_out(late, how);
    INFO(describe(how));
    for (const float y : all.y) REQUIRE(std::isfinite(y));
    for (std::size_t i = 0; i < fresh.y.size(); ++i)
      REQUIRE(std::abs(all.y[30 * 5 + i] - fresh.y[i]) <= 1e-5f);
  }
  auto keyed = make_matrix_arrays<keyed_t>(n, 7);
  for (std::size_t i = 50; i < 54; ++i) keyed.decay[i] = -std::numeric_limits<double>::infinity();
  for (const way& how : both_forms) {
    const auto got = carry_out(keyed, how);
    const auto want = by_reference(keyed);
    CHECK(worst_difference(got.y, want.y) <= 1e-12);
  }
}

TEST_CASE("the normaliser is one more column of values, all ones",
          "[mixer][linear_attention][reduction]") {
  constexpr index_t T = 25, H = 2, K = 6, E = 4;
  auto a = make_matrix_arrays<keyed_t>({.T = T, .H = H, .K = K, .E = E, .normalised = true}, 8);
  auto b = a;
  b.n.E = E + 1;
  b.n.normalised = false;
  b.value.clear();
  b.initial.clear();
  for (std::size_t i = 0; i < a.value.size(); i += E) {
    b.value.insert(b.value.end(), &a.value[i], &a.value[i] + E);
    b.value.push_back(1);
  }
  for (std::size_t i = 0; i < a.sums.size(); ++i) {
    b.initial.insert(b.initial.end(), &a.initial[i * E], &a.initial[i * E] + E);
    b.initial.push_back(a.sums[i]);
  }
  b.sums.clear();
  for (const way& how : both_forms) {
    const auto divided = carry_out(a, how), both = carry_out(b, how);
    for (index_t row = 0; row < T * H; ++row)
      for (index_t e = 0; e < E; ++e) {
        const auto i = static_cast<std::size_t>(row * (E + 1));
        const double want = both.y[i + static_cast<std::size_t>(e)] / (both.y[i + E] + 1e-10);
        REQUIRE(std::abs(divided.y[static_cast<std::size_t>(row * E + e)] - want) <= 1e-12);
      }
  }
}

TEST_CASE("NaN in a value reaches its column, in a query its token",
          "[mixer][linear_attention][nan]") {
  nan_law(make_matrix_arrays<faded_t>({.T = 24, .H = 1, .K = 5, .E = 20}, 9));
}

TEST_CASE("a state of matrices is a value", "[mixer][linear_attention][state]") {
  const auto a = make_matrix_arrays<keyed_t>(
      {.B = 2, .T = 6, .H = 3, .K = 5, .E = 18, .normalised = true}, 10);
  const auto mixer = a.mixer();
  const auto u = a.tokens();
  std::vector<double> y(a.outputs());
  const auto out = row_major(y.data(), 2, 6, 3, 18);
  auto state = mixer.make_state(2);
  CHECK(state.bytes() == 2 * 3 * 5 * (18 + 1) * 8);
  mixer.scan(exec::sequential{}, u.range(0, 3), time_range(out, 0, 3), state);
  const auto mark = state;
  mixer.scan(exec::sequential{}, u.range(3, 6), time_range(out, 3, 6), state);
  const auto first = y;
  const auto after = state;
  CHECK_FALSE(state == mark);
  state = mark;
  CHECK(state == mark);
  for (index_t t = 3; t < 6; ++t) mixer.step(u[t], time_at(out, t), state);
  CHECK(difference(first, y) == "");
  CHECK(state == after);

  std::stringstream stream;
  state.save(stream);
  const std::string record = stream.str();
  auto loaded = mixer.make_state(2);
  loaded.load(stream);
  CHECK(loaded == state);
  // The same number of values, of other matrices.
  auto turned = mixer;
  turned.key_dim = 19;
  turned.value_dim = 4;
  auto other = turned.make_state(2);
  std::stringstream again(record);
  CHECK_THROWS_AS(other.load(again), state_error);
  CHECK(other == turned.make_state(2));
  std::stringstream half(record.substr(0, record.size() / 2));
  CHECK_THROWS_AS(loaded.load(half), state_error);
  CHECK(loaded == state);

  state.reset(1);
  std::vector<double> matrices(2 * 3 * 5 * 18), sums(2 * 3 * 5);
  const auto m = row_major(matrices.data(), 2, 3, 5, 18);
  const auto z = row_major(sums.data(), 2, 3, 5);
  state.copy_to(m, z);
  CHECK(std::count(matrices.begin() + 3 * 5 * 18, matrices.end(), 0.0) == 3 * 5 * 18);
  CHECK(std::count(sums.begin(), sums.begin() + 3 * 5, 0.0) == 0);
  loaded.copy_from(m, z);
  CHECK(loaded == state);
  CHECK_THROWS_AS(state.reset(2), shape_error);
  CHECK_THROWS_AS(state.copy_to(m), shape_error);
  state.reset();
  CHECK(state == mixer.make_state(2));
}

TEST_CASE("a wrong call of linear_attention names what it wanted and writes nothing",
          "[mixer][linear_attention][check]") {
  const auto a = make_matrix_arrays<faded_t>({.B = 2, .T = 3, .H = 4, .K = 5, .E = 6}, 1);
  const auto good = a.mixer();
  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    auto u = a.tokens();
    poisoned<float, 4> y({2, 3, 4, 6});
    auto out = y.get();
    auto state = good.make_state(2);
    const auto before = state;
    change(mixer, u, out, state);
    const std::string said = answer([&] { mixer.scan(exec::sequential{}, u, out, state); });
    CHECK(said == "linear_attention::scan: " + text);
    CHECK(y.untouched());
    CHECK((state == before || state.batch() != 2 || state.extents() != before.extents()));
  };
  refuses("heads must be 0 or more, got -1", [](auto& m, auto&, auto&, auto&) { m.heads = -1; });
  refuses("key_dim must be 1 or more, got 0", [](auto& m, auto&, auto&, auto&) { m.key_dim = 0; });
  refuses("value_dim must be 1 or more, got -6",
          [](auto& m, auto&, auto&, auto&) { m.value_dim = -6; });
  refuses("scale must be positive and finite, got 0.000000",
          [](auto& m, auto&, auto&, auto&) { m.scale = 0.0f; });
  refuses("scale must be positive and finite, got inf",
          [](auto& m, auto&, auto&, auto&) { m.scale = std::numeric_limits<float>::infinity(); });
  refuses("query must be [B, T, H', K] = [2, 3, 4, 5], got [2, 2, 4, 5]",
          [](auto&, auto& u, auto&, auto&) { u.query = time_range(u.query, 0, 2); });
  refuses("key must be [B, T, H', K] = [2, 3, 4, 5], got [2, 1, 4, 5]",
          [](auto&, auto& u, auto&, auto&) { u.key = time_range(u.key, 0, 1); });
  refuses("value must be [B, T, H', E] = [2, 3, 4, 6], got [2, 3, 4, 5]",
          [](auto&, auto& u, auto&, auto&) { u.value = u.key; });
  refuses("query must have heads that divide heads = 4, got 3",
          [&](auto&, auto& u, auto&, auto&) { u.query = row_major(a.query.data(), 2, 3, 3, 5); });
  refuses("value must have heads that divide heads = 4, got 0",
          [&](auto&, auto& u, auto&, auto&) { u.value = row_major(a.query.data(), 2, 3, 0, 6); });
  refuses("log_decay must be [B, T, H] = [2, 3, 4], got [0, 0, 0]",
          [](auto&, auto& u, auto&, auto&) { u.log_decay = {}; });
  refuses(
      "log_decay [B, T, H] = [2, 3, 4] must have unit stride on its last axis, got strides "
      "[24, 8, 2]",
      [&](auto&, auto& u, auto&, auto&) {
        u.log_decay = strided(a.query.data(), std::array<index_t, 3>{2, 3, 4},
                              std::array<index_t, 3>{24, 8, 2});
      });
  refuses("key must be [B, T, H', K] = [2, 3, 4, 5], got a null pointer",
          [](auto&, auto& u, auto&, auto&) {
            u.key = row_major(static_cast<const float*>(nullptr), 2, 3, 4, 5);
          });
  refuses("y must be [B, T, H, E] = [2, 3, 4, 6], got [2, 3, 4, 7]",
          [](auto&, auto&, auto& y, auto&) { y = row_major(y.data_handle(), 2, 3, 4, 7); });
  refuses("y must have batch and time strides that keep its rows apart, got rows that overlap",
          [](auto&, auto&, auto& y, auto&) {
            y = strided(y.data_handle(), std::array<index_t, 4>{2, 3, 4, 6},
                        std::array<index_t, 4>{24, 24, 6, 1});
          });
  refuses("y must not overlap value, got memory that does",
          [](auto&, auto& u, auto& y, auto&) { u.value = y; });
  refuses("offsets must not decrease, from 0 to T = 3, got a last offset of 2",
          [](auto&, auto& u, auto& y, auto&) {
            static const std::vector<index_t> ends{0, 1, 2};
            u.query = slice(u.query, 0, 0);
            u.key = slice(u.key, 0, 0);
            u.value = slice(u.value, 0, 0);
            u.log_decay = slice(u.log_decay, 0, 0);
            y = slice(y, 0, 0);
            u.offsets = ends;
          });
  refuses("state must be [B, H, K, E] = [2, 4, 5, 6], got [1, 4, 5, 6]",
          [](auto& m, auto&, auto&, auto& h) { h = m.make_state(1); });
  refuses("state must be [B, H, K, E] = [2, 4, 5, 6], got [2, 4, 6, 5]",
          [](auto& m, auto&, auto&, auto& h) {
            auto turned = m;
            turned.key_dim = 6;
            turned.value_dim = 5;
            h = turned.make_state(2);
          });
  refuses("state must be [B, H, K, E] = [2, 4, 5, 6] with a normaliser, got [2, 4, 5, 6]",
          [](auto& m, auto&, auto&, auto&) { m.normalised = true; });

  const auto plain = make_matrix_arrays<plain_t>({.T = 2, .H = 1, .K = 2, .E = 2}, 1);
  auto u = plain.tokens();
  u.log_decay = row_major(plain.query.data(), 1, 2, 1);
  poisoned<float, 4> y({1, 2, 1, 2});
  auto h = plain.mixer().make_state();
  CHECK_THROWS_WITH(plain.mixer().scan(exec::scalar{}, u, y.get(), h),
                    "linear_attention::scan: log_decay must be empty with decay_axis::none, got "
                    "[1, 2, 1]");
  CHECK_THROWS_WITH(plain.mixer().scan(exec::chunked{.chunk = -1}, plain.tokens(), y.get(), h),
                    "linear_attention::scan: chunk of exec::chunked must be 0 or more, got -1");
  CHECK_THROWS_WITH(plain.mixer().make_state(-1),
                    "linear_attention::make_state: batch must be 0 or more, got -1");
  auto huge = plain.mixer();
  huge.key_dim = huge.value_dim = index_t{1} << 40;
  CHECK_THROWS_AS(huge.make_state(1), shape_error);
  auto packed = plain.tokens();
  const std::vector<index_t> offsets{0, 2};
  packed.offsets = offsets;
  CHECK_THROWS_AS(packed.range(0, 1), shape_error);
  CHECK_THROWS_AS(packed.sequence(1), shape_error);
  CHECK(packed.sequence(0).offsets.empty());
  CHECK(y.untouched());
}
