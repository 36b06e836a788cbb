// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the laws of mixers know of a mixer: problems in plain arrays, ways to carry them out, and
/// `subject`, which puts one mixer type behind an interface that depends on the scalar type alone.
/// The laws are then compiled once for float and once for double, not once for each mixer type.
///
/// A block of BD-LRU counts as one channel here, so that all mixers have the same shapes:
///
///               gates of a channel   values   state
///   diagonal    1                    1        1
///   complex     2                    2        2     (real and imaginary parts)
///   rglru       2                    1        1
///   hlru        M + 1                1        M
///   bdlru       M (M + 1)            M        M

#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/maslin.hpp>
#include <maslin/recurrence/normalise.hpp>
#include <maslin/reference/bdlru.hpp>
#include <maslin/reference/complex_diagonal.hpp>
#include <maslin/reference/diagonal.hpp>
#include <maslin/reference/hlru.hpp>
#include <maslin/reference/rglru.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace maslin::test {

/// How many numbers a channel has.
struct per_channel {
  index_t gates, values, state;
};

/// A call in plain arrays, last axis fastest.
template <class S>
struct problem {
  per_channel each{};
  index_t batch = 0, length = 0, channels = 0;
  std::vector<S> gate;             // [B, T, C, gates], natural order
  std::vector<S> input;            // [B, T, C, values]
  std::vector<S> initial;          // [sequences, C, state]
  std::vector<index_t> offsets{};  // of packed sequences; empty: sequences are the batch

  [[nodiscard]] index_t sequences() const {
    return offsets.empty() ? batch : static_cast<index_t>(offsets.size()) - 1;
  }
  [[nodiscard]] std::span<S> gates_at(index_t b, index_t t, index_t c) {
    return part(gate, (b * length + t) * channels + c, each.gates);
  }
  [[nodiscard]] std::span<S> input_at(index_t b, index_t t, index_t c) {
    return part(input, (b * length + t) * channels + c, each.values);
  }
  [[nodiscard]] std::span<S> initial_at(index_t b, index_t c) {
    return part(initial, b * channels + c, each.state);
  }

 private:
  static std::span<S> part(std::vector<S>& all, index_t i, index_t n) {
    return std::span<S>(all).subspan(static_cast<std::size_t>(i * n), static_cast<std::size_t>(n));
  }
};

/// What a call leaves behind.
template <class S>
struct outcome {
  std::vector<S> y;      // [B, T, C, values]
  std::vector<S> state;  // [sequences, C, state]
};

template <class S>
using word_of = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;

template <class S>
[[nodiscard]] bool same_bits(S a, S b) {
  return std::bit_cast<word_of<S>>(a) == std::bit_cast<word_of<S>>(b);
}

/// Where `got` first differs from `want` by a bit, or an empty text.
template <class S>
[[nodiscard]] std::string difference(const std::vector<S>& want, const std::vector<S>& got) {
  if (want.size() != got.size())
    return std::to_string(got.size()) + " numbers instead of " + std::to_string(want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (same_bits(want[i], got[i])) continue;
    std::ostringstream text;
    text << "number " << i << " is " << std::hexfloat << got[i] << ", want " << want[i];
    return text.str();
  }
  return {};
}
template <class S>
[[nodiscard]] std::string difference(const outcome<S>& want, const outcome<S>& got) {
  if (const auto y = difference(want.y, got.y); !y.empty()) return "y: " + y;
  const auto state = difference(want.state, got.state);
  return state.empty() ? state : "state: " + state;
}

/// Token by token.
struct decode {};
using way = std::variant<exec::sequential, exec::scalar, exec::chunked, decode>;

[[nodiscard]] inline std::string describe(const way& how) {
  if (const auto* s = std::get_if<exec::sequential>(&how))
    return "sequential, threads " + std::to_string(s->threads) +
           (s->store == exec::stores::streaming ? ", streaming" : "");
  if (const auto* c = std::get_if<exec::chunked>(&how))
    return "chunked by " + std::to_string(c->chunk) + ", threads " + std::to_string(c->threads);
  return std::holds_alternative<decode>(how) ? "decode" : "scalar";
}

