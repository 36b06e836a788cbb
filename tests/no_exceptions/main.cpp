// SPDX-License-Identifier: Apache-2.0
// The reduced test of builds without exceptions and RTTI, which Catch2 does not serve: for every
// mixer and order, each way through the same tokens must write the same bytes.
#include <maslin/maslin.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <sstream>
#include <utility>
#include <vector>

namespace {

using maslin::index_t;
constexpr index_t B = 2, T = 21, N = 13;

template <class S>
std::vector<S> waves(index_t count, double frequency) {
  std::vector<S> values(static_cast<std::size_t>(count));
  double phase = 0;
  for (S& value : values) value = static_cast<S>(std::sin(phase += frequency));
  return values;
}

/// True when one prefill, a prefill that is split, saved, loaded and finished by single tokens, and
/// the scalar policy give the same y [B, T, rest...] and the same state.
template <class Mixer, class... E>
bool same_bits(const Mixer& mixer, const typename Mixer::tokens& tokens, E... rest) {
  std::vector<typename Mixer::scalar_type> whole(static_cast<std::size_t>(((B * T) * ... * rest)));
  auto split = whole, scalar = whole;
  const auto y = maslin::row_major(split.data(), B, T, rest...);

  auto after_whole = mixer.make_state(B);
  mixer.scan(maslin::exec::sequential{}, tokens, maslin::row_major(whole.data(), B, T, rest...),
             after_whole);

  auto prefix = mixer.make_state(B);
  mixer.scan(maslin::exec::sequential{}, tokens.range(0, 8), maslin::time_range(y, 0, 8), prefix);
  std::stringstream stored;
  prefix.save(stored);
  auto after_split = mixer.make_state(B);
  after_split.load(stored);
  for (index_t t = 8; t < T; ++t) mixer.step(tokens[t], maslin::time_at(y, t), after_split);

  auto after_scalar = mixer.make_state(B);
  mixer.scan(maslin::exec::scalar{}, tokens, maslin::row_major(scalar.data(), B, T, rest...),
             after_scalar);
  return whole == split && whole == scalar && after_whole == after_split &&
         after_whole == after_scalar;
}

template <class S, int M>
bool order_holds() {
  const auto input = waves<S>(B * T * N * M, 0.7), gate = waves<S>(B * T * N * M * (M + 1), 1.3);
  const bool companion = same_bits(maslin::hlru<S, M>{.channels = N},
                                   {.gate = maslin::row_major(gate.data(), B, T, N, M + 1),
                                    .input = maslin::row_major(input.data(), B, T, N)},
                                   N);
  const bool block = same_bits(maslin::bdlru<S, M>{.blocks = N},
                               {.gate = maslin::row_major(gate.data(), B, T, N, M, M + 1),
                                .input = maslin::row_major(input.data(), B, T, N, M)},
                               N, index_t{M});
  std::printf("order %d: hlru %s, bdlru %s\n", M, companion ? "same bits" : "DIFFERS",
              block ? "same bits" : "DIFFERS");
  return companion && block;
}

template <class S>
bool diagonal_holds() {
  const auto input = waves<S>(B * T * N, 0.7), gate = waves<S>(B * T * N, 1.3);
  const bool same = same_bits(maslin::diagonal<S>{.channels = N},
                              {.gate = maslin::row_major(gate.data(), B, T, N),
                               .input = maslin::row_major(input.data(), B, T, N)},
                              N);
  std::printf("diagonal: %s\n", same ? "same bits" : "DIFFERS");
  return same;
}

template <class S>
bool attention_holds() {
  constexpr index_t H = 2, K = 5;
  const auto query = waves<S>(B * T * H * K, 0.7), key = waves<S>(B * T * K, 1.3);
  const bool same = same_bits(
      maslin::attention<S>{.heads = H, .key_heads = 1, .key_dim = K, .value_dim = K, .window = 9},
      {.query = maslin::row_major(query.data(), B, T, H, K),
       .key = maslin::row_major(key.data(), B, T, 1, K),
       .value = maslin::row_major(key.data(), B, T, 1, K)},
      H, K);
  std::printf("attention: %s\n", same ? "same bits" : "DIFFERS");
  return same;
}

template <class S, int... M>
bool all_hold(std::integer_sequence<int, M...>) {
  // Not short-circuited: every line is printed.
  bool all = diagonal_holds<S>();
  all = attention_holds<S>() && all;
  ((all = order_holds<S, M>() && all), ...);
  return all;
}

}  // namespace

int main() {
  using orders = std::integer_sequence<int, MASLIN_TEST_ORDERS>;
  const bool in_float = all_hold<float>(orders{}), in_double = all_hold<double>(orders{});
  return in_float && in_double ? 0 : 1;
}
