// SPDX-License-Identifier: Apache-2.0

/// \file
/// What backward calls of the mixers with a matrix state refuse before they write, and what is saved
/// for them.

#include "support/answer.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/delta_rule.hpp>
#include <maslin/gradient/linear_attention.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace maslin;
using namespace maslin::test;

constexpr index_t B = 2, T = 70, H = 4, P = 2, K = 3, E = 5;

/// A call that is right, to be made wrong in one place. Two heads share a key and a value.
template <class Mixer>
struct call {
  static constexpr bool delta = requires(typename Mixer::tokens u) { u.beta; };
  using numbers = std::vector<float>;

  Mixer mixer{.heads = H, .key_dim = K, .value_dim = E};
  numbers query = numbers(B * T * H * K, 0.25f), key = numbers(B * T * P * K, 0.5f),
          value = numbers(B * T * P * E, 1.f), small = numbers(B * T * H, -0.5f),
          y = numbers(B * T * H * E), dy = numbers(B * T * H * E, 1.f);
  numbers dquery = query, dkey = key, dvalue = value, dsmall = small, dbeta = small;
  typename Mixer::tokens tokens{};
  typename Mixer::gradients d{};
  typename Mixer::state state = mixer.make_state(B), dstate = mixer.make_state(B);
  typename Mixer::saved saved = mixer.make_saved(B, T);

  index_t batch = 0, length = 0;

  call() {
    lay_out(B, T);
    scan(exec::sequential{});
  }

  /// The same numbers as tokens of other axes.
  void lay_out(index_t sequences, index_t of) {
    batch = sequences, length = of;
    tokens.query = row_major(std::as_const(query).data(), batch, length, H, K);
    tokens.key = row_major(std::as_const(key).data(), batch, length, P, K);
    tokens.value = row_major(std::as_const(value).data(), batch, length, P, E);
    tokens.log_decay = row_major(std::as_const(small).data(), batch, length, H);
    d.query = row_major(dquery.data(), batch, length, H, K);
    d.key = row_major(dkey.data(), batch, length, P, K);
    d.value = row_major(dvalue.data(), batch, length, P, E);
    d.log_decay = row_major(dsmall.data(), batch, length, H);
    if constexpr (delta) {
      tokens.beta = tokens.log_decay;
      d.beta = row_major(dbeta.data(), batch, length, H);
    }
  }
  /// Packed sequences, whose states begin empty.
  void pack(std::span<const index_t> offsets) {
    lay_out(1, B * T);
    tokens.offsets = offsets;
    state = dstate = mixer.make_state(static_cast<index_t>(offsets.size()) - 1);
  }

  [[nodiscard]] view<float, 4> y_view() { return row_major(y.data(), batch, length, H, E); }
  [[nodiscard]] view<const float, 4> dy_view() const {
    return row_major(dy.data(), batch, length, H, E);
  }
  template <class Policy>
  void scan(const Policy& policy) {
    mixer.scan(policy, tokens, y_view(), state, saved);
  }
  template <class Policy>
  void backward(const Policy& policy) {
    mixer.backward(policy, tokens, saved, dy_view(), d, dstate);
  }

  void expect(const std::string& message, const view<const float, 4>& arrives) {
    std::vector<numbers*> outputs{&dquery, &dkey, &dvalue, &dsmall, &dbeta};
    for (numbers* out : outputs) poison<float>::fill(*out);
    const auto before = dstate;
    INFO(message);
    const std::string said =
        answer([&] { mixer.backward(exec::sequential{}, tokens, saved, arrives, d, dstate); });
    CHECK(said != "");
    CHECK_THAT(said, has_text(message));
    for (const numbers* out : outputs)
      CHECK(std::ranges::all_of(*out, [](const float& x) { return poison<float>::is(x); }));
    CHECK(dstate == before);
  }
  void expect(const std::string& message) { expect(message, dy_view()); }
};

using linear = call<linear_attention<float, decay_axis::head>>;
using delta = call<delta_rule<float, decay_axis::head>>;

