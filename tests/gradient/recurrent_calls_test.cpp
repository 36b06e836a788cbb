// SPDX-License-Identifier: Apache-2.0

/// \file
/// What backward calls of the recurrent mixers refuse before they write, and what they allocate.

#include "scan/executors.hpp"
#include "support/allocations.hpp"
#include "support/answer.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/bdlru.hpp>
#include <maslin/gradient/diagonal.hpp>
#include <maslin/gradient/hlru.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using namespace maslin;
using namespace maslin::test;

constexpr index_t B = 2, T = 5, D = 3;

/// A call that is right, to be made wrong in one place.
template <class Mixer>
struct call {
  using S = typename Mixer::scalar_type;
  Mixer mixer;
  std::array<index_t, 5> wide{B, T, D, 4, 5};  // the largest gate rows below
  std::vector<S> gate = std::vector<S>(B * T * D * 20, S(0.25)),
                 input = std::vector<S>(B * T * D * 4, S(1)), y = input, dy = input, dgate = gate,
                 dinput = input, ddecay = std::vector<S>(D);
  typename Mixer::tokens tokens{};
  typename Mixer::saved saved = mixer.make_saved(B, T);
  typename Mixer::gradients d{};
  typename Mixer::state dstate = mixer.make_state(B);

  explicit call(const Mixer& m) : mixer(m) {}

  template <class Dy>
  void expect(const Dy& arrives, const std::string& message) {
    poison<S>::fill(dgate);
    poison<S>::fill(dinput);
    const auto before = dstate;
    INFO(message);
    const std::string said =
        answer([&] { mixer.backward(exec::sequential{}, tokens, saved, arrives, d, dstate); });
    CHECK(said != "");
    CHECK_THAT(said, has_text(message));
    const auto untouched = [](const std::vector<S>& v) {
      return std::ranges::all_of(v, [](const S& x) { return poison<S>::is(x); });
    };
    CHECK(untouched(dgate));
    CHECK(untouched(dinput));
    CHECK(dstate == before);
  }
};

}  // namespace

