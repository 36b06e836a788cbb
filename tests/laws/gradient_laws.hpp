// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The laws of backward passes, written once: every mixer with gradients goes through them behind
/// `gradient_subject`, which puts one mixer type behind plain arrays.
///
///   truth          every policy is within the bound of the reference, double and float
///   differences    central differences of the forward call
///   adjoint        <K x, dy> = <x, K' dy> over the inputs in which the mixer is linear
///   hand-over      two segments whose state gradients are handed over equal one call, byte for byte
///   bits           scalar, sequential and any number of threads give the same bytes
///   batch          a sequence alone, in a batch, or packed gives the same bytes
///   anti-causal    what happens to dy before t changes no byte of a gradient at or after t
///   cone           a NaN in dy stays in its lane and sequence, at its time and earlier
///   accumulate     adds to what is there; a gradient that is left out changes no other
///
/// Memory outside the extents of an array is poison, which the subject checks.

#include "support/bits.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"
#include "support/tracked.hpp"

#include <maslin/core/types.hpp>
#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace maslin::test {

/// One array of a call. Arrays with a time axis are [B, T, rest], all others lack both axes.
struct gradient_array {
  std::string name;
  bool timed = true;
  /// The mixer is linear in these arrays and the state together.
  bool linear = false;
};

/// One call in plain arrays, row-major.
template <class S>
struct gradient_problem {
  index_t batch = 1, length = 0;       // B, T; packed sequences have B = 1
  std::vector<index_t> offsets{};      // of packed sequences; empty: sequences are the batch
  std::vector<index_t> sizes{};        // of the subject: channels, heads, widths
  std::vector<std::vector<S>> inputs;  // as `gradient_subject::arrays` lists them
  std::vector<S> initial;              // [sequences, rest]; empty where the state has no gradient
  std::vector<S> dy;                   // [B, T, rest]
  std::vector<S> dfinal;               // as `initial`

  [[nodiscard]] index_t sequences() const {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
};

/// Gradients as the problem lists its arrays, that of the initial state last.
template <class Number>
using gradient_arrays = std::vector<std::vector<Number>>;

/// The outputs y and final state of a call, one after the other, and all gradients.
template <class Number>
struct gradient_truth {
  std::vector<Number> outputs;
  gradient_arrays<Number> gradients;
};

using backward_way = std::variant<exec::sequential, exec::scalar, exec::chunked>;

/// How a backward call is made.
struct backward_plan {
  backward_way how = exec::sequential{};
  bool gaps = false;        // strides wherever they are free
  bool accumulate = false;  // onto `preset`
  double preset = 0;
  int left_out = -1;  // this array's gradient is not asked for; its numbers come back as zeros
};

/// Adds what a call has left in the memory of its next gradient: zeros if it was left out, and then
/// nothing may have been written.
template <class S, class Array>
void add_gradient(gradient_arrays<S>& all, const Array& array, const backward_plan& how) {
  REQUIRE(array.intact());
  all.push_back(array.values());
  if (static_cast<int>(all.size()) != how.left_out + 1) return;
  if (!how.accumulate) REQUIRE(array.untouched());
  all.back().assign(all.back().size(), S(0));
}

/// A mixer type with gradients, behind plain arrays.
template <class S>
class gradient_subject {
 public:
  using scalar = S;
  using real = wider_t<S>;
  using number = tracked<real>;

  gradient_subject() = default;
  gradient_subject(const gradient_subject&) = delete;
  gradient_subject& operator=(const gradient_subject&) = delete;
  virtual ~gradient_subject() = default;

  [[nodiscard]] virtual std::vector<gradient_array> arrays() const = 0;
  /// A problem of B sequences of T tokens whose sizes and numbers are drawn: widths from 1 up past a
  /// register, values of which central differences make sense, a state and gradients that are not
  /// zero.
  [[nodiscard]] virtual gradient_problem<S> draw(index_t batch, index_t length,
                                                 random& r) const = 0;
  /// y, then the final state, of the default policy.
  [[nodiscard]] virtual std::vector<S> forward(const gradient_problem<S>& p) const = 0;
  /// All gradients by a scan that saves what backward needs, and backward.
  [[nodiscard]] virtual gradient_arrays<S> backward(const gradient_problem<S>& p,
                                                    const backward_plan& how) const = 0;
  /// The reference in double, on the same numbers.
  [[nodiscard]] virtual gradient_truth<double> reference(const gradient_problem<S>& p) const = 0;
  /// The reference on numbers that carry their bound.
  [[nodiscard]] virtual gradient_truth<number> bounds(const gradient_problem<S>& p) const = 0;

