// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A mixer as one lower-triangular matrix over time: the unified view
///   Y = A X + B Y = (I - B)^-1 A X                              (arXiv 2605.31367)
/// in which attention is A alone, a recurrence B with one or a few sub-diagonals, and a generalized
/// mixer B along a pattern. For fixed gates every mixer is linear in its values, so that impulses
/// through its kernel give the matrix, whatever the kernel does inside.

#include <maslin/core/check.hpp>
#include <maslin/core/types.hpp>
#include <maslin/core/view.hpp>
#include <maslin/pattern/reads.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <tuple>
#include <vector>

namespace maslin::inline MASLIN_ABI::analysis {

/// The T x T operators of a mixer, one for each sequence and group: a channel of `diagonal` or
/// `hlru`, a head whose value channels share one operator, a block of `bdlru`. Entries are numbers
/// (M = 1), or M x M blocks where the components of a group are mixed.
///   y[b, t, g, i] = sum_{s, j} op(b, g, t, s, i, j) x[b, s, g, j]
class token_operator {
 public:
  token_operator() = default;
  /// All zeros.
  /// throws    shape_error for a negative or absurd size, std::bad_alloc
  token_operator(index_t batch, index_t groups, index_t length, index_t width)
      : batch_(batch), groups_(groups), length_(length), width_(width) {
    index_t size = 1;
    bool fits = batch >= 0 && groups >= 0 && length >= 0 && width >= 1;
    for (const index_t n : {batch, groups, length, width, length, width})
      fits = fits && !__builtin_mul_overflow(size, n, &size);
    if (!fits || size > beyond_memory)
      check::caller{"analysis", "token_operator"}.refuse(
          "[B, G, T, M] must be sizes whose square over T and M fits in memory, got " +
          check::list(std::array{batch, groups, length, width}));
    entries_.assign(static_cast<std::size_t>(size), 0.0);
  }

  [[nodiscard]] index_t batch() const noexcept { return batch_; }
  [[nodiscard]] index_t groups() const noexcept { return groups_; }
  [[nodiscard]] index_t length() const noexcept { return length_; }
  /// M: components of a group that are mixed with each other.
  [[nodiscard]] index_t width() const noexcept { return width_; }

  /// The weight of input (s, j) in output (t, i). Not checked.
  [[nodiscard]] double operator()(index_t b, index_t g, index_t t, index_t s, index_t i = 0,
                                  index_t j = 0) const noexcept {
    return entries_[at(b, g, t, s, i, j)];
  }
  [[nodiscard]] double& operator()(index_t b, index_t g, index_t t, index_t s, index_t i = 0,
                                   index_t j = 0) noexcept {
    return entries_[at(b, g, t, s, i, j)];
  }

 private:
  static constexpr index_t beyond_memory =
      std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(double));

  [[nodiscard]] std::size_t at(index_t b, index_t g, index_t t, index_t s, index_t i,
                               index_t j) const noexcept {
    const index_t row = ((b * groups_ + g) * length_ + t) * width_ + i;
    return static_cast<std::size_t>((row * length_ + s) * width_ + j);
  }

  index_t batch_ = 0, groups_ = 0, length_ = 0, width_ = 1;
  std::vector<double> entries_;  // [B, G, T, M, T, M]
};

/// What `materialize` must know of a mixer. The default holds for every mixer whose tokens have a
/// field `input`, or else `value`, of shape [B, T, D] or [B, T, groups, channels]; specialise it
/// for others.
template <class Mixer>
struct operator_traits {
  /// The field of a span of tokens in which the mixer is linear.
  template <class Tokens>
  [[nodiscard]] static auto& values(Tokens& tokens) {
    if constexpr (requires { tokens.input; })
      return tokens.input;
    else
      return tokens.value;
  }
  /// True where the last axis of [B, T, groups, M] is mixed; otherwise all channels of a group
  /// share one operator.
  static constexpr bool mixes_components = requires(const Mixer& mixer) { mixer.blocks; };

  /// Number of groups of the output.
  [[nodiscard]] static index_t groups(const Mixer& mixer, const typename Mixer::tokens& tokens) {
    if constexpr (requires { mixer.heads; })
      return mixer.heads;
    else
      return values(tokens).extent(2);
  }
  /// The empty state of `batch` sequences of T tokens.
  [[nodiscard]] static auto make_state(const Mixer& mixer, index_t batch, index_t T) {
    if constexpr (requires { mixer.make_state(batch, T); })
      return mixer.make_state(batch, T);  // its state has a capacity
    else
      return mixer.make_state(batch);
  }
};