/// Tokens up to `end`, from where the leg before ended.
struct leg {
  index_t end;
  way how;
};

/// How a problem is carried out.
struct plan {
  std::vector<leg> legs;
  bool stored = false;    // the state goes through save and load between the legs
  bool in_place = false;  // y is input
};

/// How a problem lies in memory.
struct placement {
  bool gaps = false;              // wherever strides are free
  index_t group = default_group;  // L of grouped gates
};

/// A problem in memory, ready to be carried out, any number of times.
template <class S>
class stage {
 public:
  stage() = default;
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;
  virtual ~stage() = default;
  [[nodiscard]] virtual outcome<S> run(const plan& how) = 0;
};

/// The legs of a plan, one after another; packed sequences all at once.
template <class Mixer, class Output>
void run_legs(const Mixer& mixer, const plan& how, const typename Mixer::tokens& tokens,
              const Output& y, typename Mixer::state& state) {
  index_t begin = 0;
  for (const leg& l : how.legs) {
    std::visit(
        [&]<class Policy>(const Policy& policy) {
          if constexpr (std::is_same_v<Policy, decode>)
            for (index_t t = begin; t < l.end; ++t) mixer.step(tokens[t], time_at(y, t), state);
          else if (!tokens.offsets.empty())
            mixer.scan(policy, tokens, y, state);
          else
            mixer.scan(policy, tokens.range(begin, l.end), time_range(y, begin, l.end), state);
        },
        l.how);
    if (how.stored) {
      std::stringstream stream;
      state.save(stream);
      state = mixer.make_state(state.batch());
      state.load(stream);
    }
    begin = l.end;
  }
}

/// A mixer type behind an interface.
template <class S>
class subject {
 public:
  using real = wider_t<S>;

  subject(per_channel each_, int order_, normalise kind_, decay form_)
      : each(each_), order(order_), kind(kind_), form(form_) {}
  subject(const subject&) = delete;
  subject& operator=(const subject&) = delete;
  virtual ~subject() = default;

  const per_channel each;
  const int order;
  const normalise kind;
  const decay form;

  [[nodiscard]] virtual std::unique_ptr<stage<S>> set(const problem<S>& p,
                                                      const placement& where) const = 0;
  [[nodiscard]] outcome<S> run(const problem<S>& p, const plan& how,
                               const placement& where = {}) const {
    return set(p, where)->run(how);
  }
  /// All tokens in one leg.
  [[nodiscard]] outcome<S> run(const problem<S>& p, const way& how = exec::sequential{}) const {
    return run(p, plan{.legs = {{p.length, how}}});
  }

  /// The naive reference, in double.
  [[nodiscard]] virtual outcome<double> reference(const problem<S>& p) const = 0;
  /// The oracle's values of y and their bounds.
  [[nodiscard]] virtual std::vector<bounded<real>> bounds(const problem<S>& p) const = 0;
  /// The coefficients that the kernel makes of one row of logits.
  [[nodiscard]] virtual std::vector<S> coefficients(std::span<const S> row) const = 0;

  /// Fills the gates of one channel, unless they are rows of an order: then false.
  [[nodiscard]] virtual bool fill_gates(std::span<S>, bool, random&) const { return false; }

  /// Rows of gates that a channel has, and numbers of a row.
  [[nodiscard]] index_t rows() const { return each.gates / row_size(); }
  [[nodiscard]] index_t row_size() const { return each.gates == 1 ? 1 : order + 1; }
  [[nodiscard]] bool is_first_order() const { return each.gates == 1; }

  /// |err| <= factor u W; of the recurrence alone where coefficients are exact.
  [[nodiscard]] virtual double factor(walk w) const {
    return is_first_order() ? error_factor(w, form) : error_factor(w, order, kind);
  }
  [[nodiscard]] virtual double factor_of_recurrence(walk w) const {
    if (!is_first_order()) return error_factor(w, order, normalise::none);
    return error_factor(w, form == decay::log ? decay::value : form);
  }
};

