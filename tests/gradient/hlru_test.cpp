// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"
#include "laws/recurrence_laws.hpp"

namespace {

using namespace maslin;
using namespace maslin::test;
using enum normalise;
using enum gates;

}  // namespace

TEST_CASE("the gradients of H-LRU keep the laws at every order", "[gradient][hlru][law]") {
  for_orders<1, 2, 4, 8>([](auto order) {
    CAPTURE(int(order));
    check_gradient_laws(recurrent_gradients<hlru<float, order>>(), 100 + order, 30);
  });
  check_gradient_laws(recurrent_gradients<hlru<double, 3>>(), 200, 15);
}
TEST_CASE("the gradients of H-LRU keep the laws for every normalisation", "[gradient][hlru][law]") {
  check_gradient_laws(recurrent_gradients<hlru<float, 3, none>>(), 1, 30);
  check_gradient_laws(recurrent_gradients<hlru<double, 3, sigmoid_l1>>(), 2, 15);
  check_gradient_laws(recurrent_gradients<hlru<float, 3, relu_l1>>(), 3, 30);
  check_gradient_laws(recurrent_gradients<hlru<double, 3, tanh_l1>>(), 4, 15);
  check_gradient_laws(recurrent_gradients<hlru<float, 3, lin_l1>>(), 5, 30);
}
TEST_CASE("the gradients of H-LRU keep the laws in grouped order and on the write side",
          "[gradient][hlru][law]") {
  check_gradient_laws(recurrent_gradients<hlru<float, 3, softmax, grouped>>(), 9, 30);
  check_gradient_laws(recurrent_gradients<hlru<double, 2, softmax, grouped>>(), 10, 15);
  check_gradient_laws(recurrent_gradients<hlru<float, 3, softmax, natural, gate_side::write>>(), 11,
                      30);
  check_gradient_laws(recurrent_gradients<hlru<double, 2, tanh_l1, natural, gate_side::write>>(),
                      12, 15);
}
