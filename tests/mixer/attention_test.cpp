// SPDX-License-Identifier: Apache-2.0
#include "attention_subject.hpp"
#include "scan/executors.hpp"

#include <maslin/mixer/position.hpp>
#include <maslin/recurrence/online_softmax.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <iostream>

using namespace maslin;
using namespace maslin::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

static_assert(token_mixer<attention<float>>);
static_assert(token_mixer<attention<float, bf16>>);

using stage_t = attention_stage<float>;
using problem_t = attention_problem<float>;

/// Sizes that reach whole and part tiles of rows, registers, blocks and segments.
const attention_sizes shapes[] = {{1, 1, 1, 1, 1, 1},     {2, 29, 3, 3, 16, 16},
                                  {1, 64, 4, 2, 8, 20},   {1, 130, 6, 1, 33, 5},
                                  {1, 150, 2, 1, 64, 64}, {1, 70, 1, 1, 300, 270}};

/// A problem with every option on.
problem_t full_problem(const attention_sizes& n, std::uint64_t seed) {
  problem_t p(n, seed);
  p.add_everything(seed + 1, n.H);
  p.window = 70;
  return p;
}

/// Every way to run a stage gives the same bytes.
void schedule_law(stage_t& stage) {
  const index_t T = stage.p.size.T;
  const auto want = stage.run();
  INFO(describe(stage.p.size));
  REQUIRE(bits_apart(want, stage.run(exec::scalar{})) == "");
  REQUIRE(bits_apart(want, stage.run(exec::chunked{.chunk = 7, .threads = 2})) == "");
  for (const int threads : {2, 7})
    REQUIRE(bits_apart(want, stage.run(exec::sequential{.threads = threads})) == "");
  reverse_executor reverse;
  REQUIRE(bits_apart(want, stage.run(exec::on(reverse, exec::sequential{.threads = 3}))) == "");

  auto end = stage.fresh();
  stage.scan(exec::sequential{}, 0, T, end);
  for (index_t t = 0; t <= T; t += t > 70 ? 5 : 1) {
    stage.forget();
    auto h = stage.fresh();
    stage.scan(exec::sequential{}, 0, t, h);
    const index_t middle = std::min(t + 2, T);
    stage.decode(t, middle, h);
    stage.scan(exec::sequential{.threads = t % 8 == 1 ? 2 : 1}, middle, T, h);
    INFO("split at " << t);
    REQUIRE(bits_apart(want, stage.result()) == "");
    REQUIRE(h == end);
  }
  stage.forget();
  auto h = stage.fresh();
  stage.decode(0, T, h);
  REQUIRE(bits_apart(want, stage.result()) == "");
}

}  // namespace

TEST_CASE("outputs and log-sum-exps of attention stay within the error bound",
          "[mixer][attention][accuracy]") {
  worst_ratio plain("attention, float"), full("attention with every option, float"),
      uniform("attention of equal keys, float");
  for (const auto& n : shapes) {
    for (const double deviation : {0.3, 4.0}) {
      problem_t p(n, 11, deviation);
      stage_t stage(p);
      add_errors<float>(p, stage.run(), plain);
    }
    const auto p = full_problem(n, 13);
    stage_t stage(p);
    add_errors<float>(p, stage.run(), full);
  }
  // Several segments; and weights that all are one, where sums of one sign round one way.
  problem_t longer({1, 1300, 1, 1, 4, 3}, 17), even(longer);
  std::fill(even.query.begin(), even.query.end(), 0.0f);
  std::fill(even.value.begin(), even.value.end(), 0.1f);
  stage_t segments(longer), one_way(even);
  add_errors<float>(longer, segments.run(), plain);
  add_errors<float>(even, one_way.run(), uniform, 64);
  std::cout << plain << '\n' << full << '\n' << uniform << '\n';
  CHECK(plain.value() <= 1);
  CHECK(full.value() <= 1);
  CHECK(uniform.value() <= 1);
}

TEST_CASE("no split, schedule or executor changes a bit of attention",
          "[mixer][attention][split][threads]") {
  for (const auto& n : {shapes[1], shapes[3]}) {
    stage_t plain(problem_t(n, 21)), full(full_problem(n, 22));
    schedule_law(plain);
    schedule_law(full);
  }
}