// ---- what each mixer is like ----

template <class Mixer>
struct anatomy;

template <class S, decay Form>
struct anatomy<diagonal<S, Form>> {
  using mixer = diagonal<S, Form>;
  static constexpr per_channel each{1, 1, 1};
  static constexpr int order = 1, rows = 1;
  static constexpr normalise kind = normalise::none;
  static constexpr decay form = Form;
  using gate_shape = std::array<index_t, 3>;
  using value_shape = std::array<index_t, 3>;

  static mixer make(index_t channels) { return {.channels = channels, .decay = {}}; }
  static gate_shape gate(index_t B, index_t T, index_t D, index_t) { return {B, T, D}; }
  static value_shape values(index_t B, index_t T, index_t D) { return {B, T, D}; }
  static constexpr gate_shape gate_gaps{7, 3, 0};
  static constexpr value_shape value_gaps{5, 2, 0};
  template <class T>
  static view<T, 2> state(T* h, index_t B, index_t D) {
    return row_major(h, B, D);
  }
  static S& gate_at(const view<S, 3>& v, index_t b, index_t t, index_t c, index_t) {
    return v(b, t, c);
  }
  static void reference(view<const double, 3> gate, view<const double, 3> input, double* h,
                        view<double, 3> y) {
    reference::diagonal(Form, gate, input, row_major(h, y.extent(0), y.extent(2)), y);
  }
  template <class Real>
  static std::vector<bounded<Real>> bounds(view<const S, 3> gate, view<const S, 3> input,
                                           std::vector<bounded<Real>>& h) {
    return diagonal_bounds<Real, S>(Form, gate, input, h);
  }
};

/// Views of complex numbers are made of views of their parts, [B, T, D, 2].
template <class S, decay Form>
struct anatomy<diagonal<std::complex<S>, Form>> {
  using number = std::complex<S>;
  using mixer = diagonal<number, Form>;
  static constexpr per_channel each{2, 2, 2};
  static constexpr int order = 1, rows = 1;
  static constexpr normalise kind = normalise::none;
  static constexpr decay form = Form;
  using gate_shape = std::array<index_t, 4>;
  using value_shape = std::array<index_t, 4>;

  static mixer make(index_t channels) { return {.channels = channels, .decay = {}}; }
  static gate_shape gate(index_t B, index_t T, index_t D, index_t) { return {B, T, D, 2}; }
  static value_shape values(index_t B, index_t T, index_t D) { return {B, T, D, 2}; }
  static constexpr gate_shape gate_gaps{6, 4, 0, 0};
  static constexpr value_shape value_gaps{8, 2, 0, 0};
  template <class T>
  static view<T, 3> state(T* h, index_t B, index_t D) {
    return row_major(h, B, D, 2);
  }
  static S& gate_at(const view<S, 4>& v, index_t b, index_t t, index_t c, index_t k) {
    return v(b, t, c, k);
  }
  template <class To, class From>
  static view<To, 3> complex_view(const view<From, 4>& v) {
    return {reinterpret_cast<To*>(v.data_handle()),
            {v.extent(0), v.extent(1), v.extent(2)},
            {v.stride(0) / 2, v.stride(1) / 2, v.stride(2) / 2}};
  }
  static typename mixer::tokens tokens(const view<const S, 4>& gate,
                                       const view<const S, 4>& input) {
    return {complex_view<const number>(gate), complex_view<const number>(input), {}};
  }
  static view<number, 3> output(const view<S, 4>& y) { return complex_view<number>(y); }
  static void fill(std::span<S> gate, bool sticky, random& r) {
    const double modulus = sticky ? 1 - 1e-6 * r.uniform(0.1, 1) : r.uniform(0, 1);
    const double phase = r.uniform(-3.2, 3.2);
    gate[0] = static_cast<S>(modulus * std::cos(phase));
    gate[1] = static_cast<S>(modulus * std::sin(phase));
  }
  static void reference(view<const double, 5> gate, view<const double, 4> input, double* h,
                        view<double, 4> y) {
    using wide = std::complex<double>;
    const index_t B = y.extent(0), T = y.extent(1), D = y.extent(2);
    const auto of = [&](auto* p) { return row_major(p, B, T, D); };
    reference::complex_diagonal(of(reinterpret_cast<const wide*>(gate.data_handle())),
                                of(reinterpret_cast<const wide*>(input.data_handle())),
                                row_major(reinterpret_cast<wide*>(h), B, D),
                                of(reinterpret_cast<wide*>(y.data_handle())));
  }
  template <class Real>
  static std::vector<bounded<Real>> bounds(view<const S, 5> gate, view<const S, 4> input,
                                           std::vector<bounded<Real>>& h) {
    return complex_bounds<Real, S>(gate.data_handle(), input, h);
  }
  static double factor(walk w) { return 2 * per_term(w); }
};

