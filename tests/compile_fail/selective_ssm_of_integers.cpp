// SPDX-License-Identifier: Apache-2.0
// message: selective_ssm mixes float or double
#include <maslin/mixer/selective_ssm.hpp>

int main() { return static_cast<int>(maslin::selective_ssm<int>{.channels = 1}.channels); }
