// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The laws of core/concepts.hpp as one template that every recurrence goes through. An algebra is
/// given for all lane types at once, as a type with a member template `at<V>`:
///
///   struct companion_4 {
///     template <class V>
///     using at = maslin::recurrence::companion<V, 4>;
///   };
///
/// Over unsigned integers the laws hold exactly, and a swapped compose cannot hide, because all
/// tokens differ. Over floats both sides are compared with a running error bound: the same templates
/// run over `running_error`, a number that knows how far the kernel may be from it.

#include "support/bits.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/core/concepts.hpp>
#include <maslin/core/lane.hpp>
#include <maslin/simd/lane.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(MASLIN_TEST_ORDERS)
#define MASLIN_TEST_ORDERS 1, 2, 3, 4, 5, 6, 7, 8, 16
#endif

namespace maslin::test {

/// Calls f(std::integral_constant<int, M>{}) for each M of `Orders`.
template <int... Orders, class F>
void for_orders(F&& f) {
  (f(std::integral_constant<int, Orders>{}), ...);
}

/// A number in place of S that is evaluated in a wider type, and a bound on how far S may be from it:
/// running error analysis, every operation adding what its rounding may.
template <class S>
struct running_error {
  using real = wider_t<S>;
  real value = 0;
  real error = 0;

  /// An exact result x of operands whose errors reach it as `error`, rounded to S.
  static running_error rounded(real x, real error) {
    // Next to u itself stands what the wider type rounds, far below it.
    constexpr double u = unit_roundoff<S> * (1 + 0x1p-16);
    return {x, error + u * (magnitude(x) + error) +
                   static_cast<real>(std::numeric_limits<S>::denorm_min())};
  }
  friend running_error operator+(running_error a, running_error b) {
    return rounded(a.value + b.value, a.error + b.error);
  }
  friend running_error operator-(running_error a, running_error b) {
    return rounded(a.value - b.value, a.error + b.error);
  }
  friend running_error operator*(running_error a, running_error b) {
    return rounded(a.value * b.value, product_error(a, b));
  }
  friend bool operator<(running_error a, running_error b) { return a.value < b.value; }
  friend bool operator<=(running_error a, running_error b) { return a.value <= b.value; }
  friend bool operator>=(running_error a, running_error b) { return a.value >= b.value; }

  static real product_error(running_error a, running_error b) {
    return magnitude(a.value) * b.error + magnitude(b.value) * a.error + a.error * b.error;
  }
};

}  // namespace maslin::test

namespace maslin {

template <class S>
struct lane<test::running_error<S>> {
  using V = test::running_error<S>;
  using scalar = S;
  using mask = bool;
  static constexpr int width = 1;

  static V broadcast(scalar x) { return {x, 0}; }
  static V fma(V a, V b, V c) {
    if constexpr (!fused_family) return a * b + c;
    return V::rounded(a.value * b.value + c.value, V::product_error(a, b) + c.error);
  }
  static V select(mask m, V yes, V no) { return m ? yes : no; }
  static mask both(mask a, mask b) { return a && b; }
};

}  // namespace maslin

namespace maslin::test::laws {

// ---- inputs ----

/// The numbers of one trial. Lane l of a register gets what a scalar gets from `seed` + l.
template <class V>
class draws {
 public:
  using S = typename lane<V>::scalar;
  static constexpr auto width = static_cast<std::size_t>(lane<V>::width);

  explicit draws(std::uint64_t seed) {
    for (std::size_t l = 0; l < width; ++l) lanes_.emplace_back(seed + l);
  }
  V operator()() {
    alignas(64) S numbers[width];
    for (std::size_t l = 0; l < width; ++l) numbers[l] = number(lanes_[l]);
    if constexpr (width == 1)
      return lane<V>::broadcast(numbers[0]);
    else
      return lane<V>::load(numbers);
  }
  [[gnu::noinline]] std::vector<V> list(std::size_t count) {
    std::vector<V> numbers(count);
    for (V& x : numbers) x = (*this)();
    return numbers;
  }

 private:
  /// Floats: of either sign, now and then 0, 1, close to 1 or above it.
  static S number(random& from) {
    if constexpr (std::unsigned_integral<S>) {
      return static_cast<S>(from.bits());
    } else {
      switch (from.below(8)) {
        case 0: return S(from.below(2));
        case 1: return static_cast<S>(1 - 1e-6 * from.uniform());
        case 2: return static_cast<S>(from.uniform(-3, 3));
        default: return static_cast<S>(from.uniform(-1, 1));
      }
    }
  }

  std::vector<random> lanes_;
};

/// A token, state or map, which is an aggregate of nothing but V, made of fresh numbers.
template <class T, class V>
[[nodiscard]] T drawn(draws<V>& draw) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(V) == 0);
  const std::vector<V> numbers = draw.list(sizeof(T) / sizeof(V));
  T out;
  std::memcpy(static_cast<void*>(&out), numbers.data(), sizeof(T));
  return out;
}

