// SPDX-License-Identifier: Apache-2.0
// message: delta_rule::backward is defined in <maslin/gradient/delta_rule.hpp>: include it
#include <maslin/mixer/delta_rule.hpp>

int main() {
  const maslin::delta_rule<float> mixer{.heads = 0, .key_dim = 1, .value_dim = 1};
  const auto saved = mixer.make_saved(0, 0);
  auto dstate = mixer.make_state(0);
  mixer.backward(maslin::exec::sequential{}, {}, saved, {}, {}, dstate);
}