/// f(call) on a call of its own, which must then be refused.
template <class Call, class F>
void refuse(const std::string& message, const F& spoil) {
  Call c;
  spoil(c);
  c.expect(message);
}

}  // namespace

TEMPLATE_TEST_CASE("backward of a matrix state refuses wrong calls before it writes",
                   "[gradient][linear_attention][delta_rule][errors]", linear, delta) {
  const std::string name = TestType::delta ? "delta_rule" : "linear_attention";
  TestType c;
  c.expect(name + "::backward: query must be [B, T, H', K] = [2, 69, 4, 3], got [2, 70, 4, 3]",
           row_major(std::as_const(c.dy).data(), B, T - 1, H, E));
  c.expect(name + "::backward: dy must be [B, T, H, E] = [2, 70, 4, 5], got [2, 70, 4, 4]",
           row_major(std::as_const(c.dy).data(), B, T, H, E - 1));
  refuse<TestType>("key must have heads that divide heads = 4, got 3", [](auto& x) {
    x.tokens.key = row_major(std::as_const(x.query).data(), B, T, index_t{3}, K);
  });
  refuse<TestType>("gradients.key must be [B, T, H', K] = [2, 70, 2, 3], got [2, 70, 4, 3]",
                   [](auto& x) { x.d.key = row_major(x.dquery.data(), B, T, H, K); });
  refuse<
      TestType>("gradients.value [B, T, H', E] = [2, 70, 2, 5] must have unit stride", [](auto& x) {
    x.d.value = strided(x.dvalue.data(), x.d.value.extents(), {T * P * E, P * E, E, index_t{2}});
  });
  refuse<TestType>("gradients.log_decay must be [B, T, H] = [2, 70, 4], got [2, 70, 3]",
                   [](auto& x) { x.d.log_decay = row_major(x.dsmall.data(), B, T, H - 1); });
  refuse<TestType>("gradients.query must not overlap query",
                   [](auto& x) { x.d.query = row_major(x.query.data(), B, T, H, K); });
  refuse<TestType>("gradients.value must not overlap dy",
                   [](auto& x) { x.d.value = row_major(x.dy.data(), B, T, P, E); });
  refuse<TestType>("gradients.key must not overlap gradients.query",
                   [](auto& x) { x.d.key = row_major(x.dquery.data() + 7, B, T, P, K); });
  refuse<TestType>("dstate must be", [](auto& x) { x.dstate = x.mixer.make_state(B + 1); });
}

TEMPLATE_TEST_CASE("backward refuses states that were saved for another call",
                   "[gradient][linear_attention][delta_rule][errors]", linear, delta) {
  refuse<TestType>(
      "saved must be filled by a scan of the same B, T, H, K, E = [2, 70, 4, 3, 5], got [0, 0, 4, "
      "3, "
      "5]",
      [](auto& c) { c.saved = c.mixer.make_saved(B, T); });
  refuse<TestType>(
      "saved must be filled by a scan of the same offsets, got 30 for offset 1", [](auto& c) {
        static constexpr index_t before[] = {0, 30, 50, B * T}, now[] = {0, 31, 50, B * T};
        c.pack(before);
        c.scan(exec::sequential{});
        c.pack(now);
      });
  refuse<TestType>("saved must be filled by a scan of the same", [](auto& c) {
    auto state = c.mixer.make_state(B);
    c.mixer.scan(exec::sequential{}, c.tokens.range(1, T), time_range(c.y_view(), 1, T), state,
                 c.saved);
  });
  TestType c;
  CHECK_THROWS_WITH(c.backward(exec::sequential{.threads = -1}),
                    has_text("threads of exec::sequential must be 0 or more, got -1"));
  CHECK_THROWS_WITH(c.mixer.make_saved(B, -1), has_text("T must be 0 or more, got -1"));
  CHECK_THROWS_WITH(c.mixer.make_saved(B, T, -1), has_text("every must be 0 or more, got -1"));
  CHECK_THROWS_WITH(c.mixer.make_saved(index_t{1} << 40, index_t{1} << 40),
                    has_text("T must be a number whose states fit in memory"));
}

