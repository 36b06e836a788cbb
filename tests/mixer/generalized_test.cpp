// SPDX-License-Identifier: Apache-2.0
#include "generalized_subject.hpp"

#include <maslin/mixer/hlru.hpp>

#include <algorithm>
#include <set>
#include <sstream>

using namespace maslin;
using namespace maslin::test;

namespace {

/// Channel counts that reach each piece: less than a register, one, several and a tail.
constexpr index_t few_channels[] = {1, 3, 8, 21, 91};

template <class S, class P>
void solve_law(const pattern_case<P>& c, index_t T) {
  for (const index_t E : few_channels)
    for (const rows_shape size : {rows_shape{1, T, 1, E}, rows_shape{2, 7, 3, E}}) {
      const auto p = make_rows<S>(c.reads, size, 11);
      rows_stage<S, P> stage(c.pattern, p, true);
      const auto got = stage.run();
      INFO("T " << size.T << ", H " << size.H << ", E " << E);
      REQUIRE(backward_error(c.reads, p, got) <= 1);
      // The reference says the same where rows do not amplify.
      std::vector<double> y(got.size());
      const std::vector<double> self(p.self.begin(), p.self.end()),
          past(p.past.begin(), p.past.end()), input(p.input.begin(), p.input.end());
      const auto [B, t, H, e] = size;
      reference::generalized(c.reads, row_major(self.data(), B, t, H),
                             row_major(past.data(), B, t, H, p.slots),
                             row_major(input.data(), B, t, H, e), row_major(y.data(), B, t, H, e));
      double worst = 0, largest = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        worst = std::max(worst, std::abs(y[i] - double{got[i]}));
        largest = std::max(largest, std::abs(double{p.input[i]}));
      }
      REQUIRE(worst <= 4 * static_cast<double>(p.slots + 3) * unit_roundoff<S> * largest);
    }
}

/// Every schedule, and every split with the state stored or not: the same bytes.
template <class S, class P>
void schedule_law(const pattern_case<P>& c, index_t T) {
  for (const index_t E : {3, 21}) {
    const rows_shape size{2, T, 3, E};
    const auto p = make_rows<S>(c.reads, size, 21);
    rows_stage<S, P> stage(c.pattern, p), gaps(c.pattern, p, true), in_place(c.pattern, p, true);
    const auto want = full_solve(c.reads, p);
    INFO("E " << E);
    REQUIRE(bits_apart(want, stage.run()) == "");
    REQUIRE(bits_apart(want, stage.run(exec::scalar{})) == "");
    REQUIRE(bits_apart(want, gaps.run(exec::chunked{.chunk = 3, .threads = 1})) == "");
    in_place.work_in_place();
    auto h = in_place.fresh();
    in_place.scan(exec::sequential{}, 0, T, h);
    REQUIRE(bits_apart(want, in_place.result()) == "");

    for (index_t t = 0; t <= T; ++t)
      for (const bool stored : {false, true}) {
        stage.forget();
        auto first = stage.fresh(), second = stage.fresh();
        stage.scan(exec::sequential{}, 0, t, first);
        if (stored) {
          std::stringstream store;
          first.save(store);
          second.load(store);
          REQUIRE(second == first);
        } else {
          second = first;
        }
        const index_t middle = std::min(t + 3, T);
        stage.decode(t, middle, second);
        stage.scan(exec::sequential{}, middle, T, second);
        INFO("split at " << t << (stored ? ", stored" : ""));
        REQUIRE(bits_apart(want, stage.result()) == "");
        REQUIRE(second == h);
      }
  }
}

}  // namespace

TEST_CASE("the solve keeps its backward error for every pattern", "[mixer][generalized][law]") {
  SECTION("order(3)") { solve_law<float>(order_case(3), 40); }
  SECTION("2^k in double") { solve_law<double>(power2_case(), 70); }
  SECTION("cached 2^k") { solve_law<float>(cached_power2_case(), 70); }
  SECTION("cached k^2 + 1") { solve_law<float>(cached_square1_case(), 150); }
  SECTION("dense") { solve_law<float>(dense_case(), 61); }
  SECTION("dense in blocks") { solve_law<float>(dense_case(), 273); }
}

