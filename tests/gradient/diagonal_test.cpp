// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"

#include <complex>

namespace {

using namespace maslin;
using namespace maslin::test;

}  // namespace

TEST_CASE("the gradients of the diagonal recurrence keep the laws in every form",
          "[gradient][diagonal][law]") {
  check_gradient_laws(recurrent_gradients<diagonal<float, decay::value>>(), 1, 60);
  check_gradient_laws(recurrent_gradients<diagonal<double, decay::value>>(), 2, 30);
  check_gradient_laws(recurrent_gradients<diagonal<float, decay::log>>(), 3, 60);
  check_gradient_laws(recurrent_gradients<diagonal<double, decay::log>>(), 4, 30);
  check_gradient_laws(recurrent_gradients<diagonal<float, decay::complement>>(), 5, 60);
  check_gradient_laws(recurrent_gradients<diagonal<double, decay::complement>>(), 6, 30);
}
TEST_CASE("the gradients of the complex diagonal recurrence keep the laws",
          "[gradient][complex_diagonal][law]") {
  check_gradient_laws(recurrent_gradients<diagonal<std::complex<float>>>(), 7, 60);
  check_gradient_laws(recurrent_gradients<diagonal<std::complex<double>>>(), 8, 30);
}
TEST_CASE("the gradient of a decay that is fixed in time is summed over tokens and sequences",
          "[gradient][diagonal][law]") {
  check_gradient_laws(recurrent_gradients<diagonal<float, decay::value>, true>(), 9, 30);
  check_gradient_laws(recurrent_gradients<diagonal<double, decay::log>, true>(), 10, 20);
  check_gradient_laws(recurrent_gradients<diagonal<float, decay::complement>, true>(), 11, 30);
  check_gradient_laws(recurrent_gradients<diagonal<std::complex<float>>, true>(), 12, 30);
}
