// SPDX-License-Identifier: Apache-2.0
#include "support/answer.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/core/view.hpp>
#include <maslin/scan/state.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using maslin::index_t;
using maslin::row_major;
using maslin::view;
using maslin::test::answer;
namespace scan = maslin::scan;
template <class S>
using state3 = scan::lane_state<S, 3>;
template <class S>
using state2 = scan::lane_state<S, 2>;

template <class S>
std::vector<S> numbers(index_t count, std::uint64_t seed = 1) {
  maslin::test::random from(seed);
  std::vector<S> x(static_cast<std::size_t>(count));
  from.fill_normal<S>(x);
  return x;
}
template <class S>
state3<S> filled(index_t B, index_t D, index_t M, std::uint64_t seed = 1) {
  state3<S> h("hlru", B, D, M);
  const auto x = numbers<S>(B * D * M, seed);
  h.copy_from(row_major(x.data(), B, D, M));
  return h;
}
template <class S>
std::vector<S> values(const state3<S>& h) {
  std::vector<S> x(static_cast<std::size_t>(h.batch() * h.channels() * h.order()));
  h.copy_to(row_major(x.data(), h.batch(), h.channels(), h.order()));
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("a fresh state is empty and knows its sizes", "[scan][state][values]", float,
                   double) {
  const state3<TestType> h("hlru", 2, 35, 3);
  CHECK(h.batch() == 2);
  CHECK(h.channels() == 35);
  CHECK(h.order() == 3);
  CHECK(h.bytes() == index_t(2 * 35 * 3 * sizeof(TestType)));
  CHECK(values(h) == std::vector<TestType>(2 * 35 * 3, 0));
  for (const auto& [B, D] : {std::pair{0, 5}, std::pair{5, 0}}) {
    const state3<TestType> none("hlru", B, D, 2);
    CHECK(none.bytes() == 0);
    CHECK(none == none);
  }
}

TEMPLATE_TEST_CASE("values go in and come out by view, whatever the strides",
                   "[scan][state][values]", float, double) {
  using S = TestType;
  const index_t B = 2, D = 35, M = 3;
  const auto h = filled<S>(B, D, M);
  CHECK(values(h) == numbers<S>(B * D * M));
  maslin::test::poisoned<S, 3> out({B, D, M}, {5, 2, 0});
  h.copy_to(out.get());
  CHECK(out.intact());
  CHECK(out.values() == numbers<S>(B * D * M));
  state3<S> back("hlru", B, D, M);
  back.copy_from(std::as_const(out).get());
  CHECK(back == h);

  state2<S> first_order("diagonal", B, D, 1);
  const auto x = numbers<S>(B * D);
  first_order.copy_from(row_major(x.data(), B, D));
  std::vector<S> y(x.size());
  first_order.copy_to(row_major(y.data(), B, D));
  CHECK(x == y);
}

TEST_CASE("the layout is [B][D / 16][M][16], on cache lines, for every instruction set",
          "[scan][state][layout]") {
  const index_t B = 2, D = 35, M = 3;
  const auto h = filled<float>(B, D, M);
  const auto x = numbers<float>(B * D * M);
  CHECK(h.sequence_size() == 3 * 3 * 16);
  CHECK(reinterpret_cast<std::uintptr_t>(h.row(0)) % 64 == 0);
  CHECK(h.row(1) - h.row(0) == h.sequence_size());
  for (index_t b = 0; b < B; ++b)
    for (index_t d = 0; d < D; ++d)
      for (index_t k = 0; k < M; ++k)
        CHECK(h.row(b)[(d / 16 * M + k) * 16 + d % 16] ==
              x[static_cast<std::size_t>((b * D + d) * M + k)]);
  const auto memory = h.memory();
  CHECK(memory.begin == reinterpret_cast<std::uintptr_t>(h.row(0)));
  CHECK(memory.end - memory.begin == std::uintptr_t(2 * 3 * 3 * 16 * 4));
}

TEMPLATE_TEST_CASE("a copy is a snapshot, and assigning it back rolls back",
                   "[scan][state][values]", float, double) {
  auto h = filled<TestType>(2, 20, 4);
  const auto mark = h;
  CHECK(mark == h);
  h.reset();
  CHECK_FALSE(mark == h);
  CHECK(values(mark) == numbers<TestType>(2 * 20 * 4));
  h = mark;
  CHECK(mark == h);
  // Between equal sizes the target keeps its memory.
  const auto* memory = h.row(0);
  const auto other = filled<TestType>(2, 20, 4, 2);
  h = other;
  CHECK(h == other);
  CHECK(h.row(0) == memory);
  const auto moved = std::move(h);
  CHECK(moved == other);
}

TEST_CASE("equality is of sizes and of bytes", "[scan][state][values]") {
  auto h = filled<float>(1, 5, 2), other = h;
  CHECK_FALSE(h == filled<float>(1, 2, 5));
  CHECK_FALSE(h == filled<float>(1, 5, 3));
  const auto set = [](state3<float>& s, float x) {
    auto v = values(s);
    v[3] = x;
    s.copy_from(row_major(std::as_const(v).data(), 1, 5, 2));
  };
  set(h, 0.0f), set(other, -0.0f);
  CHECK_FALSE(h == other);
  set(h, std::numeric_limits<float>::quiet_NaN()),
      set(other, std::numeric_limits<float>::quiet_NaN());
  CHECK(h == other);
  // Padding is no part of the value.
  h.row(0)[15] = 99;
  CHECK(h == other);
}

TEST_CASE("reset empties all sequences, or one by its number", "[scan][state][reset]") {
  auto h = filled<float>(3, 5, 2);
  auto want = values(h);
  h.reset(1);
  std::fill(want.begin() + 10, want.begin() + 20, 0.0f);
  CHECK(values(h) == want);
  // By assignment, not by a product: infinities go too.
  auto infinite = values(h);
  infinite[0] = std::numeric_limits<float>::infinity();
  h.copy_from(row_major(std::as_const(infinite).data(), 3, 5, 2));
  h.reset();
  CHECK(values(h) == std::vector<float>(30, 0.0f));
  CHECK(h == state3<float>("hlru", 3, 5, 2));
  for (const index_t b : {-1, 3})
    CHECK(answer([&] { h.reset(b); }) ==
          "hlru::state::reset: sequence must be in [0, 3), got " + std::to_string(b));
}

TEST_CASE("views of another shape are refused before anything is written",
          "[scan][state][errors]") {
  auto h = filled<float>(2, 5, 3);
  const auto before = h;
  std::vector<float> x(100, 7.0f);
  CHECK(answer([&] { h.copy_to(row_major(x.data(), 2, 5, 2)); }) ==
        "hlru::state::copy_to: out must be [B, D, M] = [2, 5, 3], got [2, 5, 2]");
  CHECK(answer([&] { h.copy_from(row_major(std::as_const(x).data(), 5, 2, 3)); }) ==
        "hlru::state::copy_from: in must be [B, D, M] = [2, 5, 3], got [5, 2, 3]");
  state2<float> first_order("diagonal", 2, 5, 1);
  CHECK(answer([&] { first_order.copy_to(row_major(x.data(), 2, 6)); }) ==
        "diagonal::state::copy_to: out must be [B, D] = [2, 5], got [2, 6]");
  CHECK(x == std::vector<float>(100, 7.0f));
  CHECK(h == before);
}

TEST_CASE("sizes that no memory holds are refused, not wrapped", "[scan][state][overflow]") {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  const auto make = [](index_t batch, index_t channels, index_t order) {
    return answer([&] { static_cast<void>(state3<float>("hlru", batch, channels, order)); });
  };
  CHECK(make(-1, 5, 2) == "hlru::make_state: batch must be 0 or more, got -1");
  const std::string fits = "whose state fits in memory";
  for (const auto& [B, D, M] : {std::array<index_t, 3>{most, 16, 1},
                                {most / 64 + 1, 16, 1},
                                {most / 16, 32, 8},
                                {index_t{1} << 32, index_t{1} << 32, 1},
                                {1, most, 1},
                                {1, most - 20, 32},
                                {2, most / 2, 4}}) {
    CAPTURE(B, D, M);
    CHECK(make(B, D, M).find(fits) != std::string::npos);
  }
}

TEMPLATE_TEST_CASE("a state that is saved and loaded is the same", "[scan][state][record]", float,
                   double) {
  const auto h = filled<TestType>(2, 35, 3);
  std::stringstream stream;
  h.save(stream);
  CHECK(stream.str().size() == std::size_t(64 + h.bytes() + 4));
  state3<TestType> back("hlru", 2, 35, 3);
  back.load(stream);
  CHECK(back == h);
}

TEST_CASE("a record of another state is refused, this one unchanged", "[scan][state][record]") {
  const auto h = filled<float>(2, 5, 3);
  std::ostringstream out;
  h.save(out);
  const auto load = [&](auto state) {
    const auto before = state;
    std::istringstream in(out.str());
    const std::string text = answer<maslin::state_error>([&] { state.load(in); });
    CHECK(state == before);
    return text;
  };
  const std::string got = ", got hlru of 4-byte numbers [2, 5, 3]";
  CHECK(load(filled<float>(2, 3, 5)) ==
        "hlru::state::load: the record must hold hlru of 4-byte numbers [2, 3, 5]" + got);
  CHECK(load(filled<double>(2, 5, 3)) ==
        "hlru::state::load: the record must hold hlru of 8-byte numbers [2, 5, 3]" + got);
  CHECK(load(state3<float>("bdlru", 2, 5, 3)) ==
        "bdlru::state::load: the record must hold bdlru of 4-byte numbers [2, 5, 3]" + got);
  auto other = filled<float>(2, 5, 3, 9);
  const auto before = other;
  std::istringstream cut(out.str().substr(0, out.str().size() - 5));
  CHECK(answer<maslin::state_error>([&] { other.load(cut); }) != "");
  CHECK(other == before);
}

TEST_CASE("scratch grows, is not copied, and stays with its owner", "[scan][state][scratch]") {
  scan::scratch<double> a;
  double* first = a.reserve(100);
  CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
  first[99] = 7;
  CHECK(a.reserve(50) == first);
  CHECK(a.reserve(100) == first);
  scan::scratch<double> b = a;
  CHECK(b.reserve(1) != first);
  scan::scratch<double> c;
  double* own = c.reserve(10);
  c = a;
  CHECK(c.reserve(10) == own);
  CHECK(a.reserve(100)[99] == 7);
  scan::scratch<double> d = std::move(a);
  CHECK(d.reserve(100) == first);

  auto h = filled<float>(1, 5, 2);
  double* scratch = h.workspace().reserve(1000);
  const auto before = h;
  CHECK(before == h);
  h = before;
  CHECK(h.workspace().reserve(1000) == scratch);
}
