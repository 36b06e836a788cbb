// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

#include <thread>

using namespace maslin;
using namespace maslin::test;

namespace {

using plain_t = diagonal<float>;
using lags_t = hlru<float, 4>;
using block_t = bdlru<double, 3, normalise::sigmoid_l1>;

/// A problem with the views of a call on it.
template <class M>
struct session {
  using S = typename M::scalar_type;
  using A = anatomy<M>;

  session(index_t batch, index_t length, index_t channels, std::uint64_t seed)
      : p(make_problem<S>(subject_of<M>{}, batch, length, channels, seed)),
        mixer(A::make(channels)),
        out(p.input.size()) {
    tokens.gate = row_major_of(std::as_const(p.gate).data(),
                               A::gate(p.batch, p.length, p.channels, default_group));
    tokens.input =
        row_major_of(std::as_const(p.input).data(), A::values(p.batch, p.length, p.channels));
    y = row_major_of(out.data(), A::values(p.batch, p.length, p.channels));
  }

  [[nodiscard]] typename M::state start() const {
    auto h = mixer.make_state(p.batch);
    h.copy_from(A::template state<const S>(p.initial.data(), p.batch, p.channels));
    return h;
  }
  void prefill(index_t begin, index_t end, typename M::state& h) {
    mixer.scan(exec::sequential{}, tokens.range(begin, end), time_range(y, begin, end), h);
  }
  void decode(index_t begin, index_t end, typename M::state& h) {
    for (index_t t = begin; t < end; ++t) mixer.step(tokens[t], time_at(y, t), h);
  }

  problem<S> p;
  M mixer;
  std::vector<S> out;
  typename M::tokens tokens{};
  typename M::output y{};

