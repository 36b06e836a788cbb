// SPDX-License-Identifier: Apache-2.0
#include "gradient/recurrent_subject.hpp"

namespace {

using namespace maslin;
using namespace maslin::test;

/// 2,100 shapes in all.
#if defined(MASLIN_DEBUG_CHECKS)
constexpr int shapes = 50;
#else
constexpr int shapes = 350;
#endif

}  // namespace

TEST_CASE(
    "gradients are central differences and keep the adjoint identity over 2,100 random shapes",
    "[gradient][differences]") {
  check_differences_and_adjoint(recurrent_gradients<diagonal<double, decay::value>>(), 1, shapes);
  check_differences_and_adjoint(recurrent_gradients<diagonal<double, decay::log>>(), 2, shapes);
  check_differences_and_adjoint(recurrent_gradients<diagonal<std::complex<double>>>(), 3, shapes);
  check_differences_and_adjoint(recurrent_gradients<hlru<double, 2>>(), 4, shapes);
  check_differences_and_adjoint(recurrent_gradients<hlru<double, 4, normalise::tanh_l1>>(), 5,
                                shapes);
  check_differences_and_adjoint(recurrent_gradients<bdlru<double, 2>>(), 6, shapes);
}