template <class S, int M, normalise N, gates Order, gate_side Side>
struct anatomy<hlru<S, M, N, Order, Side>> {
  using mixer = hlru<S, M, N, Order, Side>;
  static constexpr per_channel each{M + 1, 1, M};
  static constexpr int order = M, rows = 1;
  static constexpr normalise kind = N;
  static constexpr decay form = decay::value;
  static constexpr bool grouped = Order == gates::grouped;
  using gate_shape = std::array<index_t, grouped ? 5 : 4>;
  using value_shape = std::array<index_t, 3>;

  static mixer make(index_t channels) { return {.channels = channels}; }
  static gate_shape gate(index_t B, index_t T, index_t D, index_t L) {
    if constexpr (grouped)
      return {B, T, layout::groups(D, L), M + 1, L};
    else
      return {B, T, D, M + 1};
  }
  static value_shape values(index_t B, index_t T, index_t D) { return {B, T, D}; }
  static constexpr gate_shape gate_gaps = [] {
    if constexpr (grouped)
      return gate_shape{7, 3, 5, 0, 0};
    else
      return gate_shape{7, 3, 1, 0};
  }();
  static constexpr value_shape value_gaps{5, 2, 0};
  template <class T>
  static view<T, 3> state(T* h, index_t B, index_t D) {
    return row_major(h, B, D, M);
  }
  template <int Rank>
  static S& gate_at(const view<S, Rank>& v, index_t b, index_t t, index_t c, index_t k) {
    if constexpr (grouped) {
      const index_t L = v.extent(4);
      return v(b, t, c / L, k, c % L);
    } else {
      return v(b, t, c, k);
    }
  }
  static void reference(view<const double, 4> gate, view<const double, 3> input, double* h,
                        view<double, 3> y) {
    const auto state = row_major(h, y.extent(0), y.extent(2), M);
    const double tiny = std::numeric_limits<S>::min();
    if (Side == gate_side::read)
      reference::hlru(N, gate, input, state, y, tiny);
    else
      reference::hlru_write_side(N, gate, input, state, y, tiny);
  }
  template <class Real>
  static std::vector<bounded<Real>> bounds(view<const S, 4> gate, view<const S, 3> input,
                                           std::vector<bounded<Real>>& h) {
    if (Side == gate_side::write) throw std::logic_error("the oracle has read-side gates only");
    return hlru_bounds<Real, S>(N, gate, input, h);
  }
};

template <class S, int M, normalise N, gates Order>
struct anatomy<bdlru<S, M, N, Order>> {
  using mixer = bdlru<S, M, N, Order>;
  static constexpr per_channel each{M * (M + 1), M, M};
  static constexpr int order = M, rows = M;
  static constexpr normalise kind = N;
  static constexpr decay form = decay::value;
  static constexpr bool grouped = Order == gates::grouped;
  using gate_shape = std::array<index_t, grouped ? 6 : 5>;
  using value_shape = std::array<index_t, 4>;

