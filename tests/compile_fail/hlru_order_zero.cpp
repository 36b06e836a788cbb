// SPDX-License-Identifier: Apache-2.0
// message: the order of hlru is at least 1
#include <maslin/mixer/hlru.hpp>

int main() { return static_cast<int>(maslin::hlru<float, 0>{.channels = 1}.channels); }