namespace detail {

/// Impulses through `run(tokens, y, state)`.
template <class Mixer, class Run>
[[nodiscard]] token_operator by_impulses(const Mixer& mixer, const typename Mixer::tokens& tokens,
                                         const Run& run) {
  using traits = operator_traits<Mixer>;
  using S = typename Mixer::scalar_type;
  constexpr int rank = Mixer::output::rank();
  static_assert(rank == 3 || rank == 4, "values are [B, T, D] or [B, T, groups, channels]");
  if (!tokens.offsets.empty())
    check::caller{"analysis", "materialize"}.refuse(
        "tokens must not be packed: take tokens.sequence(b), got offsets");

  auto shape = traits::values(tokens).extents();
  const index_t B = shape[0], T = shape[1], G = traits::groups(mixer, tokens);
  const index_t E = rank == 4 ? shape.back() : 1;
  const index_t M = traits::mixes_components ? E : 1;
  token_operator op(B, G, T, M);

  const auto dense = [](S* data, const auto& extents) {
    return std::apply([data](auto... e) { return row_major(data, e...); }, extents);
  };
  const index_t inputs = B * T * shape[2] * E;
  std::vector<S> x(static_cast<std::size_t>(inputs));
  shape[2] = G;
  std::vector<S> y(static_cast<std::size_t>(B * T * G * E));
  const typename Mixer::output out = dense(y.data(), shape);
  typename Mixer::tokens impulse = tokens;
  shape[2] = traits::values(tokens).extent(2);
  traits::values(impulse) = dense(x.data(), shape);

  // Input (s, j) of all sequences and groups at once: they do not meet. Where channels share an
  // operator all of them are set.
  const index_t group_stride = E, time_stride = shape[2] * E, channels = E / M;
  for (index_t s = 0; s < T; ++s)
    for (index_t j = 0; j < M; ++j) {
      const auto set = [&](S value) {
        for (index_t b = 0; b < B; ++b)
          for (index_t g = 0; g < shape[2]; ++g)
            for (index_t c = 0; c < channels; ++c)
              x[static_cast<std::size_t>((b * T + s) * time_stride + g * group_stride + c + j)] =
                  value;
      };
      set(S(1));
      auto state = traits::make_state(mixer, B, T);
      run(impulse, out, state);
      set(S(0));
      for (index_t b = 0; b < B; ++b)
        for (index_t g = 0; g < G; ++g)
          for (index_t t = 0; t < T; ++t)
            for (index_t i = 0; i < M; ++i)
              op(b, g, t, s, i, j) =
                  static_cast<double>(y[static_cast<std::size_t>(((b * T + t) * G + g) * E + i)]);
    }
  return op;
}

}  // namespace detail

/// The operator of a mixer for the gates in `tokens`, from an empty state, by impulses: prefill
/// with one input set to one and all others zero, for every input. What `tokens` holds as values is
/// not read.
/// shapes    tokens: B sequences of T, not packed (`tokens.sequence(b)` is one that is not)
/// numerics  outputs of the kernel itself: zeros above the diagonal are measured, not assumed
/// cost      T prefills (T M where components mix); 8 B G (T M)^2 bytes
/// throws    what `scan` throws, shape_error for packed tokens, std::bad_alloc
template <class Policy, class Mixer>
[[nodiscard]] token_operator materialize(const Policy& policy, const Mixer& mixer,
                                         const typename Mixer::tokens& tokens) {
  return detail::by_impulses(mixer, tokens, [&](const auto& u, const auto& y, auto& state) {
    mixer.scan(policy, u, y, state);
  });
}

/// The same by decode, token by token. As in any decode nobody checks that all fields of `tokens`
/// hold T tokens.
template <class Mixer>
[[nodiscard]] token_operator materialize(const Mixer& mixer, const typename Mixer::tokens& tokens) {
  return detail::by_impulses(mixer, tokens, [&](const auto& u, const auto& y, auto& state) {
    for (index_t t = 0; t < y.extent(1); ++t) mixer.step(u[t], time_at(y, t), state);
  });
}

/// The operator of a generalized mixer in closed form, from its coefficients:
///   (I - B)^-1 A,  A = Diag(self(t)),  B[t, p] = past(t, p, level) for p in R_t
/// With pattern::order{M} it is that of an H-LRU.
/// numerics  double, forward substitution
/// cost      T reads_per_token T multiply-adds
/// throws    shape_error where `p` is no pattern for T tokens, std::bad_alloc
template <pattern::any_pattern P, class Self, class Past>
[[nodiscard]] token_operator closed_form(P p, index_t T, const Self& self, const Past& past) {
  const pattern::table known(p, T);
  token_operator op(1, 1, T, 1);
  for (index_t t = 0; t < T; ++t) {
    op(0, 0, t, t) = self(t);
    pattern::for_each_read(known, t, [&](index_t position, index_t level) {
      const double weight = past(t, position, level);
      for (index_t s = 0; s <= position; ++s) op(0, 0, t, s) += weight * op(0, 0, position, s);
    });
  }
  return op;
}

/// Y = Op X: values through the matrix instead of the kernel. Row-major, in the shape of x.
/// shapes    x [B, T, G] or [B, T, G, M]; where M = 1 the last axis may be any number of channels
///           that share the operators
/// layout    any strides
/// cost      B G T^2 M multiply-adds a channel
/// throws    shape_error, std::bad_alloc
template <class S>
[[nodiscard]] std::vector<double> apply(const token_operator& op, const view<S, 4>& x) {
  const index_t B = op.batch(), T = op.length(), G = op.groups(), M = op.width(), E = x.extent(3);
  if (x.extents() != std::array{B, T, G, M == 1 ? E : M})
    check::caller{"analysis", "apply"}.refuse(
        "x must be [B, T, G, M] = " + check::list(std::array{B, T, G, M}) + ", got " +
        check::list(x.extents()));
  std::vector<double> y(static_cast<std::size_t>(B * T * G * E));
  auto out = y.begin();
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t g = 0; g < G; ++g)
        for (index_t e = 0; e < E; ++e, ++out)
          for (index_t s = 0; s < T; ++s)
            for (index_t j = 0; j < M; ++j)
              *out += M == 1 ? op(b, g, t, s) * static_cast<double>(x(b, s, g, e))
                             : op(b, g, t, s, e, j) * static_cast<double>(x(b, s, g, j));
  return y;
}
template <class S>
[[nodiscard]] std::vector<double> apply(const token_operator& op, const view<S, 3>& x) {
  const auto [B, T, G] = x.extents();
  const auto [b, t, g] = x.strides();
  return apply(op, view<S, 4>(x.data_handle(), {B, T, G, 1}, {b, t, g, 1}));
}

}  // namespace maslin::inline MASLIN_ABI::analysis
