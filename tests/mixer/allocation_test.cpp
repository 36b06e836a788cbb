// SPDX-License-Identifier: Apache-2.0

/// \file
/// Decoding allocates nothing, nor do second calls where the first takes scratch.

#include "laws/mixer_laws.hpp"
#include "support/allocations.hpp"

#include <maslin/gradient/attention.hpp>
#include <maslin/gradient/causal_conv.hpp>
#include <maslin/gradient/delta_rule.hpp>
#include <maslin/gradient/linear_attention.hpp>
#include <maslin/gradient/selective_ssm.hpp>

using namespace maslin;
using namespace maslin::test;

namespace {

using plain_t = diagonal<float>;
using lags_t = hlru<float, 4>;
using block_t = bdlru<float, 4>;
using grouped_t = bdlru<double, 4, normalise::sigmoid_l1, gates::grouped>;

template <class T, std::size_t Rank>
auto dense(T* data, const std::array<index_t, Rank>& extents) {
  return std::apply([&](auto... e) { return row_major(data, e...); }, extents);
}

/// Numbers to read for a view of any of these shapes.
template <class S, std::size_t Rank>
std::vector<S> numbers_for(const std::array<index_t, Rank>& extents) {
  index_t n = 1;
  for (const index_t e : extents) n *= e;
  return std::vector<S>(static_cast<std::size_t>(n), S(0.25));
}

}  // namespace

TEST_CASE("the counters of this program count", "[mixer][allocation]") {
  // Kept beyond the lambdas, since a compiler may drop an allocation that nobody uses.
  std::vector<int> numbers;
  CHECK(allocations_of([&] { numbers.resize(5); }) == 1);
  std::vector<lags_t::state> states;
  states.reserve(1);
  CHECK(allocations_of([&] { states.push_back(lags_t{.channels = 3}.make_state()); }) == 1);
}

TEMPLATE_TEST_CASE("decode, default scans and rollbacks allocate nothing", "[mixer][allocation]",
                   plain_t, lags_t, block_t, grouped_t) {
  using A = anatomy<TestType>;
  using S = typename TestType::scalar_type;
  constexpr index_t B = 2, T = 20, C = 37;
  const auto gate_shape = A::gate(B, T, C, default_group);
  const auto value_shape = A::values(B, T, C);
  const auto gate = numbers_for<S>(gate_shape), input = numbers_for<S>(value_shape);
  auto out = numbers_for<S>(value_shape);
  const auto y = dense(out.data(), value_shape);
  typename TestType::tokens tokens{.gate = dense(gate.data(), gate_shape),
                                   .input = dense(input.data(), value_shape)};
  const TestType mixer = A::make(C);
  auto state = mixer.make_state(B);
  const auto checkpoint = state;

  CHECK(allocations_of([&] {
          for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
        }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::sequential{}, tokens, y, state); }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::scalar{}, tokens, y, state); }) == 0);
  constexpr exec::sequential streaming{.threads = 1, .store = exec::stores::streaming};
  CHECK(allocations_of(
            [&] { mixer.scan(streaming, tokens.range(3, T), time_range(y, 3, T), state); }) == 0);

  const S* memory = state.row(0);
  CHECK(allocations_of([&] { state = checkpoint; }) == 0);
  CHECK(state.row(0) == memory);
  CHECK(allocations_of([&] { state.reset(); }) == 0);

  // A chunked scan needs scratch: the first one takes it, the second finds it.
  const exec::chunked chunks{.chunk = 4, .threads = 1};
  mixer.scan(chunks, tokens, y, state);
  CHECK(allocations_of([&] { mixer.scan(chunks, tokens, y, state); }) == 0);
}