TEST_CASE("backward of H-LRU refuses wrong calls before it writes", "[gradient][hlru][errors]") {
  using mixer = hlru<float, 2>;
  const auto make = [] {
    call<mixer> c(mixer{.channels = D});
    c.tokens = {.gate = row_major(c.gate.data(), B, T, D, 3),
                .input = row_major(c.input.data(), B, T, D)};
    c.saved.y = row_major<const float>(c.y.data(), B, T, D);
    c.d = {.gate = row_major(c.dgate.data(), B, T, D, 3),
           .input = row_major(c.dinput.data(), B, T, D)};
    return c;
  };
  const auto dy_of = [](auto& c) { return row_major<const float>(c.dy.data(), B, T, D); };
  {
    auto c = make();
    c.expect(row_major<const float>(c.dy.data(), B, T - 1, D),
             "hlru::backward: dy must be [B, T, D] = [2, 5, 3], got [2, 4, 3]");
  }
  {
    auto c = make();
    c.saved.y = row_major<const float>(c.y.data(), B, T, D - 1);
    c.expect(dy_of(c), "hlru::backward: saved.y must be [B, T, D] = [2, 5, 3], got [2, 5, 2]");
  }
  {
    auto c = make();
    c.saved.y = {};
    c.expect(dy_of(c), "hlru::backward: saved.y must be [B, T, D] = [2, 5, 3], got [0, 0, 0]");
  }
  {
    auto c = make();
    c.saved.y = c.tokens.input;
    c.expect(dy_of(c), "hlru::backward: saved.y must not be input where gradients are wanted");
  }
  {
    auto c = make();
    c.d.gate = row_major(c.dgate.data(), B, T, D, 2);
    c.expect(dy_of(c), "gradients.gate must be [B, T, D, M+1] = [2, 5, 3, 3], got [2, 5, 3, 2]");
  }
  {
    auto c = make();
    c.d.input = {c.dinput.data(), {B, T, D}, {T * D, D, 2}};
    c.expect(dy_of(c), "gradients.input [B, T, D] = [2, 5, 3] must have unit stride");
  }
  {
    auto c = make();
    c.d.input = row_major(c.y.data(), B, T, D);
    c.expect(dy_of(c), "hlru::backward: gradients.input must not overlap saved.y");
  }
  {
    auto c = make();
    c.d.input = row_major(c.dgate.data() + 7, B, T, D);
    c.expect(dy_of(c), "gradients.gate must not overlap gradients.input");
  }
  {
    auto c = make();
    c.d.gate = row_major(c.gate.data(), B, T, D, 3);
    c.expect(dy_of(c), "gradients.gate must not overlap gate");
  }
  {
    auto c = make();
    c.dstate = c.mixer.make_state(B + 1);
    c.expect(dy_of(c), "dstate must be of B sequences and D channels = [2, 3], got [3, 3]");
  }
  {
    auto c = make();
    c.dstate = hlru<float, 3>{.channels = D}.make_state(B);
    c.expect(dy_of(c), "dstate must be of order M = 2, got 3");
  }
  {
    auto c = make();
    c.saved.initial = c.mixer.make_state(B + 1);
    c.expect(dy_of(c), "saved.initial must be of B sequences and D channels = [2, 3], got [3, 3]");
  }
  {
    auto c = make();
    const std::vector<index_t> offsets{0, 3, 5};
    c.tokens.offsets = offsets;
    c.expect(dy_of(c), "hlru::backward: tokens with offsets are one packed sequence");
  }
  auto c = make();
  CHECK_THROWS_WITH(
      c.mixer.backward(exec::sequential{.threads = -1}, c.tokens, c.saved, dy_of(c), c.d, c.dstate),
      has_text("hlru::backward: threads of exec::sequential must be 0 or more, got -1"));
  CHECK_THROWS_WITH(
      c.mixer.backward(exec::sequential{}, c.tokens, c.saved, dy_of(c), c.d, c.saved.initial),
      has_text("dstate must not be saved.initial"));
  auto state = c.mixer.make_state(B);
  CHECK_THROWS_WITH(
      c.mixer.scan(exec::sequential{}, c.tokens,
                   view<float, 3>(c.input.data(), {B, T, D}, {T * D, D, 1}), state, c.saved),
      has_text("hlru::scan: y must not be input where gradients are wanted"));
}

TEST_CASE("backward of BD-LRU and of the diagonal refuse wrong calls before they write",
          "[gradient][bdlru][diagonal][errors]") {
  {
    using mixer = bdlru<double, 2>;
    call<mixer> c(mixer{.blocks = D});
    c.tokens = {.gate = row_major(c.gate.data(), B, T, D, 2, 3),
                .input = row_major(c.input.data(), B, T, D, 2)};
    c.saved.y = row_major<const double>(c.y.data(), B, T, D, 2);
    c.d.gate = {c.dgate.data(), {B, T, D, 2, 3}, {T * D * 8, D * 8, 8, 4, 1}};
    c.expect(row_major<const double>(c.dy.data(), B, T, D, 2),
             "bdlru::backward: gradients.gate must have rows of a block M+1 = 3 apart");
  }
  using mixer = diagonal<float>;
  call<mixer> c(mixer{.channels = D});
  c.tokens = {.gate = row_major(c.gate.data(), B, T, D),
              .input = row_major(c.input.data(), B, T, D)};
  c.saved.y = row_major<const float>(c.y.data(), B, T, D);
  const auto dy = row_major<const float>(c.dy.data(), B, T, D);
  c.d = {.gate = row_major(c.dgate.data(), B, T, D),
         .input = {},
         .decay = row_major(c.ddecay.data(), D)};
  c.expect(dy, "diagonal::backward: gradients.decay must be empty where tokens bring gates");
  c.mixer.decay = row_major<const float>(c.gate.data(), D);
  c.expect(dy, "diagonal::backward: gate must be empty where decay is fixed, got a pointer");
  c.tokens.gate = {};
  c.expect(dy, "diagonal::backward: gradients.gate must be empty where decay is fixed");
}

