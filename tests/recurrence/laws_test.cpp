// SPDX-License-Identifier: Apache-2.0
// The laws are tested on algebras that break them.
#include "laws/recurrence_laws.hpp"
#include "support/catch.hpp"

#include <maslin/recurrence/companion.hpp>
#include <maslin/recurrence/diagonal.hpp>

#include <cstdint>
#include <set>
#include <string>

namespace {

using namespace maslin::test::laws;
namespace recurrence = maslin::recurrence;

template <class V>
using right = recurrence::companion<V, 3>;

template <class V>
struct with_swapped_compose : right<V> {
  using map = typename right<V>::map;
  static map compose(const map& later, const map& earlier) {
    return right<V>::compose(earlier, later);
  }
};
template <class V>
struct with_append_before : right<V> {
  using map = typename right<V>::map;
  template <class U>
  static void append(map& m, const U& u) {
    map first = right<V>::identity();
    right<V>::append(first, u);
    m = right<V>::compose(m, first);
  }
};
template <class V>
struct with_a_zero_identity : right<V> {
  using map = typename right<V>::map;
  static map identity() {
    map m = right<V>::identity();
    m.P[1][1] = m.P[0][1];
    return m;
  }
};
template <class V>
struct with_apply_that_forgets : right<V> {
  static void apply(const typename right<V>::map& f, typename right<V>::state& h) {
    auto linear = f;
    linear.s[0] = right<V>::identity().s[0];
    right<V>::apply(linear, h);
  }
};
template <class V>
struct with_a_step_of_the_transpose : right<V> {
  template <class U>
  static void step(const U& u, typename right<V>::state& h) {
    typename recurrence::write_side_companion<V, 3>::state w{{h.h[0], h.h[1], h.h[2]}};
    recurrence::write_side_companion<V, 3>::step(u, w);
    for (int k = 0; k < 3; ++k) h.h[k] = w.h[k];
  }
};
template <class V>
struct with_a_product_that_drops : right<V> {
  using map = typename right<V>::map;
  static map compose(const map& later, const map& earlier) {
    map m = right<V>::compose(later, earlier);
    m.P[2][0] = later.P[2][0];
    return m;
  }
};
/// Associative and at home with the identity, but not commutative maps: later and earlier b swapped.
template <class V>
struct with_swapped_offsets : recurrence::diagonal<V> {
  using map = typename recurrence::diagonal<V>::map;
  static map compose(const map& later, const map& earlier) {
    return recurrence::diagonal<V>::compose(earlier, later);
  }
};

#define MASLIN_ALGEBRA(name) \
  struct name##_algebra {    \
    template <class V>       \
    using at = name<V>;      \
  }
MASLIN_ALGEBRA(right);
MASLIN_ALGEBRA(with_swapped_compose);
MASLIN_ALGEBRA(with_append_before);
MASLIN_ALGEBRA(with_a_zero_identity);
MASLIN_ALGEBRA(with_apply_that_forgets);
MASLIN_ALGEBRA(with_a_step_of_the_transpose);
MASLIN_ALGEBRA(with_a_product_that_drops);
MASLIN_ALGEBRA(with_swapped_offsets);
#undef MASLIN_ALGEBRA

using names = std::set<std::string>;

template <class Algebra>
names exact() {
  return broken_exact_laws<Algebra, std::uint64_t>(3);
}
template <class Algebra>
names in_floats() {
  double worst = 0;
  return broken_float_laws<Algebra, float>(20, worst);
}
bool holds(const names& broken, law which) { return !broken.contains(law_names[which]); }

/// Every law that breaks exactly must break in floats: the bound is not so wide as to hide it.
template <class Algebra>
names in_both() {
  const names broken = exact<Algebra>();
  CHECK(in_floats<Algebra>() == broken);
  return broken;
}

}  // namespace

TEST_CASE("the laws find each kind of wrong recurrence", "[recurrence][companion][laws]") {
  CHECK(in_both<right_algebra>().empty());
  const names after_and_action{law_names[append_after], law_names[action]};
  CHECK(in_both<with_swapped_compose_algebra>() == after_and_action);
  CHECK(in_both<with_swapped_offsets_algebra>() == after_and_action);
  CHECK(in_both<with_append_before_algebra>() == names{law_names[append_after]});
  CHECK(in_both<with_a_step_of_the_transpose_algebra>() == names{law_names[step_and_append]});
  CHECK_FALSE(holds(in_both<with_a_zero_identity_algebra>(), left_identity));
  CHECK_FALSE(holds(in_both<with_apply_that_forgets_algebra>(), action));
  CHECK_FALSE(holds(in_both<with_a_product_that_drops_algebra>(), associativity));
}
