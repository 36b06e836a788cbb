// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"
#include "laws/recurrence_laws.hpp"

namespace {

using namespace maslin;
using namespace maslin::test;
using enum normalise;

}  // namespace

TEST_CASE("the gradients of BD-LRU keep the laws at every block size", "[gradient][bdlru][law]") {
  for_orders<1, 2, 4, 8>([](auto order) {
    CAPTURE(int(order));
    const int rounds = order > 4 ? 5 : 20;
    check_gradient_laws(recurrent_gradients<bdlru<float, order>>(), 100 + order, rounds, 3, 12);
  });
  check_gradient_laws(recurrent_gradients<bdlru<double, 3>>(), 200, 5, 3, 12);
}
TEST_CASE("the gradients of BD-LRU keep the laws for every normalisation and in grouped order",
          "[gradient][bdlru][law]") {
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, none>>(), 7, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, sigmoid_l1>>(), 8, 5);
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, relu_l1>>(), 9, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, tanh_l1>>(), 10, 5);
  check_gradient_laws(recurrent_gradients<bdlru<float, 2, lin_l1>>(), 11, 20);
  check_gradient_laws(recurrent_gradients<bdlru<float, 3, softmax, gates::grouped>>(), 12, 20);
  check_gradient_laws(recurrent_gradients<bdlru<double, 2, softmax, gates::grouped>>(), 13, 5);
}