TEST_CASE("schedules, layouts and splits give the bytes of a plain loop that drops nothing",
          "[mixer][generalized][law]") {
  SECTION("order(3)") { schedule_law<float>(order_case(3), 12); }
  SECTION("2^k in double") { schedule_law<double>(power2_case(), 19); }
  SECTION("cached k^2 + 1") { schedule_law<float>(cached_square1_case(), 33); }
  SECTION("dense") { schedule_law<float>(dense_case(), 20); }
}

TEST_CASE("threads take sequences, then columns, and change no byte",
          "[mixer][generalized][law][threads]") {
  const auto check = [](const auto& c) {
    using P = typename std::remove_cvref_t<decltype(c)>::type;
    for (const rows_shape size : {rows_shape{1, 40, 3, 37}, rows_shape{5, 9, 1, 20}}) {
      const auto p = make_rows<float>(c.reads, size, 31);
      rows_stage<float, P> stage(c.pattern, p);
      const auto want = full_solve(c.reads, p);
      for (const int threads : {0, 2, 3, 7})
        REQUIRE(bits_apart(want, stage.run(exec::sequential{.threads = threads})) == "");
      // A walk in two calls: the runs of columns start from one history.
      auto h = stage.fresh();
      stage.forget();
      stage.scan(exec::sequential{.threads = 3}, 0, 5, h);
      stage.scan(exec::sequential{.threads = 2}, 5, size.T, h);
      REQUIRE(bits_apart(want, stage.result()) == "");
    }
  };
  check(cached_square1_case());
  check(dense_case());
}

TEST_CASE("dense blocks give the bytes of a plain loop", "[mixer][generalized]") {
  // Past 256 positions rows are added a panel at a time; a second call goes on inside a panel.
  const auto c = dense_case();
  const auto p = make_rows<float>(c.reads, {1, 420, 1, 19}, 41);
  rows_stage<float, pattern::dense> stage(c.pattern, p);
  const auto want = full_solve(c.reads, p);
  REQUIRE(bits_apart(want, stage.run()) == "");
  auto h = stage.fresh();
  stage.forget();
  stage.scan(exec::sequential{}, 0, 133, h);
  stage.decode(133, 136, h);
  stage.scan(exec::sequential{}, 136, 420, h);
  REQUIRE(bits_apart(want, stage.result()) == "");
}

/// Long calls, with other lanes and threads, in place, and in calls of several lengths.
template <class S, class Case>
void check_long_calls(const Case& c, index_t T, index_t E, index_t H = 1) {
  using P = typename Case::type;
  const auto p = make_rows<S>(c.reads, {1, T, H, E}, 43);
  rows_stage<S, P> stage(c.pattern, p, true), in_place(c.pattern, p);
  const auto want = full_solve(c.reads, p);
  INFO("E " << E);
  REQUIRE(bits_apart(want, stage.run()) == "");
  REQUIRE(bits_apart(want, stage.run(exec::scalar{})) == "");
  REQUIRE(bits_apart(want, stage.run(exec::sequential{.threads = 3})) == "");
  in_place.work_in_place();
  auto h = in_place.fresh(), split = stage.fresh();
  in_place.scan(exec::sequential{}, 0, T, h);
  REQUIRE(bits_apart(want, in_place.result()) == "");
  stage.forget();
  index_t t = 0;
  for (const index_t call : {5, 64, 77, 64, 1, 70}) {
    stage.scan(exec::sequential{}, t, t + call, split);
    t += call;
  }
  stage.decode(t, t + 2, split);
  stage.scan(exec::sequential{}, t + 2, T, split);
  REQUIRE(bits_apart(want, stage.result()) == "");
  REQUIRE(split == h);
}

