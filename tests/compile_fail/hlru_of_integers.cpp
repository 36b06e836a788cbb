// SPDX-License-Identifier: Apache-2.0
// message: hlru mixes float or double
#include <maslin/mixer/hlru.hpp>

int main() { return static_cast<int>(maslin::hlru<int, 2>{.channels = 1}.channels); }
