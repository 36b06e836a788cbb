// SPDX-License-Identifier: Apache-2.0

// The key-value cache of attention, and calls that must be refused.

#include "attention_subject.hpp"

#include <functional>
#include <sstream>

using namespace maslin;
using namespace maslin::test;

namespace {

using stage_t = attention_stage<float>;
using problem_t = attention_problem<float>;
using mixer_t = attention<float>;

/// f must refuse with exactly `text`.
template <class Error>
void refused(const std::function<void()>& f, const std::string& text) {
  try {
    f();
    FAIL("nothing was refused, want: " << text);
  } catch (const Error& e) {
    CHECK(std::string(e.what()) == text);
  }
}

float* written(const float* p) { return const_cast<float*>(p); }

/// Queries, keys and values of tokens without end, one sequence of one head.
class stream {
 public:
  static constexpr index_t K = 3, E = 2;
  explicit stream(index_t count) : all_({1, count, 1, 1, K, E}, 91) {}
  [[nodiscard]] mixer_t::tokens tokens() const {
    const index_t T = all_.size.T;
    return {.query = row_major(all_.query.data(), 1, T, 1, K),
            .key = row_major(all_.key.data(), 1, T, 1, K),
            .value = row_major(all_.value.data(), 1, T, 1, E)};
  }

 private:
  problem_t all_;
};

}  // namespace

TEST_CASE("a ring of 256 keys decodes 100,000 tokens in constant memory, as the whole cache would",
          "[mixer][attention][state][ring]") {
#if defined(MASLIN_DEBUG_CHECKS)
  constexpr index_t T = 10000;  // builds that check everything take a hundred times as long
#else
  constexpr index_t T = 100000;
#endif
  const stream s(T);
  const auto u = s.tokens();
  const mixer_t mixer{.key_dim = stream::K, .value_dim = stream::E, .window = 256};
  std::vector<float> whole(static_cast<std::size_t>(T * stream::E)), ring(whole);
  auto cache = mixer.make_state(1, T), h = mixer.make_state(1);
  REQUIRE_FALSE(cache.is_ring());
  REQUIRE(h.is_ring());
  mixer.scan(exec::sequential{}, u, row_major(whole.data(), 1, T, 1, stream::E), cache);
  const auto bytes = h.bytes();
  // The window and a part of a block before it: five blocks of 64.
  CHECK(bytes == 5 * 64 * (stream::K + 16) * 4);
  const auto y = row_major(ring.data(), 1, T, 1, stream::E);
  for (index_t t = 0; t < T; ++t) mixer.step(u[t], time_at(y, t), h);
  CHECK(h.bytes() == bytes);
  CHECK(h.position(0) == T);
  CHECK(bits_apart(whole, ring) == "");
}

TEST_CASE("a ring has the bytes of the whole cache for every window, split and thread count",
          "[mixer][attention][state][ring]") {
  for (const index_t window : {1, 2, 63, 64, 65, 66, 130}) {
    problem_t p({2, 300, 2, 1, 4, 3}, 92);
    p.window = window;
    stage_t stage(p);
    const auto want = stage.run();
    for (const index_t split : {0, 1, 64, 191, 300}) {
      stage.forget();
      auto h = stage.mixer.make_state(2);
      stage.scan(exec::sequential{.threads = 2}, 0, split, h);
      stage.decode(split, std::min<index_t>(split + 70, 300), h);
      stage.scan(exec::sequential{}, std::min<index_t>(split + 70, 300), 300, h);
      INFO("window " << window << ", split at " << split);
      REQUIRE(bits_apart(want, stage.result()) == "");
    }
  }
}

TEST_CASE("keys and values of any width come back as they were appended, in any pieces",
          "[mixer][attention][state]") {
  const auto check = []<class S>(S, index_t K) {
    constexpr index_t B = 2, T = 90, H = 2, E = 3;
    const attention<S> mixer{.heads = H, .key_dim = K, .value_dim = E};
    attention_problem<S> p({B, T, H, H, K, E}, 95);
    const auto key = row_major(std::as_const(p.key).data(), B, T, H, K);
    const auto value = row_major(std::as_const(p.value).data(), B, T, H, E);
    auto h = mixer.make_state(B, T);
    // From within a register of tokens, past a block of 64 keys, and a single one.
    for (index_t t = 0; const index_t n : {3, 16, 21, 40, 1, 9}) {
      mixer.append(
          {.query = {}, .key = time_range(key, t, t + n), .value = time_range(value, t, t + n)}, h);
      t += n;
    }
    std::vector<S> keys(static_cast<std::size_t>(T * H * K)),
        values(static_cast<std::size_t>(T * H * E));
    for (index_t b = 0; b < B; ++b) {
      INFO("K = " << K << ", sequence " << b);
      h.copy_to(b, 0, row_major(keys.data(), T, H, K), row_major(values.data(), T, H, E));
      CHECK(std::equal(keys.begin(), keys.end(), p.key.data() + b * T * H * K));
      CHECK(std::equal(values.begin(), values.end(), p.value.data() + b * T * H * E));
    }
  };
  for (const index_t K : {1, 4, 7, 8, 20, 33}) {
    check(float{}, K);
    check(double{}, K);
  }
}

