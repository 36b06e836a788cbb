// SPDX-License-Identifier: Apache-2.0
// message: cached is the form of a plain pattern
#include <maslin/pattern/cached.hpp>

template struct maslin::pattern::cached<maslin::pattern::cached<maslin::pattern::power2>>;

int main() {}