TEST_CASE("threads that share a query by segments give the bytes of one",
          "[mixer][attention][split][threads]") {
  stage_t stage(problem_t({1, 2200, 3, 1, 4, 3}, 23));
  const auto tail_of = [&](index_t prompt, const auto& policy, index_t tokens) {
    auto h = stage.fresh();
    stage.forget();
    stage.mixer.append(stage.tokens.range(0, prompt), h);
    stage.scan(policy, prompt, prompt + tokens, h);
    stage.scan(policy, prompt + tokens, prompt + tokens + 1, h);
    return stage.result();
  };
  thread_executor team{.threads = 3};
  for (const index_t window : {0, 1500})
    for (const index_t prompt : {1030, 2190}) {
      stage.mixer.window = window;
      INFO("window " << window << ", after " << prompt);
      const auto want = tail_of(prompt, exec::sequential{}, 6);
      REQUIRE(bits_apart(want,
                         tail_of(prompt, exec::on(team, exec::sequential{.threads = 5}), 6)) == "");
      REQUIRE(bits_apart(want, tail_of(prompt, exec::sequential{.threads = 200}, 6)) == "");
    }
}

TEST_CASE("a sequence has the same bytes alone, in a batch and packed",
          "[mixer][attention][batch]") {
  const auto p = full_problem({3, 90, 2, 1, 7, 9}, 31);
  stage_t all(p);
  const auto want = all.run();
  const auto [B, T, H, G, K, E] = p.size;
  const index_t lengths[] = {0, 13, 90};
  // Sequences of lengths 13, 0, 90 cut from sequences 0, 1 and 2 of the batch, as one.
  std::vector<float> query, key, value, mask, y(static_cast<std::size_t>(103 * H * E));
  const std::vector<index_t> offsets{0, 13, 13, 103};
  const auto take = [](std::vector<float>& to, const std::vector<float>& from, index_t first,
                       index_t count) {
    to.insert(to.end(), from.begin() + first, from.begin() + first + count);
  };
  for (const auto& [b, n] : {std::pair{0, lengths[1]}, std::pair{2, lengths[2]}}) {
    take(query, p.query, b * T * H * K, n * H * K);
    take(key, p.key, b * T * G * K, n * G * K);
    take(value, p.value, b * T * G * E, n * G * E);
    take(mask, p.mask, b * T * H * T, n * H * T);
  }
  const auto data = [](const std::vector<float>& x) { return x.data(); };
  const stage_t::mixer_t::tokens packed{.query = row_major(data(query), 1, 103, H, K),
                                        .key = row_major(data(key), 1, 103, G, K),
                                        .value = row_major(data(value), 1, 103, G, E),
                                        .mask = row_major(data(mask), 1, 103, H, T),
                                        .offsets = offsets};
  for (const int threads : {1, 4}) {
    auto h = all.mixer.make_state(3, T);
    all.mixer.scan(exec::sequential{.threads = threads}, packed, row_major(y.data(), 1, 103, H, E),
                   h);
    CHECK(h.position(0) == 13);
    CHECK(h.position(1) == 0);
    CHECK(h.position(2) == 90);
    const std::size_t head = static_cast<std::size_t>(13 * H * E),
                      row = static_cast<std::size_t>(T * H * E);
    CHECK(std::equal(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(head), want.begin()));
    CHECK(std::equal(y.begin() + static_cast<std::ptrdiff_t>(head), y.end(),
                     want.begin() + static_cast<std::ptrdiff_t>(2 * row)));
  }
  // The last one by itself.
  std::vector<float> alone(static_cast<std::size_t>(T * H * E));
  auto h = all.mixer.make_state(1, T);
  all.mixer.scan(exec::sequential{}, packed.sequence(2), row_major(alone.data(), 1, T, H, E), h);
  CHECK(std::equal(alone.begin(), alone.end(), want.begin() + 2 * T * H * E));
}

TEST_CASE("a changed future changes no earlier byte of attention",
          "[mixer][attention][causality]") {
  const auto p = full_problem({1, 100, 2, 1, 5, 6}, 41);
  stage_t stage(p);
  const auto want = stage.run();
  const auto [B, T, H, G, K, E] = p.size;
  for (index_t t = 0; t < T; ++t)
    for (const float x : {nan_value, infinity, 3.0f}) {
      auto q = p;
      std::fill(q.key.begin() + t * G * K, q.key.end(), x);
      std::fill(q.value.begin() + t * G * E, q.value.end(), x);
      std::fill(q.query.begin() + t * H * K, q.query.end(), x);
      stage_t changed(q);
      const auto got = changed.run();
      const auto count = static_cast<std::size_t>(t * H * E);
      INFO("from token " << t << " on " << x);
      REQUIRE(std::memcmp(want.data(), got.data(), count * sizeof(float)) == 0);
    }
}

