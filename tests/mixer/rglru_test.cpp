// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"
#include "support/answer.hpp"

#include <functional>

using namespace maslin;
using namespace maslin::test;

namespace {

/// A call with a decay of its own in every channel.
template <class S>
struct scene {
  scene(index_t batch, index_t length, index_t channels)
      : B(batch),
        T(length),
        D(channels),
        r(numbers(B * T * D)),
        i(r),
        x(r),
        decay(numbers(D)),
        y({B, T, D}, {5, 2, 0}),
        mixer{.channels = D, .decay = row_major(std::as_const(decay).data(), D)},
        state(mixer.make_state(B)) {
    maslin::test::random from(7);
    from.fill_uniform(std::span<S>(r), 0, 1);
    from.fill_uniform(std::span<S>(i), 0, 1);
    from.fill_normal(std::span<S>(x));
    // From a = 1 - 1e-5 r to decays that underflow.
    from.fill_uniform(std::span<S>(decay), -14, 3);
    if (D > 1) decay[1] = 20;
    tokens = {rows(r), rows(i), rows(x), {}};
  }
  static std::vector<S> numbers(index_t n) { return std::vector<S>(static_cast<std::size_t>(n)); }
  [[nodiscard]] view<const S, 3> rows(const std::vector<S>& v) const {
    return row_major(v.data(), B, T, D);
  }

  index_t B, T, D;
  std::vector<S> r, i, x, decay;
  poisoned<S, 3> y;
  rglru<S> mixer;
  typename rglru<S>::state state;
  typename rglru<S>::tokens tokens{};
};

}  // namespace

TEMPLATE_TEST_CASE("an RG-LRU keeps the laws of mixers", "[mixer][rglru][law]", rglru<float>,
                   rglru<double>, (rglru<float, gate_form::logit>)) {
  mixer_laws(subject_of<TestType>{});
}

TEMPLATE_TEST_CASE("an RG-LRU with a decay for each channel is within its bound of the oracle",
                   "[mixer][rglru][accuracy]", float, double) {
  using real = wider_t<TestType>;
  for (const index_t D : {1, 11, 37}) {
    scene<TestType> s(2, 40, D);
    s.mixer.scan(exec::sequential{}, s.tokens, s.y.get(), s.state);
    std::vector<bounded<real>> h(static_cast<std::size_t>(2 * D));
    const auto want = rglru_bounds<real, TestType>(gate_form::probability, s.mixer.decay,
                                                   s.tokens.recurrence_gate, s.tokens.input_gate,
                                                   s.tokens.input, h);
    REQUIRE(worst_error(s.y.values(), want, 1.01 * per_term(walk::sequential)) <= 1);
    REQUIRE(s.y.intact());
    const auto registers = s.y.values();
    s.state.reset();
    s.mixer.scan(exec::scalar{}, s.tokens, s.y.get(), s.state);
    REQUIRE(difference(registers, s.y.values()) == "");
  }
}

TEST_CASE("decays close to one keep a small mu", "[mixer][rglru][accuracy]") {
  // At r = 1e-9 the decay is 1 in float, and 1 - a a would be 0; mu is sqrt(2 |log a|).
  const std::vector<float> r{1, 1e-9f}, i{1, 1}, x{0, 1}, decay{0};
  const rglru<float> mixer{.channels = 1, .decay = row_major(decay.data(), 1)};
  std::vector<float> y(2);
  auto state = mixer.make_state();
  mixer.scan(exec::sequential{},
             {row_major(r.data(), 1, 2, 1),
              row_major(i.data(), 1, 2, 1),
              row_major(x.data(), 1, 2, 1),
              {}},
             row_major(y.data(), 1, 2, 1), state);
  const double want = std::sqrt(2 * 8 * double{r[1]} * std::log(2.0));
  CHECK(std::abs(y[1] - want) <= 8 * unit_roundoff<float> * want);
}

TEST_CASE("the first token of a sequence enters whole", "[mixer][rglru]") {
  scene<float> s(1, 3, 5);
  s.mixer.step(s.tokens[0], time_at(s.y.get(), 0), s.state);
  for (index_t d = 0; d < 5; ++d)
    CHECK(s.y.get()(0, 0, d) == s.tokens.input_gate(0, 0, d) * s.tokens.input(0, 0, d));
  CHECK(s.state.begun(0));

  // Frozen by r = 0 from then on, whatever comes in.
  std::fill(s.r.begin(), s.r.end(), 0.0f);
  s.mixer.step(s.tokens[1], time_at(s.y.get(), 1), s.state);
  for (index_t d = 0; d < 5; ++d) CHECK(s.y.get()(0, 1, d) == s.y.get()(0, 0, d));

  // A state that came from elsewhere is told that it is past its first token.
  auto moved = s.mixer.make_state();
  std::vector<float> h(5);
  s.state.copy_to(row_major(h.data(), 1, 5));
  moved.copy_from(row_major(std::as_const(h).data(), 1, 5));
  CHECK_FALSE(moved == s.state);
  moved.set_begun(0, true);
  CHECK(moved == s.state);
}

