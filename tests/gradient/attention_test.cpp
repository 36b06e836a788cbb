// SPDX-License-Identifier: Apache-2.0
#include "gradient/attention_subject.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

constexpr attention_variant plain{.group = 1};
constexpr attention_variant every_option{.group = 2,
                                         .most_past = 70,
                                         .mask_heads = 2,
                                         .sinks = true,
                                         .slopes = true,
                                         .log_sums = true,
                                         .cap = 1.5};
constexpr attention_variant ring{
    .group = 3, .window = 9, .ring = true, .most_past = 8, .mask_heads = 1};
constexpr attention_variant window{.group = 2, .window = 66, .most_past = 65, .sinks = true};

}  // namespace

TEMPLATE_TEST_CASE("gradients of attention keep the laws", "[gradient][attention]", float, double) {
  check_gradient_laws(attention_gradients<TestType>(plain), 1, 4, 3, 20);
  check_gradient_laws(attention_gradients<TestType>(every_option), 2, 3, 3, 12);
  check_gradient_laws(attention_gradients<TestType>(ring), 3, 4, 3, 20);
  check_gradient_laws(attention_gradients<TestType>(window), 4, 3, 2, 12);
}
