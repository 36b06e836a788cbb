// SPDX-License-Identifier: Apache-2.0
#include "laws/gradient_laws.hpp"
#include "scan/executors.hpp"
#include "support/answer.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/selective_ssm.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <array>
#include <string>
#include <type_traits>
#include <vector>

using namespace maslin;
using namespace maslin::test;

namespace {

constexpr auto euler = discretisation::euler, hold = discretisation::zero_order_hold;

/// Which of the optional arrays a call has.
enum class parts { all, none };

/// Sizes of a problem: D, N, groups of write and of read, tokens from kept state to kept state.
/// Arrays: dt, input, write, read, decay, then output_gate, skip, dt_bias.
template <class S, discretisation Rule, parts Parts>
class ssm_subject final : public gradient_subject<S> {
  using base = gradient_subject<S>;
  using mixer_t = selective_ssm<S, Rule>;
  static constexpr bool full = Parts == parts::all;

 public:
  std::vector<gradient_array> arrays() const override {
    std::vector<gradient_array> list{
        {"dt"}, {"input", true, true}, {"write"}, {"read"}, {"decay", false}};
    if (full) list.insert(list.end(), {{"output_gate"}, {"skip", false}, {"dt_bias", false}});
    return list;
  }
  gradient_problem<S> draw(index_t batch, index_t length, maslin::test::random& r) const override {
    struct size {
      index_t D, N, writes, reads;
    };
    static constexpr size sizes[] = {{1, 1, 1, 1},  {7, 3, 7, 1},  {8, 2, 2, 4},   {9, 4, 1, 3},
                                     {17, 5, 1, 1}, {35, 8, 5, 7}, {70, 16, 1, 2}, {130, 2, 2, 1}};
    const size z = sizes[r.below(std::size(sizes))];
    constexpr index_t every[] = {1, 2, 5, 32};
    return of({z.D, z.N, z.writes, z.reads, every[r.below(4)]}, batch, length, r);
  }
  [[nodiscard]] gradient_problem<S> of(const std::vector<index_t>& sizes, index_t batch,
                                       index_t length, maslin::test::random& r) const {
    const index_t D = sizes[0], N = sizes[1], tokens = batch * length;
    gradient_problem<S> p{.batch = batch,
                          .length = length,
                          .sizes = sizes,
                          .inputs = {},
                          .initial = numbers(r, batch * D * N, -2, 2),
                          .dy = numbers(r, tokens * D, -2, 2),
                          .dfinal = numbers(r, batch * D * N, -1, 1)};
    p.inputs = {numbers(r, tokens * D, -5, 1), numbers(r, tokens * D, -2, 2),
                numbers(r, tokens * sizes[2] * N, -2, 2), numbers(r, tokens * sizes[3] * N, -2, 2),
                numbers(r, D * N, -6, 0.25)};
    if (full) {
      p.inputs.push_back(numbers(r, tokens * D, -4, 4));
      p.inputs.push_back(numbers(r, D, -1, 1));
      p.inputs.push_back(numbers(r, D, -1, 1));
    }
    return p;
  }
  std::vector<S> forward(const gradient_problem<S>& p) const override {
    call c(p, false);
    auto h = c.state(p, p.initial);
    c.mixer.scan(exec::sequential{}, c.tokens, c.y.get(), h);
    std::vector<S> out = c.y.values();
    const std::vector<S> last = c.numbers_of(p, h);
    out.insert(out.end(), last.begin(), last.end());
    return out;
  }
  gradient_arrays<S> backward(const gradient_problem<S>& p,
                              const backward_plan& how) const override {
    call c(p, how.gaps);
    auto h = c.state(p, p.initial), dh = c.state(p, p.dfinal);
    auto keep = p.offsets.empty() ? c.mixer.make_saved(p.batch, p.length, p.sizes[4])
                                  : c.mixer.make_saved(p.offsets, p.sizes[4]);
    targets to(p, how);
    std::visit(
        [&](const auto& policy) {
          c.mixer.scan(policy, c.tokens, c.y.get(), h, keep);
          c.mixer.backward(policy, c.tokens, keep, std::as_const(c.dy).get(),
                           to.gradients(how.left_out), dh);
        },
        how.how);
    REQUIRE(c.y.intact());
    return to.values(how, c.numbers_of(p, dh));
  }
  gradient_truth<double> reference(const gradient_problem<S>& p) const override {
    return truth<double>(p);
  }
  gradient_truth<typename base::number> bounds(const gradient_problem<S>& p) const override {
    return truth<typename base::number>(p);
  }
  index_t lane(const gradient_problem<S>& p, std::size_t array, index_t element) const override {
    if (array == 2 || array == 3) return -1;
    return array == arrays().size() ? element / p.sizes[1] : element;
  }
  double factor(const backward_way& how) const override {
    return base::factor(how) * (fused_family ? 1 : 2);
  }