TEST_CASE("far rows gathered for a block of tokens give the bytes of a plain loop",
          "[mixer][generalized]") {
  // Blocks have 64 tokens at the least, and three levels from before them where rows are narrow, six where
  // they are wide, of a ring of more than 256 KiB: here in the middle of a call, in calls of one block, with
  // levels that begin inside it and a ring that wraps inside it.
  const pattern_case<pattern::user<triangle_distance>> triangles{
      {{}}, reference::plain_reads([](index_t k) { return triangle(k); })};
  check_long_calls<float>(triangles, 370, 1029);
  check_long_calls<float>(triangles, 760, 133, 2);
  check_long_calls<double>(triangles, 370, 517);
  check_long_calls<float>(order_case(97), 350, 1027);
  // Four levels of 2^k from before the last block: rows of 9 registers, and of 5 and a part, which then
  // go on two tokens at a time.
  check_long_calls<float>(power2_case(), 4500, 65);
  check_long_calls<float>(power2_case(), 5400, 41);
  check_long_calls<double>(power2_case(), 4500, 33);
}

TEST_CASE("tokens of narrow rows side by side give the bytes of a plain loop",
          "[mixer][generalized]") {
  // Up to seven registers, the last of them whole or not; levels begin and the ring wraps between tiles
  // of tokens and inside what would be one.
  for (const index_t E : {1, 5, 8, 9, 16, 23, 32, 41, 57}) {
    check_long_calls<float>(power2_case(), 310, E);
    check_long_calls<double>(power2_case(), 310, E);
  }
  const pattern_case<pattern::user<triangle_distance>> triangles{
      {{}}, reference::plain_reads([](index_t k) { return triangle(k); })};
  check_long_calls<float>(triangles, 310, 13, 2);
  check_long_calls<float>(triangles, 310, 31, 2);
  check_long_calls<float>(order_case(3), 310, 16);
}

TEST_CASE("rows of whole KiB, which have a line between them, give the bytes of a plain loop",
          "[mixer][generalized]") {
  const auto check = []<class S>(S, const auto& c, index_t E) {
    using P = typename std::remove_cvref_t<decltype(c)>::type;
    const auto p = make_rows<S>(c.reads, {2, 21, 1, E}, 45);
    rows_stage<S, P> stage(c.pattern, p);
    const auto want = full_solve(c.reads, p);
    REQUIRE(bits_apart(want, stage.run()) == "");
    REQUIRE(bits_apart(want, stage.run(exec::scalar{})) == "");
    stage.forget();
    auto first = stage.fresh(), second = stage.fresh();
    CHECK(first.stride() == E + 64 / static_cast<index_t>(sizeof(S)));
    stage.scan(exec::sequential{}, 0, 9, first);
    std::stringstream store;
    first.save(store);
    second.load(store);
    REQUIRE(second == first);
    stage.decode(9, 12, second);
    stage.scan(exec::sequential{.threads = 2}, 12, 21, second);
    REQUIRE(bits_apart(want, stage.result()) == "");
  };
  check(float{}, power2_case(), 256);
  check(double{}, cached_square1_case(), 128);
  check(float{}, dense_case(), 512);
}

TEST_CASE("a decode that evicts equals the full solve, and keeps what the model says",
          "[mixer][generalized]") {
  const auto check = [](const auto& pattern, const auto& distance) {
    using P = std::remove_cvref_t<decltype(pattern)>;
    const auto reads = reference::cached_reads(distance);
    constexpr index_t T = 1100;
    const auto p = make_rows<float>(reads, {1, T, 1, 3}, 51);
    rows_stage<float, P> stage(pattern, p);
    auto h = stage.fresh();
    for (index_t t = 0; t < T; ++t) {
      REQUIRE(h.kept(0) == static_cast<index_t>(reads(t).size()));
      stage.decode(t, t + 1, h);
    }
    REQUIRE(bits_apart(full_solve(reads, p), stage.result()) == "");
    return h.entries();
  };
  CHECK(check(pattern::cached{pattern::power2{}}, power2_distance) == 12);
  CHECK(check(pattern::cached{pattern::square1{}}, square1_distance) == 27);
  CHECK(check(pattern::cached{pattern::user{power3_distance{}}}, power3) == 8);
  CHECK(check(pattern::cached{pattern::user{triangle_distance{}}}, triangle) == 37);
}