TEMPLATE_TEST_CASE("mixers of rows decode and scan on one thread without allocating",
                   "[mixer][allocation]", pattern::dense, pattern::cached<pattern::square1>) {
  constexpr index_t B = 2, T = 40, H = 2, E = 11, K = 5;
  const std::vector<float> self(B * T * H, 0.25f), past(B * T * H * 2 * T, 0.01f),
      input(B * T * H * E, 0.25f), key(B * T * H * K, 0.25f);
  std::vector<float> out(input.size());
  const auto y = row_major(out.data(), B, T, H, E);
  const auto x = row_major(input.data(), B, T, H, E);
  const auto quiet = [&](const auto& mixer, const auto& tokens) {
    auto state = mixer.make_state(B, 2 * T);
    const auto checkpoint = state;
    CHECK(allocations_of([&] {
            for (index_t t = 0; t < T / 2; ++t) mixer.step(tokens[t], time_at(y, t), state);
            mixer.scan(exec::sequential{}, tokens.range(T / 2, T), time_range(y, T / 2, T), state);
            mixer.scan(exec::scalar{}, tokens.range(0, T / 2), time_range(y, 0, T / 2), state);
            state = checkpoint;
            state.reset();
          }) == 0);
    // More threads need scratch: the first scan takes it, the second finds it.
    mixer.scan(exec::sequential{.threads = 3}, tokens, y, state);
    state.reset();
    CHECK(allocations_of([&] { mixer.scan(exec::sequential{.threads = 3}, tokens, y, state); }) ==
          0);
  };
  using given_t = generalized<float, TestType>;
  quiet(given_t{.heads = H, .value_dim = E, .pattern = {}},
        typename given_t::tokens{.self = row_major(self.data(), B, T, H),
                                 .past = row_major(past.data(), B, T, H, 2 * T),
                                 .input = x,
                                 .offsets = {}});
  using scores_t = generalized_scores<float, TestType>;
  scores_t scores;
  scores.heads = H;
  scores.key_dim = K;
  scores.value_dim = E;
  const auto k = row_major(key.data(), B, T, H, K);
  quiet(scores, typename scores_t::tokens{.query = k, .key = k, .input = x, .offsets = {}});
}

TEST_CASE("selective scans and convolutions allocate nothing either", "[mixer][allocation]") {
  constexpr index_t T = 6, D = 37, N = 5, W = 4;
  const std::vector<float> x(static_cast<std::size_t>(T * D), 0.25f),
      rows(static_cast<std::size_t>(T * N), 0.5f), decay(static_cast<std::size_t>(D * N), -1.0f);
  std::vector<float> out(x.size());
  const auto y = row_major(out.data(), 1, T, D);
  const auto values = row_major(x.data(), 1, T, D);
  const auto shared = row_major(rows.data(), 1, T, 1, N);
  const auto check = [&](const auto& mixer, const auto& tokens) {
    auto state = mixer.make_state();
    CHECK(allocations_of([&] {
            for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
          }) == 0);
    CHECK(allocations_of([&] { mixer.scan(exec::sequential{}, tokens, y, state); }) == 0);
    const exec::chunked chunks{.chunk = 2, .threads = 1};
    mixer.scan(chunks, tokens, y, state);
    CHECK(allocations_of([&] { mixer.scan(chunks, tokens, y, state); }) == 0);
  };
  using ssm = selective_ssm<float>;
  check(ssm{.channels = D, .state_dim = N, .decay = row_major(decay.data(), D, N)},
        ssm::tokens{
            .dt = values, .input = values, .write = shared, .read = shared, .output_gate = values});
  using conv = causal_conv<float, W>;
  check(conv{.channels = D, .weight = row_major(x.data(), D, W)}, conv::tokens{.input = values});
}

TEST_CASE("an RG-LRU allocates nothing either, nor does a copy of its state",
          "[mixer][rglru][allocation]") {
  constexpr index_t T = 6, D = 37;
  const auto gates = numbers_for<float>(std::array{T, D}),
             decays = numbers_for<float>(std::array{D});
  auto out = gates;
  const auto rows = row_major(std::as_const(gates).data(), 1, T, D);
  const rglru<float> mixer{.channels = D, .decay = row_major(decays.data(), D)};
  const rglru<float>::tokens tokens{rows, rows, rows, {}};
  const auto y = row_major(out.data(), 1, T, D);
  auto state = mixer.make_state();
  const auto checkpoint = state;
  auto copy = state;
  CHECK(allocations_of([&] { mixer.step(tokens[0], time_at(y, 0), state); }) == 0);
  CHECK(allocations_of([&] { mixer.step(tokens[0], time_at(y, 0), copy); }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::sequential{}, tokens, y, state); }) == 0);
  CHECK(allocations_of([&] { state = checkpoint; }) == 0);
  CHECK(allocations_of([&] { state.reset(); }) == 0);
}

