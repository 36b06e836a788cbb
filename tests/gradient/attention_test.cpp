// SPDX-License-Identifier: Apache-2.0
#include "gradient/attention_subject.hpp"
#include "scan/executors.hpp"
#include "support/answer.hpp"

#include <maslin/core/expect.hpp>

using namespace maslin;
using namespace maslin::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

constexpr attention_variant plain{.group = 1};
constexpr attention_variant every_option{.group = 2,
                                         .most_past = 70,
                                         .mask_heads = 2,
                                         .sinks = true,
                                         .slopes = true,
                                         .log_sums = true,
                                         .cap = 1.5};
constexpr attention_variant ring{
    .group = 3, .window = 9, .ring = true, .most_past = 8, .mask_heads = 1};
constexpr attention_variant window{.group = 2, .window = 66, .most_past = 65, .sinks = true};

/// One sequence, its arrays and gradients dense; outputs are those of a scan that has been made.
struct small_call {
  index_t T, H, G, K, E;
  std::vector<float> query, key, value, mask, dy, y, dquery, dkey, dvalue, dmask;
  std::vector<float> sinks, dsinks;
  attention<float> mixer;
  attention<float>::saved keep;
  attention<float>::state dstate;

  small_call(index_t tokens, index_t heads, index_t key_heads, index_t width, index_t value_width,
             std::uint64_t seed)
      : T(tokens),
        H(heads),
        G(key_heads),
        K(width),
        E(value_width),
        mixer{.heads = H, .key_heads = G, .key_dim = K, .value_dim = E},
        keep(mixer.make_saved(1, T)),
        dstate(mixer.make_state(1, 0)) {
    test::random r(seed);
    const auto fill = [&](std::vector<float>& x, index_t count) {
      x.resize(static_cast<std::size_t>(count));
      r.fill_normal<float>(x);
    };
    fill(query, T * H * K);
    fill(key, T * G * K);
    fill(value, T * G * E);
    fill(mask, T * H * T);
    fill(dy, T * H * E);
    fill(sinks, H);
    dquery = query;
    dkey = key;
    dvalue = value;
    dmask = mask;
    y = dy;
    dsinks = sinks;
  }
  small_call(const small_call&) = delete;
  small_call& operator=(const small_call&) = delete;

  [[nodiscard]] attention<float>::tokens tokens(bool masked = true) const {
    attention<float>::tokens u{.query = row_major(query.data(), 1, T, H, K),
                               .key = row_major(key.data(), 1, T, G, K),
                               .value = row_major(value.data(), 1, T, G, E)};
    if (masked) u.mask = row_major(mask.data(), 1, T, H, T);
    return u;
  }
  [[nodiscard]] view<const float, 4> dout() const { return row_major(dy.data(), 1, T, H, E); }
  [[nodiscard]] attention<float>::gradients wanted() {
    return {.query = row_major(dquery.data(), 1, T, H, K),
            .key = row_major(dkey.data(), 1, T, G, K),
            .value = row_major(dvalue.data(), 1, T, G, E),
            .mask = row_major(dmask.data(), 1, T, H, T)};
  }
  void run() {
    auto h = mixer.make_state(1, T);
    mixer.scan(exec::sequential{}, tokens(), row_major(y.data(), 1, T, H, E), h, keep);
    mixer.backward(exec::sequential{}, tokens(), keep, dout(), wanted(), dstate);
  }
  [[nodiscard]] std::vector<std::vector<float>> gradients() const {
    return {dquery, dkey, dvalue, dmask};
  }
};

[[nodiscard]] bool all_finite(const std::vector<float>& x) {
  return std::all_of(x.begin(), x.end(), [](float n) { return std::isfinite(n); });
}

/// True if f() throws a shape_error whose text has `part` in it, and no gradient of `c` has changed.
template <class F>
[[nodiscard]] bool refuses(const small_call& c, const std::string& part, const F& f) {
  const auto before = c.gradients();
  const std::string text = answer(f);
  INFO(text);
  CHECK(text.starts_with("attention::backward: "));
  CHECK(text.find(part) != std::string::npos);
  return before == c.gradients() && text.find(part) != std::string::npos;
}

}  // namespace

TEMPLATE_TEST_CASE("gradients of attention keep the laws", "[gradient][attention]", float, double) {
  check_gradient_laws(attention_gradients<TestType>(plain), 1, 4, 3, 20);
  check_gradient_laws(attention_gradients<TestType>(every_option), 2, 3, 3, 12);
  check_gradient_laws(attention_gradients<TestType>(ring), 3, 4, 3, 20);
  check_gradient_laws(attention_gradients<TestType>(window), 4, 3, 2, 12);
}

