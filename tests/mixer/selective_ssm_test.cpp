// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"
#include "laws/parameter_stage.hpp"
#include "support/answer.hpp"
#include "support/selective_bound.hpp"
#include "support/tolerance.hpp"

#include <maslin/reference/selective_ssm.hpp>

#include <iostream>

using namespace maslin;
using namespace maslin::test;

namespace {

/// All arrays of a call, dense. `call` and `mixer` look into them.
template <class S>
struct arrays {
  index_t B, T, D, N, writes, reads;
  std::vector<S> dt, input, gate, write, read, decay, skip, bias, initial;

  [[nodiscard]] selective_call<S> call() const {
    return {row_major(dt.data(), B, T, D),
            row_major(input.data(), B, T, D),
            row_major(gate.data(), B, T, D),
            row_major(write.data(), B, T, writes, N),
            row_major(read.data(), B, T, reads, N),
            row_major(decay.data(), D, N),
            row_major(skip.data(), D),
            row_major(bias.data(), D)};
  }
  template <discretisation Rule>
  [[nodiscard]] selective_ssm<S, Rule> mixer() const {
    const auto c = call();
    return {.channels = D, .state_dim = N, .decay = c.decay, .skip = c.skip, .dt_bias = c.dt_bias};
  }
  template <class Mixer>
  [[nodiscard]] typename Mixer::tokens tokens() const {
    const auto c = call();
    return {.dt = c.dt,
            .input = c.input,
            .write = c.write,
            .read = c.read,
            .output_gate = c.output_gate};
  }
};

/// Random arrays. Decays reach from -`slowest` to -`fastest`, steps from exp(-9) to about 2.
template <class S>
arrays<S> make_arrays(index_t B, index_t T, index_t D, index_t N, index_t writes, index_t reads,
                      std::uint64_t seed) {
  maslin::test::random r(seed);
  const auto numbers = [&](index_t n, double low, double high) {
    std::vector<S> x(static_cast<std::size_t>(n));
    r.fill_uniform(std::span<S>(x), low, high);
    return x;
  };
  arrays<S> a{B,
              T,
              D,
              N,
              writes,
              reads,
              numbers(B * T * D, -8, 1),
              numbers(B * T * D, -2, 2),
              numbers(B * T * D, -4, 4),
              numbers(B * T * writes * N, -2, 2),
              numbers(B * T * reads * N, -2, 2),
              {},
              numbers(D, -1, 1),
              numbers(D, -1, 1),
              numbers(B * D * N, -2, 2)};
  for (index_t i = 0; i < D * N; ++i)
    a.decay.push_back(static_cast<S>(-std::exp(r.uniform(-14, 3))));
  return a;
}

template <class S, discretisation Rule>
outcome<S> carry_out(const arrays<S>& a, const way& how) {
  using mixer_t = selective_ssm<S, Rule>;
  const auto mixer = a.template mixer<Rule>();
  const auto tokens = a.template tokens<mixer_t>();
  auto state = mixer.make_state(a.B);
  state.copy_from(row_major(a.initial.data(), a.B, a.D, a.N));
  outcome<S> out{std::vector<S>(a.input.size()), std::vector<S>(a.initial.size())};
  const auto y = row_major(out.y.data(), a.B, a.T, a.D);
  std::visit(
      [&](const auto& policy) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(policy)>, decode>)
          for (index_t t = 0; t < a.T; ++t) mixer.step(tokens[t], time_at(y, t), state);
        else
          mixer.scan(policy, tokens, y, state);
      },
      how);
  state.copy_to(row_major(out.state.data(), a.B, a.D, a.N));
  return out;
}

/// The mixer as the laws see it: a channel's "gates" are its dt and output gate. What channels have
/// in common depends on the time in the sequence alone; parameters are the same for all channels.
template <class S, discretisation Rule, index_t N>
class selective_subject final : public subject<S> {
  using real = wider_t<S>;
  using mixer_t = selective_ssm<S, Rule>;

 public:
  selective_subject() : subject<S>({2, 1, N}, 1, normalise::none, decay::value) {}

  double factor(walk w) const override { return per_term(w); }
  double factor_of_recurrence(walk w) const override { return per_term(w); }