TEST_CASE("a complex recurrence allocates nothing", "[mixer][complex][allocation]") {
  using number = std::complex<float>;
  constexpr index_t T = 6, D = 37;
  const std::vector<number> numbers(static_cast<std::size_t>(T * D), number(0.5f, 0.25f));
  auto out = numbers;
  const auto rows = row_major(numbers.data(), 1, T, D);
  const diagonal<number> mixer{.channels = D, .decay = {}};
  const diagonal<number>::tokens tokens{.gate = rows, .input = rows};
  const auto y = row_major(out.data(), 1, T, D);
  auto state = mixer.make_state();
  CHECK(allocations_of([&] { mixer.step(tokens[0], time_at(y, 0), state); }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::sequential{}, tokens, y, state); }) == 0);
}

TEST_CASE("attention decodes into its cache without allocating", "[mixer][attention][allocation]") {
  constexpr index_t B = 2, T = 40, H = 4, K = 5, E = 6;
  const std::vector<float> x(static_cast<std::size_t>(B * T * H * E), 0.25f);
  std::vector<float> out(x.size());
  const attention<float>::tokens tokens{.query = row_major(x.data(), B, T, H, K),
                                        .key = row_major(x.data(), B, T, 2, K),
                                        .value = row_major(x.data(), B, T, 2, E)};
  const auto y = row_major(out.data(), B, T, H, E);
  for (const index_t window : {0, 9}) {
    const attention<float> mixer{
        .heads = H, .key_heads = 2, .key_dim = K, .value_dim = E, .window = window};
    auto state = window > 0 ? mixer.make_state(B) : mixer.make_state(B, 3 * T);
    const auto checkpoint = state;
    CHECK(allocations_of([&] {
            for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
            mixer.scan(exec::sequential{}, tokens, y, state);
            mixer.scan(exec::scalar{}, tokens, y, state);
            state.truncate(0, state.position(0) - 3);
            state = checkpoint;
            state.reset();
          }) == 0);
  }
  // Threads that share one query take scratch once.
  const attention<float> mixer{.key_dim = K, .value_dim = E};
  auto state = mixer.make_state(1, 1100);
  const attention<float>::tokens one{.query = row_major(x.data(), 1, 1, 1, K),
                                     .key = row_major(x.data(), 1, 1, 1, K),
                                     .value = row_major(x.data(), 1, 1, 1, E)};
  const auto y1 = row_major(out.data(), 1, 1, 1, E);
  for (int t = 0; t < 1050; ++t) mixer.append(one, state);
  mixer.scan(exec::sequential{.threads = 3}, one, y1, state);
  CHECK(allocations_of([&] { mixer.scan(exec::sequential{.threads = 3}, one, y1, state); }) == 0);
}

TEST_CASE("a second backward pass of attention finds the memory of the first",
          "[mixer][gradient][attention][allocation]") {
  constexpr index_t T = 70, H = 4, K = 5, E = 6;
  const std::vector<float> x(static_cast<std::size_t>(T * H * E), 0.25f);
  std::vector<float> out(x.size()), dquery(x.size()), dkey(x.size()), dvalue(x.size());
  const attention<float> mixer{.heads = H, .key_heads = 2, .key_dim = K, .value_dim = E};
  const attention<float>::tokens tokens{.query = row_major(x.data(), 1, T, H, K),
                                        .key = row_major(x.data(), 1, T, 2, K),
                                        .value = row_major(x.data(), 1, T, 2, E)};
  const attention<float>::gradients d{.query = row_major(dquery.data(), 1, T, H, K),
                                      .key = row_major(dkey.data(), 1, T, 2, K),
                                      .value = row_major(dvalue.data(), 1, T, 2, E)};
  auto state = mixer.make_state(1, 3 * T), dstate = mixer.make_state(1, 3 * T);
  auto keep = mixer.make_saved(1, T);
  mixer.append(tokens, state);
  const auto once = [&] {
    mixer.scan(exec::sequential{}, tokens, row_major(out.data(), 1, T, H, E), state, keep);
    mixer.backward(exec::sequential{}, tokens, keep, row_major(x.data(), 1, T, H, E), d, dstate);
    state.truncate(0, T);
  };
  once();
  CHECK(allocations_of(once) == 0);
}