 private:
  static std::vector<S> numbers(maslin::test::random& r, index_t n, double low, double high) {
    std::vector<S> x(static_cast<std::size_t>(n));
    r.fill_uniform(std::span<S>(x), low, high);
    return x;
  }
  template <class Number>
  static std::vector<Number> as(const std::vector<S>& x) {
    return {x.begin(), x.end()};
  }

  /// Extents of array k, the last axes those of a token.
  static std::array<index_t, 4> grouped(const gradient_problem<S>& p, std::size_t k) {
    return {p.batch, p.length, p.sizes[k], p.sizes[1]};
  }
  static std::array<index_t, 3> plain(const gradient_problem<S>& p) {
    return {p.batch, p.length, p.sizes[0]};
  }
  static std::array<index_t, 3> gaps(bool wanted) {
    return wanted ? std::array<index_t, 3>{9, 4, 0} : std::array<index_t, 3>{};
  }
  static std::array<index_t, 4> wide_gaps(bool wanted) {
    return wanted ? std::array<index_t, 4>{9, 4, 3, 0} : std::array<index_t, 4>{};
  }

  /// The arrays that a call reads, and y.
  struct call {
    poisoned<S, 3> dt, input, gate, dy, y;
    poisoned<S, 4> write, read;
    poisoned<S, 2> decay;
    std::vector<S> skip, bias;
    mixer_t mixer;
    typename mixer_t::tokens tokens;

    call(const gradient_problem<S>& p, bool gapped)
        : dt(plain(p), gaps(gapped)),
          input(plain(p), gaps(gapped)),
          gate(plain(p), gaps(gapped)),
          dy(plain(p), gaps(gapped)),
          y(plain(p), gaps(gapped)),
          write(grouped(p, 2), wide_gaps(gapped)),
          read(grouped(p, 3), wide_gaps(gapped)),
          decay({p.sizes[0], p.sizes[1]}, {gapped ? 3 : 0, 0}),
          mixer{.channels = p.sizes[0], .state_dim = p.sizes[1]} {
      dt.assign(std::span<const S>(p.inputs[0]));
      input.assign(std::span<const S>(p.inputs[1]));
      write.assign(std::span<const S>(p.inputs[2]));
      read.assign(std::span<const S>(p.inputs[3]));
      decay.assign(std::span<const S>(p.inputs[4]));
      dy.assign(std::span<const S>(p.dy));
      tokens = {.dt = dt.get(),
                .input = input.get(),
                .write = write.get(),
                .read = read.get(),
                .offsets = p.offsets};
      mixer.decay = decay.get();
      if (!full) return;
      gate.assign(std::span<const S>(p.inputs[5]));
      skip = p.inputs[6];
      bias = p.inputs[7];
      tokens.output_gate = gate.get();
      mixer.skip = row_major(std::as_const(skip).data(), p.sizes[0]);
      mixer.dt_bias = row_major(std::as_const(bias).data(), p.sizes[0]);
    }
    typename mixer_t::state state(const gradient_problem<S>& p, const std::vector<S>& from) const {
      auto h = mixer.make_state(p.sequences());
      h.copy_from(row_major(from.data(), p.sequences(), p.sizes[0], p.sizes[1]));
      return h;
    }
    static std::vector<S> numbers_of(const gradient_problem<S>& p,
                                     const typename mixer_t::state& h) {
      std::vector<S> out(p.initial.size());
      h.copy_to(row_major(out.data(), p.sequences(), p.sizes[0], p.sizes[1]));
      return out;
    }
  };