  /// The independent lane (channel, block or head) of an element within its token, or -1 where all
  /// lanes meet. Array number arrays().size() is the state, one more is dy.
  [[nodiscard]] virtual index_t lane(const gradient_problem<S>& p, std::size_t array,
                                     index_t element) const = 0;
  /// |err| <= factor times the bound, by policy.
  [[nodiscard]] virtual double factor(const backward_way& how) const {
    return std::holds_alternative<exec::chunked>(how) ? 3 : 1;
  }
  /// Ways that give the same bytes.
  [[nodiscard]] virtual std::vector<backward_way> ways() const {
    return {exec::sequential{}, exec::scalar{}, exec::sequential{.threads = 2},
            exec::sequential{.threads = 7}, exec::sequential{.store = exec::stores::streaming}};
  }
  /// Pairs of ways whose bytes are equal to each other's alone.
  [[nodiscard]] virtual std::vector<std::pair<backward_way, backward_way>> chunked_ways() const {
    std::vector<std::pair<backward_way, backward_way>> all;
    for (const index_t chunk : {1, 3, 64})
      all.push_back({exec::chunked{.chunk = chunk}, exec::chunked{.chunk = chunk, .threads = 3}});
    return all;
  }
  /// Says in `late`, the tokens from `at` on, what its sizes must say of the tokens before.
  virtual void continue_at(gradient_problem<S>& /*late*/, index_t /*at*/) const {}
  /// All gradients by two calls, split at token `at`: the later one's state gradient enters the
  /// earlier one. Timed arrays are put together again, the others added.
  [[nodiscard]] virtual gradient_arrays<S> in_two_segments(const gradient_problem<S>& p,
                                                           index_t at) const;
};

namespace gradient_law {

/// Numbers of array [B, T, rest] at one token.
template <class S, class T>
[[nodiscard]] index_t rest_of(const gradient_problem<S>& p, const std::vector<T>& array) {
  return static_cast<index_t>(array.size()) / (p.batch * p.length);
}

/// Tokens begin .. end - 1 of each sequence of the batch.
template <class S, class T>
[[nodiscard]] std::vector<T> time_slice(const gradient_problem<S>& p, const std::vector<T>& array,
                                        index_t begin, index_t end) {
  const index_t rest = rest_of(p, array);
  std::vector<T> part;
  for (index_t b = 0; b < p.batch; ++b)
    part.insert(part.end(), array.begin() + (b * p.length + begin) * rest,
                array.begin() + (b * p.length + end) * rest);
  return part;
}

/// The same tokens of everything that has a time axis; the state and its gradient are left as they
/// are.
template <class S>
[[nodiscard]] gradient_problem<S> time_slice(const gradient_subject<S>& mixer,
                                             const gradient_problem<S>& p, index_t begin,
                                             index_t end) {
  gradient_problem<S> part = p;
  part.length = end - begin;
  const auto arrays = mixer.arrays();
  for (std::size_t k = 0; k < arrays.size(); ++k)
    if (arrays[k].timed) part.inputs[k] = time_slice(p, p.inputs[k], begin, end);
  part.dy = time_slice(p, p.dy, begin, end);
  return part;
}

/// Row b of an array with one row for each sequence.
template <class S, class T>
[[nodiscard]] std::vector<T> row_of(const gradient_problem<S>& p, const std::vector<T>& array,
                                    index_t b) {
  const index_t rest = static_cast<index_t>(array.size()) / p.sequences();
  return {array.begin() + b * rest, array.begin() + (b + 1) * rest};
}

/// Sequence b by itself: `tokens` of the flat axis of B T tokens from `begin` on.
template <class S>
[[nodiscard]] gradient_problem<S> alone(const gradient_subject<S>& mixer,
                                        const gradient_problem<S>& p, index_t b, index_t begin,
                                        index_t tokens) {
  gradient_problem<S> flat = p;
  flat.length = p.batch * p.length;
  flat.batch = 1;
  gradient_problem<S> one = time_slice(mixer, flat, begin, begin + tokens);
  one.offsets.clear();
  one.initial = row_of(p, p.initial, b);
  one.dfinal = row_of(p, p.dfinal, b);
  return one;
}

template <class S>
[[nodiscard]] std::string name_of(const gradient_subject<S>& mixer, std::size_t array) {
  const auto arrays = mixer.arrays();
  return array < arrays.size() ? arrays[array].name : "state";
}

/// "d_gate[17]"
template <class S>
[[nodiscard]] std::string place(const gradient_subject<S>& mixer, std::size_t array,
                                std::size_t element) {
  return "d_" + name_of(mixer, array) + "[" + std::to_string(element) + "]";
}

template <class S>
void expect_same(const gradient_subject<S>& mixer, const gradient_arrays<S>& want,
                 const gradient_arrays<S>& got, bool timed_alone = false) {
  const auto arrays = mixer.arrays();
  REQUIRE(got.size() == want.size());
  for (std::size_t k = 0; k < want.size(); ++k) {
    if (timed_alone && k < arrays.size() && !arrays[k].timed) continue;
    INFO("d_" << name_of(mixer, k));
    REQUIRE(equal_bytes(want[k], got[k]));
  }
}

/// |got - want| against the bound of each number, to which `preset` has been added.
template <class S>
void expect_within(const gradient_subject<S>& mixer,
                   const gradient_truth<typename gradient_subject<S>::number>& want,
                   const gradient_arrays<S>& got, double factor, double preset,
                   worst_ratio& worst) {
  using number = typename gradient_subject<S>::number;
  REQUIRE(got.size() == want.gradients.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    INFO("d_" << name_of(mixer, k));
    REQUIRE(got[k].size() == want.gradients[k].size());
    for (std::size_t i = 0; i < got[k].size(); ++i) {
      const number x = preset == 0 || k + 1 == got.size()
                           ? want.gradients[k][i]
                           : want.gradients[k][i] + number(static_cast<S>(preset));
      worst.add(error_ratio(got[k][i], x, factor), [&] { return place(mixer, k, i); });
    }
  }
  INFO(worst);
  REQUIRE(worst.value() <= 1);
}

/// The reference in double is what the bounds are the bounds of. For float kernels both sides round in
/// double, hence the factor.
template <class Number>
void expect_reference(const gradient_truth<Number>& want, const gradient_truth<double>& plain) {
  const auto compare = [](const std::vector<Number>& x, const std::vector<double>& y) {
    REQUIRE(x.size() == y.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      if (!(error_ratio(y[i], x[i], 2) <= 1)) FAIL("the reference gives " << y[i] << " at " << i);
  };
  compare(want.outputs, plain.outputs);
  REQUIRE(want.gradients.size() == plain.gradients.size());
  for (std::size_t k = 0; k < want.gradients.size(); ++k)
    compare(want.gradients[k], plain.gradients[k]);
}

template <class S>
void truth(const gradient_subject<S>& mixer, const gradient_problem<S>& p, worst_ratio& worst) {
  const auto want = mixer.bounds(p);
  expect_reference(want, mixer.reference(p));
  const gradient_arrays<S> first = mixer.backward(p, {.how = mixer.ways()[0]});
  expect_within(mixer, want, first, mixer.factor(mixer.ways()[0]), 0, worst);
  for (const backward_way& how : mixer.ways())
    for (const bool gaps : {false, true})
      expect_same(mixer, first, mixer.backward(p, {.how = how, .gaps = gaps}));
  for (const auto& [one, many] : mixer.chunked_ways()) {
    const gradient_arrays<S> chunked = mixer.backward(p, {.how = one});
    expect_within(mixer, want, chunked, mixer.factor(one), 0, worst);
    expect_same(mixer, chunked, mixer.backward(p, {.how = many}));
  }
  const gradient_arrays<S> added = mixer.backward(p, {.accumulate = true, .preset = 0.5});
  expect_within(mixer, want, added, mixer.factor(mixer.ways()[0]), 0.5, worst);
  for (std::size_t k = 0; k < mixer.arrays().size(); ++k) {
    gradient_arrays<S> fewer = mixer.backward(p, {.left_out = static_cast<int>(k)});
    fewer[k] = first[k];
    expect_same(mixer, first, fewer);
  }
}

/// <dy, y> + <dfinal, final>
template <class S>
[[nodiscard]] double loss(const gradient_subject<S>& mixer, const gradient_problem<S>& p) {
  const std::vector<S> out = mixer.forward(p);
  double sum = 0;
  for (std::size_t i = 0; i < p.dy.size(); ++i) sum += double(p.dy[i]) * double(out[i]);
  for (std::size_t i = 0; i < p.dfinal.size(); ++i)
    sum += double(p.dfinal[i]) * double(out[p.dy.size() + i]);
  return sum;
}

/// A few numbers of each array are moved by +-1e-6, in double.
inline void differences(const gradient_subject<double>& mixer, const gradient_problem<double>& p,
                        random& r) {
  constexpr double step = 1e-6, tolerance = 1e-6;
  constexpr int tries = 4;
  const auto got = mixer.backward(p, {});
  gradient_problem<double> moved = p;
  for (std::size_t k = 0; k <= p.inputs.size(); ++k) {
    std::vector<double>& x = k < p.inputs.size() ? moved.inputs[k] : moved.initial;
    if (x.empty()) continue;
    double largest = 1;
    for (const double g : got[k]) largest = std::max(largest, std::abs(g));
    for (int n = 0; n < tries; ++n) {
      const auto i = static_cast<std::size_t>(r.below(static_cast<index_t>(x.size())));
      const double at = x[i];
      x[i] = at + step;
      const double above = loss(mixer, moved);
      x[i] = at - step;
      const double below = loss(mixer, moved);
      x[i] = at;
      const double slope = (above - below) / (2 * step);
      INFO(place(mixer, k, i) << " is " << got[k][i] << ", the difference " << slope);
      REQUIRE(std::abs(slope - got[k][i]) <= tolerance * largest);
    }
  }
}

template <class S>
void adjoint(const gradient_subject<S>& mixer, const gradient_problem<S>& p) {
  const auto arrays = mixer.arrays();
  const auto bound = mixer.bounds(p);
  const auto got = mixer.backward(p, {});
  const double u = unit_roundoff<S>;
  double right = 0, allowed = 0;
  bool any = false;
  const auto add = [&](const std::vector<S>& x, std::size_t k) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      right += double(x[i]) * double(got[k][i]);
      allowed += u * std::abs(double(x[i])) * double(bound.gradients[k][i].roundings());
    }
  };
  for (std::size_t k = 0; k < arrays.size(); ++k) {
    if (!arrays[k].linear) continue;
    any = true;
    add(p.inputs[k], k);
  }
  if (!any) return;
  if (!p.initial.empty()) add(p.initial, arrays.size());
  const auto weigh = [&](const std::vector<S>& d, std::size_t first) {
    for (std::size_t i = 0; i < d.size(); ++i)
      allowed += u * std::abs(double(d[i])) * double(bound.outputs[first + i].roundings());
  };
  weigh(p.dy, 0);
  weigh(p.dfinal, p.dy.size());
  const double left = loss(mixer, p);
  INFO("<K x, dy> = " << left << ", <x, K' dy> = " << right << ", allowed " << allowed);
  // The sums themselves are made in double.
  REQUIRE(std::abs(left - right) <= allowed + 1e-12 * (std::abs(left) + std::abs(right)));
}

template <class S>
void hand_over(const gradient_subject<S>& mixer, const gradient_problem<S>& p, random& r) {
  if (p.length < 2) return;
  const index_t at = r.between(1, p.length - 1);
  INFO("split at " << at);
  const auto whole = mixer.backward(p, {}), parts = mixer.in_two_segments(p, at);
  expect_same(mixer, whole, parts, true);
  worst_ratio worst("segments");
  expect_within(mixer, mixer.bounds(p), parts, 2 * mixer.factor(exec::sequential{}), 0, worst);
}

/// Each sequence alone, in the batch, and among packed sequences of unequal lengths.
template <class S>
void batch(const gradient_subject<S>& mixer, const gradient_problem<S>& p, random& r) {
  gradient_problem<S> packed = p;
  packed.batch = 1;
  packed.length = p.batch * p.length;
  packed.offsets.assign(static_cast<std::size_t>(p.batch) + 1, 0);
  packed.offsets.back() = packed.length;
  for (std::size_t b = 1; b + 1 < packed.offsets.size(); ++b)
    packed.offsets[b] = r.between(packed.offsets[b - 1], packed.length);
  const auto check = [&](const gradient_problem<S>& q) {
    const auto together = mixer.backward(q, {});
    const auto arrays = mixer.arrays();
    for (index_t b = 0; b < q.sequences(); ++b) {
      const auto at = static_cast<std::size_t>(b);
      const index_t begin = q.offsets.empty() ? b * q.length : q.offsets[at];
      const index_t tokens = q.offsets.empty() ? q.length : q.offsets[at + 1] - begin;
      INFO("sequence " << b << " of " << q.sequences() << ", tokens " << tokens);
      const gradient_problem<S> one = alone(mixer, q, b, begin, tokens);
      const auto by_itself = mixer.backward(one, {});
      for (std::size_t k = 0; k < arrays.size(); ++k) {
        if (!arrays[k].timed) continue;
        const index_t rest = rest_of(q, together[k]);
        INFO("d_" << arrays[k].name);
        REQUIRE(equal_bytes(by_itself[k], {together[k].begin() + begin * rest,
                                           together[k].begin() + (begin + tokens) * rest}));
      }
      if (!q.initial.empty()) REQUIRE(equal_bytes(by_itself.back(), row_of(q, together.back(), b)));
    }
  };
  check(p);
  check(packed);
}

/// f(t, lane, element of the token) for each number of a timed array of sequence b of a batch.
template <class S, class T, class F>
void for_each_token_number(const gradient_subject<S>& mixer, const gradient_problem<S>& p,
                           std::size_t array, const std::vector<T>& numbers, F&& f) {
  const index_t rest = rest_of(p, numbers);
  for (index_t i = 0; i < static_cast<index_t>(numbers.size()); ++i)
    f(i / rest / p.length, i / rest % p.length, mixer.lane(p, array, i % rest),
      numbers[static_cast<std::size_t>(i)]);
}

template <class S>
void anti_causal(const gradient_subject<S>& mixer, const gradient_problem<S>& p, random& r) {
  if (p.length < 2) return;
  const index_t from = r.between(1, p.length - 1);
  gradient_problem<S> changed = p;
  const index_t rest = rest_of(p, p.dy);
  for (index_t i = 0; i < static_cast<index_t>(p.dy.size()); ++i)
    if (i / rest % p.length < from)
      changed.dy[static_cast<std::size_t>(i)] =
          r.below(8) == 0 ? std::numeric_limits<S>::quiet_NaN() : static_cast<S>(r.normal());
  const auto before = mixer.backward(p, {}), after = mixer.backward(changed, {});
  const auto arrays = mixer.arrays();
  for (std::size_t k = 0; k < arrays.size(); ++k) {
    if (!arrays[k].timed) continue;
    INFO("d_" << arrays[k].name << " from token " << from);
    REQUIRE(equal_bytes(time_slice(p, before[k], from, p.length),
                        time_slice(p, after[k], from, p.length)));
  }
}

template <class S>
void cone(const gradient_subject<S>& mixer, const gradient_problem<S>& p, random& r) {
  const auto i = r.below(static_cast<index_t>(p.dy.size()));
  const index_t rest = rest_of(p, p.dy), b = i / rest / p.length, t = i / rest % p.length;
  const auto arrays = mixer.arrays();
  const index_t lane = mixer.lane(p, arrays.size() + 1, i % rest);
  gradient_problem<S> spoiled = p;
  spoiled.dy[static_cast<std::size_t>(i)] = std::numeric_limits<S>::quiet_NaN();
  const auto got = mixer.backward(spoiled, {});
  const auto clean = mixer.backward(p, {});
  bool reached = false;
  for (std::size_t k = 0; k < arrays.size(); ++k) {
    if (!arrays[k].timed) continue;
    INFO("d_" << arrays[k].name << ", NaN in sequence " << b << " at " << t << ", lane " << lane);
    for_each_token_number(mixer, p, k, got[k], [&](index_t s, index_t at, index_t l, S x) {
      if (std::isfinite(x)) return;
      reached = true;
      INFO("found in sequence " << s << " at " << at << ", lane " << l);
      REQUIRE((s == b && at <= t && (l == lane || l < 0 || lane < 0)));
    });
  }
  REQUIRE(reached);
  for (index_t s = 0; s < p.sequences(); ++s)
    if (s != b && !p.initial.empty())
      REQUIRE(equal_bytes(row_of(p, got.back(), s), row_of(p, clean.back(), s)));
}

/// No tokens, no sequences: the state's gradient passes, gradients of parameters are zero.
template <class S>
void nothing(const gradient_subject<S>& mixer, random& r) {
  const auto arrays = mixer.arrays();
  for (const index_t B : {0, 2}) {
    const gradient_problem<S> p = mixer.draw(B, 0, r);
    const auto got = mixer.backward(p, {});
    REQUIRE(equal_bytes(got.back(), p.dfinal));
    for (std::size_t k = 0; k < arrays.size(); ++k)
      for (const S x : got[k]) REQUIRE(x == 0);
  }
}

}  // namespace gradient_law

