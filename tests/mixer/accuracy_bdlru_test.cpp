// SPDX-License-Identifier: Apache-2.0
#include "mixer/accuracy.hpp"

namespace {

template <class S, int M, maslin::normalise N>
using mixer = maslin::bdlru<S, M, N>;

}  // namespace

TEST_CASE("a BD-LRU keeps to its error bound on random shapes", "[mixer][bdlru][accuracy]") {
  using namespace maslin::test;
  accuracy all("bdlru");
  check_orders<mixer>(all, std::make_index_sequence<order_count>{});
  all.conclude(float_shapes + double_shapes);
}