  static mixer make(index_t blocks) { return {.blocks = blocks}; }
  static gate_shape gate(index_t B, index_t T, index_t G, index_t L) {
    if constexpr (grouped)
      return {B, T, layout::groups(G, L), M, M + 1, L};
    else
      return {B, T, G, M, M + 1};
  }
  static value_shape values(index_t B, index_t T, index_t G) { return {B, T, G, M}; }
  static constexpr gate_shape gate_gaps = [] {
    if constexpr (grouped)
      return gate_shape{7, 3, 5, 0, 0, 0};
    else
      return gate_shape{7, 3, 1, 0, 0};
  }();
  static constexpr value_shape value_gaps{5, 2, 1, 0};
  template <class T>
  static view<T, 3> state(T* h, index_t B, index_t G) {
    return row_major(h, B, G, M);
  }
  template <int Rank>
  static S& gate_at(const view<S, Rank>& v, index_t b, index_t t, index_t g, index_t k) {
    const index_t i = k / (M + 1), j = k % (M + 1);
    if constexpr (grouped) {
      const index_t L = v.extent(5);
      return v(b, t, g / L, i, j, g % L);
    } else {
      return v(b, t, g, i, j);
    }
  }
  static void reference(view<const double, 5> gate, view<const double, 4> input, double* h,
                        view<double, 4> y) {
    const auto state = row_major(h, y.extent(0), y.extent(2), M);
    reference::bdlru(N, gate, input, state, y, double{std::numeric_limits<S>::min()});
  }
  template <class Real>
  static std::vector<bounded<Real>> bounds(view<const S, 5> gate, view<const S, 4> input,
                                           std::vector<bounded<Real>>& h) {
    return bdlru_bounds<Real, S>(N, gate, input, h);
  }
};

/// The two gates of a channel lie in rows of channels here, [B, T, 2, D]. Its decay is the same in
/// all channels, which laws permute.
template <class S, gate_form Form>
struct anatomy<rglru<S, Form>> {
  using mixer = rglru<S, Form>;
  static constexpr per_channel each{2, 1, 1};
  static constexpr int order = 1, rows = 1;
  static constexpr normalise kind = normalise::none;
  static constexpr decay form = decay::value;
  using gate_shape = std::array<index_t, 4>;
  using value_shape = std::array<index_t, 3>;
  static constexpr S decay_of_all = S(0.5);

  static mixer make(index_t channels) {
    static const std::vector<S> decays(1 << 14, decay_of_all);
    return {.channels = channels, .decay = row_major(decays.data(), channels)};
  }
  static gate_shape gate(index_t B, index_t T, index_t D, index_t) { return {B, T, 2, D}; }
  static value_shape values(index_t B, index_t T, index_t D) { return {B, T, D}; }
  static constexpr gate_shape gate_gaps{7, 3, 1, 0};
  static constexpr value_shape value_gaps{5, 2, 0};
  template <class T>
  static view<T, 2> state(T* h, index_t B, index_t D) {
    return row_major(h, B, D);
  }
  static S& gate_at(const view<S, 4>& v, index_t b, index_t t, index_t c, index_t k) {
    return v(b, t, k, c);
  }
  static typename mixer::tokens tokens(const view<const S, 4>& gate,
                                       const view<const S, 3>& input) {
    return {slice(gate, 2, 0), slice(gate, 2, 1), input, {}};
  }
  static void fill(std::span<S> gate, bool sticky, random& r) {
    double keep = sticky ? stickiness_of_gates * r.uniform(0.1, 1) : r.uniform();
    double let_in = r.uniform();
    if (Form == gate_form::logit) {
      keep = std::log(keep / (1 - keep));
      let_in = 6 * let_in - 3;
    }
    gate[0] = static_cast<S>(keep);
    gate[1] = static_cast<S>(let_in);
  }
  static void reference(view<const double, 4> gate, view<const double, 3> input, double* h,
                        view<double, 3> y) {
    const std::vector<double> decays(static_cast<std::size_t>(y.extent(2)), double{decay_of_all});
    std::vector<bool> begun(static_cast<std::size_t>(y.extent(0)), false);
    reference::rglru(Form, row_major(decays.data(), y.extent(2)), slice(gate, 3, 0),
                     slice(gate, 3, 1), input, row_major(h, y.extent(0), y.extent(2)), begun, y);
  }
  template <class Real>
  static std::vector<bounded<Real>> bounds(view<const S, 4> gate, view<const S, 3> input,
                                           std::vector<bounded<Real>>& h) {
    const std::vector<S> decays(static_cast<std::size_t>(input.extent(2)), decay_of_all);
    return rglru_bounds<Real, S>(Form, row_major(decays.data(), input.extent(2)), slice(gate, 3, 0),
                                 slice(gate, 3, 1), input, h);
  }
  static double factor(walk w) { return per_term(w); }