template <class S>
gradient_arrays<S> gradient_subject<S>::in_two_segments(const gradient_problem<S>& p,
                                                        index_t at) const {
  gradient_problem<S> early = gradient_law::time_slice(*this, p, 0, at);
  gradient_problem<S> late = gradient_law::time_slice(*this, p, at, p.length);
  continue_at(late, at);
  const std::vector<S> out = forward(early);
  late.initial.assign(out.end() - static_cast<index_t>(p.initial.size()), out.end());
  const gradient_arrays<S> second = backward(late, {});
  early.dfinal = second.back();
  gradient_arrays<S> first = backward(early, {});
  const auto list = arrays();
  for (std::size_t k = 0; k < list.size(); ++k) {
    if (!list[k].timed) {
      for (std::size_t i = 0; i < first[k].size(); ++i) first[k][i] += second[k][i];
      continue;
    }
    const index_t rest = static_cast<index_t>(p.inputs[k].size()) / (p.batch * p.length);
    std::vector<S> whole;
    const auto append = [&](const std::vector<S>& part, index_t b, index_t tokens) {
      whole.insert(whole.end(), part.begin() + b * tokens * rest,
                   part.begin() + (b + 1) * tokens * rest);
    };
    for (index_t b = 0; b < p.batch; ++b) {
      append(first[k], b, at);
      append(second[k], b, p.length - at);
    }
    first[k] = whole;
  }
  return first;
}