TEST_CASE("plain patterns keep the rows up to the largest distance", "[mixer][generalized]") {
  using order5 = generalized<float, pattern::order>;
  CHECK(order5{.heads = 2, .value_dim = 3, .pattern = {5}}.make_state(1, 1000).entries() == 5);
  CHECK(order5{.heads = 2, .value_dim = 3, .pattern = {5}}.make_state(4, 1000).bytes() ==
        4 * 5 * 6 * 4);
  using doubling = generalized<double, pattern::power2>;
  CHECK(doubling{.heads = 1, .value_dim = 1}.make_state(1, 1000).entries() == 512);
  CHECK(doubling{.heads = 1, .value_dim = 1}.make_state(1, 513).entries() == 512);
  CHECK(doubling{.heads = 1, .value_dim = 1}.make_state(1, 512).entries() == 256);
}

TEST_CASE("order(M) with given coefficients is an H-LRU", "[mixer][generalized]") {
  constexpr index_t T = 30, D = 11;
  constexpr int M = 4;
  const auto c = order_case(M);
  // A head a channel: H-LRU chooses its coefficients for each.
  const auto p = make_rows<float>(c.reads, {2, T, D, 1}, 61);
  rows_stage<float, pattern::order> stage(c.pattern, p);
  const auto got = stage.run();
  std::vector<float> gate, want(got.size());
  for (std::size_t i = 0; i < p.self.size(); ++i) {
    const index_t t = static_cast<index_t>(i) / D % T;
    // Lags before the first token, poison here, meet zeros of the state there.
    for (index_t k = 0; k < M; ++k)
      gate.push_back(
          k < t ? p.past[i * static_cast<std::size_t>(p.slots) + static_cast<std::size_t>(k)] : 0);
    gate.push_back(p.self[i]);
  }
  const hlru<float, M, normalise::none> mixer{.channels = D};
  auto h = mixer.make_state(2);
  mixer.scan(exec::sequential{},
             {.gate = row_major(std::as_const(gate).data(), 2, T, D, M + 1),
              .input = row_major(p.input.data(), 2, T, D)},
             row_major(want.data(), 2, T, D), h);
  if (fused_family) {
    for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == want[i]);
  } else {
    // H-LRU takes its newest lag as a difference there.
    for (std::size_t i = 0; i < got.size(); ++i)
      REQUIRE(std::abs(got[i] - want[i]) <= 40 * float(unit_roundoff<float>) * 6);
  }
}

TEST_CASE("the delta rule is a dense member", "[mixer][generalized]") {
  // S_t = S_{t-1} (I - b_t k_t k_t') + b_t v_t k_t'; what it writes, u_t = b_t (v_t - S_{t-1} k_t),
  // solves U = (I - B)^-1 diag(b) V with B[t,j] = -b_t <k_t, k_j>.
  constexpr index_t T = 50, K = 5, E = 7;
  maslin::test::random r(71);
  std::vector<double> k(T * K), v(T * E), b(T), past(T * T), u(T * E);
  r.fill_uniform<double>(k, -0.5, 0.5);
  r.fill_normal<double>(v);
  r.fill_uniform<double>(b, 0, 1);
  const auto key = row_major(k.data(), T, K), value = row_major(v.data(), T, E);
  for (index_t t = 0; t < T; ++t)
    for (index_t j = 0; j < t; ++j) {
      double dot = 0;
      for (index_t i = 0; i < K; ++i) dot += key(t, i) * key(j, i);
      row_major(past.data(), T, T)(t, j) = -b[static_cast<std::size_t>(t)] * dot;
    }
  using mixer_t = generalized<double, pattern::dense>;
  const mixer_t mixer{.heads = 1, .value_dim = E};
  auto state = mixer.make_state(1, T);
  mixer.scan(exec::sequential{},
             {.self = row_major(std::as_const(b).data(), 1, T, 1),
              .past = row_major(std::as_const(past).data(), 1, T, 1, T),
              .input = row_major(std::as_const(v).data(), 1, T, 1, E)},
             row_major(u.data(), 1, T, 1, E), state);
  std::vector<double> S(E * K);
  for (index_t t = 0; t < T; ++t)
    for (index_t e = 0; e < E; ++e) {
      double* row = S.data() + e * K;
      double seen = 0;
      for (index_t i = 0; i < K; ++i) seen += row[i] * key(t, i);
      const double written = b[static_cast<std::size_t>(t)] * (value(t, e) - seen);
      for (index_t i = 0; i < K; ++i) row[i] += written * key(t, i);
      REQUIRE(std::abs(written - row_major(u.data(), T, E)(t, e)) <= 1e-12);
    }
}