  /// Where gradients go.
  struct targets {
    poisoned<S, 3> dt, input, gate;
    poisoned<S, 4> write, read;
    poisoned<S, 2> decay;
    poisoned<S, 1> skip, bias;
    bool accumulate;

    targets(const gradient_problem<S>& p, const backward_plan& how)
        : dt(plain(p), gaps(how.gaps)),
          input(plain(p), gaps(how.gaps)),
          gate(plain(p), gaps(how.gaps)),
          write(grouped(p, 2), wide_gaps(how.gaps)),
          read(grouped(p, 3), wide_gaps(how.gaps)),
          decay({p.sizes[0], p.sizes[1]}, {how.gaps ? 2 : 0, 0}),
          skip({p.sizes[0]}),
          bias({p.sizes[0]}),
          accumulate(how.accumulate) {
      if (accumulate)
        visit([&](auto& array) { array.each([&](S& x) { x = static_cast<S>(how.preset); }); });
    }
    typename mixer_t::gradients gradients(int left_out) {
      typename mixer_t::gradients d{.dt = dt.get(),
                                    .input = input.get(),
                                    .write = write.get(),
                                    .read = read.get(),
                                    .decay = decay.get(),
                                    .accumulate = accumulate};
      if (full) d.output_gate = gate.get(), d.skip = skip.get(), d.dt_bias = bias.get();
      if (left_out == 0) d.dt = {};
      if (left_out == 1) d.input = {};
      if (left_out == 2) d.write = {};
      if (left_out == 3) d.read = {};
      if (left_out == 4) d.decay = {};
      if (left_out == 5) d.output_gate = {};
      if (left_out == 6) d.skip = {};
      if (left_out == 7) d.dt_bias = {};
      return d;
    }
    gradient_arrays<S> values(const backward_plan& how, const std::vector<S>& dstate) {
      gradient_arrays<S> all;
      visit([&](auto& array) {
        REQUIRE(array.intact());
        all.push_back(array.values());
        if (static_cast<int>(all.size()) != how.left_out + 1) return;
        if (!accumulate) REQUIRE(array.untouched());
        all.back().assign(all.back().size(), S(0));
      });
      all.push_back(dstate);
      return all;
    }

   private:
    template <class F>
    void visit(const F& f) {
      f(dt), f(input), f(write), f(read), f(decay);
      if (full) f(gate), f(skip), f(bias);
    }
  };

  /// The reference of a batch.
  template <class Number>
  static gradient_truth<Number> truth(const gradient_problem<S>& p) {
    gradient_truth<Number> all;
    std::vector<Number> y(p.dy.size());
    std::vector<Number> h = as<Number>(p.initial);
    for (const auto& x : p.inputs) all.gradients.emplace_back(x.size());
    all.gradients.push_back(as<Number>(p.dfinal));
    std::vector<std::vector<Number>> in;
    for (const auto& x : p.inputs) in.push_back(as<Number>(x));
    const std::vector<Number> dy = as<Number>(p.dy);
    const index_t B = p.batch, T = p.length, D = p.sizes[0], N = p.sizes[1];
    reference::selective_ssm_backward<Number>(
        Rule, views<const Number>(p, in), row_major(h.data(), B, D, N),
        row_major(y.data(), B, T, D), row_major(dy.data(), B, T, D),
        views<Number>(p, all.gradients), row_major(all.gradients.back().data(), B, D, N));
    all.outputs = y;
    all.outputs.insert(all.outputs.end(), h.begin(), h.end());
    return all;
  }
  template <class Number, class Arrays>
  static reference::selective_parts<Number> views(const gradient_problem<S>& p, Arrays& x) {
    const index_t B = p.batch, T = p.length, D = p.sizes[0], N = p.sizes[1];
    reference::selective_parts<Number> v{
        .dt = row_major<Number>(x[0].data(), B, T, D),
        .input = row_major<Number>(x[1].data(), B, T, D),
        .write = row_major<Number>(x[2].data(), B, T, p.sizes[2], N),
        .read = row_major<Number>(x[3].data(), B, T, p.sizes[3], N),
        .decay = row_major<Number>(x[4].data(), D, N)};
    if (full) {
      v.output_gate = row_major<Number>(x[5].data(), B, T, D);
      v.skip = row_major<Number>(x[6].data(), D);
      v.dt_bias = row_major<Number>(x[7].data(), D);
    }
    return v;
  }
};

}  // namespace

