// SPDX-License-Identifier: Apache-2.0
#include "laws/gradient_laws.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/selective_ssm.hpp>
#include <maslin/reference/selective_ssm.hpp>

#include <array>
#include <memory>
#include <string>

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
    gradient_problem<S> p{.batch = batch,
                          .length = length,
                          .sizes = {z.D, z.N, z.writes, z.reads, every[r.below(4)]},
                          .inputs = {},
                          .initial = numbers(r, batch * z.D * z.N, -2, 2),
                          .dy = numbers(r, batch * length * z.D, -2, 2),
                          .dfinal = numbers(r, batch * z.D * z.N, -1, 1)};
    const index_t tokens = batch * length;
    p.inputs = {numbers(r, tokens * z.D, -5, 1), numbers(r, tokens * z.D, -2, 2),
                numbers(r, tokens * z.writes * z.N, -2, 2),
                numbers(r, tokens * z.reads * z.N, -2, 2), numbers(r, z.D * z.N, -6, 0.25)};
    if (full) {
      p.inputs.push_back(numbers(r, tokens * z.D, -4, 4));
      p.inputs.push_back(numbers(r, z.D, -1, 1));
      p.inputs.push_back(numbers(r, z.D, -1, 1));
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