TEST_CASE("backward takes exec::automatic and executors, with the bytes of the policy they choose",
          "[gradient][hlru][diagonal]") {
  const auto check = [](auto& c, const auto& dy, std::vector<float>& written) {
    auto state = c.mixer.make_state(B);
    const auto y = view<float, 3>(c.y.data(), {B, T, D}, {T * D, D, 1});
    c.mixer.scan(exec::sequential{}, c.tokens, y, state, c.saved);
    const auto backward = [&](const auto& policy) {
      poison<float>::fill(written);
      c.dstate.reset();
      c.mixer.backward(policy, c.tokens, c.saved, dy, c.d, c.dstate);
      return written;
    };
    const auto want = backward(exec::sequential{});
    reverse_executor reversed;
    CHECK(backward(exec::automatic{}) == want);
    CHECK(backward(exec::on(reversed, exec::automatic{.threads = 3})) == want);
    CHECK(backward(exec::on(reversed, exec::sequential{.threads = 3})) == want);
    const auto chunked = backward(exec::chunked{.chunk = 2});
    CHECK(backward(exec::on(reversed, exec::chunked{.chunk = 2, .threads = 3})) == chunked);
  };
  call<hlru<float, 2>> c(hlru<float, 2>{.channels = D});
  c.tokens = {.gate = row_major(c.gate.data(), B, T, D, 3),
              .input = row_major(c.input.data(), B, T, D)};
  c.dgate.resize(B * T * D * 3);
  c.d.gate = row_major(c.dgate.data(), B, T, D, 3);
  check(c, row_major<const float>(c.dy.data(), B, T, D), c.dgate);

  call<diagonal<float>> fixed(diagonal<float>{.channels = D});
  fixed.mixer.decay = row_major<const float>(fixed.gate.data(), D);
  fixed.tokens.input = row_major(fixed.input.data(), B, T, D);
  fixed.d.decay = row_major(fixed.ddecay.data(), D);
  check(fixed, row_major<const float>(fixed.dy.data(), B, T, D), fixed.ddecay);
}

TEST_CASE("backward allocates nothing beyond the stated scratch, and that once",
          "[gradient][allocation]") {
  const auto check = [](auto& c, const auto& dy, long first) {
    auto state = c.mixer.make_state(B);
    const auto y = view<float, 3>(c.y.data(), {B, T, D}, {T * D, D, 1});
    c.mixer.scan(exec::sequential{}, c.tokens, y, state, c.saved);
    CHECK(allocations_of([&] { c.mixer.scan(exec::sequential{}, c.tokens, y, state, c.saved); }) ==
          0);
    const auto backward = [&](const auto& policy) {
      return allocations_of(
          [&] { c.mixer.backward(policy, c.tokens, c.saved, dy, c.d, c.dstate); });
    };
    CHECK(backward(exec::sequential{}) == first);
    CHECK(backward(exec::sequential{}) == 0);
    CHECK(backward(exec::scalar{}) == 0);
    CHECK(backward(exec::chunked{.chunk = 2}) <= 1);
    CHECK(backward(exec::chunked{.chunk = 2}) == 0);
  };
  call<hlru<float, 2>> c(hlru<float, 2>{.channels = D});
  c.tokens = {.gate = row_major(c.gate.data(), B, T, D, 3),
              .input = row_major(c.input.data(), B, T, D)};
  c.d = {.gate = row_major(c.dgate.data(), B, T, D, 3),
         .input = row_major(c.dinput.data(), B, T, D)};
  check(c, row_major<const float>(c.dy.data(), B, T, D), 0);
  CHECK(c.mixer.make_saved(B, T).bytes() == B * D * 2 * 4);

  call<diagonal<float>> fixed(diagonal<float>{.channels = D});
  fixed.mixer.decay = row_major<const float>(fixed.gate.data(), D);
  fixed.tokens.input = row_major(fixed.input.data(), B, T, D);
  fixed.d = {.gate = {},
             .input = row_major(fixed.dinput.data(), B, T, D),
             .decay = row_major(fixed.ddecay.data(), D)};
  check(fixed, row_major<const float>(fixed.dy.data(), B, T, D), 1);
}
