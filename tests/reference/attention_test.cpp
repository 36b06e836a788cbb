// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/core/view.hpp>
#include <maslin/reference/attention.hpp>

#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

using maslin::index_t;
using maslin::row_major;
namespace reference = maslin::reference;

namespace {

/// One head of keys and values of one number; scale 1.
struct small {
  std::vector<double> query, key, value;
  reference::attention_arrays options{};

  [[nodiscard]] std::vector<double> run(std::vector<double>* lse = nullptr) const {
    const auto T = static_cast<index_t>(query.size()), N = static_cast<index_t>(key.size());
    reference::attention_arrays x = options;
    x.query = row_major(query.data(), 1, T, 1, 1);
    x.key = row_major(key.data(), 1, N, 1, 1);
    x.value = row_major(value.data(), 1, N, 1, 1);
    x.scale = 1;
    std::vector<double> y(query.size());
    if (lse != nullptr) lse->resize(query.size());
    reference::attention(
        x, row_major(y.data(), 1, T, 1, 1),
        lse == nullptr ? maslin::view<double, 3>{} : row_major(lse->data(), 1, T, 1));
    return y;
  }
};

bool close(double a, double b) { return std::abs(a - b) <= 20 * DBL_EPSILON * std::abs(b); }

}  // namespace

TEST_CASE("three tokens of attention, worked out by hand", "[reference][attention]") {
  // Logits of token t are those of its query 1 times the keys: ln 1, ln 2, ln 5.
  const small c{{1, 1, 1}, {0, std::log(2.0), std::log(5.0)}, {8, 4, 16}};
  std::vector<double> lse;
  const auto y = c.run(&lse);
  CHECK(close(y[0], 8));
  CHECK(close(y[1], (8 + 2 * 4) / 3.0));
  CHECK(close(y[2], (8 + 2 * 4 + 5 * 16) / 8.0));
  CHECK(close(lse[2], std::log(8.0)));
}

TEST_CASE("gradients of three tokens of attention, worked out by hand", "[reference][attention]") {
  // Equal logits: y = 1, 2, 4; D = 1, 4, 12; dlogit = [0], [-1, 1], [-3, -1, 4].
  const auto run = [](const std::vector<double>& query, const std::vector<double>& key) {
    const std::vector<double> value{1, 3, 8}, dy{1, 2, 3};
    std::vector<double> y(3), d(9);
    const auto rows = [](auto* p) { return row_major(p, 1, 3, 1, 1); };
    reference::attention_arrays x{
        .query = rows(query.data()), .key = rows(key.data()), .value = rows(value.data())};
    x.scale = 1;
    reference::attention_backward(x, {.dy = rows(dy.data()),
                                      .y = rows(y.data()),
                                      .query = rows(d.data()),
                                      .key = rows(d.data() + 3),
                                      .value = rows(d.data() + 6)});
    CHECK(close(y[2], 4));
    return d;
  };
  const auto near = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(got[i] - want[i]) < 1e-13);
  };
  near(run({0, 0, 0}, {1, 2, 4}), {0, 1, 11, 0, 0, 0, 3, 2, 1});
  near(run({2, 3, 5}, {0, 0, 0}), {0, 0, 0, -18, -2, 20, 3, 2, 1});

  // One key beside a sink of the same logit: P = 1/2, y = 1, D = dy y - dlse = 2 - 1.
  const std::vector<double> zero{0}, value{2}, dy{2}, dlse{1}, later{4};
  std::vector<double> y(1), d(5);
  const auto one = [](auto* p) { return row_major(p, 1, 1, 1, 1); };
  reference::attention_arrays x{
      .query = one(zero.data()), .key = one(zero.data()), .value = one(value.data())};
  x.mask = one(zero.data());
  x.sinks = row_major(zero.data(), 1);
  reference::attention_backward(x, {.dy = one(dy.data()),
                                    .dlse = row_major(dlse.data(), 1, 1, 1),
                                    .final_key = one(later.data()),
                                    .final_value = one(later.data()),
                                    .y = one(y.data()),
                                    .query = one(d.data()),
                                    .key = one(d.data() + 1),
                                    .value = one(d.data() + 2),
                                    .mask = one(d.data() + 3),
                                    .sinks = row_major(d.data() + 4, 1)});
  // dv = 4 + P dy, dmask = P (dy v - D), dsink = -P D.
  near(d, {0, 4, 5, 1.5, -0.5});
}

