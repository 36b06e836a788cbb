// SPDX-License-Identifier: Apache-2.0
// message: the width of causal_conv is 2, 3 or 4
#include <maslin/mixer/causal_conv.hpp>

int main() { return static_cast<int>(maslin::causal_conv<float, 5>{.channels = 1}.channels); }
