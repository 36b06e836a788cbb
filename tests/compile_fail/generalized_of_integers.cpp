// SPDX-License-Identifier: Apache-2.0
// message: generalized mixes float or double
#include <maslin/mixer/generalized.hpp>

int main() {
  return static_cast<int>(maslin::generalized<int, maslin::pattern::power2>{.heads = 1}.heads);
}