TEST_CASE("a state follows decays that change between calls", "[mixer][rglru]") {
  scene<float> s(1, 1, 19);
  const auto run = [&](typename rglru<float>::state& h) {
    s.mixer.step(s.tokens[0], time_at(s.y.get(), 0), h);
    return s.y.values();
  };
  auto used = s.mixer.make_state();
  used.set_begun(0, true);
  const auto fresh = used;
  run(used);
  for (float& d : s.decay) d = -d;
  auto same = fresh;
  used.reset();
  used.set_begun(0, true);
  CHECK(difference(run(same), run(used)) == "");
}

TEST_CASE("wrong calls of an RG-LRU are refused before any write", "[mixer][rglru][errors]") {
  struct wrong {
    const char* says;
    std::function<void(scene<float>&)> spoil;
  };
  const auto longer = [](auto v, int axis) {
    auto extents = v.extents();
    ++extents[static_cast<std::size_t>(axis)];
    return decltype(v)(v.data_handle(), extents, v.strides());
  };
  const wrong all[] = {
      {"rglru::scan: recurrence_gate must be [B, T, D] = [2, 3, 5], got [2, 4, 5]",
       [&](auto& s) { s.tokens.recurrence_gate = longer(s.tokens.recurrence_gate, 1); }},
      {"rglru::scan: input_gate must be [B, T, D] = [2, 3, 5], got [2, 3, 6]",
       [&](auto& s) { s.tokens.input_gate = longer(s.tokens.input_gate, 2); }},
      {"rglru::scan: decay must be [D] = [5], got [6]",
       [&](auto& s) { s.mixer.decay = longer(s.mixer.decay, 0); }},
      {"rglru::scan: input must be [B, T, D] = [2, 3, 5], got [2, 3, 6]",
       [&](auto& s) { s.tokens.input = longer(s.tokens.input, 2); }},
      {"rglru::scan: state must be [B, D] = [2, 5], got [3, 5]",
       [](auto& s) { s.state = s.mixer.make_state(3); }},
      {"rglru::scan: y must not overlap input_gate",
       [](auto& s) { s.tokens.input_gate = s.y.get(); }},
      {"rglru::scan: y must not overlap recurrence_gate",
       [](auto& s) { s.tokens.recurrence_gate = s.y.get(); }},
      {"rglru::scan: y must not overlap decay",
       [](auto& s) { s.mixer.decay = row_major<const float>(&s.y.get()(0, 1, 0), 5); }},
      {"rglru::scan: channels must be 0 or more, got -1", [](auto& s) { s.mixer.channels = -1; }},
      {"rglru::scan: decay must be [D] = [5], got a null pointer",
       [](auto& s) { s.mixer.decay = row_major<const float>(nullptr, 5); }},
  };
  for (const auto& [says, spoil] : all) {
    scene<float> s(2, 3, 5);
    spoil(s);
    const auto before = s.state;
    const std::string said =
        answer([&] { s.mixer.scan(exec::sequential{}, s.tokens, s.y.get(), s.state); });
    INFO(said << " | wanted: " << says);
    CHECK(said.starts_with(says));
    CHECK(s.y.untouched());
    CHECK(s.state == before);
  }
  scene<float> s(2, 3, 5);
  CHECK_THROWS_AS(s.state.begun(2), shape_error);
  CHECK_THROWS_AS(s.state.set_begun(-1, true), shape_error);
  CHECK_THROWS_AS(s.state.reset(2), shape_error);
}

TEST_CASE("a stored RG-LRU state holds its flags", "[mixer][rglru][state]") {
  scene<double> s(3, 2, 5);
  s.mixer.scan(exec::sequential{}, s.tokens, s.y.get(), s.state);
  s.state.reset(1);
  std::stringstream store;
  s.state.save(store);
  const std::string bytes = store.str();
  auto loaded = s.mixer.make_state(3);
  loaded.load(store);
  CHECK(loaded == s.state);
  CHECK(loaded.begun(0));
  CHECK_FALSE(loaded.begun(1));
  CHECK(s.state.bytes() == 3 * 5 * 8 + 3);

  const auto kept = loaded;
  for (const std::size_t cut : {std::size_t{0}, std::size_t{40}, bytes.size() - 1}) {
    std::stringstream part(bytes.substr(0, cut));
    CHECK_THROWS_AS(loaded.load(part), state_error);
    CHECK(loaded == kept);
  }
  std::stringstream other;
  diagonal<double>{.channels = 5, .decay = {}}.make_state(3).save(other);
  CHECK_THROWS_AS(loaded.load(other), state_error);
}