/// Draws `rounds` problems of 1 to 3 sequences of 1 to 8 tokens and holds them to the two laws that
/// know nothing of the reference.
inline void check_differences_and_adjoint(const gradient_subject<double>& mixer, std::uint64_t seed,
                                          int rounds) {
  random r(seed);
  for (int round = 0; round < rounds; ++round) {
    const auto p = mixer.draw(r.between(1, 3), r.between(1, 8), r);
    INFO("round " << round << ", B = " << p.batch << ", T = " << p.length);
    gradient_law::differences(mixer, p, r);
    gradient_law::adjoint(mixer, p);
  }
}

/// Draws `rounds` problems of 1 to `batch` sequences of 1 to `length` tokens and holds them to all
/// laws.
template <class S>
void check_gradient_laws(const gradient_subject<S>& mixer, std::uint64_t seed, int rounds,
                         index_t batch = 3, index_t length = 20) {
#if defined(MASLIN_DEBUG_CHECKS)
  rounds = (rounds + 7) / 8;  // such builds are slow
#endif
  random r(seed);
  worst_ratio worst("gradients");
  for (int round = 0; round < rounds; ++round) {
    const auto p = mixer.draw(r.between(1, batch), r.between(1, length), r);
    INFO("round " << round << ", B = " << p.batch << ", T = " << p.length);
    gradient_law::truth(mixer, p, worst);
    if constexpr (std::is_same_v<S, double>) gradient_law::differences(mixer, p, r);
    gradient_law::adjoint(mixer, p);
    gradient_law::hand_over(mixer, p, r);
    gradient_law::batch(mixer, p, r);
    gradient_law::anti_causal(mixer, p, r);
    gradient_law::cone(mixer, p, r);
  }
  gradient_law::nothing(mixer, r);
  std::cout << worst << "\n";
}

}  // namespace maslin::test
