// SPDX-License-Identifier: Apache-2.0
#include "generalized_subject.hpp"

#include <functional>
#include <sstream>
#include <thread>

using namespace maslin;
using namespace maslin::test;

namespace {

using cached_t = pattern::cached<pattern::square1>;
using stage_t = rows_stage<float, cached_t>;
using mixer_t = stage_t::mixer_t;

/// A problem of two sequences, two heads and five channels.
struct scene {
  static constexpr index_t B = 2, T = 30, H = 2, E = 5;
  rows_problem<float> p = make_rows<float>(cached_square1_case().reads, {B, T, H, E}, 7);
  stage_t stage{{}, p, true};
};

/// f must refuse with a text that has all of `says`.
template <class Error>
void refused(const std::function<void()>& f, const std::vector<std::string>& says) {
  try {
    f();
    FAIL("nothing was refused");
  } catch (const Error& e) {
    const std::string text = e.what();
    for (const auto& word : says) {
      INFO(text);
      CHECK(text.find(word) != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("a state is rolled back, reset and stored without a trace",
          "[mixer][generalized][state]") {
  scene s;
  auto h = s.stage.fresh();
  s.stage.scan(exec::sequential{}, 0, 30, h);
  const auto want = s.stage.result();
  const auto end = h;

  h.reset();
  CHECK(h == s.stage.fresh());
  s.stage.forget();
  s.stage.scan(exec::sequential{}, 0, 11, h);
  const auto mark = h;
  s.stage.decode(20, 24, h);
  CHECK_FALSE(h == mark);
  h = mark;
  std::stringstream store;
  h.save(store);
  h.save(store);
  auto resumed = s.stage.fresh();
  resumed.load(store);
  resumed.load(store);
  CHECK(resumed == mark);
  CHECK(resumed.position(1) == 11);
  s.stage.decode(11, 30, resumed);
  CHECK(resumed == end);
  CHECK(bits_apart(want, s.stage.result()) == "");
}

TEST_CASE("one sequence is reset alone, NaN included", "[mixer][generalized][state]") {
  scene s;
  auto h = s.stage.fresh(), bad = s.stage.fresh();
  s.stage.scan(exec::sequential{}, 0, 30, h);
  const auto want = s.stage.result();
  auto q = s.p;
  std::fill(q.input.begin(), q.input.end(), std::numeric_limits<float>::quiet_NaN());
  stage_t spoiled({}, q);
  spoiled.scan(exec::sequential{}, 0, 9, bad);
  bad.reset(0);
  bad.reset(1);
  CHECK(bad == s.stage.fresh());
  s.stage.forget();
  s.stage.scan(exec::sequential{}, 0, 30, bad);
  CHECK(bad == h);
  CHECK(bits_apart(want, s.stage.result()) == "");
  refused<shape_error>([&] { h.reset(2); }, {"generalized::state::reset", "[0, 2)", "got 2"});
}

TEST_CASE("sequences of one batch may be at different positions", "[mixer][generalized][state]") {
  // A packed call of lengths 4 and 9, then one token of each as a batch.
  const auto c = cached_square1_case();
  const auto p = make_rows<float>(c.reads, {1, 40, 1, 3}, 8);
  stage_t stage({}, p);
  const auto& u = stage.tokens;
  const auto alone = [&](index_t from, index_t length) {
    auto h = stage.mixer.make_state(1, 40);
    stage.mixer.scan(exec::sequential{}, u.range(from, from + length),
                     time_range(stage.y, from, from + length), h);
    return h;
  };
  std::vector<float> want(6), got(6);
  for (index_t b = 0; b < 2; ++b) {
    auto h = alone(b * 4, b == 0 ? 4 : 9);
    stage.mixer.step(u[20], row_major(want.data() + 3 * b, 1, 1, 3), h);
  }
  const std::vector<index_t> offsets{0, 4, 13};
  auto packed = u.range(0, 13);
  packed.offsets = offsets;
  auto h = stage.mixer.make_state(2, 40);
  stage.mixer.scan(exec::sequential{}, packed, time_range(stage.y, 0, 13), h);
  CHECK(h.position(0) == 4);
  CHECK(h.position(1) == 9);
  // Both sequences of the step see token 20: a batch whose rows are one.
  std::vector<float> self(2, u.self(0, 20, 0)), past, input;
  for (int b = 0; b < 2; ++b) {
    for (index_t k = 0; k < p.slots; ++k) past.push_back(u.past(0, 20, 0, k));
    for (index_t e = 0; e < 3; ++e) input.push_back(u.input(0, 20, 0, e));
  }
  stage.mixer.step({.self = row_major(std::as_const(self).data(), 2, 1),
                    .past = row_major(std::as_const(past).data(), 2, 1, p.slots),
                    .input = row_major(std::as_const(input).data(), 2, 1, 3)},
                   row_major(got.data(), 2, 1, 3), h);
  CHECK(bits_apart(want, got) == "");
}

TEST_CASE("a full state refuses more tokens and stays as it is", "[mixer][generalized][state]") {
  scene s;
  auto h = s.stage.mixer.make_state(2, 12);
  s.stage.scan(exec::sequential{}, 0, 10, h);
  const auto before = h;
  s.stage.forget();
  refused<shape_error>([&] { s.stage.scan(exec::sequential{}, 10, 13, h); },
                       {"generalized::scan", "capacity of 12", "got 3 after position 10"});
  CHECK(h == before);
  s.stage.decode(10, 12, h);
  refused<shape_error>([&] { s.stage.decode(12, 13, h); },
                       {"generalized::step", "capacity of 12", "after position 12"});
  // order(k) needs no more rows for more tokens.
  using bounded_t = generalized<float, pattern::order>;
  const bounded_t bounded{.heads = 1, .value_dim = 1, .pattern = {3}};
  CHECK(bounded.make_state(1, 4).capacity() == pattern::beyond);
}

TEST_CASE("records of another pattern, shape or content are refused",
          "[mixer][generalized][state]") {
  scene s;
  auto h = s.stage.fresh();
  s.stage.scan(exec::sequential{}, 0, 9, h);
  std::stringstream store;
  h.save(store);
  const std::string bytes = store.str();
  const auto load = [&](auto state, std::string text) {
    const auto before = state;
    std::stringstream in(text);
    bool refuses = false;
    try {
      state.load(in);
    } catch (const state_error&) {
      refuses = true;
    }
    CHECK(state == before);
    return refuses;
  };
  CHECK(load(s.stage.fresh(), bytes.substr(0, bytes.size() - 1)));
  for (const std::size_t at : {std::size_t{0}, std::size_t{70}, bytes.size() - 1}) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CHECK(load(s.stage.fresh(), damaged));
  }
  CHECK(load(s.stage.mixer.make_state(3, 30), bytes));
  // The same number of entries, other distances.
  using linear_t = generalized<float, pattern::cached<pattern::linear>>;
  const linear_t other{.heads = 2, .value_dim = 5, .pattern = {{6}}};
  const auto wrong = other.make_state(2, 30);
  REQUIRE(wrong.entries() == h.entries());
  CHECK(load(wrong, bytes));
  // A position past the capacity of the state that would take it.
  auto longer = s.stage.mixer.make_state(2, 31);
  s.stage.scan(exec::sequential{}, 0, 30, longer);
  std::stringstream full;
  longer.save(full);
  const auto smaller = s.stage.mixer.make_state(2, 28);
  REQUIRE(smaller.entries() == longer.entries());
  CHECK(load(smaller, full.str()));
}

TEST_CASE("wrong calls are refused before anything is written", "[mixer][generalized]") {
  scene s;
  auto h = s.stage.fresh();
  auto u = s.stage.tokens;
  auto y = s.stage.y;
  auto mixer = s.stage.mixer;
  const auto says = [&](std::vector<std::string> words) {
    words.push_back("generalized::scan: ");
    const auto before = h;
    refused<shape_error>([&] { mixer.scan(exec::sequential{}, u, y, h); }, words);
    CHECK(h == before);
  };
  SECTION("extents") {
    u.self = time_range(u.self, 0, 29);
    says({"self must be [B, T, H] = [2, 30, 2], got [2, 29, 2]"});
  }
  SECTION("heads of y") {
    y = view<float, 4>(y.data_handle(), {2, 30, 1, 5}, y.strides());
    says({"y must be [B, T, H, E] = [2, 30, 2, 5], got [2, 30, 1, 5]"});
  }
  SECTION("slots") {
    u.past = view<const float, 4>(u.past.data_handle(), {2, 30, 2, 5}, u.past.strides());
    says({"past must be [B, T, H, S] with S of at least 6, got [2, 30, 2, 5]"});
  }
  SECTION("null") {
    u.input = view<const float, 4>(nullptr, u.input.extents(), u.input.strides());
    says({"input must be", "got a null pointer"});
  }
  SECTION("stride of channels") {
    u.input = view<const float, 4>(u.input.data_handle(), {2, 30, 2, 5}, {999, 30, 10, 2});
    says({"input", "unit stride on its last axis"});
  }
  SECTION("overlap with past") {
    y = view<float, 4>(const_cast<float*>(u.past.data_handle()), y.extents(), y.strides());
    says({"y must not overlap past"});
  }
  SECTION("overlap with self") {
    // In memory of both, so that y reaches nothing else.
    std::vector<float> both(static_cast<std::size_t>(2 * y.stride(0)));
    y = view<float, 4>(both.data(), y.extents(), y.strides());
    u.self = view<const float, 3>(both.data(), u.self.extents(), u.self.strides());
    says({"y must not overlap self"});
  }
  SECTION("partial overlap with input") {
    y = view<float, 4>(const_cast<float*>(u.input.data_handle()) + 1, y.extents(),
                       u.input.strides());
    says({"y must not overlap input"});
  }
  SECTION("overlap with the state") {
    y = view<float, 4>(h.row(0, 0), y.extents(), y.strides());
    says({"y must not overlap"});
  }
  SECTION("rows of y that fold") {
    y = view<float, 4>(y.data_handle(), y.extents(), {20, 20, 5, 1});
    says({"y must have batch and time strides that keep its rows apart"});
  }
  SECTION("batch of the state") {
    h = mixer.make_state(3, 30);
    says({"state must be of B sequences and rows of H E numbers = [2, 10], got [3, 10]"});
  }
  SECTION("offsets") {
    static constexpr index_t offsets[] = {0, 30};
    u.offsets = offsets;
    says({"one packed sequence: B must be 1, got 2"});
  }
  SECTION("threads") {
    refused<shape_error>([&] { mixer.scan(exec::sequential{.threads = -1}, u, y, h); },
                         {"threads of exec::sequential must be 0 or more, got -1"});
  }
  SECTION("negative heads") {
    mixer.heads = -1;
    says({"heads must be 0 or more, got -1"});
  }
  for (const float& x : s.stage.result()) REQUIRE(poison<float>::is(x));
}

TEST_CASE("states that cannot be are refused", "[mixer][generalized][state]") {
  const mixer_t mixer{.heads = 2, .value_dim = 5};
  refused<shape_error>([&] { (void)mixer.make_state(-1); },
                       {"generalized::make_state: batch must be 0 or more, got -1"});
  refused<shape_error>([&] { (void)mixer.make_state(1, -2); },
                       {"generalized::make_state: capacity must be 0 or more, got -2"});
  refused<shape_error>([&] { (void)mixer.make_state(index_t{1} << 60, 99); }, {"fits in memory"});
  const mixer_t wide{.heads = index_t{1} << 40, .value_dim = index_t{1} << 40};
  refused<shape_error>([&] { (void)wide.make_state(1, 9); }, {"must fit in memory"});
  using order_t = generalized<float, pattern::order>;
  const order_t none{.heads = 1, .value_dim = 1, .pattern = {0}};
  refused<shape_error>([&] { (void)none.make_state(1, 9); },
                       {"generalized::make_state: order must be 1 or more, got 0"});
  // A state of another order.
  const order_t three{.heads = 1, .value_dim = 1, .pattern = {3}},
      four{.heads = 1, .value_dim = 1, .pattern = {4}};
  auto h = three.make_state(1, 9);
  std::vector<float> self(1), past(4), x(1), y(1);
  refused<shape_error>(
      [&] {
        four.step({.self = row_major(std::as_const(self).data(), 1, 1),
                   .past = row_major(std::as_const(past).data(), 1, 1, 4),
                   .input = row_major(std::as_const(x).data(), 1, 1, 1)},
                  row_major(y.data(), 1, 1, 1), h);
      },
      {"generalized::step: state must be made by a mixer of this pattern"});
}

TEST_CASE("threads share a mixer of rows, each with a state of its own",
          "[mixer][generalized][state][threads]") {
  scene s;
  const auto want = s.stage.run();
  std::vector<std::vector<float>> outs(4, std::vector<float>(want.size()));
  std::vector<std::thread> team;
  for (auto& out : outs)
    team.emplace_back([&] {
      const auto y = row_major(out.data(), scene::B, scene::T, scene::H, scene::E);
      auto h = s.stage.fresh();
      s.stage.mixer.scan(exec::sequential{}, s.stage.tokens, y, h);
    });
  for (auto& t : team) t.join();
  for (const auto& out : outs) CHECK(bits_apart(want, out) == "");
}