TEST_CASE("a cache is rolled back, copied, reset and stored without a trace",
          "[mixer][attention][state]") {
  for (const index_t window : {0, 40}) {
    problem_t p({2, 150, 2, 2, 5, 4}, 93);
    p.window = window;
    stage_t stage(p);
    const auto fresh = [&] { return window > 0 ? stage.mixer.make_state(2) : stage.fresh(); };
    auto end = fresh();
    stage.scan(exec::sequential{}, 0, 150, end);
    const auto want = stage.result();

    auto h = fresh();
    stage.forget();
    stage.scan(exec::sequential{}, 0, 100, h);
    const auto mark = h;
    // Drafts of other tokens, rejected.
    stage.mixer.append(stage.tokens.range(10, 24), h);
    CHECK_FALSE(h == mark);
    h.truncate(0, 100);
    h.truncate(1, 100);
    CHECK(h == mark);
    std::stringstream store;
    h.save(store);
    h.save(store);
    auto resumed = fresh();
    resumed.load(store);
    resumed.load(store);
    CHECK(resumed == mark);
    stage.decode(100, 150, resumed);
    CHECK(resumed == end);
    CHECK(bits_apart(want, stage.result()) == "");

    // One sequence alone begins anew, after NaN.
    auto spoiled = fresh();
    std::vector<float> bad(static_cast<std::size_t>(2 * 30 * 2 * 5),
                           std::numeric_limits<float>::quiet_NaN());
    mixer_t::tokens nans;
    nans.key = row_major(std::as_const(bad).data(), 2, 30, 2, 5);
    nans.value = row_major(std::as_const(bad).data(), 2, 30, 2, 4);
    stage.mixer.append(nans, spoiled);
    spoiled.reset(0);
    CHECK(spoiled.position(0) == 0);
    CHECK(spoiled.position(1) == 30);
    spoiled.reset(1);
    CHECK(spoiled == fresh());
    stage.forget();
    stage.scan(exec::sequential{}, 0, 150, spoiled);
    CHECK(bits_apart(want, stage.result()) == "");
    spoiled.reset();
    CHECK(spoiled == fresh());
  }
}

TEST_CASE("a full cache refuses one token more, until it is given room",
          "[mixer][attention][state]") {
  problem_t p({2, 150, 2, 1, 3, 4}, 94);
  stage_t stage(p);
  const auto want = stage.run();
  stage.forget();
  auto h = stage.mixer.make_state(2, 70);
  stage.scan(exec::sequential{}, 0, 70, h);
  const auto before = h;
  const std::string text = "tokens must fit in the state's capacity of 70, got 1 after position 70";
  refused<shape_error>([&] { stage.decode(70, 71, h); }, "attention::step: " + text);
  refused<shape_error>([&] { stage.scan(exec::sequential{}, 70, 71, h); },
                       "attention::scan: " + text);
  refused<shape_error>([&] { stage.mixer.append(stage.tokens.range(70, 71), h); },
                       "attention::append: " + text);
  CHECK(h == before);
  stage.mixer.reserve(h, 150);
  CHECK(h.capacity() == 150);
  CHECK(h.position(1) == 70);
  stage.mixer.reserve(h, 20);
  CHECK(h.capacity() == 150);
  stage.decode(70, 72, h);
  stage.scan(exec::sequential{}, 72, 150, h);
  CHECK(bits_apart(want, stage.result()) == "");
  // A ring has room for any number.
  stage.mixer.window = 5;
  auto ring = stage.mixer.make_state(2);
  const auto bytes = ring.bytes();
  stage.mixer.reserve(ring, 1000000);
  CHECK(ring.bytes() == bytes);
}