TEST_CASE("mixers with matrix states decode without allocating, copies included",
          "[mixer][linear_attention][delta_rule][allocation]") {
  constexpr index_t T = 40, H = 2, K = 11, E = 21;
  const std::vector<float> numbers(static_cast<std::size_t>(T * H * E), 0.25f);
  auto out = numbers;
  const auto y = row_major(out.data(), 1, T, H, E);
  const auto k = row_major(numbers.data(), 1, T, H, K), v = row_major(numbers.data(), 1, T, H, E);
  const auto one = row_major(numbers.data(), 1, T, H);
  const auto check = [&](const auto& mixer, const auto& tokens) {
    auto state = mixer.make_state();
    auto copy = state;
    const auto checkpoint = state;
    CHECK(allocations_of([&] {
            for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), copy);
            mixer.step(tokens[0], time_at(y, 0), state);
            mixer.scan(exec::sequential{}, tokens, y, state);
            mixer.scan(exec::scalar{}, tokens.range(0, 2), time_range(y, 0, 2), state);
            state = checkpoint;
            state.reset();
          }) == 0);
    // Chunks and threads need scratch: the first scan takes it, the second finds it.
    mixer.scan(exec::chunked{.chunk = 16, .threads = 2}, tokens, y, state);
    mixer.scan(exec::sequential{.threads = 2}, tokens, y, state);
    CHECK(allocations_of([&] {
            mixer.scan(exec::chunked{.chunk = 16, .threads = 2}, tokens, y, state);
            mixer.scan(exec::sequential{.threads = 2}, tokens, y, state);
          }) == 0);
  };
  using attention = linear_attention<float, decay_axis::key>;
  check(attention{.heads = H, .key_dim = K, .value_dim = E, .normalised = true},
        attention::tokens{.query = k, .key = k, .value = v, .log_decay = k});
  using rule = delta_rule<float, decay_axis::head>;
  check(rule{.heads = H, .key_dim = K, .value_dim = E},
        rule::tokens{.query = k, .key = k, .value = v, .beta = one, .log_decay = one});
}

TEST_CASE("scratch of gradients is taken by the first call alone",
          "[mixer][gradient][allocation]") {
  constexpr index_t B = 2, T = 70, D = 100, N = 3;
  const std::vector<float> numbers(static_cast<std::size_t>(B * T * D), 0.25f);
  std::vector<float> out(numbers.size()), dwrite(numbers.size()), ddecay(numbers.size());
  const auto x = row_major(numbers.data(), B, T, D);
  const auto y = row_major(out.data(), B, T, D);
  const auto check = [&](const auto& mixer, const auto& tokens, const auto& gradients) {
    auto h = mixer.make_state(B), dh = mixer.make_state(B);
    auto keep = mixer.make_saved(B, T);
    const auto run = [&](const auto& policy) {
      mixer.scan(policy, tokens, y, h, keep);
      mixer.backward(policy, tokens, keep, x, gradients, dh);
    };
    run(exec::chunked{.chunk = 16, .threads = 3});
    run(exec::sequential{.threads = 3});
    CHECK(allocations_of([&] { run(exec::sequential{.threads = 3}); }) == 0);
    CHECK(allocations_of([&] { run(exec::chunked{.chunk = 16, .threads = 3}); }) == 0);
    CHECK(allocations_of([&] { run(exec::sequential{}); }) == 0);
    CHECK(allocations_of([&] { run(exec::scalar{}); }) == 0);
  };
  using ssm = selective_ssm<float>;
  const auto shared = row_major(numbers.data(), B, T, 1, N);
  check(ssm{.channels = D, .state_dim = N, .decay = row_major(numbers.data(), D, N)},
        ssm::tokens{.dt = x, .input = x, .write = shared, .read = shared},
        ssm::gradients{.write = row_major(dwrite.data(), B, T, 1, N),
                       .decay = row_major(ddecay.data(), D, N)});
  using conv = causal_conv<float, 4>;
  check(conv{.channels = D, .weight = row_major(numbers.data(), D, 4), .silu = true},
        conv::tokens{.input = x}, conv::gradients{.weight = row_major(ddecay.data(), D, 4)});
}