// ---- both sides of each law ----

enum law : std::size_t {
  step_and_append,
  append_after,
  right_identity,
  left_identity,
  associativity,
  action,
  law_count
};
inline constexpr const char* law_names[law_count] = {
    "step(u, h) == apply(append(identity, u), h)",
    "append(f, u) == compose(append(identity, u), f)",
    "compose(f, identity) == f",
    "compose(identity, f) == f",
    "compose(f, compose(g, k)) == compose(compose(f, g), k)",
    "apply(compose(f, g), h) == apply(f, apply(g, h))"};

template <class V>
struct equation {
  std::vector<V> left, right;
};
template <class V>
using equations = std::array<equation<V>, law_count>;

template <class V>
[[nodiscard, gnu::noinline]] std::vector<V> numbers_in(const void* aggregate, std::size_t size) {
  std::vector<V> out(size / sizeof(V));
  std::memcpy(static_cast<void*>(out.data()), aggregate, size);
  return out;
}
template <class V, class T>
[[nodiscard]] equation<V> both(const T& left, const T& right) {
  return {numbers_in<V>(&left, sizeof left), numbers_in<V>(&right, sizeof right)};
}

// One copy of each operation, however often the laws use it: the tests instantiate many.
template <class R>
[[gnu::noinline]] typename R::map composed(const typename R::map& later,
                                           const typename R::map& earlier) {
  return R::compose(later, earlier);
}
template <class R>
[[gnu::noinline]] typename R::state applied(const typename R::map& f, typename R::state h) {
  R::apply(f, h);
  return h;
}
template <class R>
[[gnu::noinline]] void appended(typename R::map& m, const typename R::token& u) {
  R::append(m, u);
}

/// The map of `count` tokens, no two the same: powers of one map commute.
template <class R>
[[nodiscard]] typename R::map map_of(int count, draws<typename R::value>& draw) {
  typename R::map m = R::identity();
  for (int i = 0; i < count; ++i) appended<R>(m, drawn<typename R::token>(draw));
  return m;
}

/// Both sides of the laws for one choice of tokens, maps and state.
template <linear_recurrence R>
[[nodiscard, gnu::noinline]] equations<typename R::value> both_sides(std::uint64_t seed) {
  using V = typename R::value;
  using map = typename R::map;
  draws<V> draw(seed);
  // More tokens than the order, so that the products have filled in.
  const map f = map_of<R>(R::order + 1, draw), g = map_of<R>(R::order + 2, draw);
  const map k = map_of<R>(R::order + 3, draw), identity = R::identity();
  const auto u = drawn<typename R::token>(draw);
  const auto h = drawn<typename R::state>(draw);

  equations<V> all;
  auto stepped = h;
  R::step(u, stepped);
  map one = identity, longer = f;
  appended<R>(one, u);
  appended<R>(longer, u);
  all[step_and_append] = both<V>(stepped, applied<R>(one, h));
  // Without this one an append on the wrong side of m would pass: the others append to the identity.
  all[append_after] = both<V>(longer, composed<R>(one, f));
  all[right_identity] = both<V>(composed<R>(f, identity), f);
  all[left_identity] = both<V>(composed<R>(identity, f), f);
  const map fg = composed<R>(f, g);
  all[associativity] = both<V>(composed<R>(f, composed<R>(g, k)), composed<R>(fg, k));
  all[action] = both<V>(applied<R>(fg, h), applied<R>(f, applied<R>(g, h)));
  return all;
}

/// The numbers of lane l.
template <class V>
[[nodiscard]] auto lane_of(const std::vector<V>& registers, std::size_t l) {
  std::vector<typename lane<V>::scalar> out;
  alignas(64) typename lane<V>::scalar numbers[static_cast<std::size_t>(lane<V>::width)];
  for (const V& x : registers) {
    lane<V>::store(numbers, x);
    out.push_back(numbers[l]);
  }
  return out;
}

// ---- verdicts: the names of the laws that do not hold ----