 private:
  /// Decays within 1e-6 of 1.
  static constexpr double stickiness_of_gates = 1e-7;
};

// ---- a mixer as a subject ----

template <class Mixer>
class stage_of final : public stage<typename Mixer::scalar_type> {
  using S = typename Mixer::scalar_type;
  using A = anatomy<Mixer>;
  static constexpr int gate_rank = static_cast<int>(std::tuple_size_v<typename A::gate_shape>);
  static constexpr int value_rank = static_cast<int>(std::tuple_size_v<typename A::value_shape>);

 public:
  stage_of(const problem<S>& p, const placement& where)
      : batch_(p.batch),
        length_(p.length),
        channels_(p.channels),
        offsets_(p.offsets),
        initial_(p.initial),
        sequences_(p.sequences()),
        gaps_(where.gaps ? A::value_gaps : typename A::value_shape{}),
        gate_(A::gate(batch_, length_, channels_, where.group),
              where.gaps ? A::gate_gaps : typename A::gate_shape{}),
        input_(A::values(batch_, length_, channels_), gaps_) {
    // What is not written stays poison: gaps, guard bands and the padding of a last group.
    const auto to = gate_.get();
    std::size_t i = 0;
    for (index_t b = 0; b < batch_; ++b)
      for (index_t t = 0; t < length_; ++t)
        for (index_t c = 0; c < channels_; ++c)
          for (index_t k = 0; k < A::each.gates; ++k) A::gate_at(to, b, t, c, k) = p.gate[i++];
    input_.assign(std::span<const S>(p.input));
  }

  outcome<S> run(const plan& how) override {
    poisoned<S, value_rank> y(A::values(batch_, length_, channels_), gaps_);
    if (how.in_place) y.assign(std::span<const S>(input_.values()));
    auto tokens = tokens_of(gate_.get(), how.in_place ? y.get() : input_.get());

    auto state = mixer_.make_state(sequences_);
    state.copy_from(A::template state<const S>(initial_.data(), sequences_, channels_));
    tokens.offsets = offsets_;
    run_legs(mixer_, how, tokens, output_of(y.get()), state);
    if (!y.intact()) FAIL("the call wrote outside the elements of y");

    outcome<S> result{y.values(), std::vector<S>(initial_.size())};
    state.copy_to(A::template state<S>(result.state.data(), sequences_, channels_));
    return result;
  }

 private:
  template <class Gate, class Input>
  static typename Mixer::tokens tokens_of(const Gate& gate, const Input& input) {
    if constexpr (requires { A::tokens(gate, input); })
      return A::tokens(gate, input);
    else
      return {.gate = gate, .input = input};
  }
  template <class Output>
  static typename Mixer::output output_of(const Output& y) {
    if constexpr (requires { A::output(y); })
      return A::output(y);
    else
      return y;
  }

  index_t batch_, length_, channels_;
  std::vector<index_t> offsets_;
  std::vector<S> initial_;
  index_t sequences_;
  typename A::value_shape gaps_;
  poisoned<S, gate_rank> gate_;
  poisoned<S, value_rank> input_;
  Mixer mixer_ = A::make(channels_);
};

