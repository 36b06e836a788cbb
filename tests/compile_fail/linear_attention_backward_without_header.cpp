// SPDX-License-Identifier: Apache-2.0
// message: linear_attention::backward is defined in <maslin/gradient/linear_attention.hpp>: include it
#include <maslin/mixer/linear_attention.hpp>

int main() {
  const maslin::linear_attention<float> mixer{.heads = 0, .key_dim = 1, .value_dim = 1};
  const auto saved = mixer.make_saved(0, 0);
  auto dstate = mixer.make_state(0);
  mixer.backward(maslin::exec::sequential{}, {}, saved, {}, {}, dstate);
}