TEST_CASE("one NaN in a value reaches exactly the outputs that attend to it",
          "[mixer][attention][nan]") {
  auto p = full_problem({2, 150, 4, 2, 3, 5}, 43);
  const auto [B, T, H, G, K, E] = p.size;
  for (const index_t at : {0, 5, 63, 64, 100, 149})
    for (const bool masks : {false, true}) {
      auto q = p;
      if (!masks) q.mask.clear();
      const index_t b = 1, g = 1, e = 2;
      row_major(q.value.data(), B, T, G, E)(b, at, g, e) = nan_value;
      stage_t stage(q);
      const auto got = stage.run();
      const auto y = row_major(got.data(), B, T, H, E);
      long wrong = 0;
      for (index_t s = 0; s < B; ++s)
        for (index_t t = 0; t < T; ++t)
          for (index_t h = 0; h < H; ++h)
            for (index_t c = 0; c < E; ++c) {
              bool reached = s == b && c == e && h / 2 == g && at <= t && at > t - q.window;
              if (masks && reached)
                reached = row_major(q.mask.data(), B, T, H, T)(s, t, h, at) != -infinity;
              if (std::isnan(y(s, t, h, c)) != reached) ++wrong;
            }
      INFO("value " << at << (masks ? ", masked" : ""));
      CHECK(wrong == 0);
      auto decoded = stage.fresh();
      stage.forget();
      stage.decode(0, T, decoded);
      CHECK(bits_apart(got, stage.result()) == "");
    }
}

TEST_CASE("a NaN or an infinite logit spoils its row alone", "[mixer][attention][nan]") {
  problem_t p({1, 140, 2, 2, 3, 4}, 47);
  for (const float x : {nan_value, infinity}) {
    auto q = p;
    // Query 70 of head 1, whose logits are then NaN or of both infinite signs.
    row_major(q.query.data(), 1, 140, 2, 3)(0, 70, 1, 0) = x;
    stage_t stage(q), clean(p);
    auto got = stage.run(), want = clean.run();
    for (index_t e = 0; e < 4; ++e) {
      const auto i = static_cast<std::size_t>((70 * 2 + 1) * 4 + e);
      CHECK(std::isnan(got[i]));
      got[i] = want[i];
    }
    const auto sum = static_cast<std::size_t>(140 * 2 * 4 + 70 * 2 + 1);
    CHECK(std::isnan(got[sum]));
    got[sum] = want[sum];
    CHECK(bits_apart(want, got) == "");
  }
}

TEST_CASE("logits of +-1e4 neither overflow nor vanish", "[mixer][attention][extremes]") {
  problem_t p({1, 3, 1, 1, 1, 1}, 1);
  p.scale = 1;
  p.query = {1, 1, 1};
  p.key = {1e4f, 9999, -1e4f};
  p.value = {1, 2, 3};
  stage_t stage(p);
  const auto y = stage.run();
  const double e = std::exp(-1.0);
  CHECK(y[0] == 1);
  CHECK(std::abs(y[1] - (1 + 2 * e) / (1 + e)) <= 1e-6);
  CHECK(std::abs(y[2] - (1 + 2 * e) / (1 + e)) <= 1e-6);
  CHECK(y[4] == 1e4f + static_cast<float>(std::log1p(e)));
  for (float& x : p.key) x = -x;
  stage_t turned(p);
  CHECK(turned.run()[2] == 3);
}

TEST_CASE("a row with nothing to see is 0 with a log-sum-exp of -inf", "[mixer][attention][mask]") {
  problem_t p({1, 80, 2, 1, 3, 4}, 51);
  p.mask.assign(80 * 80, 0.0f);
  // Row 70 sees nothing; its keys' values are NaN at 3, which it must not see either.
  std::fill_n(p.mask.begin() + 70 * 80, 80, -infinity);
  for (index_t t = 0; t < 80; ++t) p.mask[static_cast<std::size_t>(t * 80 + 3)] = -infinity;
  std::fill_n(p.value.begin() + 3 * 4, 4, nan_value);
  for (const bool sink : {false, true}) {
    if (sink) p.sinks = {0.5f, -infinity};
    stage_t stage(p);
    const auto got = stage.run();
    for (index_t i = 0; i < 8; ++i) CHECK(got[static_cast<std::size_t>(70 * 8 + i)] == 0);
    const std::size_t sums = 80 * 8 + 70 * 2;
    CHECK(got[sums] == (sink ? 0.5f : -infinity));
    CHECK(got[sums + 1] == -infinity);
    for (std::size_t i = 0; i < 80 * 8; ++i) REQUIRE_FALSE(std::isnan(got[i]));
  }
}

