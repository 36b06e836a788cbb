// SPDX-License-Identifier: Apache-2.0
// message: f takes an index_t and answers an integer
#include <maslin/pattern/distance.hpp>

int main() {
  const maslin::pattern::user f{[](maslin::index_t k) { return static_cast<double>(k) + 1; }};
  return static_cast<int>(f.distance(0));
}