TEST_CASE("growth is reported and happens", "[mixer][generalized]") {
  // y_t = 1.1 y_{t-1} overflows float after 906 steps; nothing hides it.
  constexpr index_t T = 1000;
  using mixer_t = generalized<float, pattern::order>;
  std::vector<float> self(T, 0.0f), past(T, 1.1f), input(T, 1.0f), y(T);
  self[0] = 1;
  const mixer_t::tokens tokens{.self = row_major(std::as_const(self).data(), 1, T, 1),
                               .past = row_major(std::as_const(past).data(), 1, T, 1, 1),
                               .input = row_major(std::as_const(input).data(), 1, T, 1, 1)};
  const mixer_t mixer{.heads = 1, .value_dim = 1, .pattern = {1}};
  auto state = mixer.make_state(1, T);
  mixer.scan(exec::sequential{}, tokens, row_major(y.data(), 1, T, 1, 1), state);
  CHECK(mixer.largest_row_norm(tokens) == 1.1f);
  const auto first = std::find_if(y.begin(), y.end(), [](float x) { return std::isinf(x); });
  // 1.1 as a float is a little more than 1.1.
  CHECK(std::abs(first - y.begin() - 931) <= 1);
  std::fill(past.begin(), past.end(), 0.5f);
  CHECK(mixer.largest_row_norm(tokens) == 1.0f);
  past[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(mixer.largest_row_norm(tokens)));
}

TEST_CASE("NaN and Inf travel along the pattern and nowhere else", "[mixer][generalized]") {
  const auto c = cached_square1_case();
  constexpr index_t T = 40, H = 2, E = 5;
  const auto p = make_rows<float>(c.reads, {2, T, H, E}, 81);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const index_t t0 : {0, 3, 17, 39}) {
      // Which tokens a bad row t0 reaches.
      std::set<index_t> reached{t0};
      for (index_t t = t0 + 1; t < T; ++t)
        for (const auto& read : c.reads(t))
          if (reached.contains(read.position)) reached.insert(t);
      for (const bool in_coefficient : {false, true}) {
        auto q = p;
        const index_t i = (1 * T + t0) * H + 1;
        if (in_coefficient)
          q.self[static_cast<std::size_t>(i)] = bad;
        else
          q.input[static_cast<std::size_t>(i * E + 2)] = bad;
        rows_stage<float, pattern::cached<pattern::square1>> stage(c.pattern, q);
        const auto y = stage.run();
        for (index_t j = 0; j < q.numbers(); ++j) {
          const index_t e = j % E, h = j / E % H, t = j / E / H % T, b = j / E / H / T;
          const bool inside = b == 1 && h == 1 && (in_coefficient || e == 2) && reached.contains(t);
          REQUIRE(std::isfinite(y[static_cast<std::size_t>(j)]) == !inside);
        }
      }
    }
}