TEMPLATE_TEST_CASE_SIG("gradients of the selective scan keep the laws of backward passes",
                       "[gradient][selective_ssm][law]",
                       ((class S, discretisation Rule, parts Parts), S, Rule, Parts),
                       (float, euler, parts::all), (double, euler, parts::none),
                       (float, hold, parts::none), (double, hold, parts::all)) {
  check_gradient_laws(ssm_subject<S, Rule, Parts>{}, 11, 8);
}

TEST_CASE(
    "groups across blocks, and more tokens than sums over channels are held of, keep the laws",
    "[gradient][selective_ssm][law]") {
  const ssm_subject<float, euler, parts::all> mixer;
  maslin::test::random r(5);
  worst_ratio worst("selective_ssm, wide");
  struct size {
    index_t D, N, writes, reads, T;
  };
#if defined(MASLIN_DEBUG_CHECKS)
  const size most{33, 64, 33, 1, 40};  // such builds are slow
#else
  const size most{96, 64, 96, 1, 100};
#endif
  for (const auto& [D, N, writes, reads, T] :
       {size{200, 3, 5, 2, 9}, size{20, 256, 1, 4, 5}, size{48, 12, 48, 16, 40}, most}) {
    const auto p = mixer.of({D, N, writes, reads, 3}, 2, T, r);
    gradient_law::truth(mixer, p, worst);
    gradient_law::batch(mixer, p, r);
  }
}

TEST_CASE("steps and decays at the ends of their ranges keep the bound of gradients",
          "[gradient][selective_ssm][accuracy]") {
  // Delta up to 20 and near 0, A from -1e4 over tiny ones and 0 to growing.
  constexpr double decays[] = {-1e4, -100, -6, -1, -1e-3, -1e-9, 0, 1e-6, 0.5};
  constexpr double steps[] = {20, 5, 1, 0, -5, -15, -60, -80};
  const auto check = [&](const auto& mixer) {
    maslin::test::random r(6);
    worst_ratio worst("selective_ssm, extremes");
    auto p = mixer.of({19, 9, 1, 1, 3}, 1, 8, r);
    for (std::size_t i = 0; i < p.inputs[4].size(); ++i)
      p.inputs[4][i] = static_cast<std::remove_cvref_t<decltype(p.inputs[4][i])>>(decays[i % 9]);
    for (std::size_t i = 0; i < p.inputs[0].size(); ++i)
      p.inputs[0][i] =
          static_cast<std::remove_cvref_t<decltype(p.inputs[0][i])>>(steps[(i / 19 + i % 19) % 8]);
    gradient_law::truth(mixer, p, worst);
  };
  check(ssm_subject<float, euler, parts::all>{});
  check(ssm_subject<float, hold, parts::none>{});
  check(ssm_subject<double, hold, parts::all>{});
}

