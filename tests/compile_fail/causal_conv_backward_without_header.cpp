// SPDX-License-Identifier: Apache-2.0
// message: causal_conv::backward is defined in <maslin/gradient/causal_conv.hpp>: include it
#include <maslin/mixer/causal_conv.hpp>

int main() {
  const maslin::causal_conv<float, 4> mixer{.channels = 0};
  const auto saved = mixer.make_saved(0);
  auto dstate = mixer.make_state(0);
  mixer.backward(maslin::exec::sequential{}, {}, saved, {}, {}, dstate);
}
