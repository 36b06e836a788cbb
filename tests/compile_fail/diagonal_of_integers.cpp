// SPDX-License-Identifier: Apache-2.0
// message: diagonal mixes float or double
#include <maslin/mixer/diagonal.hpp>

int main() { return static_cast<int>(maslin::diagonal<int>{.channels = 1}.channels); }
