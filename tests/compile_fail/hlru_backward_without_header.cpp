// SPDX-License-Identifier: Apache-2.0
// message: hlru::backward is defined in <maslin/gradient/hlru.hpp>: include it
#include <maslin/mixer/hlru.hpp>

int main() {
  const maslin::hlru<float, 2> mixer{.channels = 0};
  const auto saved = mixer.make_saved(0);
  auto dstate = mixer.make_state(0);
  mixer.backward(maslin::exec::sequential{}, {}, saved, {}, {}, dstate);
}
