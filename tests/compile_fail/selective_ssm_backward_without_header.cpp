// SPDX-License-Identifier: Apache-2.0
// message: selective_ssm::backward is defined in <maslin/gradient/selective_ssm.hpp>: include it
#include <maslin/mixer/selective_ssm.hpp>

int main() {
  const maslin::selective_ssm<float> mixer{.channels = 0, .state_dim = 1};
  const auto saved = mixer.make_saved(0, 0);
  auto dstate = mixer.make_state(0);
  mixer.backward(maslin::exec::sequential{}, {}, saved, {}, {}, dstate);
}
