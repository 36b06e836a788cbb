// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"
#include "laws/recurrence_laws.hpp"

namespace {

using namespace maslin;
using namespace maslin::test;

}  // namespace

TEST_CASE("the gradients of H-LRU keep the laws at every order", "[gradient][hlru][law]") {
  for_orders<1, 2, 4, 8>([](auto order) {
    CAPTURE(int(order));
    check_gradient_laws(recurrent_gradients<hlru<float, order>>(), 100 + order, 30);
    check_gradient_laws(recurrent_gradients<hlru<double, order>>(), 200 + order, 15);
  });
}
TEST_CASE("the gradients of H-LRU keep the laws for every normalisation", "[gradient][hlru][law]") {
  const auto check = [](auto kind) {
    constexpr normalise N = kind;
    CAPTURE(static_cast<int>(N));
    check_gradient_laws(recurrent_gradients<hlru<float, 3, N>>(), 7, 30);
    check_gradient_laws(recurrent_gradients<hlru<double, 3, N>>(), 8, 15);
  };
  check(std::integral_constant<normalise, normalise::none>{});
  check(std::integral_constant<normalise, normalise::sigmoid_l1>{});
  check(std::integral_constant<normalise, normalise::relu_l1>{});
  check(std::integral_constant<normalise, normalise::tanh_l1>{});
  check(std::integral_constant<normalise, normalise::lin_l1>{});
}
TEST_CASE("the gradients of H-LRU keep the laws in grouped order and on the write side",
          "[gradient][hlru][law]") {
  using enum normalise;
  using enum gates;
  check_gradient_laws(recurrent_gradients<hlru<float, 3, softmax, grouped>>(), 9, 30);
  check_gradient_laws(recurrent_gradients<hlru<double, 3, softmax, grouped>>(), 10, 15);
  check_gradient_laws(recurrent_gradients<hlru<float, 3, softmax, natural, gate_side::write>>(), 11,
                      30);
  check_gradient_laws(recurrent_gradients<hlru<double, 3, tanh_l1, natural, gate_side::write>>(),
                      12, 15);
}
