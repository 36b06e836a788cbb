// SPDX-License-Identifier: Apache-2.0
#include "gradient/matrix_gradient_subject.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

const matrix_gradient_sizes own{}, shared{.heads = {1, 2, 4, 6}, .shared = true};

template <class S, decay_axis Axis, updates Steps>
void check_laws(std::uint64_t seed, const matrix_gradient_sizes& sizes) {
  check_gradient_laws<S>(matrix_gradient_subject<delta_rule<S, Axis, Steps>>(sizes), seed, 6);
}

}  // namespace

TEMPLATE_TEST_CASE("the delta rule keeps the laws of backward passes", "[gradient][delta_rule]",
                   float, double) {
  check_laws<TestType, decay_axis::none, updates::one>(1, own);
}

TEMPLATE_TEST_CASE("the gated delta rule keeps the laws of backward passes",
                   "[gradient][delta_rule]", float, double) {
  check_laws<TestType, decay_axis::head, updates::one>(2, shared);
}

TEMPLATE_TEST_CASE("the delta rule of several micro-steps keeps the laws of backward passes",
                   "[gradient][delta_rule]", float, double) {
  check_laws<TestType, decay_axis::head, updates::several>(3, shared);
  check_laws<TestType, decay_axis::none, updates::several>(4, own);
}

TEST_CASE("the delta rule over several segments keeps the laws of backward passes",
          "[gradient][delta_rule]") {
  const matrix_gradient_sizes few{.heads = {1, 2}, .widths = {3, 17}, .every = {0}};
  using mixer = delta_rule<float, decay_axis::head>;
  check_gradient_laws<float>(matrix_gradient_subject<mixer>(few), 5, 3, 2, 150);
}