template <class Mixer>
class subject_of final : public subject<typename Mixer::scalar_type> {
  using S = typename Mixer::scalar_type;
  using A = anatomy<Mixer>;
  using real = wider_t<S>;

 public:
  subject_of() : subject<S>(A::each, A::order, A::kind, A::form) {}

  std::unique_ptr<stage<S>> set(const problem<S>& p, const placement& where) const override {
    return std::make_unique<stage_of<Mixer>>(p, where);
  }
  outcome<double> reference(const problem<S>& p) const override {
    const std::vector<double> gate(p.gate.begin(), p.gate.end());
    const std::vector<double> input(p.input.begin(), p.input.end());
    outcome<double> out{std::vector<double>(input.size()), {p.initial.begin(), p.initial.end()}};
    A::reference(natural_gate(p, gate.data()), values(p, input.data()), out.state.data(),
                 values(p, out.y.data()));
    return out;
  }
  std::vector<bounded<real>> bounds(const problem<S>& p) const override {
    auto h = exact_state<real, S>(p.initial);
    return A::template bounds<real>(natural_gate(p, p.gate.data()), values(p, p.input.data()), h);
  }
  double factor(walk w) const override {
    if constexpr (requires { A::factor(w); })
      return A::factor(w);
    else
      return subject<S>::factor(w);
  }
  double factor_of_recurrence(walk w) const override {
    if constexpr (requires { A::factor(w); })
      return A::factor(w);
    else
      return subject<S>::factor_of_recurrence(w);
  }
  bool fill_gates(std::span<S> gate, bool sticky, random& r) const override {
    if constexpr (requires { A::fill(gate, sticky, r); }) {
      A::fill(gate, sticky, r);
      return true;
    } else {
      return false;
    }
  }
  std::vector<S> coefficients(std::span<const S> row) const override {
    constexpr std::size_t size = A::order + 1;
    if (row.size() != size) return {row.begin(), row.end()};
    S z[size], out[size];
    std::copy(row.begin(), row.end(), z);
    recurrence::normalise_row<A::kind>(z, out);
    return {out, out + size};
  }

 private:
  template <class T>
  static auto natural_gate(const problem<S>& p, const T* gate) {
    const index_t B = p.batch, T_ = p.length, C = p.channels;
    if constexpr (A::each.gates == 1)
      return row_major(gate, B, T_, C);
    else if constexpr (A::each.values == 1 && A::rows == 1 && value_rank == 3)
      return row_major(gate, B, T_, C, A::order + 1);
    else
      return row_major(gate, B, T_, C, A::rows, A::order + 1);
  }
  template <class T>
  static auto values(const problem<S>& p, T* v) {
    if constexpr (value_rank == 3)
      return row_major(v, p.batch, p.length, p.channels);
    else
      return row_major(v, p.batch, p.length, p.channels, A::each.values);
  }
  static constexpr int value_rank = static_cast<int>(std::tuple_size_v<typename A::value_shape>);
};

// ---- problems ----

/// How close to 1 the gates are that hide nothing: such a decay keeps to the end what the first
/// token wrote, so that an order of operations that differs anywhere shows in the last output.
inline constexpr double stickiness = 1e-6;

/// The logit whose weight phi(z), before it is divided by the norm, is w.
[[nodiscard]] inline double logit_of(normalise kind, double w) {
  switch (kind) {
    case normalise::softmax: return std::log(w);
    case normalise::sigmoid_l1: return std::log(w / (1 - w));
    case normalise::tanh_l1: return std::atanh(w);
    case normalise::relu_l1:
    case normalise::lin_l1:
    case normalise::none: break;
  }
  return w;
}

