// SPDX-License-Identifier: Apache-2.0
// message: generalized needs a pattern of maslin::pattern
#include <maslin/mixer/generalized.hpp>

int main() { return static_cast<int>(maslin::generalized<float, int>{.heads = 1}.heads); }
