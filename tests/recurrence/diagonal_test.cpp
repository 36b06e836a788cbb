// SPDX-License-Identifier: Apache-2.0
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/concepts.hpp>
#include <maslin/recurrence/diagonal.hpp>
#include <maslin/simd/lane.hpp>

#include <cmath>

namespace {

using namespace maslin::test;
using maslin::recurrence::diagonal;
using maslin::recurrence::diagonal_complement;

struct value_form {
  template <class V>
  using at = diagonal<V>;
};
struct complement_form {
  template <class V>
  using at = diagonal_complement<V>;
};

}  // namespace

TEST_CASE("first-order recurrences keep the laws", "[recurrence][diagonal][laws]") {
  laws::check<value_form>(1);
  laws::check_wide<value_form>(1);
  laws::check<complement_form>(1);
  laws::check_wide<complement_form>(1);
}

TEST_CASE("a step of the diagonal is a h + b, given by its complement h - d h + b",
          "[recurrence][diagonal][formula]") {
  diagonal<double>::state h{{7}};
  diagonal<double>::step({3, 5}, h);
  CHECK(h.h[0] == 3 * 7 + 5);
  diagonal_complement<double>::state k{{7}};
  diagonal_complement<double>::step({2, 5}, k);
  CHECK(k.h[0] == 7 - 2 * 7 + 5);
  diagonal_complement<double>::step({0.25, 5}, k);
  CHECK(k.h[0] == -2 + 0.25 * 2 + 5);
}

TEST_CASE("a complement keeps decays close to one that a float cannot hold",
          "[recurrence][diagonal][accuracy]") {
  // 1 - 2^-30 is 1 in float: a million steps by value leave h, by complement they decay it.
  using S = float;
  const S d = 0x1p-30f;
  const int steps = 1 << 20;
  diagonal<S>::state value{{1}};
  diagonal_complement<S>::map product = diagonal_complement<S>::identity();
  for (int i = 0; i < steps; ++i) {
    diagonal<S>::step({1 - d, 0}, value);
    diagonal_complement<S>::append(product, {d, 0});
  }
  CHECK(value.h[0] == 1);
  // Each append errs by u of q, on a sum that only grows: steps u in all, far below q itself.
  const double want = -std::expm1(steps * std::log1p(-0x1p-30));
  CHECK(std::abs(product.q - want) <= 2.0 * steps * unit_roundoff<S> * want);
}

TEMPLATE_TEST_CASE("a token converts number by number", "[recurrence][diagonal][convert]", float,
                   double) {
  const auto u =
      diagonal<double>::convert(typename diagonal<TestType>::token{TestType(0.1), TestType(0.7)});
  CHECK(u.a == double(TestType(0.1)));
  CHECK(u.b == double(TestType(0.7)));
  const auto v = diagonal_complement<double>::convert(
      typename diagonal_complement<TestType>::token{TestType(0.1), TestType(0.7)});
  CHECK(v.d == double(TestType(0.1)));
  CHECK(v.b == double(TestType(0.7)));
}