/// The laws whose two sides differ in some lane.
template <class V>
[[gnu::noinline]] void add_unequal(const equations<V>& all, std::set<std::string>& broken) {
  for (std::size_t i = 0; i < law_count; ++i)
    for (std::size_t l = 0; l < static_cast<std::size_t>(lane<V>::width); ++l)
      if (lane_of(all[i].left, l) != lane_of(all[i].right, l)) broken.insert(law_names[i]);
}
/// The laws whose sides are farther from each other, or from the exact result, than their running
/// bounds; composing with the identity may not change a number at all.
template <class S>
[[gnu::noinline]] void add_beyond_bound(const equations<S>& all,
                                        const equations<running_error<S>>& exact,
                                        std::set<std::string>& broken, double& worst) {
  using real = wider_t<S>;
  const auto ratio = [](real error, real allowed) {
    return error == 0 ? 0.0 : static_cast<double>(magnitude(error) / allowed);
  };
  for (std::size_t i = 0; i < law_count; ++i)
    for (std::size_t n = 0; n < all[i].left.size(); ++n) {
      const S left = all[i].left[n], right = all[i].right[n];
      const running_error<S> l = exact[i].left[n], r = exact[i].right[n];
      const double largest =
          std::max({ratio(real(left) - right, l.error + r.error), ratio(left - l.value, l.error),
                    ratio(right - r.value, r.error)});
      worst = std::max(worst, largest);
      const bool identity = i == left_identity || i == right_identity;
      if (!(largest <= 1) || (identity && left != right)) broken.insert(law_names[i]);
    }
}
/// True if lane l of every number has the bytes that the scalars have.
template <class V>
[[nodiscard, gnu::noinline]] bool lane_equals(const equations<V>& all, std::size_t l,
                                              const equations<typename lane<V>::scalar>& scalars) {
  for (std::size_t i = 0; i < law_count; ++i)
    if (!equal_bytes(lane_of(all[i].left, l), scalars[i].left) ||
        !equal_bytes(lane_of(all[i].right, l), scalars[i].right))
      return false;
  return true;
}

[[nodiscard]] inline std::uint64_t seed_of(int trial) {
  return 1000u * static_cast<std::uint64_t>(trial);
}

/// Over unsigned integers, in every lane of V: both sides are the same numbers.
template <class Algebra, class V>
[[nodiscard]] std::set<std::string> broken_exact_laws(int trials) {
  std::set<std::string> broken;
  for (int trial = 0; trial < trials; ++trial)
    add_unequal<V>(both_sides<typename Algebra::template at<V>>(seed_of(trial)), broken);
  return broken;
}

/// Over S = float or double, by running bounds. `worst` is the largest difference in units of what
/// its bound allows.
template <class Algebra, std::floating_point S>
[[nodiscard]] std::set<std::string> broken_float_laws(int trials, double& worst) {
  std::set<std::string> broken;
  worst = 0;
  for (int trial = 0; trial < trials; ++trial)
    add_beyond_bound<S>(both_sides<typename Algebra::template at<S>>(seed_of(trial)),
                        both_sides<typename Algebra::template at<running_error<S>>>(seed_of(trial)),
                        broken, worst);
  return broken;
}

/// Each lane of the register V computes the bytes that a scalar computes.
template <class Algebra, class V>
[[nodiscard]] bool lanes_are_scalars(int trials) {
  using S = typename lane<V>::scalar;
  bool equal = true;
  for (int trial = 0; trial < trials; ++trial) {
    const auto all = both_sides<typename Algebra::template at<V>>(seed_of(trial));
    for (std::size_t l = 0; l < static_cast<std::size_t>(lane<V>::width); ++l)
      equal =
          equal &&
          lane_equals<V>(all, l, both_sides<typename Algebra::template at<S>>(seed_of(trial) + l));
  }
  return equal;
}

// ---- what every recurrence is put through ----

/// The laws over the integers, over floats and in float registers.
template <class Algebra>
void check(int order) {
  double worst = 0;
  const auto broken = broken_float_laws<Algebra, float>(20, worst);
  CAPTURE(order, worst);
  CHECK(broken.empty());
  CHECK(broken_exact_laws<Algebra, std::uint64_t>(5).empty());
  CHECK(broken_exact_laws<Algebra, simd::native<std::uint32_t>>(5).empty());
  CHECK(lanes_are_scalars<Algebra, simd::native<float>>(5));
}

/// The same for the other lane types, which cost compile time: for a few orders.
template <class Algebra>
void check_wide(int order) {
  double worst = 0;
  const auto broken = broken_float_laws<Algebra, double>(20, worst);
  CAPTURE(order, worst);
  CHECK(broken.empty());
  CHECK(broken_exact_laws<Algebra, std::uint32_t>(5).empty());
  CHECK(broken_exact_laws<Algebra, simd::native<std::uint64_t>>(5).empty());
  CHECK(lanes_are_scalars<Algebra, simd::native<double>>(5));
  // A quarter of the widest registers, where gate groups are small.
  CHECK(lanes_are_scalars<Algebra, typename simd::sized<float, 4>::type>(5));
  CHECK(lanes_are_scalars<Algebra, typename simd::sized<double, 2>::type>(5));
}

/// Tokens of distinct ring elements: gates[t][k], inputs[t].
template <class Recurrence>
[[nodiscard]] std::vector<typename Recurrence::token> ring_tokens(int count) {
  draws<typename Recurrence::value> draw(7);
  std::vector<typename Recurrence::token> tokens;
  for (int t = 0; t < count; ++t) tokens.push_back(drawn<typename Recurrence::token>(draw));
  return tokens;
}

}  // namespace maslin::test::laws