TEST_CASE("tasks of S6 gradients may run in any order and on any threads",
          "[gradient][selective_ssm][threads]") {
  using mixer_t = selective_ssm<float>;
  constexpr index_t B = 3, T = 21, D = 150, N = 4;
  maslin::test::random r(9);
  const auto numbers = [&](index_t n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    r.fill_uniform(std::span<float>(x), -1, 1);
    return x;
  };
  const auto dt = numbers(B * T * D), input = numbers(B * T * D), dy = numbers(B * T * D),
             write = numbers(B * T * N), read = numbers(B * T * N), decay = numbers(D * N);
  const mixer_t mixer{.channels = D, .state_dim = N, .decay = row_major(decay.data(), D, N)};
  const mixer_t::tokens u{.dt = row_major(dt.data(), B, T, D),
                          .input = row_major(input.data(), B, T, D),
                          .write = row_major(write.data(), B, T, 1, N),
                          .read = row_major(read.data(), B, T, 1, N)};
  std::vector<float> y(dt.size());
  auto h = mixer.make_state(B);
  auto keep = mixer.make_saved(B, T, 4);
  mixer.scan(exec::sequential{}, u, row_major(y.data(), B, T, D), h, keep);
  const auto run = [&](const auto& policy) {
    std::vector<float> dinput(dt.size()), dwrite(write.size()), dread(read.size()),
        ddecay(decay.size());
    auto dh = mixer.make_state(B);
    mixer.backward(policy, u, keep, row_major(dy.data(), B, T, D),
                   {.input = row_major(dinput.data(), B, T, D),
                    .write = row_major(dwrite.data(), B, T, 1, N),
                    .read = row_major(dread.data(), B, T, 1, N),
                    .decay = row_major(ddecay.data(), D, N)},
                   dh);
    for (const auto* part : {&dwrite, &dread, &ddecay})
      dinput.insert(dinput.end(), part->begin(), part->end());
    return dinput;
  };
  const auto want = run(exec::sequential{});
  thread_executor threads;
  reverse_executor reverse;
  CHECK(equal_bytes(want, run(exec::on(threads, exec::sequential{.threads = 4}))));
  CHECK(equal_bytes(want, run(exec::on(threads, exec::chunked{.threads = 3}))));
  CHECK(equal_bytes(want, run(exec::on(reverse, exec::sequential{.threads = 5}))));
  CHECK(equal_bytes(want, run(exec::on(reverse, exec::scalar{}))));
}