TEST_CASE("truncation refuses what the cache does not hold", "[mixer][attention][state]") {
  const stream s(500);
  const auto u = s.tokens();
  const mixer_t mixer{.key_dim = stream::K, .value_dim = stream::E, .window = 100};
  auto h = mixer.make_state();
  mixer.append(u.range(0, 300), h);
  const auto before = h;
  refused<shape_error>([&] { h.truncate(0, 301); },
                       "attention::state::truncate: tokens must be in [0, 300], got 301");
  refused<shape_error>([&] { h.truncate(0, -1); },
                       "attention::state::truncate: tokens must be in [0, 300], got -1");
  refused<shape_error>([&] { h.truncate(1, 3); },
                       "attention::state::truncate: sequence must be in [0, 1), got 1");
  refused<shape_error>([&] { h.reset(-1); },
                       "attention::state::reset: sequence must be in [0, 1), got -1");
  // Three blocks: keys from 128 on are there, and 227 is the first position whose window is.
  refused<shape_error>([&] { h.truncate(0, 226); },
                       "attention::state::truncate: tokens must leave a window that the ring still "
                       "holds, from key 128 on, got 226");
  CHECK(h == before);
  h.truncate(0, 227);
  // What was forgotten stays so, however far the ring goes on.
  auto other = mixer.make_state();
  mixer.append(u.range(0, 227), other);
  CHECK(h == other);
  h.truncate(0, 0);
  CHECK(h == mixer.make_state());
  mixer.append(u.range(0, 10), h);
  h.truncate(0, 4);
  CHECK(h.position(0) == 4);
}

TEST_CASE("a damaged or foreign record of a cache changes nothing", "[mixer][attention][state]") {
  const stream s(50);
  const mixer_t mixer{.key_dim = stream::K, .value_dim = stream::E};
  auto h = mixer.make_state(1, 20);
  mixer.append(s.tokens().range(0, 9), h);
  std::stringstream store;
  h.save(store);
  const std::string bytes = store.str();
  auto target = mixer.make_state(1, 20);
  mixer.append(s.tokens().range(3, 5), target);
  const auto before = target;
  for (std::size_t cut = 0; cut < bytes.size(); cut += cut < 70 ? 1 : 97) {
    std::istringstream part(bytes.substr(0, cut));
    REQUIRE_THROWS_AS(target.load(part), state_error);
  }
  for (std::size_t i = 0; i < bytes.size(); i += i < 80 ? 1 : 53) {
    if (i == 8) continue;  // the family, which may differ
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ 4);
    std::istringstream in(flipped);
    REQUIRE_THROWS_AS(target.load(in), state_error);
  }
  const auto foreign = [&](const mixer_t& other, auto... make) {
    auto state = other.make_state(make...);
    std::stringstream stream;
    state.save(stream);
    REQUIRE_THROWS_AS(target.load(stream), state_error);
  };
  foreign({.key_dim = stream::E, .value_dim = stream::K}, 1, 20);
  foreign({.key_dim = stream::K, .value_dim = stream::E}, 1, 21);
  foreign({.key_dim = stream::K, .value_dim = stream::E}, 2, 20);
  foreign({.heads = 2, .key_dim = stream::K, .value_dim = stream::E}, 1, 20);
  foreign({.key_dim = stream::K, .value_dim = stream::E, .window = 20}, 1);
  CHECK(target == before);
  std::istringstream whole(bytes);
  target.load(whole);
  CHECK(target == h);
}

TEST_CASE("no tokens, no sequences, no heads and no values are legal",
          "[mixer][attention][empty]") {
  for (const auto& n : {attention_sizes{2, 0, 2, 1, 3, 4}, attention_sizes{0, 5, 2, 1, 3, 4},
                        attention_sizes{2, 5, 2, 1, 3, 0}}) {
    stage_t stage(problem_t(n, 95));
    auto h = stage.fresh();
    stage.scan(exec::sequential{}, 0, n.T, h);
    stage.scan(exec::scalar{}, 0, 0, h);
    for (index_t b = 0; b < n.B; ++b) CHECK(h.position(b) == n.T);
  }
  // Log-sum-exps do not ask for values.
  problem_t p({2, 5, 2, 1, 3, 4}, 95), bare(p);
  bare.size.E = 0;
  bare.value.clear();
  stage_t stage(p), without(bare);
  static_cast<void>(stage.run());
  static_cast<void>(without.run());
  CHECK(bits_apart(stage.lse.values(), without.lse.values()) == "");
  const mixer_t none{.heads = 0, .key_dim = 2, .value_dim = 2};
  auto h = none.make_state(1);
  const float* const nothing = nullptr;
  none.scan(exec::sequential{},
            {.query = row_major(nothing, 1, 3, 0, 2),
             .key = row_major(nothing, 1, 3, 0, 2),
             .value = row_major(nothing, 1, 3, 0, 2)},
            row_major(written(nothing), 1, 3, 0, 2), h);
  CHECK(h.position(0) == 3);
}