TEST_CASE("no output depends on a later token", "[mixer][generalized]") {
  const auto c = power2_case();
  constexpr index_t T = 20, E = 3;
  const auto p = make_rows<double>(c.reads, {1, T, 1, E}, 91);
  rows_stage<double, pattern::power2> stage(c.pattern, p);
  const auto want = stage.run();
  for (index_t t0 = 0; t0 <= T; ++t0) {
    auto q = p;
    poison<double>::fill(std::span(q.input).subspan(static_cast<std::size_t>(t0 * E)));
    poison<double>::fill(std::span(q.self).subspan(static_cast<std::size_t>(t0)));
    poison<double>::fill(std::span(q.past).subspan(static_cast<std::size_t>(t0 * q.slots)));
    rows_stage<double, pattern::power2> changed(c.pattern, q);
    const auto got = changed.run();
    REQUIRE(std::equal(want.begin(), want.begin() + t0 * E, got.begin()));
  }
}

TEST_CASE("a batch and packed sequences give the bytes of separate ones", "[mixer][generalized]") {
  const auto c = cached_power2_case();
  using stage_t = rows_stage<float, pattern::cached<pattern::power2>>;
  constexpr index_t H = 2, E = 9;
  const std::vector<index_t> offsets{0, 0, 6, 7, 20, 20};
  const auto p = make_rows<float>(c.reads, {1, 20, H, E}, 95);
  stage_t packed(c.pattern, p);
  packed.tokens.offsets = offsets;
  const auto sequences = static_cast<index_t>(offsets.size()) - 1;
  auto h = packed.mixer.make_state(sequences, 20);
  // Coefficients of one sequence lie at its own positions: slots of levels it has not reached yet
  // are not read.
  packed.mixer.scan(exec::sequential{}, packed.tokens, packed.y, h);
  const auto got = packed.result();
  packed.forget();
  for (index_t b = 0; b < sequences; ++b) {
    const auto begin = offsets[static_cast<std::size_t>(b)];
    const auto end = offsets[static_cast<std::size_t>(b + 1)];
    auto alone = packed.mixer.make_state(1, 20);
    packed.mixer.scan(exec::sequential{}, packed.tokens.sequence(b),
                      time_range(packed.y, begin, end), alone);
    CHECK(h.position(b) == end - begin);
  }
  CHECK(bits_apart(got, packed.result()) == "");

  const auto one = make_rows<float>(c.reads, {1, 12, H, E}, 96);
  const auto want = stage_t(c.pattern, one).run();
  for (const index_t B : {2, 7})
    for (index_t slot = 0; slot < B; ++slot) {
      rows_problem<float> all{{B, 12, H, E}, one.slots, {}, {}, {}};
      const auto place = [&](std::vector<float>& to, const std::vector<float>& from) {
        to.resize(from.size() * static_cast<std::size_t>(B));
        poison<float>::fill(to);
        std::copy(from.begin(), from.end(), to.begin() + slot * static_cast<index_t>(from.size()));
      };
      place(all.self, one.self);
      place(all.past, one.past);
      place(all.input, one.input);
      const auto y = stage_t(c.pattern, all).run();
      const auto first = y.begin() + slot * static_cast<index_t>(want.size());
      REQUIRE(std::equal(want.begin(), want.end(), first));
    }
}

TEST_CASE("nothing to do is legal", "[mixer][generalized]") {
  const auto c = dense_case();
  for (const rows_shape size : {rows_shape{2, 0, 3, 5}, rows_shape{0, 4, 3, 5},
                                rows_shape{2, 4, 0, 5}, rows_shape{2, 4, 3, 0}}) {
    const auto p = make_rows<float>(c.reads, size, 99);
    rows_stage<float, pattern::dense> stage(c.pattern, p);
    auto h = stage.fresh();
    const auto before = h;
    stage.scan(exec::sequential{}, 0, size.T, h);
    stage.scan(exec::sequential{.threads = 2}, 0, 0, h);
    CHECK(stage.result().empty());
    CHECK(h == before);
  }
}
