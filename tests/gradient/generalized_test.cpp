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