TEMPLATE_TEST_CASE("a second backward of a matrix state allocates nothing",
                   "[mixer][gradient][allocation]", (linear_attention<float, decay_axis::head>),
                   (delta_rule<float, decay_axis::head>)) {
  constexpr index_t B = 2, T = 70, H = 4, K = 3, E = 5;
  const auto numbers = numbers_for<float>(std::array{B, T, H, E});
  std::vector<float> out(numbers), dquery(numbers), dkey(numbers), dvalue(numbers), dbeta(numbers),
      ddecay(numbers);
  const auto small = row_major(numbers.data(), B, T, H);
  const auto keys = row_major(numbers.data(), B, T, H, K);
  const auto values = row_major(numbers.data(), B, T, H, E);
  const TestType mixer{.heads = H, .key_dim = K, .value_dim = E};
  typename TestType::tokens tokens;
  typename TestType::gradients d;
  tokens.query = tokens.key = keys;
  tokens.value = values;
  tokens.log_decay = small;
  d.query = row_major(dquery.data(), B, T, H, K);
  d.key = row_major(dkey.data(), B, T, H, K);
  d.value = row_major(dvalue.data(), B, T, H, E);
  d.log_decay = row_major(ddecay.data(), B, T, H);
  if constexpr (requires { tokens.beta; }) {
    tokens.beta = small;
    d.beta = row_major(dbeta.data(), B, T, H);
  }
  auto state = mixer.make_state(B), dstate = mixer.make_state(B);
  auto keep = mixer.make_saved(B, T);
  const auto scan = [&] {
    mixer.scan(exec::sequential{}, tokens, row_major(out.data(), B, T, H, E), state, keep);
  };
  const auto backward = [&](const auto& policy) {
    return allocations_of([&] { mixer.backward(policy, tokens, keep, values, d, dstate); });
  };
  scan();
  CHECK(allocations_of(scan) == 0);
  CHECK(backward(exec::sequential{}) == 1);
  CHECK(backward(exec::sequential{}) == 0);
  CHECK(backward(exec::scalar{}) == 0);
  CHECK(backward(exec::chunked{}) <= 1);
  CHECK(backward(exec::chunked{}) == 0);
}
TEST_CASE("a second backward of an RG-LRU and of mixers of rows allocates nothing",
          "[gradient][allocation]") {
  constexpr index_t B = 2, T = 20, H = 2, E = 11, D = H * E;
  const auto numbers = numbers_for<float>(std::array{B, T, H, T});
  const auto x = row_major(numbers.data(), B, T, D),
             coefficients = row_major(numbers.data(), B, T, H);
  const auto values = row_major(numbers.data(), B, T, H, E);
  std::vector<float> out(static_cast<std::size_t>(B * T * D)), dx(out), dcoefficients(numbers),
      dself(static_cast<std::size_t>(B * T * H)), ddecay(static_cast<std::size_t>(D));
  const auto twice = [](const auto& mixer, const auto& tokens, const auto& y, const auto& dy,
                        const auto& d, index_t capacity) {
    auto state = [&] {
      if constexpr (requires { mixer.make_state(B, capacity); })
        return mixer.make_state(B, capacity);
      else
        return mixer.make_state(B);
    }();
    auto dstate = state;
    auto keep = mixer.make_saved(B, capacity);
    const auto call = [&](const auto& policy) {
      state.reset();
      dstate.reset();
      mixer.scan(exec::sequential{}, tokens, y, state, keep);
      mixer.backward(policy, tokens, keep, dy, d, dstate);
    };
    call(exec::sequential{.threads = 3});
    call(exec::chunked{.chunk = 4, .threads = 2});
    CHECK(allocations_of([&] {
            call(exec::sequential{});
            call(exec::scalar{});
            call(exec::sequential{.threads = 3});
            call(exec::chunked{.chunk = 4, .threads = 2});
          }) == 0);
  };
  using unit = rglru<float>;
  twice(unit{.channels = D, .decay = row_major(numbers.data(), D)}, unit::tokens{x, x, x, {}},
        row_major(out.data(), B, T, D), x,
        unit::gradients{.recurrence_gate = {},
                        .input_gate = {},
                        .input = row_major(dx.data(), B, T, D),
                        .decay = row_major(ddecay.data(), D)},
        T);
  using given = generalized<float, pattern::dense>;
  const auto y = row_major(out.data(), B, T, H, E);
  // Without the input's gradient the adjoint cache is scratch.
  twice(given{.heads = H, .value_dim = E, .pattern = {}},
        given::tokens{coefficients, row_major(numbers.data(), B, T, H, T), values, {}}, y, values,
        given::gradients{.self = row_major(dself.data(), B, T, H),
                         .past = row_major(dcoefficients.data(), B, T, H, T),
                         .input = {}},
        T);
  using scores = generalized_scores<float, pattern::cached<pattern::square1>>;
  scores mixer;
  mixer.heads = H, mixer.key_dim = E, mixer.value_dim = E;
  twice(mixer, scores::tokens{values, values, values, {}}, y, values,
        scores::gradients{.query = row_major(dx.data(), B, T, H, E),
                          .key = {},
                          .input = {},
                          .bias = {},
                          .self_bias = row_major(ddecay.data(), H)},
        T);
}