TEMPLATE_TEST_CASE("a scan that saves has the bytes of one that does not",
                   "[gradient][linear_attention][delta_rule]", linear, delta) {
  TestType c;
  const auto check = [&](const auto& policy, index_t every) {
    auto state = c.mixer.make_state(B), other = state;
    auto saved = c.mixer.make_saved(B, T, every);
    std::vector<float> y(c.y.size());
    c.mixer.scan(policy, c.tokens, row_major(y.data(), B, T, H, E), state);
    c.mixer.scan(policy, c.tokens, c.y_view(), other, saved);
    CHECK(y == c.y);
    CHECK(state == other);
  };
  for (const index_t every : {1, 3, 64, 1000}) {
    check(exec::scalar{}, every);
    check(exec::sequential{.threads = 3}, every);
    check(exec::chunked{.chunk = 7, .threads = 2}, every);
    check(exec::chunked{}, every);
  }
  // A state is H matrices whose columns are padded to 16.
  const auto floats = [](index_t states) { return states * H * K * 16 * 4; };
  CHECK(c.mixer.make_saved(B, T).bytes() == floats(B * 2));
  CHECK(c.mixer.make_saved(B, T, 10).bytes() == floats(B * 7));
  CHECK(c.mixer.make_saved(1, 1000, 1000).bytes() == floats(4));
}

TEMPLATE_TEST_CASE("packed sequences are saved in no more states than they have",
                   "[gradient][linear_attention][delta_rule]", linear, delta) {
  TestType c;
  const auto bytes = [&](const auto& saved, const auto& policy) {
    c.saved = saved;
    c.scan(policy);
    c.backward(policy);
    return c.saved.bytes();
  };
  const auto floats = [](index_t states) { return states * H * K * 16 * 4; };
  // Lengths 0, 1, 10, 11, 118 in states of 10 tokens.
  const std::vector<index_t> offsets{0, 0, 1, 11, 22, B * T};
  c.pack(offsets);
  const auto exact = c.mixer.make_saved(offsets, 10);
  CHECK(exact.bytes() == floats(0 + 1 + 1 + 2 + 12));
  CHECK(bytes(exact, exec::sequential{}) == exact.bytes());
  CHECK(bytes(exact, exec::chunked{.chunk = 7}) == exact.bytes());
  CHECK(bytes(c.mixer.make_saved(1, 0, 10), exec::scalar{}) == exact.bytes());
  CHECK(c.mixer.make_saved(offsets).bytes() == floats(0 + 1 + 1 + 1 + 2));
  CHECK(c.mixer.make_saved(std::vector<index_t>{0}).bytes() == 0);

  const std::string name = TestType::delta ? "delta_rule" : "linear_attention";
  const auto wrong = [&](std::vector<index_t> given, index_t every, const std::string& says) {
    CHECK_THROWS_AS(c.mixer.make_saved(given, every), shape_error);
    CHECK_THROWS_WITH(c.mixer.make_saved(given, every), has_text(name + "::make_saved: " + says));
  };
  wrong({}, 10, "offsets must be given, got none");
  wrong({1, 4}, 10, "offsets must not decrease, from 0 to T = 4, got a first offset of 1");
  wrong({0, 5, 4}, 10, "offsets must not decrease, from 0 to T = 4, got 5 followed by 4");
  wrong({0, 4}, -1, "every must be 0 or more, got -1");
  wrong({0, index_t{1} << 61}, 1, "offsets must be of tokens whose states fit in memory");
}

TEMPLATE_TEST_CASE(
    "backward of a matrix state under exec::automatic goes by chunks once there is one",
    "[gradient][linear_attention][delta_rule]", linear, delta) {
  const auto gradients = [](auto& c, const auto& policy) {
    c.dstate.reset();
    c.backward(policy);
    return std::vector{c.dquery, c.dkey, c.dvalue, c.dsmall, c.dbeta};
  };
  TestType c;
  CHECK(gradients(c, exec::automatic{}) == gradients(c, exec::chunked{}));
}
