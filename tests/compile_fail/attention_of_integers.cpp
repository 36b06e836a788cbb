// SPDX-License-Identifier: Apache-2.0
// message: attention mixes float or double
#include <maslin/mixer/attention.hpp>

int main() { return static_cast<int>(maslin::attention<int>{.key_dim = 1}.key_dim); }
