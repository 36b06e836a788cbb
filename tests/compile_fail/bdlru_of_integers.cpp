// SPDX-License-Identifier: Apache-2.0
// message: bdlru mixes float or double
#include <maslin/mixer/bdlru.hpp>

int main() { return static_cast<int>(maslin::bdlru<int, 2>{.blocks = 1}.blocks); }
