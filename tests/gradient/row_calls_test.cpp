// SPDX-License-Identifier: Apache-2.0

/// \file
/// What backward calls of the generalised mixers refuse before they write, and calls of no size.

#include "support/catch.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/generalized.hpp>
#include <maslin/gradient/generalized_scores.hpp>

#include <functional>
#include <vector>

using namespace maslin;
using namespace maslin::test;

namespace {

template <class V>
V longer(V v, int axis) {
  auto extents = v.extents();
  ++extents[static_cast<std::size_t>(axis)];
  return V(v.data_handle(), extents, v.strides());
}

/// What both kinds of mixer have in common. Their first tokens of B sequences.
struct common {
  static constexpr index_t B = 2, T = 3, H = 2, E = 5, K = 4, S = 4, capacity = 6;
  std::vector<float> numbers = std::vector<float>(B * T * H * E, 0.25f);
  poisoned<float, 4> y{{B, T, H, E}}, dinput{{B, T, H, E}};
  view<const float, 4> dy = values();

  [[nodiscard]] view<const float, 4> values() const {
    return row_major(numbers.data(), B, T, H, E);
  }
  [[nodiscard]] view<const float, 4> keys() const { return row_major(numbers.data(), B, T, H, K); }
};

struct given_scene : common {
  using mixer_t = generalized<float, pattern::power2>;
  poisoned<float, 3> dself{{B, T, H}};
  poisoned<float, 4> dpast{{B, T, H, S}};
  mixer_t mixer{.heads = H, .value_dim = E, .pattern = {}};
  mixer_t::tokens tokens{row_major<const float>(numbers.data(), B, T, H),
                         row_major<const float>(numbers.data(), B, T, H, S),
                         values(),
                         {}};
  mixer_t::saved keep{values(), mixer.make_state(B, capacity)};
  mixer_t::state dstate = mixer.make_state(B, capacity);
  mixer_t::gradients d{.self = dself.get(), .past = dpast.get(), .input = dinput.get()};

  void backward() { mixer.backward(exec::sequential{}, tokens, keep, dy, d, dstate); }
  [[nodiscard]] bool untouched() const {
    return dself.untouched() && dpast.untouched() && dinput.untouched();
  }
};

struct scores_scene : common {
  using mixer_t = chacal<float>;
  poisoned<float, 4> dquery{{B, T, H, K}}, dkey{{B, T, H, K}};
  poisoned<float, 2> dbias{{H, S}};
  poisoned<float, 1> dself{{H}};
  mixer_t mixer = made();
  mixer_t::tokens tokens{keys(), keys(), values(), {}};
  mixer_t::saved keep{values(), mixer.make_state(B, capacity)};
  mixer_t::state dstate = mixer.make_state(B, capacity);
  mixer_t::gradients d{.query = dquery.get(),
                       .key = dkey.get(),
                       .input = dinput.get(),
                       .bias = dbias.get(),
                       .self_bias = dself.get()};

  [[nodiscard]] static mixer_t made() {
    mixer_t m;
    m.heads = H, m.key_dim = K, m.value_dim = E;
    m.feedback = 0.5f;
    return m;
  }
  void backward() { mixer.backward(exec::sequential{}, tokens, keep, dy, d, dstate); }
  [[nodiscard]] bool untouched() const {
    return dquery.untouched() && dkey.untouched() && dinput.untouched() && dbias.untouched() &&
           dself.untouched();
  }
};

template <class Scene>
struct wrong {
  const char* says;
  std::function<void(Scene&)> spoil;
};
template <class Scene, std::size_t N>
void expect_refused(const wrong<Scene> (&all)[N]) {
  for (const auto& w : all) {
    Scene s;
    w.spoil(s);
    const auto before = s.dstate;
    INFO(w.says);
    CHECK_THROWS_WITH(s.backward(), has_text(w.says));
    CHECK(s.untouched());
    CHECK(s.dstate == before);
  }
  Scene right;
  right.backward();
}

}  // namespace

TEST_CASE("wrong backward calls of given coefficients are refused before any write",
          "[gradient][generalized][errors]") {
  using scene = given_scene;
  const wrong<scene> all[] = {
      {"generalized::backward: self must be [B, T, H] = [2, 3, 2], got [2, 3, 3]",
       [](scene& s) { s.tokens.self = longer(s.tokens.self, 2); }},
      {"generalized::backward: past must be [B, T, H, S] with S of at least 2",
       [](scene& s) {
         s.tokens.past = row_major<const float>(s.numbers.data(), s.B, s.T, s.H, 1);
       }},
      {"generalized::backward: saved.y must be [B, T, H, E] = [2, 3, 2, 5], got [2, 4, 2, 5]",
       [](scene& s) { s.keep.y = longer(s.keep.y, 1); }},
      {"generalized::backward: dy must be [B, T, H, E]", [](scene& s) { s.dy = longer(s.dy, 0); }},
      {"generalized::backward: saved.initial must be of B sequences",
       [](scene& s) { s.keep.initial = s.mixer.make_state(3, s.capacity); }},
      {"generalized::backward: tokens must fit in the saved.initial's capacity of 2",
       [](scene& s) { s.keep.initial = s.dstate = s.mixer.make_state(2, 2); }},
      {"generalized::backward: dstate must be of the batch, row width, capacity and pattern of "
       "saved.initial, [2, 10, 6], got [2, 10, 7]",
       [](scene& s) { s.dstate = s.mixer.make_state(2, 7); }},
      {"generalized::backward: dstate must be empty or at position 3, got position 2 in sequence 1",
       [](scene& s) { s.dstate.history(1).restart(2); }},
      {"gradients.past must be [B, T, H, S] = [2, 3, 2, 4], got [2, 3, 2, 5]",
       [](scene& s) { s.d.past = longer(s.d.past, 3); }},
      {"gradients.self must be [B, T, H]", [](scene& s) { s.d.self = longer(s.d.self, 1); }},
      {"gradients.input must be [B, T, H, E]", [](scene& s) { s.d.input = longer(s.d.input, 3); }},
      {"gradients.input must not overlap dy", [](scene& s) { s.dy = s.dinput.get(); }},
      {"gradients.input must not overlap gradients.past",
       [](scene& s) {
         s.d.past = {s.dinput.get().data_handle(), s.d.past.extents(), s.d.past.strides()};
       }},
  };
  expect_refused(all);
  given_scene s;
  CHECK_THROWS_WITH(
      s.mixer.backward(exec::sequential{}, s.tokens, s.keep, s.dy, s.d, s.keep.initial),
      has_text("dstate must not overlap saved.initial"));
  // A scan in place leaves no input to come back to.
  auto h = s.mixer.make_state(s.B, s.capacity);
  const auto y = row_major(s.numbers.data(), s.B, s.T, s.H, s.E);
  CHECK_THROWS_WITH(s.mixer.scan(exec::sequential{}, s.tokens, y, h, s.keep),
                    has_text("y must not"));
  CHECK(h.position(0) == 0);
}