namespace {

constexpr index_t huge = index_t{1} << 62;

template <class V>
void set_extent(V& v, int axis, index_t extent) {
  auto extents = v.extents();
  extents[static_cast<std::size_t>(axis)] = extent;
  v = V(v.data_handle(), extents, v.strides());
}
template <class V>
void set_stride(V& v, int axis, index_t stride) {
  auto strides = v.strides();
  strides[static_cast<std::size_t>(axis)] = stride;
  v = V(v.data_handle(), v.extents(), strides);
}
template <class V>
void set_data(V& v, typename V::element_type* data) {
  v = V(data, v.extents(), v.strides());
}

/// A valid call, to be spoiled.
struct scene {
  problem_t p = [] {
    problem_t made({2, 3, 4, 2, 5, 6}, 96);
    made.mask.resize(2 * 3 * 3);
    made.slopes.resize(4);
    made.sinks.resize(4);
    return made;
  }();
  stage_t stage{p};
  mixer_t mixer = stage.mixer;
  mixer_t::tokens u = stage.tokens;
  mixer_t::output y = stage.y.get();
  mixer_t::log_sums lse = stage.lse.get();
  mixer_t::state h = stage.fresh();
  exec::sequential policy{};
  std::vector<index_t> offsets;

  void call() {
    u.offsets = offsets;
    mixer.scan(policy, u, y, h, lse);
  }
};

struct wrong_call {
  std::string text;
  std::function<void(scene&)> spoil;
};

// Strides of the scene: query [60, 20, 5, 1], y [.., 37, 7, 1] with gaps.
const wrong_call wrong_calls[] = {
    {"key_dim must be 1 or more, got 0", [](scene& s) { s.mixer.key_dim = 0; }},
    {"heads must be 0 or more, got -4", [](scene& s) { s.mixer.heads = -4; }},
    {"value_dim must be 0 or more, got -1", [](scene& s) { s.mixer.value_dim = -1; }},
    {"window must be 0 or more, got -1", [](scene& s) { s.mixer.window = -1; }},
    {"key_heads must divide heads = 4, got 3", [](scene& s) { s.mixer.key_heads = 3; }},
    {"key_heads must divide heads = 4, got -2", [](scene& s) { s.mixer.key_heads = -2; }},
    {"key_heads must divide heads = 4, got 8", [](scene& s) { s.mixer.key_heads = 8; }},
    {"scale must be a finite number of 0 or more, got -1.000000",
     [](scene& s) { s.mixer.scale = -1; }},
    {"scale must be a finite number of 0 or more, got inf",
     [](scene& s) { s.mixer.scale = std::numeric_limits<float>::infinity(); }},
    {"scale must be a finite number of 0 or more, got nan",
     [](scene& s) { s.mixer.scale = std::numeric_limits<float>::quiet_NaN(); }},
    {"cap must be a finite number of 0 or more, got -2.000000", [](scene& s) { s.mixer.cap = -2; }},
    {"threads of exec::sequential must be 0 or more, got -3",
     [](scene& s) { s.policy.threads = -3; }},
    {"state must be [B, H', K, E] = [2, 2, 5, 6], got [1, 2, 5, 6]",
     [](scene& s) { s.h = s.mixer.make_state(1, 3); }},
    {"state must be [B, H', K, E] = [2, 4, 5, 6], got [2, 2, 5, 6]",
     [](scene& s) { s.mixer.key_heads = 0; }},
    {"state must be [B, H', K, E] = [2, 2, 4, 6], got [2, 2, 5, 6]",
     [](scene& s) { s.mixer.key_dim = 4; }},
    {"state must be [B, H', K, E] = [2, 2, 5, 7], got [2, 2, 5, 6]",
     [](scene& s) { s.mixer.value_dim = 7; }},
    {"tokens must fit in the state's capacity of 2, got 3 after position 0",
     [](scene& s) { s.h = s.mixer.make_state(2, 2); }},
    {"window must be within that of the state's ring, 7, got 8",
     [](scene& s) {
       s.mixer.window = 7;
       s.h = s.mixer.make_state(2);
       s.mixer.window = 8;
     }},
    {"window must be within that of the state's ring, 7, got 0",
     [](scene& s) {
       s.mixer.window = 7;
       s.h = s.mixer.make_state(2);
       s.mixer.window = 0;
     }},
    {"query must be [B, T, H, K] = [2, 3, 4, 5], got [2, 2, 4, 5]",
     [](scene& s) { set_extent(s.u.query, 1, 2); }},
    {"query must be [B, T, H, K] = [2, 3, 4, 5], got [2, 3, 5, 5]",
     [](scene& s) { set_extent(s.u.query, 2, 5); }},
    {"query must be [B, T, H, K] = [2, 3, 4, 5], got [2, 3, 4, 6]",
     [](scene& s) { set_extent(s.u.query, 3, 6); }},
    {"query must be [B, T, H, K] = [2, 3, 4, 5], got a null pointer",
     [](scene& s) { set_data(s.u.query, nullptr); }},
    {"query [B, T, H, K] = [2, 3, 4, 5] must have unit stride on its last axis, got strides "
     "[60, 20, 5, 2]",
     [](scene& s) { set_stride(s.u.query, 3, 2); }},
    {"query [B, T, H, K] = [2, 3, 4, 5] must have inner strides that do not fold (axis 2 needs at "
     "least 5), got strides [60, 20, 4, 1]",
     [](scene& s) { set_stride(s.u.query, 2, 4); }},
    {"key must be [B, T, H', K] = [2, 3, 2, 5], got [2, 3, 1, 5]",
     [](scene& s) { set_extent(s.u.key, 2, 1); }},
    {"key must be [B, T, H', K] = [2, 3, 2, 5], got a null pointer",
     [](scene& s) { set_data(s.u.key, nullptr); }},
    {"key [B, T, H', K] = [2, 3, 2, 5] must have a size that fits in memory, got strides "
     "[30, " +
         std::to_string(huge) + ", 5, 1]",
     [](scene& s) { set_stride(s.u.key, 1, huge); }},
    {"value must be [B, T, H', E] = [2, 3, 2, 6], got [2, 4, 2, 6]",
     [](scene& s) { set_extent(s.u.value, 1, 4); }},
    {"value must be [B, T, H', E] = [2, 3, 2, 6], got [1, 3, 2, 6]",
     [](scene& s) { set_extent(s.u.value, 0, 1); }},
    {"value must be [B, T, H', E] = [2, 3, 2, 6], got a null pointer",
     [](scene& s) { set_data(s.u.value, nullptr); }},
    {"mask must be [B, T, H or 1, N] with N of at least 3, got [2, 3, 1, 2]",
     [](scene& s) { set_extent(s.u.mask, 3, 2); }},
    {"mask must be [B, T, H or 1, N] = [2, 3, 4, 3], got [2, 3, 2, 3]",
     [](scene& s) { set_extent(s.u.mask, 2, 2); }},
    {"mask must be [B, T, H or 1, N] = [2, 3, 1, 3], got [2, 1, 1, 3]",
     [](scene& s) { set_extent(s.u.mask, 1, 1); }},
    {"slopes must be [H] = [4], got [3]", [](scene& s) { set_extent(s.mixer.slopes, 0, 3); }},
    {"slopes [H] = [4] must have unit stride on its last axis, got strides [2]",
     [](scene& s) { set_stride(s.mixer.slopes, 0, 2); }},
    {"sinks must be [H] = [4], got [5]", [](scene& s) { set_extent(s.mixer.sinks, 0, 5); }},
    {"y must be [B, T, H, E] = [2, 3, 4, 6], got [2, 2, 4, 6]",
     [](scene& s) { set_extent(s.y, 1, 2); }},
    {"y must be [B, T, H, E] = [2, 3, 4, 6], got a null pointer",
     [](scene& s) { set_data(s.y, nullptr); }},
    {"y must be aligned to 4 bytes, got an address 1 past it",
     [](scene& s) {
       set_data(s.y,
                reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(s.y.data_handle()) + 1));
     }},
    {"y must have batch and time strides that keep its rows apart, got rows that overlap",
     [](scene& s) { set_stride(s.y, 0, s.y.stride(1)); }},
    {"lse must be [B, T, H] = [2, 3, 4], got [2, 3, 3]", [](scene& s) { set_extent(s.lse, 2, 3); }},
    {"lse must not overlap y, got memory that does",
     [](scene& s) { set_data(s.lse, s.y.data_handle()); }},
    {"y must not overlap query, got memory that does",
     [](scene& s) { set_data(s.y, written(s.u.query.data_handle())); }},
    {"y must not overlap key, got memory that does",
     [](scene& s) { set_data(s.u.key, s.y.data_handle()); }},
    {"y must not overlap value, got memory that does",
     [](scene& s) { set_data(s.u.value, s.y.data_handle() + 6); }},
    {"y must not overlap mask, got memory that does",
     [](scene& s) { set_data(s.u.mask, s.y.data_handle()); }},
    {"y must not overlap slopes, got memory that does",
     [](scene& s) { set_data(s.mixer.slopes, s.y.data_handle()); }},
    {"y must not overlap sinks, got memory that does",
     [](scene& s) { set_data(s.mixer.sinks, s.y.data_handle()); }},
    {"lse must not overlap query, got memory that does",
     [](scene& s) { set_data(s.lse, written(s.u.query.data_handle())); }},
    {"y must not overlap state, got memory that does",
     [](scene& s) { set_data(s.y, s.h.block_of(0, 0, 0)); }},
    {"lse must not overlap state, got memory that does",
     [](scene& s) { set_data(s.lse, s.h.block_of(0, 1, 0)); }},
    {"tokens with offsets are one packed sequence: B must be 1, got 2",
     [](scene& s) {
       s.offsets = {0, 3};
     }},
    {"offsets must not decrease, from 0 to T = 3, got 2 followed by 1",
     [](scene& s) {
       for (auto* v : {&s.u.query, &s.u.key, &s.u.value, &s.u.mask}) set_extent(*v, 0, 1);
       set_extent(s.y, 0, 1);
       s.offsets = {0, 2, 1, 3};
     }},
    {"offsets must not decrease, from 0 to T = 3, got a last offset of 2",
     [](scene& s) {
       for (auto* v : {&s.u.query, &s.u.key, &s.u.value, &s.u.mask}) set_extent(*v, 0, 1);
       s.offsets = {0, 1, 2};
     }},
};

}  // namespace