TEST_CASE("a wrong backward call of selective_ssm names what it wanted and writes nothing",
          "[gradient][selective_ssm][check]") {
  using mixer_t = selective_ssm<float>;
  constexpr index_t B = 2, T = 3, D = 8, N = 4;
  const std::vector<float> tokens(B * T * D), shared(B * T * N), decay(D * N), one(D);
  const auto plain = row_major(tokens.data(), B, T, D);
  const mixer_t good{.channels = D,
                     .state_dim = N,
                     .decay = row_major(decay.data(), D, N),
                     .skip = row_major(one.data(), D)};
  const mixer_t::tokens all{.dt = plain,
                            .input = plain,
                            .write = row_major(shared.data(), B, T, 1, N),
                            .read = row_major(shared.data(), B, T, 1, N)};
  std::vector<float> out(tokens.size());
  auto h = good.make_state(B);
  auto filled = good.make_saved(B, T, 2);
  good.scan(exec::sequential{}, all, row_major(out.data(), B, T, D), h, filled);

  const auto refuses = [&](const std::string& text, auto change) {
    auto mixer = good;
    auto u = all;
    auto g = plain;
    auto keep = filled;
    auto dh = good.make_state(B);
    poisoned<float, 3> dinput({B, T, D});
    poisoned<float, 4> dwrite({B, T, 1, N});
    poisoned<float, 2> ddecay({D, N});
    mixer_t::gradients d{.input = dinput.get(), .write = dwrite.get(), .decay = ddecay.get()};
    change(mixer, u, g, keep, d, dh);
    const std::string said = answer([&] { mixer.backward(exec::sequential{}, u, keep, g, d, dh); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("selective_ssm::backward: "));
    CHECK(said.find(text) != std::string::npos);
    CHECK(dinput.untouched());
    CHECK(dwrite.untouched());
    CHECK(ddecay.untouched());
  };
  refuses("state_dim must be in", [](auto& m, auto&&...) { m.state_dim = 0; });
  refuses("dt must be", [](auto&, auto& u, auto&&...) { u.dt = time_range(u.dt, 0, 2); });
  refuses("write must be", [](auto&, auto& u, auto&&...) { u.write = time_range(u.write, 0, 2); });
  refuses("decay must be", [](auto& m, auto&&...) { m.decay = {}; });
  refuses("dy must be", [](auto&, auto&, auto& g, auto&&...) { g = time_range(g, 0, 2); });
  refuses("saved must be of make_saved for these sizes",
          [&](auto&, auto&, auto&, auto& keep, auto&&...) { keep.states.resize(3); });
  refuses("saved must be filled by a scan of 2 sequences of 6 tokens in all, got one of -1",
          [&](auto&, auto&, auto&, auto& keep, auto&&...) { keep = good.make_saved(B, T); });
  refuses("saved must keep a state every 1 or more tokens, got 0",
          [](auto&, auto&, auto&, auto& keep, auto&&...) { keep.every = 0; });
  refuses("gradients.write must be",
          [](auto&, auto&, auto&, auto&, auto& d, auto&) { d.write = time_range(d.write, 0, 2); });
  refuses("gradients.decay must be", [](auto&, auto&, auto&, auto&, auto& d, auto&) {
    d.decay = {d.decay.data_handle(), {D, N - 1}, {N, 1}};
  });
  refuses(
      "gradients.dt_bias must be empty without dt_bias",
      [&](auto&, auto&, auto&, auto&, auto& d, auto&) { d.dt_bias = row_major(out.data(), D); });
  refuses("gradients.output_gate must be empty without output_gate",
          [&](auto&, auto&, auto&, auto&, auto& d, auto&) {
            d.output_gate = row_major(out.data(), B, T, D);
          });
  refuses(
      "gradients.dt must not overlap dstate",
      [](auto&, auto&, auto&, auto&, auto& d, auto& dh) { d.dt = row_major(dh.row(0), B, T, D); });
  refuses("gradients.input must not overlap gradients.dt",
          [](auto&, auto&, auto&, auto&, auto& d, auto&) { d.dt = d.input; });
  refuses("gradients.dt must not overlap saved",
          [](auto&, auto&, auto&, auto& keep, auto& d, auto&) {
            keep.states.resize(1000);
            d.dt = row_major(keep.states.data(), B, T, D);
          });
  refuses("dstate must be of order", [&](auto&, auto&, auto&, auto&, auto&, auto& dh) {
    dh = mixer_t{.channels = D, .state_dim = 5}.make_state(B);
  });
  refuses("dstate must be [B, D] = [2, 8], got [1, 8]",
          [&](auto&, auto&, auto&, auto&, auto&, auto& dh) { dh = good.make_state(1); });
}

TEST_CASE("a scan of selective_ssm that saves refuses y in place and too little room",
          "[gradient][selective_ssm][check]") {
  using mixer_t = selective_ssm<float>;
  const std::vector<float> tokens(2 * 3 * 8), shared(2 * 3 * 4), decay(8 * 4);
  std::vector<float> input(tokens.size());
  const mixer_t mixer{.channels = 8, .state_dim = 4, .decay = row_major(decay.data(), 8, 4)};
  const mixer_t::tokens u{.dt = row_major(tokens.data(), 2, 3, 8),
                          .input = row_major(std::as_const(input).data(), 2, 3, 8),
                          .write = row_major(shared.data(), 2, 3, 1, 4),
                          .read = row_major(shared.data(), 2, 3, 1, 4)};
  auto h = mixer.make_state(2);
  auto keep = mixer.make_saved(2, 3, 1);
  CHECK(keep.bytes() == 8 * 16 * 4 * index_t{sizeof(float)});
  CHECK_THROWS_AS(mixer.scan(exec::sequential{}, u, row_major(input.data(), 2, 3, 8), h, keep),
                  shape_error);
  std::vector<float> y(input.size());
  auto small = mixer.make_saved(1, 3, 1);
  CHECK_THROWS_AS(mixer.scan(exec::sequential{}, u, row_major(y.data(), 2, 3, 8), h, small),
                  shape_error);
  CHECK_THROWS_AS(mixer.make_saved(-1, 3), shape_error);
  CHECK_THROWS_AS(mixer.make_saved(1, 3, -1), shape_error);
  CHECK_THROWS_AS(mixer.make_saved(index_t{1} << 40, index_t{1} << 40), shape_error);
  CHECK_THROWS_AS(mixer.make_saved(std::array<index_t, 2>{1, 3}), shape_error);
  // What has been saved changes nothing else.
  auto alone = h;
  std::vector<float> z(y.size());
  mixer.scan(exec::sequential{}, u, row_major(y.data(), 2, 3, 8), h, keep);
  mixer.scan(exec::sequential{}, u, row_major(z.data(), 2, 3, 8), alone);
  CHECK(y == z);
  CHECK(h == alone);
}