TEST_CASE("wrong backward calls of scores are refused before any write",
          "[gradient][generalized_scores][errors]") {
  using scene = scores_scene;
  const wrong<scene> all[] = {
      {"generalized_scores::backward: query must be [B, T, H, K] = [2, 3, 2, 4], got [2, 3, 2, 5]",
       [](scene& s) { s.tokens.query = longer(s.tokens.query, 3); }},
      {"generalized_scores::backward: key must be [B, T, H, K]",
       [](scene& s) { s.tokens.key = longer(s.tokens.key, 1); }},
      {"generalized_scores::backward: dstate must be of the batch",
       [](scene& s) { s.dstate = s.mixer.make_state(1, s.capacity); }},
      {"gradients.key must be [B, T, H, K]", [](scene& s) { s.d.key = longer(s.d.key, 2); }},
      {"gradients.query must be [B, T, H, K]", [](scene& s) { s.d.query = longer(s.d.query, 3); }},
      {"gradients.bias must be [H, L] with L of at least 2, got [2, 1]",
       [](scene& s) { s.d.bias = row_major(s.dbias.get().data_handle(), 2, 1); }},
      {"gradients.bias must be [H, L] = [2, 3], got [2, 4]",
       [](scene& s) { s.mixer.bias = row_major<const float>(s.numbers.data(), 2, 3); }},
      {"gradients.self_bias must be [H] = [2], got [3]",
       [](scene& s) { s.d.self_bias = longer(s.d.self_bias, 0); }},
      {"gradients.key must not overlap gradients.query", [](scene& s) { s.d.key = s.d.query; }},
      {"gradients.query must not overlap key", [](scene& s) { s.tokens.key = s.dquery.get(); }},
  };
  expect_refused(all);
}

TEST_CASE("an empty gradient of the state stands for zero, at any position",
          "[gradient][generalized]") {
  given_scene s;
  for (index_t b = 0; b < s.B; ++b) s.keep.initial.history(b).restart(3);
  s.backward();
  CHECK(s.dstate.position(0) == 3);
  const auto first = s.dinput.values();
  auto zeros = s.mixer.make_state(s.B, s.capacity);
  for (index_t b = 0; b < s.B; ++b) {
    zeros.history(b).restart(6);
    zeros.history(b).for_each_kept(
        [&](index_t entry, index_t) { std::fill_n(zeros.row(b, entry), s.H * s.E, 0.0f); });
  }
  s.mixer.backward(exec::sequential{}, s.tokens, s.keep, s.dy, s.d, zeros);
  CHECK(s.dinput.values() == first);
  CHECK(zeros == s.dstate);
}

TEST_CASE("heads and channels may be none", "[gradient][generalized][generalized_scores]") {
  for (const auto& [H, E] : {std::pair<index_t, index_t>{0, 3}, {2, 0}}) {
    scores_scene s;
    s.mixer.heads = H, s.mixer.value_dim = E;
    const std::vector<float> x(24, 0.5f);
    std::vector<float> out(24), dq(24, 7.0f), dself(2, 7.0f);
    const auto keys = row_major(x.data(), 1, 3, H, s.K);
    const auto values = row_major(x.data(), 1, 3, H, E);
    auto h = s.mixer.make_state(1, 3), dstate = h;
    auto keep = s.mixer.make_saved(1, 3);
    s.mixer.scan(exec::sequential{}, {keys, keys, values, {}}, row_major(out.data(), 1, 3, H, E), h,
                 keep);
    s.mixer.backward(exec::sequential{.threads = 2}, {keys, keys, values, {}}, keep, values,
                     {.query = row_major(dq.data(), 1, 3, H, s.K),
                      .key = {},
                      .input = {},
                      .bias = {},
                      .self_bias = row_major(dself.data(), H)},
                     dstate);
    CHECK(dstate.position(0) == 0);
    // Without values nothing depends on the scores.
    for (index_t i = 0; i < 3 * H * s.K; ++i) CHECK(dq[static_cast<std::size_t>(i)] == 0);
    for (index_t i = 0; i < H; ++i) CHECK(dself[static_cast<std::size_t>(i)] == 0);
  }
}