  std::unique_ptr<stage<S>> set(const problem<S>& p, const placement& where) const override {
    struct memory {
      poisoned<S, 3> dt, gate;
      poisoned<S, 4> write, read;
      arrays<S> a;
    };
    const std::array<index_t, 3> gaps =
        where.gaps ? std::array<index_t, 3>{9, 4, 0} : std::array<index_t, 3>{};
    const std::array<index_t, 4> grouped =
        where.gaps ? std::array<index_t, 4>{9, 4, 3, 0} : std::array<index_t, 4>{};
    const std::array<index_t, 3> shape{p.batch, p.length, p.channels};
    const std::array<index_t, 4> shared{p.batch, p.length, 1, N};
    using narrow = poisoned<S, 3>;
    using broad = poisoned<S, 4>;
    auto m = std::make_shared<memory>(memory{narrow(shape, gaps), narrow(shape, gaps),
                                             broad(shared, grouped), broad(shared, grouped),
                                             spread_out(p)});
    m->dt.assign(std::span<const S>(m->a.dt));
    m->gate.assign(std::span<const S>(m->a.gate));
    m->write.assign(std::span<const S>(m->a.write));
    m->read.assign(std::span<const S>(m->a.read));
    return std::make_unique<parameter_stage<mixer_t>>(
        p, where, m->a.template mixer<Rule>(), [m](const view<const S, 3>& input) {
          return typename mixer_t::tokens{.dt = m->dt.get(),
                                          .input = input,
                                          .write = m->write.get(),
                                          .read = m->read.get(),
                                          .output_gate = m->gate.get()};
        });
  }
  outcome<double> reference(const problem<S>& p) const override {
    const auto a = spread_out(p);
    const auto wide = [](const std::vector<S>& x) {
      return std::vector<double>(x.begin(), x.end());
    };
    const arrays<double> d{a.B,          a.T,           a.D,           a.N,          a.writes,
                           a.reads,      wide(a.dt),    wide(a.input), wide(a.gate), wide(a.write),
                           wide(a.read), wide(a.decay), wide(a.skip),  wide(a.bias), {}};
    outcome<double> out{std::vector<double>(p.input.size()), wide(p.initial)};
    const auto c = d.call();
    reference::selective_ssm(
        Rule, {c.dt, c.input, c.write, c.read, c.output_gate, c.decay, c.skip, c.dt_bias},
        row_major(out.state.data(), a.B, a.D, a.N), row_major(out.y.data(), a.B, a.T, a.D));
    return out;
  }
  std::vector<bounded<real>> bounds(const problem<S>& p) const override {
    auto h = exact_state<real, S>(p.initial);
    const auto a = spread_out(p);
    return selective_bounds<real, S>(Rule, a.call(), h);
  }
  std::vector<S> coefficients(std::span<const S>) const override { return {}; }

 private:
  static arrays<S> spread_out(const problem<S>& p) {
    arrays<S> a{p.batch, p.length, p.channels, N, 1, 1, {}, p.input, {}, {}, {}, {}, {}, {}, {}};
    for (std::size_t i = 0; i < p.gate.size(); i += 2) {
      a.dt.push_back(p.gate[i]);
      a.gate.push_back(p.gate[i + 1] + S(0.75));
    }
    maslin::test::random r(5);
    std::vector<S> table(997);
    r.fill_normal(std::span<S>(table));
    const auto at = [&](index_t i) { return table[static_cast<std::size_t>(i % 997)]; };
    for (index_t b = 0; b < p.batch; ++b)
      for (index_t t = 0; t < p.length; ++t)
        for (index_t n = 0; n < N; ++n) {
          const index_t since = t - start_of(p, t);
          a.write.push_back(at(since * N + n));
          a.read.push_back(at(since * N + n + 500));
        }
    for (index_t d = 0; d < p.channels; ++d) {
      a.skip.push_back(S(0.5));
      a.bias.push_back(S(-0.25));
      // One state forgets nothing, one grows, the others forget faster and faster.
      for (index_t n = 0; n < N; ++n)
        a.decay.push_back(n == 0 ? S(-1e-6) : n == 1 ? S(0.01) : S(-0.3) * static_cast<S>(n));
    }
    return a;
  }
};

constexpr auto euler = discretisation::euler, hold = discretisation::zero_order_hold;

}  // namespace

TEST_CASE("a selective state-space model in float keeps the laws of mixers",
          "[mixer][selective_ssm][law]") {
  mixer_laws<float>(selective_subject<float, euler, 5>{});
}

TEST_CASE("a selective state-space model in double, held inputs, keeps the laws of mixers",
          "[mixer][selective_ssm][law]") {
  mixer_laws<double>(selective_subject<double, hold, 3>{});
}