 private:
  template <class T, std::size_t Rank>
  static auto row_major_of(T* data, const std::array<index_t, Rank>& extents) {
    return std::apply([&](auto... e) { return row_major(data, e...); }, extents);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a decode is suspended, resumed and rolled back without a trace",
                   "[mixer][state]", plain_t, lags_t, block_t) {
  constexpr index_t T = 20;
  session<TestType> s(2, T, 11, 1);
  auto want = s.start();
  s.prefill(0, T, want);
  const auto y = s.out;

  std::fill(s.out.begin(), s.out.end(), typename TestType::scalar_type(0));
  auto h = s.start();
  s.prefill(0, 7, h);
  const auto checkpoint = h;
  s.decode(7, 12, h);
  CHECK_FALSE(h == checkpoint);
  // Rejected drafts: other tokens were tried, then the state is put back.
  s.decode(15, 17, h);
  h = checkpoint;
  CHECK(h == checkpoint);
  s.decode(7, 13, h);
  // Suspended: two states in one stream, the decode goes on in the second.
  std::stringstream store;
  checkpoint.save(store);
  h.save(store);
  auto resumed = s.mixer.make_state(2);
  resumed.load(store);
  CHECK(resumed == checkpoint);
  resumed.load(store);
  CHECK(resumed == h);
  s.prefill(13, 15, resumed);
  s.decode(15, T, resumed);
  CHECK(resumed == want);
  CHECK(difference(y, s.out) == "");
}

TEMPLATE_TEST_CASE("reset forgets everything, NaN and Inf included", "[mixer][state]", plain_t,
                   lags_t, block_t) {
  using S = typename TestType::scalar_type;
  constexpr index_t T = 6;
  session<TestType> s(3, T, 5, 2);
  auto fresh = s.mixer.make_state(3);
  s.prefill(0, T, fresh);
  const auto y = s.out;

  const std::vector<S> bad(s.p.initial.size(), std::numeric_limits<S>::quiet_NaN());
  auto h = s.mixer.make_state(3);
  h.copy_from(anatomy<TestType>::template state<const S>(bad.data(), 3, 5));
  SECTION("all sequences") {
    h.reset();
    CHECK(h == s.mixer.make_state(3));
    s.prefill(0, T, h);
    CHECK(h == fresh);
    CHECK(difference(y, s.out) == "");
  }
  SECTION("one sequence") {
    h.reset(1);
    s.prefill(0, T, h);
    const auto size = s.out.size() / 3;
    for (std::size_t i = 0; i < s.out.size(); ++i) {
      if (i / size == 1)
        REQUIRE(same_bits(s.out[i], y[i]));
      else
        REQUIRE(std::isnan(s.out[i]));
    }
  }
}

TEST_CASE("a state reports the bytes of the numbers it carries", "[mixer][state]") {
  CHECK(plain_t{.channels = 100, .decay = {}}.make_state(3).bytes() == 3 * 100 * 4);
  CHECK(lags_t{.channels = 100}.make_state(3).bytes() == 3 * 100 * 4 * 4);
  CHECK(block_t{.blocks = 100}.make_state(3).bytes() == 3 * 100 * 3 * 8);
  CHECK(lags_t{.channels = 0}.make_state().bytes() == 0);
}

TEMPLATE_TEST_CASE("one sequence of a packed call goes on by itself", "[mixer][state]", plain_t,
                   lags_t, block_t) {
  // Sequence b of the packed tokens, scanned alone from the same state, ends in the same state.
  using S = typename TestType::scalar_type;
  using A = anatomy<TestType>;
  constexpr index_t T = 14, C = 11;
  const std::vector<index_t> offsets = {0, 6, 6, 14};
  session<TestType> s(1, T, C, 3);
  s.tokens.offsets = offsets;
  auto packed = s.mixer.make_state(3);
  s.mixer.scan(exec::sequential{}, s.tokens, s.y, packed);
  const auto y = s.out;
  std::vector<S> all(static_cast<std::size_t>(3 * C * A::each.state));
  packed.copy_to(A::template state<S>(all.data(), 3, C));

  std::fill(s.out.begin(), s.out.end(), S(0));
  std::vector<S> one(static_cast<std::size_t>(C * A::each.state)), separate;
  for (index_t b = 0; b < 3; ++b) {
    auto h = s.mixer.make_state();
    const auto begin = offsets[static_cast<std::size_t>(b)];
    const auto end = offsets[static_cast<std::size_t>(b + 1)];
    s.mixer.scan(exec::sequential{}, s.tokens.sequence(b), time_range(s.y, begin, end), h);
    h.copy_to(A::template state<S>(one.data(), 1, C));
    separate.insert(separate.end(), one.begin(), one.end());
  }
  CHECK(difference(y, s.out) == "");
  CHECK(difference(all, separate) == "");
}

TEMPLATE_TEST_CASE("threads share a mixer, each with a state of its own", "[mixer][state][threads]",
                   plain_t, lags_t, block_t) {
  constexpr index_t T = 250;
  constexpr int threads = 8;
  session<TestType> alone(2, T, 11, 4);
  auto want = alone.start();
  alone.prefill(0, T, want);

  const TestType mixer = alone.mixer;
  const auto start = alone.start();
  std::vector<typename TestType::state> states(threads, start);
  std::vector<std::vector<typename TestType::scalar_type>> outs(threads, alone.out);
  std::vector<std::thread> team;
  for (std::size_t i = 0; i < threads; ++i)
    team.emplace_back([&, i] {
      auto& out = outs[i];
      std::fill(out.begin(), out.end(), 0);
      const typename TestType::output y(out.data(), alone.y.extents(), alone.y.strides());
      const index_t split = static_cast<index_t>(i) * 30;
      mixer.scan(exec::sequential{}, alone.tokens.range(0, split), time_range(y, 0, split),
                 states[i]);
      for (index_t t = split; t < T; ++t) mixer.step(alone.tokens[t], time_at(y, t), states[i]);
    });
  for (auto& t : team) t.join();
  for (std::size_t i = 0; i < threads; ++i) {
    CHECK(states[i] == want);
    CHECK(difference(alone.out, outs[i]) == "");
  }
}
