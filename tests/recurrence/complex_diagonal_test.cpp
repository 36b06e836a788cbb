// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"

#include <maslin/recurrence/complex_diagonal.hpp>

namespace {

using namespace maslin::test;
using maslin::recurrence::complex_diagonal;

struct parts {
  template <class V>
  using at = complex_diagonal<V>;
};

}  // namespace

TEST_CASE(
    "first-order recurrences of complex numbers keep the laws, over the Gaussian integers too",
    "[recurrence][complex][laws]") {
  laws::check<parts>(1);
  laws::check_wide<parts>(1);
}

TEST_CASE("a step of the complex diagonal is a h + b", "[recurrence][complex][formula]") {
  complex_diagonal<double>::state h{{7, -2}};
  complex_diagonal<double>::step({3, 4, 5, 6}, h);
  CHECK(h.h[0] == 3 * 7 + 4 * 2 + 5);
  CHECK(h.h[1] == -3 * 2 + 4 * 7 + 6);
  const auto u = complex_diagonal<double>::convert(complex_diagonal<float>::token{1, 2, 3, 4});
  CHECK((u.a_re == 1 && u.a_im == 2 && u.b_re == 3 && u.b_im == 4));
}
