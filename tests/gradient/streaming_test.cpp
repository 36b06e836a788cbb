// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/aligned.hpp>
#include <maslin/gradient/bdlru.hpp>
#include <maslin/gradient/delta_rule.hpp>
#include <maslin/gradient/diagonal.hpp>
#include <maslin/gradient/hlru.hpp>

#include <cstring>
#include <span>

namespace {

using namespace maslin;

constexpr index_t B = 2, T = 9;

/// Arrays that begin cache lines, so that whole rows are written from registers where that is possible.
template <class S>
aligned_vector<S> drawn(index_t n, double size, test::random& r) {
  aligned_vector<S> v(static_cast<std::size_t>(n));
  r.fill_normal(std::span<S>(v.data(), v.size()), size);
  return v;
}

/// Gradients with plain and with streaming stores are the same bytes. `gates` makes the gate view
/// of a pointer, `values` that of inputs.
template <class Mixer, class Gates, class Values>
void expect_same(const Mixer& mixer, index_t gate_count, index_t value_count, const Gates& gates,
                 const Values& values) {
  using S = typename Mixer::scalar_type;
  test::random r(5);
  const auto gate = drawn<S>(gate_count, 0.2, r), input = drawn<S>(value_count, 1, r),
             dy = drawn<S>(value_count, 1, r);
  auto y = input;
  const typename Mixer::tokens tokens{.gate = gates(gate.data()), .input = values(input.data())};
  auto state = mixer.make_state(B);
  auto saved = mixer.make_saved(B, T);
  mixer.scan(exec::sequential{}, tokens, values(y.data()), state, saved);
  const auto backward = [&](exec::stores store, aligned_vector<S>& dgate,
                            aligned_vector<S>& dinput) {
    auto dstate = mixer.make_state(B);
    typename Mixer::gradients d;
    d.gate = gates(dgate.data());
    d.input = values(dinput.data());
    mixer.backward(exec::sequential{.store = store}, tokens, saved, values(dy.data()), d, dstate);
  };
  auto dgate = gate, dinput = input, other_dgate = gate, other_dinput = input;
  backward(exec::stores::plain, dgate, dinput);
  backward(exec::stores::streaming, other_dgate, other_dinput);
  CHECK(std::memcmp(dgate.data(), other_dgate.data(), dgate.size() * sizeof(S)) == 0);
  CHECK(std::memcmp(dinput.data(), other_dinput.data(), dinput.size() * sizeof(S)) == 0);
}

template <class S, int M>
void check_hlru(index_t D) {
  CAPTURE(M, D);
  const auto values = [&](auto* p) { return row_major(p, B, T, D); };
  expect_same(
      hlru<S, M>{.channels = D}, B * T * D * (M + 1), B * T * D,
      [&](auto* p) { return row_major(p, B, T, D, M + 1); }, values);
  const index_t groups = layout::groups(D, default_group);
  expect_same(
      hlru<S, M, normalise::softmax, gates::grouped>{.channels = D},
      B * T * groups * (M + 1) * default_group, B * T * D,
      [&](auto* p) { return row_major(p, B, T, groups, M + 1, default_group); }, values);
}
template <class S, int M>
void check_bdlru(index_t G) {
  CAPTURE(M, G);
  const auto values = [&](auto* p) { return row_major(p, B, T, G, M); };
  expect_same(
      bdlru<S, M>{.blocks = G}, B * T * G * M * (M + 1), B * T * G * M,
      [&](auto* p) { return row_major(p, B, T, G, M, M + 1); }, values);
  const index_t groups = layout::groups(G, default_group);
  expect_same(
      bdlru<S, M, normalise::softmax, gates::grouped>{.blocks = G},
      B * T * groups * M * (M + 1) * default_group, B * T * G * M,
      [&](auto* p) { return row_major(p, B, T, groups, M, M + 1, default_group); }, values);
}

/// Gradients of the delta rule, of rows of whole cache lines or not, by plain or streaming stores.
template <class S>
void check_delta_rule(index_t K, index_t E) {
  CAPTURE(K, E);
  using mixer = delta_rule<S, decay_axis::none>;
  constexpr index_t H = 2;
  test::random r(7);
  const auto key = drawn<S>(B * T * H * K, 0.2, r), value = drawn<S>(B * T * H * E, 1, r),
             beta = drawn<S>(B * T * H, 1, r);
  const mixer m{.heads = H, .key_dim = K, .value_dim = E};
  const typename mixer::tokens u{.query = row_major(key.data(), B, T, H, K),
                                 .key = row_major(key.data(), B, T, H, K),
                                 .value = row_major(value.data(), B, T, H, E),
                                 .beta = row_major(beta.data(), B, T, H)};
  auto y = value;
  auto state = m.make_state(B);
  auto saved = m.make_saved(B, T);
  m.scan(exec::sequential{}, u, row_major(y.data(), B, T, H, E), state, saved);
  const auto backward = [&](exec::stores store) {
    auto dquery = key, dkey = key, dvalue = value;
    auto dstate = m.make_state(B);
    m.backward(exec::sequential{.store = store}, u, saved, row_major(value.data(), B, T, H, E),
               {.query = row_major(dquery.data(), B, T, H, K),
                .key = row_major(dkey.data(), B, T, H, K),
                .value = row_major(dvalue.data(), B, T, H, E)},
               dstate);
    dquery.insert(dquery.end(), dkey.begin(), dkey.end());
    dquery.insert(dquery.end(), dvalue.begin(), dvalue.end());
    return dquery;
  };
  const auto plain = backward(exec::stores::plain), other = backward(exec::stores::streaming);
  CHECK(std::memcmp(plain.data(), other.data(), plain.size() * sizeof(S)) == 0);
}

}  // namespace

TEST_CASE("streaming stores change no byte of a gradient of a matrix state",
          "[gradient][streaming]") {
  for (const index_t width : {16, 32, 7}) {
    check_delta_rule<float>(width, 16);
    check_delta_rule<double>(16, width);
  }
}

TEST_CASE("streaming stores change no byte of a gradient", "[gradient][streaming]") {
  for (const index_t width : {64, 256, 72, 40, 21}) {
    check_hlru<float, 1>(width);
    check_hlru<double, 1>(width);
    check_hlru<float, 2>(width);
    check_hlru<float, 3>(width);
    check_hlru<double, 3>(width);
    check_bdlru<float, 4>(width);
    check_bdlru<double, 2>(width);
    const auto values = [&](auto* p) { return row_major(p, B, T, width); };
    expect_same(diagonal<float>{.channels = width}, B * T * width, B * T * width, values, values);
    expect_same(diagonal<double>{.channels = width}, B * T * width, B * T * width, values, values);
  }
}
