// SPDX-License-Identifier: Apache-2.0
// message: the delta rule decays whole heads, not their rows
#include <maslin/mixer/delta_rule.hpp>

int main() {
  return static_cast<int>(maslin::delta_rule<float, maslin::decay_axis::key>{.heads = 1}.heads);
}