TEST_CASE("each option of attention enters as its formula says", "[reference][attention]") {
  const small plain{{1, 1, 1}, {0, std::log(2.0), std::log(5.0)}, {8, 4, 16}};
  SECTION("queries that come after cached keys stand at the end") {
    const small c{{1}, plain.key, plain.value};
    CHECK(c.run()[0] == plain.run()[2]);
  }
  SECTION("a window of two sees the token and the one before") {
    small c = plain;
    c.options.window = 2;
    CHECK(close(c.run()[2], (2 * 4 + 5 * 16) / 7.0));
  }
  SECTION("a mask adds to the logits, and hides with -inf") {
    small c = plain;
    const std::vector<double> mask{0, 0, 0, 0, 0, 0, std::log(3.0), -HUGE_VAL, 0};
    c.options.mask = row_major(mask.data(), 1, 3, 1, 3);
    c.value[1] = NAN;
    CHECK(close(c.run()[2], (3 * 8 + 5 * 16) / 8.0));
  }
  SECTION("a slope falls with the distance") {
    small c = plain;
    const std::vector<double> slope{std::log(2.0)};
    c.options.slopes = row_major(slope.data(), 1);
    CHECK(close(c.run()[2], (8 / 4.0 + 2 * 4 / 2.0 + 5 * 16) / (0.25 + 1 + 5)));
  }
  SECTION("a sink takes weight and gives no value") {
    small c = plain;
    const std::vector<double> sink{std::log(2.0)};
    c.options.sinks = row_major(sink.data(), 1);
    std::vector<double> lse;
    CHECK(close(c.run(&lse)[2], (8 + 2 * 4 + 5 * 16) / 10.0));
    CHECK(close(lse[2], std::log(10.0)));
  }
  SECTION("a soft cap bounds the logits") {
    small c = plain;
    c.options.cap = 0.5;
    c.key[2] = 1000;
    const double a = std::exp(0.5 * std::tanh(2 * std::log(2.0))), b = std::exp(0.5);
    CHECK(close(c.run()[2], (8 + a * 4 + b * 16) / (1 + a + b)));
  }
  SECTION("query heads share key-value heads in order, one mask serves all heads") {
    const std::vector<double> query{1, 1, 1, 1}, key{0, 0}, value{3, 5}, mask{0};
    std::vector<double> y(4);
    reference::attention({.query = row_major(query.data(), 1, 1, 4, 1),
                          .key = row_major(key.data(), 1, 1, 2, 1),
                          .value = row_major(value.data(), 1, 1, 2, 1),
                          .mask = row_major(mask.data(), 1, 1, 1, 1)},
                         row_major(y.data(), 1, 1, 4, 1));
    CHECK(y == std::vector<double>{3, 3, 5, 5});
  }
}

TEST_CASE("rows that see nothing are zero, NaN stays in its row", "[reference][attention]") {
  small c{{1, 1}, {0, 1}, {8, 4}};
  const std::vector<double> mask{-HUGE_VAL, -HUGE_VAL, 0, 0};
  c.options.mask = row_major(mask.data(), 1, 2, 1, 2);
  std::vector<double> lse;
  auto y = c.run(&lse);
  CHECK(y[0] == 0);
  CHECK(lse[0] == -HUGE_VAL);
  CHECK(std::isfinite(y[1]));
  c.query[1] = NAN;
  y = c.run();
  CHECK(y[0] == 0);
  CHECK(std::isnan(y[1]));
}

TEST_CASE("the reference of attention refuses shapes that do not fit", "[reference][attention]") {
  const std::vector<double> numbers(64);
  std::vector<double> y(8);
  const auto out = row_major(y.data(), 1, 2, 2, 2);
  const double* const p = numbers.data();
  const reference::attention_arrays fits{.query = row_major(p, 1, 2, 2, 3),
                                         .key = row_major(p, 1, 4, 1, 3),
                                         .value = row_major(p, 1, 4, 1, 2)};
  CHECK_NOTHROW(reference::attention(fits, out));
  CHECK_THROWS_AS(reference::attention_backward(fits, {.dy = row_major(p, 1, 2, 2, 3), .y = out}),
                  maslin::shape_error);
  auto x = fits;
  x.key = row_major(p, 1, 1, 1, 3);
  x.value = row_major(p, 1, 1, 1, 2);
  CHECK_THROWS_AS(reference::attention(x, out), maslin::shape_error);
  x = fits;
  x.value = row_major(p, 1, 4, 1, 3);
  CHECK_THROWS_AS(reference::attention(x, out), maslin::shape_error);
}
