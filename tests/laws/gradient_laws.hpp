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

#include "scan/executors.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"
#include "support/tracked.hpp"

#include <maslin/core/types.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
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
  /// True where a NaN in dy may reach later tokens than its own (never, for a causal mixer).
  [[nodiscard]] virtual std::vector<backward_way> ways() const {
    return {exec::sequential{}, exec::scalar{}, exec::sequential{.threads = 2},
            exec::sequential{.threads = 7}};
  }
  /// Ways that are within their bound but have bytes of their own.
  [[nodiscard]] virtual std::vector<std::pair<backward_way, backward_way>> chunked_ways() const {
    std::vector<std::pair<backward_way, backward_way>> all;
    for (const index_t chunk : {1, 3, 64})
      all.push_back({exec::chunked{.chunk = chunk}, exec::chunked{.chunk = chunk, .threads = 3}});
    return all;
  }
};

}  // namespace maslin::test