TEST_CASE("gradients of attention stay within the bound over many rows and blocks of keys",
          "[gradient][attention]") {
  worst_ratio worst("gradients of attention");
  test::random r(5);
  for (const auto& variant : {plain, every_option, ring, window}) {
    const attention_gradients<float> subject(variant);
    const auto p = subject.draw(1, 150, r);
    gradient_law::truth(subject, p, worst);
    gradient_law::hand_over(subject, p, r);
  }
  // Numbers that need several blocks of columns, of which a cache holds fewer.
  const attention_gradients<float> wide(plain);
  auto p = wide.draw(1, 7, r);
  p.sizes = {2, 2, 300, 270, 0, 0, 10};
  const index_t counts[] = {300, 300, 270};
  for (std::size_t k = 0; k < 3; ++k) {
    p.inputs[k].resize(static_cast<std::size_t>(7 * 2 * counts[k]));
    r.fill_normal<float>(p.inputs[k], 0.3);
  }
  p.dy.resize(p.inputs[2].size());
  r.fill_normal<float>(p.dy);
  gradient_law::truth(wide, p, worst);
  WARN(worst);
}

TEST_CASE("threads that share a head of attention give the gradients of one",
          "[gradient][attention][threads]") {
  small_call c(300, 4, 1, 8, 9, 19);
  c.run();
  const auto by = [&](const auto& policy) {
    auto g = c.wanted();
    g.mask = {};
    c.dquery.assign(c.dquery.size(), nan_value);
    c.mixer.backward(policy, c.tokens(), c.keep, c.dout(), g, c.dstate);
    return c.gradients();
  };
  const auto want = by(exec::sequential{});
  REQUIRE(all_finite(want[0]));
  thread_executor team{.threads = 3};
  reverse_executor reverse;
  counting_executor counting;
  CHECK(want == by(exec::on(team, exec::sequential{.threads = 5})));
  CHECK(want == by(exec::on(reverse, exec::sequential{.threads = 3})));
  CHECK(want == by(exec::on(counting, exec::sequential{.threads = 4})));
  // Not one task alone, but diagonals of up to four.
  CHECK(counting.counts.size() > 4);
  CHECK(*std::max_element(counting.counts.begin(), counting.counts.end()) == 4);
}

TEST_CASE("what a mask or the future hides gives nothing, be it NaN", "[gradient][attention]") {
  small_call clean(70, 2, 1, 5, 6, 7), spoiled(70, 2, 1, 5, 6, 7);
  constexpr index_t hidden = 3, late = 69;
  for (small_call* c : {&clean, &spoiled})
    for (index_t i = 0; i < c->T * c->H; ++i) {
      c->mask[static_cast<std::size_t>(i * c->T + hidden)] = -infinity;
      // Token 5 sees no key at all.
      if (i / c->H == 5) std::fill_n(c->mask.begin() + i * c->T, c->T, -infinity);
    }
  const auto spoil = [](std::vector<float>& x, index_t token) {
    const index_t row = static_cast<index_t>(x.size()) / 70;
    std::fill_n(x.begin() + token * row, row, nan_value);
  };
  for (auto* x : {&spoiled.key, &spoiled.value}) spoil(*x, hidden);
  for (auto* x : {&spoiled.query, &spoiled.dy}) spoil(*x, 5);
  clean.run();
  spoiled.run();
  CHECK(clean.gradients() == spoiled.gradients());
  for (const auto& x : spoiled.gradients()) CHECK(all_finite(x));
  for (index_t i = 0; i < 2 * 5; ++i)
    CHECK(spoiled.dquery[static_cast<std::size_t>(5 * 2 * 5 + i)] == 0);

  // The last token sees a key that is NaN; all others keep their gradients.
  std::fill_n(spoiled.key.end() - 5, 5, nan_value);
  spoiled.run();
  CHECK(std::equal(clean.dquery.begin(), clean.dquery.begin() + late * 10, spoiled.dquery.begin()));
  CHECK_FALSE(all_finite(spoiled.dquery));
}

