// SPDX-License-Identifier: Apache-2.0
#include "gradient/matrix_gradient_subject.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

const matrix_gradient_sizes own{}, shared{.heads = {1, 2, 4, 6}, .shared = true},
    normalised{.shared = true, .normalised = true};

template <class S, decay_axis Axis, feature Map>
void check_laws(std::uint64_t seed, const matrix_gradient_sizes& sizes) {
  check_gradient_laws<S>(matrix_gradient_subject<linear_attention<S, Axis, Map>>(sizes), seed, 6);
}

}  // namespace

TEMPLATE_TEST_CASE("linear attention keeps the laws of backward passes",
                   "[gradient][linear_attention]", float, double) {
  check_laws<TestType, decay_axis::none, feature::given>(1, own);
  check_laws<TestType, decay_axis::none, feature::given>(2, shared);
}

TEMPLATE_TEST_CASE("linear attention with a decay a head keeps the laws of backward passes",
                   "[gradient][linear_attention]", float, double) {
  check_laws<TestType, decay_axis::head, feature::elu_plus_one>(3, own);
  check_laws<TestType, decay_axis::head, feature::elu_plus_one>(4, normalised);
}

TEMPLATE_TEST_CASE("linear attention with a decay a key keeps the laws of backward passes",
                   "[gradient][linear_attention]", float, double) {
  check_laws<TestType, decay_axis::key, feature::elu_plus_one>(5, shared);
  check_laws<TestType, decay_axis::key, feature::elu_plus_one>(6, normalised);
}
