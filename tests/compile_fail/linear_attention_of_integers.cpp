// SPDX-License-Identifier: Apache-2.0
// message: linear_attention mixes float or double
#include <maslin/mixer/linear_attention.hpp>

int main() { return static_cast<int>(maslin::linear_attention<int>{.heads = 1}.heads); }
