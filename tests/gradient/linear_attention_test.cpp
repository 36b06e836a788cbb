// SPDX-License-Identifier: Apache-2.0
#include "gradient/matrix_gradient_subject.hpp"

#include <algorithm>
#include <limits>

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

TEST_CASE("linear attention over several segments keeps the laws of backward passes",
          "[gradient][linear_attention]") {
  const matrix_gradient_sizes few{.heads = {1, 2}, .widths = {3, 17}, .every = {0}};
  using mixer = linear_attention<float, decay_axis::head, feature::elu_plus_one>;
  check_gradient_laws<float>(matrix_gradient_subject<mixer>(few), 7, 3, 2, 150);
  auto quotient = few;
  quotient.normalised = true;
  check_gradient_laws<float>(matrix_gradient_subject<mixer>(quotient), 9, 1, 1, 100);
  using by_key = linear_attention<float, decay_axis::key, feature::elu_plus_one>;
  check_gradient_laws<float>(matrix_gradient_subject<by_key>(few), 10, 2, 2, 150);
  check_gradient_laws<float>(matrix_gradient_subject<by_key>(quotient), 11, 1, 1, 100);
}

TEMPLATE_TEST_CASE("a decay of 0 cuts gradients off", "[gradient][linear_attention]",
                   (linear_attention<float, decay_axis::head, feature::elu_plus_one>),
                   (linear_attention<float, decay_axis::key, feature::elu_plus_one>)) {
  const matrix_gradient_subject<TestType> mixer;
  maslin::test::random r(8);
  auto p = mixer.draw(1, 9, r);
  const index_t rest = gradient_law::rest_of(p, p.inputs[3]);
  std::fill_n(p.inputs[3].begin() + 5 * rest, rest, -std::numeric_limits<float>::infinity());
  const auto all = mixer.backward(p, {}), chunked = mixer.backward(p, {.how = exec::chunked{}});
  std::fill(p.dfinal.begin(), p.dfinal.end(), 0.0f);
  auto early = gradient_law::time_slice<float>(mixer, p, 0, 5);
  const auto alone = mixer.backward(early, {});
  for (std::size_t k = 0; k < 4; ++k)
    CHECK(equal_bytes(gradient_law::time_slice(p, all[k], 0, 5), alone[k]));
  for (const auto& gradients : {all, chunked})
    for (const float dg : gradient_law::time_slice(p, gradients[3], 5, 6)) CHECK(dg == 0);
}