TEST_CASE("a state's gradient may be shorter than the state", "[gradient][attention]") {
  // Without later calls it is empty; keys before the call then begin with zeros.
  const attention<float> mixer{.key_dim = 4, .value_dim = 4};
  test::random r(11);
  std::vector<float> x(4 * 80), dy(4);
  r.fill_normal<float>(x);
  r.fill_normal<float>(dy);
  std::vector<float> y(4);
  const auto rows = row_major(std::as_const(x).data(), 1, 80, 1, 4);
  auto state = mixer.make_state(1, 80);
  mixer.append({.query = {}, .key = time_range(rows, 0, 79), .value = time_range(rows, 0, 79)},
               state);
  const auto last = time_range(rows, 79, 80);
  auto keep = mixer.make_saved(1, 1);
  mixer.scan(exec::sequential{}, {.query = last, .key = last, .value = last},
             row_major(y.data(), 1, 1, 1, 4), state, keep);
  CHECK(keep.initial.position(0) == 79);
  CHECK(keep.bytes() == keep.initial.bytes() + index_t{sizeof(float)});
  const auto by = [&](attention<float>::state dstate) {
    mixer.backward(exec::sequential{}, {.query = last, .key = last, .value = last}, keep,
                   row_major(std::as_const(dy).data(), 1, 1, 1, 4), {}, dstate);
    REQUIRE(dstate.position(0) == 79);
    std::vector<float> key(79 * 4), value(79 * 4);
    dstate.copy_to(0, 0, row_major(key.data(), 79, 1, 4), row_major(value.data(), 79, 1, 4));
    key.insert(key.end(), value.begin(), value.end());
    return key;
  };
  auto zeros = mixer.make_state(1, 80), used = state;
  const std::vector<float> nothing(4 * 80);
  const auto none = row_major(nothing.data(), 1, 80, 1, 4);
  mixer.append({.query = {}, .key = none, .value = none}, zeros);
  used.reset();
  const auto want = by(zeros);
  CHECK(want == by(mixer.make_state(1, 79)));
  CHECK(want == by(used));
  CHECK(std::count(want.begin(), want.end(), 0.0f) == 0);
}

TEST_CASE("backward of attention refuses what does not fit before it writes",
          "[gradient][attention][errors]") {
  small_call c(6, 4, 2, 3, 5, 3);
  c.run();
  const auto d = c.wanted();
  const auto call = [&](const attention<float>::tokens& u, const attention<float>::saved& keep,
                        view<const float, 4> dy, const attention<float>::gradients& g,
                        attention<float>::state& dstate) {
    return [&, dy] { c.mixer.backward(exec::sequential{}, u, keep, dy, g, dstate); };
  };
  const auto with = [&](auto change) {
    auto g = d;
    change(g);
    return g;
  };
  const auto u = c.tokens();
  CHECK(refuses(c, "dy must be", call(u, c.keep, time_range(c.dout(), 0, 5), d, c.dstate)));
  CHECK(refuses(c, "gradients.key must be",
                call(u, c.keep, c.dout(), with([&](auto& g) { g.key = time_range(g.key, 0, 5); }),
                     c.dstate)));
  CHECK(refuses(
      c, "gradients.value must not overlap value",
      call(u, c.keep, c.dout(),
           with([&](auto& g) { g.value = row_major(c.value.data(), 1, 6, 2, 5); }), c.dstate)));
  CHECK(
      refuses(c, "gradients.query must not overlap saved.y",
              call(u, c.keep, c.dout(),
                   with([&](auto& g) { g.query = row_major(c.y.data(), 1, 6, 4, 3); }), c.dstate)));
  CHECK(refuses(
      c, "gradients.key must not overlap gradients.query",
      call(u, c.keep, c.dout(),
           with([&](auto& g) { g.key = row_major(c.dquery.data(), 1, 6, 2, 3); }), c.dstate)));
  CHECK(refuses(c, "gradients.sinks must be null",
                call(u, c.keep, c.dout(),
                     with([&](auto& g) { g.sinks = row_major(c.dsinks.data(), 4); }), c.dstate)));
  CHECK(refuses(c, "gradients.mask must be null",
                call(c.tokens(false), c.keep, c.dout(), d, c.dstate)));
  CHECK(refuses(c, "saved.y must be", call(u, c.mixer.make_saved(1, 6), c.dout(), d, c.dstate)));
  auto other = c.mixer.make_state(2, 8), longer = c.mixer.make_state(1, 8);
  CHECK(refuses(c, "dstate must be [B, H', K, E]", call(u, c.keep, c.dout(), d, other)));
  auto seven = u;
  const std::vector<float> rows(7 * 2 * 5);
  seven.key = row_major(rows.data(), 1, 7, 2, 3);
  seven.value = row_major(rows.data(), 1, 7, 2, 5);
  c.mixer.append(seven, longer);
  CHECK(refuses(c, "position 6 at most, got 7", call(u, c.keep, c.dout(), d, longer)));
  auto after = c.keep;
  after.initial = longer;
  CHECK(refuses(c, "N of at least 13", call(u, after, c.dout(), d, longer)));
  auto unmasked = d;
  unmasked.mask = {};
  CHECK(refuses(c, "room for the keys before the call",
                call(c.tokens(false), after, c.dout(), unmasked, c.dstate)));
}
