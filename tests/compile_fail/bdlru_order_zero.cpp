// SPDX-License-Identifier: Apache-2.0
// message: the block size of bdlru is at least 1
#include <maslin/mixer/bdlru.hpp>

int main() { return static_cast<int>(maslin::bdlru<float, 0>{.blocks = 1}.blocks); }
