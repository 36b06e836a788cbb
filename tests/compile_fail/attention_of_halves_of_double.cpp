// SPDX-License-Identifier: Apache-2.0
// message: attention keeps keys and values as S, or as bf16 or fp16 of float
#include <maslin/mixer/attention.hpp>

int main() {
  return static_cast<int>(maslin::attention<double, maslin::bf16>{.key_dim = 1}.key_dim);
}
