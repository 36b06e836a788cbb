// SPDX-License-Identifier: Apache-2.0
#include "gradient/matrix_gradient_subject.hpp"

#include <algorithm>
#include <limits>

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

TEST_CASE("the delta rule of heads with long chunks keeps the laws of backward passes",
          "[gradient][delta_rule]") {
  const matrix_gradient_sizes large{.heads = {1}, .widths = {65, 70}, .every = {0}};
  using mixer = delta_rule<float, decay_axis::head>;
  check_gradient_laws<float>(matrix_gradient_subject<mixer>(large), 7, 1, 1, 80);
}

TEST_CASE("a decay of 0 has a gradient of 0 in chunks of the delta rule",
          "[gradient][delta_rule]") {
  const matrix_gradient_subject<delta_rule<float, decay_axis::head>> mixer;
  maslin::test::random r(6);
  auto p = mixer.draw(1, 9, r);
  const index_t rest = gradient_law::rest_of(p, p.inputs[4]);
  std::fill_n(p.inputs[4].begin() + 5 * rest, rest, -std::numeric_limits<float>::infinity());
  const auto all = mixer.backward(p, {.how = exec::chunked{}});
  for (const float dg : gradient_law::time_slice(p, all[4], 5, 6)) CHECK(dg == 0);
}
