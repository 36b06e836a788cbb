// SPDX-License-Identifier: Apache-2.0
// message: delta_rule mixes float or double
#include <maslin/mixer/delta_rule.hpp>

int main() { return static_cast<int>(maslin::delta_rule<int>{.heads = 1}.heads); }