namespace {

template <class S, discretisation Rule>
void check_against_oracle(const arrays<S>& a, const std::string& name, worst_ratio& worst) {
  auto h = exact_state<wider_t<S>, S>(a.initial);
  const auto want = selective_bounds<wider_t<S>, S>(Rule, a.call(), h);
  const auto same = carry_out<S, Rule>(a, exec::sequential{});
  for (const way& how : {way(exec::scalar{}), way(decode{}), way(exec::sequential{.threads = 3})}) {
    INFO(name << ", " << describe(how));
    REQUIRE(difference(same, carry_out<S, Rule>(a, how)) == "");
  }
  const auto chunks = carry_out<S, Rule>(a, exec::chunked{.chunk = 4, .threads = 1});
  REQUIRE(difference(chunks, carry_out<S, Rule>(a, exec::chunked{.chunk = 4, .threads = 2})) == "");
  const auto compare = [&](const std::vector<S>& got, const auto& truth, walk w) {
    for (std::size_t i = 0; i < got.size(); ++i)
      worst.add(error_ratio(got[i], truth[i], 1.01 * per_term(w)), [&] { return name; });
  };
  compare(same.y, want, walk::sequential);
  compare(same.state, h, walk::sequential);
  compare(chunks.y, want, walk::chunked);
  compare(chunks.state, h, walk::chunked);
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("every state size and grouping keeps its error bound and its bytes",
                       "[mixer][selective_ssm][accuracy][threads]",
                       ((class S, discretisation Rule), S, Rule), (float, euler), (double, euler),
                       (float, hold)) {
  worst_ratio worst("selective_ssm");
  struct size {
    index_t D, N, writes, reads;
  };
  for (const auto& [D, N, writes, reads] :
       {size{1, 1, 1, 1}, size{7, 2, 7, 1}, size{9, 3, 1, 3}, size{60, 8, 5, 12},
        size{48, 16, 2, 1}, size{33, 17, 3, 11}, size{20, 32, 1, 2}, size{17, 64, 1, 1},
        size{35, 256, 5, 7}, size{300, 16, 1, 1}, size{64, 4, 4, 64}}) {
    const index_t T = D * N > 3000 ? 3 : 11;
    const auto a = make_arrays<S>(2, T, D, N, writes, reads, static_cast<std::uint64_t>(D * N));
    const std::string name = "D " + std::to_string(D) + ", N " + std::to_string(N) + ", groups " +
                             std::to_string(writes) + " and " + std::to_string(reads);
    check_against_oracle<S, Rule>(a, name, worst);
  }
  std::cout << worst << '\n';
  CHECK(worst.value() <= 1);
  CHECK(worst.value() > 0.02);
}

TEMPLATE_TEST_CASE_SIG("steps and decays at the ends of their ranges stay within the bound",
                       "[mixer][selective_ssm][accuracy]",
                       ((class S, discretisation Rule), S, Rule), (float, euler), (double, hold),
                       (float, hold)) {
  // Delta up to 20 and near 0, A from -1e4 over tiny ones and 0 to growing.
  const double decays[] = {-1e4, -100, -6, -1, -1e-3, -1e-9, 0, 1e-6, 0.5};
  const double steps[] = {20, 5, 1, 0, -5, -15, -60, -80};
  constexpr index_t N = 9, D = 19, T = 8;
  auto a = make_arrays<S>(1, T, D, N, 1, 1, 3);
  for (index_t i = 0; i < D * N; ++i)
    a.decay[static_cast<std::size_t>(i)] = static_cast<S>(decays[i % N]);
  for (index_t i = 0; i < T * D; ++i)
    a.dt[static_cast<std::size_t>(i)] = static_cast<S>(steps[(i / D + i % D) % 8]);
  std::fill(a.bias.begin(), a.bias.end(), S(0));
  worst_ratio worst("selective_ssm, extremes");
  check_against_oracle<S, Rule>(a, "extremes", worst);
  CAPTURE(worst.where());
  CHECK(worst.value() <= 1);
}

TEST_CASE("a decay that underflows leaves exactly the new input", "[mixer][selective_ssm]") {
  auto a = make_arrays<float>(1, 1, 11, 4, 1, 1, 9);
  std::fill(a.decay.begin(), a.decay.end(), -1e4f);
  std::fill(a.dt.begin(), a.dt.end(), 20.0f);
  std::fill(a.initial.begin(), a.initial.end(), 1e30f);
  auto b = a;
  std::fill(b.initial.begin(), b.initial.end(), 0.0f);
  const auto far = carry_out<float, euler>(a, exec::sequential{});
  CHECK(difference(carry_out<float, euler>(b, exec::sequential{}), far) == "");
  for (const float h : far.state) REQUIRE(std::isfinite(h));
}

TEST_CASE("groups are repeated rows of write and read", "[mixer][selective_ssm]") {
  const auto a = make_arrays<float>(2, 5, 24, 6, 3, 2, 4);
  auto b = a;
  b.writes = b.reads = a.D;
  b.write.clear();
  b.read.clear();
  for (index_t row = 0; row < a.B * a.T; ++row)
    for (index_t d = 0; d < a.D; ++d)
      for (index_t n = 0; n < a.N; ++n) {
        b.write.push_back(a.write[static_cast<std::size_t>((row * 3 + d * 3 / a.D) * a.N + n)]);
        b.read.push_back(a.read[static_cast<std::size_t>((row * 2 + d * 2 / a.D) * a.N + n)]);
      }
  for (const way& how : all_ways())
    CHECK(difference(carry_out<float, euler>(a, how), carry_out<float, euler>(b, how)) == "");
}

TEST_CASE("NaN in a parameter stays in its channel, in write and read in its group",
          "[mixer][selective_ssm][nan]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr index_t D = 24, T = 4, N = 6;
  const auto clean = make_arrays<float>(1, T, D, N, 3, 2, 6);
  const auto reached = [&](const arrays<float>& a, const way& how, auto inside) {
    const auto want = carry_out<float, euler>(clean, how), got = carry_out<float, euler>(a, how);
    for (index_t t = 0; t < T; ++t)
      for (index_t d = 0; d < D; ++d) {
        const auto i = static_cast<std::size_t>(t * D + d);
        INFO(describe(how) << ", t " << t << ", d " << d);
        if (inside(t, d))
          REQUIRE(std::isnan(got.y[i]));
        else
          REQUIRE(same_bits(want.y[i], got.y[i]));
      }
  };
  for (const way& how : all_ways()) {
    for (const index_t c : {0, 7, 8, 23}) {
      const auto channel = [c](index_t, index_t d) { return d == c; };
      for (auto part : {&arrays<float>::skip, &arrays<float>::bias}) {
        auto a = clean;
        (a.*part)[static_cast<std::size_t>(c)] = nan;
        reached(a, how, channel);
      }
      // Payloads of a NaN must not turn into a number when an exponent is added to them.
      for (const std::uint32_t bits : {0x7fc00000u, 0x7fc00001u, 0xffc000ffu, 0x7fc0deadu}) {
        auto a = clean;
        a.decay[static_cast<std::size_t>(c * N + 2)] = std::bit_cast<float>(bits);
        reached(a, how, channel);
      }
    }
    auto a = clean;
    a.write[static_cast<std::size_t>((2 * 3 + 1) * N + 3)] = nan;
    reached(a, how, [](index_t t, index_t d) { return t >= 2 && d / 8 == 1; });
    a = clean;
    a.read[static_cast<std::size_t>((2 * 2 + 1) * N + 3)] = nan;
    reached(a, how, [](index_t t, index_t d) { return t == 2 && d / 12 == 1; });
  }
}

TEST_CASE("one state, read as it is, is the diagonal recurrence of a logarithmic decay",
          "[mixer][selective_ssm][reduction]") {
  constexpr index_t D = 11, T = 30;
  auto a = make_arrays<double>(1, T, D, 1, 1, 1, 8);
  std::fill(a.read.begin(), a.read.end(), 1.0);
  const auto c = a.call();
  const selective_ssm<double> mixer{.channels = D, .state_dim = 1, .decay = c.decay};
  std::vector<double> y(a.input.size()), z(y.size()), gate, input;
  auto state = mixer.make_state();
  mixer.scan(exec::sequential{}, {.dt = c.dt, .input = c.input, .write = c.write, .read = c.read},
             row_major(y.data(), 1, T, D), state);
  for (index_t t = 0; t < T; ++t)
    for (index_t d = 0; d < D; ++d) {
      const double delta = std::log1p(std::exp(c.dt(0, t, d)));
      gate.push_back(delta * c.decay(d, 0));
      input.push_back(delta * c.write(0, t, 0, 0) * c.input(0, t, d));
    }
  const diagonal<double, decay::log> plain{.channels = D, .decay = {}};
  auto h = plain.make_state();
  plain.scan(exec::sequential{},
             {.gate = row_major(std::as_const(gate).data(), 1, T, D),
              .input = row_major(std::as_const(input).data(), 1, T, D)},
             row_major(z.data(), 1, T, D), h);
  for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(std::abs(y[i] - z[i]) <= 1e-12);
}

TEST_CASE("a wrong call of selective_ssm names what it wanted and writes nothing",
          "[mixer][selective_ssm][check]") {
  using mixer_t = selective_ssm<float>;
  const auto a = make_arrays<float>(2, 3, 8, 4, 2, 1, 1);
  const auto good = a.mixer<euler>();
  const auto tokens = a.tokens<mixer_t>();
  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    auto u = tokens;
    poisoned<float, 3> y({2, 3, 8});
    auto state = good.make_state(2);
    auto out = y.get();
    change(mixer, u, out, state);
    const std::string said = answer([&] { mixer.scan(exec::sequential{}, u, out, state); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("selective_ssm::"));
    CHECK(said.find(text) != std::string::npos);
    CHECK(y.untouched());
    CHECK(state == good.make_state(2));
  };
  refuses("channels must be 0 or more", [](auto& m, auto&, auto&, auto&) { m.channels = -1; });
  for (const index_t n : {0, 257, -1})
    refuses("state_dim must be in [1, 256]",
            [n](auto& m, auto&, auto&, auto&) { m.state_dim = n; });
  refuses("dt must be", [](auto&, auto& u, auto&, auto&) { u.dt = time_range(u.dt, 0, 2); });
  refuses("decay must be", [](auto& m, auto&, auto&, auto&) { m.decay = {}; });
  refuses("skip must be", [](auto& m, auto&, auto&, auto&) {
    m.skip = view<const float, 1>(m.skip.data_handle(), {7}, {1});
  });
  refuses("dt_bias must be", [](auto& m, auto&, auto&, auto&) {
    m.dt_bias = view<const float, 1>(m.dt_bias.data_handle(), {7}, {1});
  });
  refuses("output_gate must be",
          [](auto&, auto& u, auto&, auto&) { u.output_gate = time_range(u.output_gate, 0, 2); });
  refuses("write must be",
          [](auto&, auto& u, auto&, auto&) { u.write = time_range(u.write, 0, 2); });
  refuses("read must be", [](auto&, auto& u, auto&, auto&) { u.read = time_range(u.read, 0, 2); });
  refuses("write must have groups that divide channels = 8, got 3",
          [&](auto&, auto& u, auto&, auto&) { u.write = row_major(a.write.data(), 2, 3, 3, 4); });
  refuses("y must be", [](auto&, auto&, auto& y, auto&) { y = time_range(y, 0, 2); });
  refuses("y must not overlap write", [&](auto&, auto& u, auto& y, auto&) {
    u.write = view<const float, 4>(y.data_handle(), {2, 3, 2, 4}, {24, 8, 4, 1});
  });
  auto other = good.make_state(1);
  poisoned<float, 3> y({2, 3, 8});
  CHECK_THROWS_AS(good.scan(exec::sequential{}, tokens, y.get(), other), shape_error);
  CHECK_THROWS_AS(good.step(tokens[0], time_at(y.get(), 0), other), shape_error);
  CHECK_THROWS_AS(good.make_state(-1), shape_error);
  CHECK(y.untouched());
}

TEST_CASE("one packed sequence of selective_ssm goes on by itself, and has no range before",
          "[mixer][selective_ssm]") {
  using mixer_t = selective_ssm<float>;
  const auto a = make_arrays<float>(1, 14, 11, 5, 1, 1, 2);
  const std::vector<index_t> offsets = {0, 6, 6, 14};
  const auto mixer = a.mixer<euler>();
  auto packed = a.tokens<mixer_t>();
  packed.offsets = offsets;
  CHECK_THROWS_AS(packed.range(0, 3), shape_error);
  CHECK_THROWS_AS(packed.sequence(3), shape_error);
  std::vector<float> all(a.input.size()), parts(all.size());
  auto together = mixer.make_state(3);
  mixer.scan(exec::sequential{}, packed, row_major(all.data(), 1, 14, 11), together);
  const auto y = row_major(parts.data(), 1, 14, 11);
  for (index_t b = 0; b < 3; ++b) {
    auto alone = mixer.make_state();
    const auto at = static_cast<std::size_t>(b);
    mixer.scan(exec::sequential{}, packed.sequence(b), time_range(y, offsets[at], offsets[at + 1]),
               alone);
  }
  CHECK(difference(all, parts) == "");
}