TEST_CASE("wrong calls of attention are refused before anything is written",
          "[mixer][attention][bad_input]") {
  {
    scene valid;
    CHECK_NOTHROW(valid.call());
  }
  for (const auto& wrong : wrong_calls) {
    scene s;
    wrong.spoil(s);
    const auto before = s.h;
    INFO(wrong.text);
    refused<shape_error>([&] { s.call(); }, "attention::scan: " + wrong.text);
    CHECK(s.stage.y.untouched());
    CHECK(s.stage.lse.untouched());
    CHECK(s.h == before);
  }
}

TEST_CASE("states of absurd sizes are refused", "[mixer][attention][bad_input]") {
  const mixer_t mixer{.key_dim = 5, .value_dim = 6};
  refused<shape_error>([&] { static_cast<void>(mixer.make_state(-1)); },
                       "attention::make_state: batch must be 0 or more, got -1");
  refused<shape_error>([&] { static_cast<void>(mixer.make_state(1, -1)); },
                       "attention::make_state: capacity must be 0 or more, got -1");
  refused<shape_error>([&] { static_cast<void>(mixer.make_state(2, huge)); },
                       "attention::make_state: batch, sizes and capacity must be numbers whose "
                       "state fits in memory, got [2, 1, 5, 6, " +
                           std::to_string(huge) + "]");
  auto h = mixer.make_state(1, 10);
  refused<shape_error>([&] { mixer.reserve(h, -5); },
                       "attention::reserve: tokens must be 0 or more, got -5");
  refused<shape_error>([&] { mixer.reserve(h, huge); },
                       "attention::reserve: batch, sizes and capacity must be numbers whose state "
                       "fits in memory, got [1, 1, 5, 6, " +
                           std::to_string(huge) + "]");
  CHECK(h.capacity() == 10);
  const std::vector<index_t> offsets{0, 0};
  const mixer_t::tokens packed{.offsets = offsets};
  CHECK_THROWS_AS(packed.range(0, 0), shape_error);
  CHECK_THROWS_AS(packed.sequence(1), shape_error);
}