TEST_CASE("attention in known cases", "[mixer][attention]") {
  const attention_sizes n{1, 90, 2, 2, 6, 7};
  const problem_t p(n, 61);
  stage_t stage(p);
  const auto want = stage.run();
  SECTION("the first token's output is its value, since it sees one key") {
    for (std::size_t i = 0; i < 14; ++i) CHECK(want[i] == p.value[i]);
  }
  SECTION("constant scores give the running mean") {
    auto q = p;
    std::fill(q.query.begin(), q.query.end(), 0.0f);
    stage_t even(q);
    const auto y = even.run();
    double sum = 0;
    for (index_t t = 0; t < 90; ++t) {
      sum += double{p.value[static_cast<std::size_t>(t * 14)]};
      CHECK(std::abs(y[static_cast<std::size_t>(t * 14)] - sum / double(t + 1)) <= 1e-5);
    }
  }
  SECTION("a window that holds every key is none") {
    auto q = p;
    q.window = 90;
    stage_t wide(q);
    CHECK(bits_apart(want, wide.run()) == "");
  }
  SECTION("grouped heads are repeated keys and values") {
    attention_sizes grouped = n;
    grouped.H = 4;
    const problem_t g(grouped, 62);
    auto repeated = g;
    repeated.size.G = 4;
    repeated.key.clear();
    repeated.value.clear();
    for (index_t t = 0; t < 90; ++t)
      for (index_t h = 0; h < 4; ++h) {
        const auto key = g.key.begin() + (t * 2 + h / 2) * 6;
        const auto value = g.value.begin() + (t * 2 + h / 2) * 7;
        repeated.key.insert(repeated.key.end(), key, key + 6);
        repeated.value.insert(repeated.value.end(), value, value + 7);
      }
    stage_t one(g), other(repeated);
    CHECK(bits_apart(one.run(), other.run()) == "");
  }
  SECTION("doubling the values doubles the outputs, exactly") {
    auto q = p;
    for (float& x : q.value) x *= 2;
    stage_t twice(q);
    const auto y = twice.run();
    for (std::size_t i = 0; i < 90 * 14; ++i) REQUIRE(y[i] == 2 * want[i]);
  }
  SECTION("a mask of zeros and slopes of zero change no bit") {
    auto q = p;
    q.mask.assign(90 * 90, 0.0f);
    q.slopes.assign(2, 0.0f);
    stage_t zeros(q);
    const auto y = zeros.run();
    for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(std::abs(y[i] - want[i]) <= 1e-5f);
  }
}

TEST_CASE("parts over any cut of the keys merge to the whole", "[mixer][attention][merge]") {
  const problem_t p({1, 120, 1, 1, 5, 9}, 71);
  stage_t stage(p);
  const auto whole = stage.run();
  const recurrence::online_softmax<float> monoid{.width = 9};
  // The last query over keys [0, cut) and [cut, 120), each by a mixer and a cache of its own.
  for (const index_t cut : {1, 50, 64, 119}) {
    std::vector<float> first(9), second(9), y(9);
    using part = recurrence::online_softmax<float>::part;
    part parts[2];
    std::vector<float>* outs[] = {&first, &second};
    for (const int i : {0, 1}) {
      auto h = stage.mixer.make_state(1, 120);
      const index_t begin = i == 0 ? 0 : cut, end = i == 0 ? cut : 120;
      auto last = stage.tokens.range(end - 1, end);
      last.query = time_range(stage.tokens.query, 119, 120);
      stage.mixer.append(stage.tokens.range(begin, end - 1), h);
      float lse = 0;
      stage.mixer.scan(exec::sequential{}, last, row_major(outs[i]->data(), 1, 1, 1, 9), h,
                       row_major(&lse, 1, 1, 1));
      parts[i] = {.max = lse, .sum = 1, .acc = outs[i]->data()};
    }
    monoid.merge(parts[0], parts[1]);
    const float lse = monoid.finish(parts[0], y.data());
    for (std::size_t e = 0; e < 9; ++e) CHECK(std::abs(y[e] - whole[119 * 9 + e]) <= 2e-6f);
    CHECK(std::abs(lse - whole[120 * 9 + 119]) <= 2e-6f);
  }
}
