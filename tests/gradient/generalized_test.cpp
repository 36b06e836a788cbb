// SPDX-License-Identifier: Apache-2.0
#include "generalized_subject.hpp"

#include <maslin/gradient/generalized.hpp>

using namespace maslin;
using namespace maslin::test;

namespace {

template <class S, weights W = weights::given, class P>
void keep_laws(pattern_case<P> which, std::uint64_t seed, int rounds) {
  check_gradient_laws(generalized_gradient_subject<S, P, W>(std::move(which)), seed, rounds);
}

}  // namespace

TEST_CASE("gradients of given coefficients keep the laws of backward passes",
          "[gradient][generalized][law]") {
  keep_laws<float>(order_case(3), 1, 6);
  keep_laws<double>(power2_case(), 2, 4);
  keep_laws<float>(cached_power2_case(), 3, 6);
  keep_laws<double>(cached_square1_case(), 4, 4);
  keep_laws<float>(dense_case(), 5, 6);
  keep_laws<double>(dense_case(), 6, 4);
}

TEST_CASE("states whose rows have a line between them hand gradients over",
          "[gradient][generalized]") {
  using mixer_t = generalized<float, pattern::power2>;
  constexpr index_t T = 13, E = 256, levels = 4, split = 6;
  const mixer_t mix{.heads = 1, .value_dim = E};
  test::random r(14);
  std::vector<float> self(T), past(T * levels), input(T * E), dy(T * E), y(T * E);
  for (auto* numbers : {&self, &past, &input, &dy}) r.fill_normal<float>(*numbers);
  const auto of = [](const std::vector<float>& v, index_t n) {
    return row_major(v.data(), 1, T, 1, n);
  };
  const auto to = [](std::vector<float>& v) { return row_major(v.data(), 1, T, 1, E); };
  const mixer_t::tokens u{.self = row_major(std::as_const(self).data(), 1, T, 1),
                          .past = of(past, levels),
                          .input = of(input, E),
                          .offsets = {}};
  const auto gradients_of = [&](const std::vector<index_t>& ends) {
    auto state = mix.make_state(1, T), dstate = mix.make_state(1, T);
    std::vector<mixer_t::saved> keep(ends.size(), mix.make_saved(1, T));
    std::vector<float> dinput(T * E);
    const auto begin = [&](std::size_t k) { return k == 0 ? 0 : ends[k - 1]; };
    for (std::size_t k = 0; k < ends.size(); ++k)
      mix.scan(exec::sequential{}, u.range(begin(k), ends[k]), time_range(to(y), begin(k), ends[k]),
               state, keep[k]);
    for (std::size_t k = ends.size(); k-- > 0;)
      mix.backward(exec::sequential{}, u.range(begin(k), ends[k]), keep[k],
                   time_range(of(dy, E), begin(k), ends[k]),
                   {.input = time_range(to(dinput), begin(k), ends[k])}, dstate);
    return dinput;
  };
  REQUIRE(gradients_of({T}) == gradients_of({split, T}));
}

TEST_CASE("gradients of gate logits keep the laws of backward passes",
          "[gradient][generalized][law]") {
  keep_laws<float, weights::softmax>(cached_square1_case(), 7, 6);
  keep_laws<double, weights::softmax>(dense_case(), 8, 4);
  keep_laws<double, weights::sigmoid_l1>(order_case(3), 9, 4);
  keep_laws<float, weights::relu_l1>(order_case(3), 10, 6);
  keep_laws<double, weights::tanh_l1>(order_case(3), 11, 4);
  keep_laws<double, weights::lin_l1>(order_case(3), 12, 4);
  keep_laws<float, weights::sigmoid>(cached_square1_case(), 13, 6);
}