/// One row of gates, given or logits, whose coefficient `keep` is 1 less at most `stickiness`, of
/// which the others share a random part.
template <class S>
void fill_sticky(normalise kind, std::span<S> row, std::size_t keep, random& r) {
  const auto entries = static_cast<double>(row.size());
  const bool is_signed =
      kind == normalise::none || kind == normalise::tanh_l1 || kind == normalise::lin_l1;
  const double leak = stickiness * r.uniform(0.2, 1) / (entries - 1);
  // relu_l1 adds 0.001 an entry to the norm: beside this weight that is less than `stickiness`.
  const double weight = kind == normalise::relu_l1 ? entries * r.uniform(1000, 2000)
                        : kind == normalise::none  ? 1 - stickiness
                                                   : r.uniform(0.5, 0.9);
  for (std::size_t k = 0; k < row.size(); ++k) {
    const double sign = is_signed && k != keep && r.below(2) == 0 ? -1 : 1;
    const double w = k == keep ? weight : sign * weight * leak * r.uniform(0.1, 1);
    row[k] = static_cast<S>(logit_of(kind, w));
  }
}

/// One row of gates of all sizes and signs, logits up to `reach`; given ones with an L1 norm of at
/// most 1.
template <class S>
void fill_spread(normalise kind, std::span<S> row, double reach, random& r) {
  const auto entries = static_cast<double>(row.size());
  const double size = kind == normalise::none ? 1 / entries : reach;
  for (S& z : row) z = static_cast<S>(size * r.uniform(-1, 1));
}

/// A gate of a first-order recurrence.
[[nodiscard]] inline double first_order_gate(decay form, bool sticky, random& r) {
  const double closeness = sticky ? stickiness * r.uniform() : r.uniform(0, 1.5);
  switch (form) {
    case decay::log: return -closeness;
    case decay::complement: return closeness;
    case decay::value: break;
  }
  return 1 - closeness;
}

/// What gates a problem has.
enum class memory {
  mixed,   ///< close to one in two channels of three, spread in the others
  sticky,  ///< close to one
  spread,  ///< of all sizes and signs
  wild,    ///< logits far apart, so that weights vanish and saturate; given gates are spread
};

/// A random problem, with a nonzero initial state.
template <class S>
[[nodiscard]] problem<S> make_problem(const subject<S>& m, index_t B, index_t T, index_t C,
                                      std::uint64_t seed, memory kind = memory::mixed) {
  random r(seed);
  problem<S> p{m.each, B, T, C, {}, {}, {}, {}};
  const auto numbers = [](index_t n) { return std::vector<S>(static_cast<std::size_t>(n)); };
  p.gate = numbers(B * T * C * m.each.gates);
  p.input = numbers(B * T * C * m.each.values);
  p.initial = numbers(B * C * m.each.state);
  const auto row_size = static_cast<std::size_t>(m.row_size());
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t c = 0; c < C; ++c) {
        const bool sticky = kind == memory::sticky || (kind == memory::mixed && c % 3 != 2);
        const auto gate = p.gates_at(b, t, c);
        if (m.fill_gates(gate, sticky, r)) continue;
        if (m.is_first_order()) {
          gate[0] = static_cast<S>(first_order_gate(m.form, sticky, r));
          continue;
        }
        for (std::size_t i = 0; i < static_cast<std::size_t>(m.rows()); ++i) {
          const auto row = gate.subspan(i * row_size, row_size);
          if (sticky)
            fill_sticky(m.kind, row, i, r);
          else
            fill_spread(m.kind, row, kind == memory::wild ? 90 : 3, r);
        }
      }
  r.fill_normal(std::span<S>(p.input));
  r.fill_normal(std::span<S>(p.initial));
  return p;
}

/// The worst error of y in units of factor * u W.
template <class S>
[[nodiscard]] double worst_error(const std::vector<S>& y,
                                 const std::vector<bounded<wider_t<S>>>& want, double factor) {
  if (y.size() != want.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double ratio = error_ratio(y[i], want[i], factor);
    if (std::isnan(ratio)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, ratio);
  }
  return worst;
}

}  // namespace maslin::test
