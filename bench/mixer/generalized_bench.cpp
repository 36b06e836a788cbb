// SPDX-License-Identifier: Apache-2.0

/// \file
/// Workloads of the generalised mixer: the dense solve beside triangular solvers, patterns with
/// given coefficients, and their time against the number of tokens.

#include "support/contender.hpp"
#include "support/gradients.hpp"
#include "support/projection.hpp"
#include "support/rows.hpp"
#include "support/truth.hpp"

#include <maslin/gradient/generalized.hpp>
#include <maslin/reference/generalized.hpp>
#include <maslin/scan/policy.hpp>

#include <cmath>
#include <limits>

#if defined(MASLIN_BENCH_OPENBLAS)
#include <cblas.h>
#endif

namespace bench {
namespace {

namespace exec = maslin::exec;
namespace pattern = maslin::pattern;
using maslin::row_major;
/// Given coefficients, whose rows have an L1 norm below 1.
template <class P>
class rows_problem final : public problem {
 public:
  using mixer = maslin::generalized<float, P>;

  rows_problem(const corpus& text, const P& p, const sizes_of_rows& n)
      : of(p),
        size(n),
        S(slots_of(p, n.all())),
        self(n.tokens() * n.H),
        past(self.size() * S),
        input(n.numbers()),
        y(n.numbers()) {
    const embedding tokens(text.bytes, n.tokens());
    tokens.project(past.data(), n.tokens(), n.H * S, 23, 1.0f, 0.0f);
    tokens.project(input.data(), n.tokens(), n.H * n.E, 29, 1.0f, 0.0f);
    for (index_t i = 0; i < past.size(); ++i)
      past[i] = std::tanh(past[i]) / static_cast<float>(S + 1);
    for (index_t i = 0; i < self.size(); ++i) self[i] = 1;
  }

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  /// The worst residual of a token in (n_t + 2) u (|A x| + |I - B| |y|), n_t its terms.
  [[nodiscard]] double worst(double tolerance) const override {
    double found = 0;
    for (index_t t = 0; t < size.T; ++t) {
      const auto reads = reads_of(of, t);
      const double terms = tolerance * static_cast<double>(reads.size() + 3) * unit_roundoff;
      for (index_t b = 0; b < size.B; ++b)
        for (index_t h = 0; h < size.H; ++h)
          for (index_t e = 0; e < size.E; ++e) {
            const index_t token = b * size.T + t;
            const double own = double{self[token * size.H + h]} * input[at(token, h, e)];
            double rest = own - y[at(token, h, e)],
                   sum = std::abs(own) + std::abs(y[at(token, h, e)]);
            for (const auto& [position, slot] : reads) {
              const double term = double{past[(token * size.H + h) * S + slot]} *
                                  y[at(b * size.T + position, h, e)];
              rest += term;
              sum += std::abs(term);
            }
            const double ratio = std::abs(rest) / (terms * sum);
            if (!(ratio <= found)) found = std::isnan(ratio) ? HUGE_VAL : ratio;
          }
    }
    return found;
  }
  [[nodiscard]] typename mixer::tokens tokens() const {
    return {
        .self = row_major(static_cast<const float*>(self.data()), size.B, size.T, size.H),
        .past = row_major(static_cast<const float*>(past.data()), size.B, size.T, size.H, S),
        .input = row_major(static_cast<const float*>(input.data()), size.B, size.T, size.H, size.E),
        .offsets = {}};
  }
  [[nodiscard]] maslin::view<float, 4> out() const {
    return row_major(y.data(), size.B, size.T, size.H, size.E);
  }

  P of;
  sizes_of_rows size;
  index_t S;
  buffer self, past, input, y;

 private:
  [[nodiscard]] index_t at(index_t token, index_t h, index_t e) const {
    return (token * size.H + h) * size.E + e;
  }
};

/// y_t = x_t + sum past y as one writes it.
template <class P>
[[gnu::noinline]] void plain_loop(const rows_problem<P>& d) {
  const index_t B = d.size.B, T = d.size.T, H = d.size.H, E = d.size.E;
  for (index_t b = 0; b < B; ++b)
    for (index_t t = 0; t < T; ++t)
      for (index_t h = 0; h < H; ++h) {
        const index_t token = b * T + t;
        const float own = d.self[token * H + h];
        const float* past = d.past.data() + (token * H + h) * d.S;
        const float* x = d.input.data() + (token * H + h) * E;
        float* __restrict y = d.y.data() + (token * H + h) * E;
        for (index_t e = 0; e < E; ++e) y[e] = own * x[e];
        pattern::for_each_read(d.of, t, [&](index_t position, index_t level) {
          const float weight = past[std::is_same_v<P, pattern::dense> ? position : level];
          const float* row = d.y.data() + ((b * T + position) * H + h) * E;
          for (index_t e = 0; e < E; ++e) y[e] += weight * row[e];
        });
      }
}

/// The triangle I - B and the right-hand sides of a dense problem: what solvers ask for.
class triangle {
 public:
  explicit triangle(const rows_problem<pattern::dense>& d) : d_(&d), matrix_(d.past.size()) {
    const index_t S = d.S;
    width = S + 1;
    matrix_ = buffer(d.size.B * width * width);
    for (index_t b = 0; b < d.size.B; ++b)
      for (index_t t = 0; t < d.size.T; ++t)
        for (index_t p = 0; p < t; ++p)
          matrix_[(b * width + t) * width + p] = -d.past[(b * d.size.T + t) * S + p];
  }
  /// y <- x, then solve(I - B, y) for each sequence: the systems have a unit diagonal and self = 1.
  template <class Solve>
  void run(const Solve& solve) const {
    const index_t B = d_->size.B, T = d_->size.T, E = d_->size.E;
    std::copy_n(d_->input.data(), d_->input.size(), d_->y.data());
    for (index_t b = 0; b < B; ++b)
      solve(matrix_.data() + b * width * width, d_->y.data() + b * T * E, T, E);
  }
  index_t width = 0;

 private:
  const rows_problem<pattern::dense>* d_;
  buffer matrix_;
};

/// Builds the rows of one workload with given coefficients.
template <class P>
class rows_rows {
 public:
  using data = rows_problem<P>;

  rows_rows(std::string name, const P& p, const sizes_of_rows& n, const caches& sizes)
      : name_(std::move(name)), of_(p), size_(n) {
    load_.mixer = "generalized";
    load_.call = "scan";
    load_.form = name_;
    load_.regime = "compute";
    load_.B = n.B;
    load_.T = n.all();
    load_.D = n.H * n.E;
    const auto tokens = static_cast<double>(n.B * n.all());
    const double reads = n.all() > n.T
                             ? tokens * static_cast<double>(pattern::read_count(p, n.all() / 2))
                             : total_reads(p, n.T) * static_cast<double>(n.B);
    adds_ = (reads + tokens) * static_cast<double>(n.H * n.E);
    gathered_ = reads;
    const index_t row_bytes = n.H * n.E * static_cast<index_t>(sizeof(float));
    // Of tokens taken again and again those in the middle stand for all.
    const index_t middle = n.all() / 2;
    by_level_ = n.all() > n.T ? gathers_of(p, middle, middle + 1, row_bytes, sizes)
                              : gathers_of(p, 0, n.T, row_bytes, sizes);
    const double times = n.all() > n.T ? tokens : static_cast<double>(n.B);
    for (gather& g : by_level_) g.bytes *= times;
    // A blocked solve reads a row once for many tokens: arithmetic alone counts.
    if constexpr (std::is_same_v<P, pattern::dense>) by_level_ = {};
    load_.preparation = 0.3 + adds_ * 3e-9;
    load_.prepare = [p, n](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<data>(text, p, n);
    };
    coefficients_ = static_cast<double>(n.tokens() * n.H) * static_cast<double>(slots_of(p, n.T));
  }

  rows_rows& library(const std::string& target = {}) {
    row& r = add("sequential", 1);
    r.target = target;
    const auto number = static_cast<index_t>(sizeof(float));
    r.cache_bytes = size_.B * pattern::cache_entries(of_, size_.all()) * size_.H * size_.E * number;
    r.gathered = gathered_;
    r.bind = [](problem& any) {
      auto& d = static_cast<data&>(any);
      const typename data::mixer mix{.heads = d.size.H, .value_dim = d.size.E, .pattern = d.of};
      auto state =
          std::make_shared<typename data::mixer::state>(mix.make_state(d.size.B, d.size.all()));
      const auto once = [=, &d] {
        state->reset();
        mix.scan(exec::sequential{}, d.tokens(), d.out(), *state);
      };
      contender c = repeated([=, &d] {
        once();
        for (index_t t = d.size.T; t < d.size.all(); t += d.size.T)
          mix.scan(exec::sequential{}, d.tokens(), d.out(), *state);
      });
      c.fresh = once;
      return c;
    };
    return *this;
  }
  rows_rows& naive() {
    row& r = add("naive", 2);
    r.naive = true;
    r.bind = [](problem& any) {
      auto& d = static_cast<data&>(any);
      return repeated([&d] { plain_loop(d); });
    };
    return *this;
  }
  template <class Solve>
  rows_rows& solver(const std::string& title, const Solve& solve) {
    // Blocked solvers add in another order, and more than once: their bound has a factor.
    constexpr double blocked = 8;
    row& r = add(title, blocked);
    r.bind = [solve](problem& any) {
      auto& d = static_cast<data&>(any);
      const auto system = std::make_shared<triangle>(d);
      return repeated([=] { system->run([&](auto... a) { solve(system->width, a...); }); });
    };
    return *this;
  }
  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  row& add(const std::string& title, double tolerance) {
    row r;
    r.name = row_name(load_, title);
    r.title = title;
    r.tolerance = tolerance;
    const double numbers = static_cast<double>(size_.numbers());
    // Tokens that are taken again come from the cache: arithmetic alone counts.
    r.least = {.elements = size_.all() > size_.T ? 0 : size_.numbers(),
               .rows_read = std::max(1, static_cast<int>(std::lround(1 + coefficients_ / numbers))),
               .slots = adds_,
               .gathered = by_level_};
    r.tokens = size_.B * size_.all();
    r.estimate = adds_ / 10e9;
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  std::string name_;
  P of_;
  sizes_of_rows size_;
  workload load_;
  std::array<gather, 4> by_level_{};
  double adds_ = 0, gathered_ = 0, coefficients_ = 0;
};

void solve_by_eigen(index_t width, const float* L, float* y, index_t T, index_t E) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using stride = Eigen::OuterStride<>;
  Eigen::Map<const matrix, 0, stride> left(L, T, T, stride(width));
  Eigen::Map<matrix> right(y, T, E);
  left.template triangularView<Eigen::UnitLower>().solveInPlace(right);
}
#if defined(MASLIN_BENCH_OPENBLAS)
void solve_by_blas(index_t width, const float* L, float* y, index_t T, index_t E) {
  openblas_set_num_threads(1);
  cblas_strsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasUnit, static_cast<int>(T),
              static_cast<int>(E), 1.0f, L, static_cast<int>(width), y, static_cast<int>(E));
}
#endif

workload dense_solve(const settings& s, index_t T, index_t B, const std::string& target) {
  rows_rows<pattern::dense> rows("dense", {}, {B, T, 1, 64}, s.sizes);
  rows.library(target).naive().solver("eigen", solve_by_eigen);
#if defined(MASLIN_BENCH_OPENBLAS)
  rows.solver("openblas", solve_by_blas);
#endif
  return rows.take();
}

template <class P>
workload given(const settings& s, const std::string& name, const P& p, const sizes_of_rows& n,
               const std::string& target = {}) {
  return rows_rows<P>(name, p, n, s.sizes).library(target).naive().take();
}

/// The time a token against the length of the sequence, prefilled in calls of 4096 tokens, the same again
/// and again, so that nothing but the rows that are read grows. Rows of 64 channels end in memory, 64 MiB of k^2 + 1, and
/// slow down on the way; those of 16, 16 MiB, stay within a third-level cache of 32 MiB.
template <class P>
void growth(std::vector<workload>& plan, const settings& s, const std::string& name, const P& p) {
  constexpr index_t call = 4096;
  const index_t longest = s.quick ? 16384 : 262144;
  for (const index_t E : {64, 16})
    for (index_t n = 1024; n <= longest; n *= 4) {
      const std::string target = "generalized/" + name + "/growth" + (E == 64 ? "" : "/E16");
      plan.push_back(rows_rows<P>(name + "-growth", p, {1, std::min(call, n), 1, E, n}, s.sizes)
                         .library(n == longest ? target : "")
                         .take());
    }
}

/// The gradients of a problem with given coefficients.
template <class P>
class rows_backward_problem final : public gradient_problem {
 public:
  using data = rows_problem<P>;
  using mixer = typename data::mixer;

  rows_backward_problem(const corpus& text, const P& p, const sizes_of_rows& n)
      : of(text, p, n),
        dy(n.numbers()),
        dself(of.self.size()),
        dpast(of.past.size()),
        dinput(n.numbers()),
        keep(make().make_saved(n.B, n.T)),
        state(make().make_state(n.B, n.T)),
        dstate(state) {
    embedding(text.bytes, n.tokens()).project(dy.data(), n.tokens(), n.H * n.E, 31, 1.0f, 0.0f);
    find_truth();
  }
  [[nodiscard]] mixer make() const {
    return {.heads = of.size.H, .value_dim = of.size.E, .pattern = of.of};
  }
  [[nodiscard]] maslin::view<float, 4> values(const buffer& b) const {
    return row_major(b.data(), of.size.B, of.size.T, of.size.H, of.size.E);
  }
  [[nodiscard]] typename mixer::gradients gradients() const {
    const auto [B, T, H, E, capacity] = of.size;
    return {.self = row_major(dself.data(), B, T, H),
            .past = row_major(dpast.data(), B, T, H, of.S),
            .input = values(dinput)};
  }

  data of;
  buffer dy, dself, dpast, dinput;
  typename mixer::saved keep;
  typename mixer::state state, dstate;

 private:
  void find_truth() {
    const auto [B, T, H, E, capacity] = of.size;
    const index_t S = of.S;
    const auto self = widened(of.self.data(), of.self.size()),
               past = widened(of.past.data(), of.past.size()),
               input = widened(of.input.data(), of.input.size()),
               wide_dy = widened(dy.data(), dy.size());
    const std::vector<double> zeros(input.size()), none;
    std::vector<double> y(zeros), d_self(self), d_past(past), d_input(input), nothing;
    const auto rows = [&, b = B, t = T, h = H, e = E](auto& v) {
      return row_major(v.data(), b, t, h, e);
    };
    const auto reads = [p = of.of](index_t t) {
      std::vector<maslin::reference::pattern_read> found;
      for (const auto& [position, slot] : reads_of(p, t)) found.push_back({position, slot});
      return found;
    };
    maslin::reference::generalized_backward<double>(
        {.kind = maslin::weights::given,
         .reads = reads,
         .smallest_normal = 0,
         .self = row_major(self.data(), B, T, H),
         .past = row_major(past.data(), B, T, H, S),
         .input = rows(input),
         .before = row_major(none.data(), B, 0, H, E),
         .dy = rows(wide_dy),
         .dafter = rows(zeros)},
        {.y = rows(y),
         .dself = row_major(d_self.data(), B, T, H),
         .dpast = row_major(d_past.data(), B, T, H, S),
         .dinput = rows(d_input),
         .dbefore = row_major(nothing.data(), B, 0, H, E)});
    know(dself, d_self);
    know(dpast, d_past);
    know(dinput, d_input);
  }
};

/// The equations as one writes them: dinput holds the rows' gradients.
template <class P>
[[gnu::noinline]] void plain_backward(rows_backward_problem<P>& d) {
  const auto& p = d.of;
  const index_t H = p.size.H, E = p.size.E, T = p.size.T, S = p.S;
  std::copy_n(d.dy.data(), d.dy.size(), d.dinput.data());
  std::fill_n(d.dpast.data(), d.dpast.size(), 0.0f);
  for (index_t b = 0; b < p.size.B; ++b)
    for (index_t t = T; t-- > 0;)
      for (index_t h = 0; h < H; ++h) {
        const index_t token = (b * T + t) * H + h;
        float* __restrict s = d.dinput.data() + token * E;
        pattern::for_each_read(p.of, t, [&](index_t position, index_t level) {
          const index_t slot = token * S + (std::is_same_v<P, pattern::dense> ? position : level);
          const index_t row = ((b * T + position) * H + h) * E;
          const float* __restrict y = p.y.data() + row;
          float* __restrict to = d.dinput.data() + row;
          const float weight = p.past[slot];
          float dot = 0;
          for (index_t e = 0; e < E; ++e) {
            dot += s[e] * y[e];
            to[e] += weight * s[e];
          }
          d.dpast[slot] = dot;
        });
        float dot = 0;
        for (index_t e = 0; e < E; ++e) {
          dot += s[e] * p.input[token * E + e];
          s[e] *= p.self[token];
        }
        d.dself[token] = dot;
      }
}

template <class P>
workload backward_workload(const std::string& name, const P& p, const sizes_of_rows& n) {
  using data = rows_backward_problem<P>;
  workload load;
  load.mixer = "generalized";
  load.call = "backward";
  load.form = name;
  load.regime = "compute";
  load.B = n.B;
  load.T = n.T;
  load.D = n.H * n.E;
  const double adds =
      (total_reads(p, n.T) + static_cast<double>(n.T)) * static_cast<double>(n.B * n.H * n.E);
  load.preparation = 0.3 + adds * 6e-9;
  load.prepare = [p, n](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<data>(text, p, n);
  };
  // Chains of T roundings, of numbers of both signs.
  constexpr double tolerance = 64;
  add_backward_rows<data>(
      load, {.elements = n.numbers(), .rows_read = 3, .slots = 2 * adds}, tolerance,
      [](data& d) {
        d.state.reset();
        d.make().scan(exec::sequential{}, d.of.tokens(), d.values(d.of.y), d.state, d.keep);
      },
      [](data& d) {
        d.dstate.reset();
        d.make().backward(exec::sequential{}, d.of.tokens(), d.keep, d.values(d.dy), d.gradients(),
                          d.dstate);
      },
      [](data& d) { plain_backward(d); });
  return load;
}

}  // namespace

std::vector<workload> generalized_workloads(const settings& s) {
  std::vector<workload> plan;
  plan.push_back(dense_solve(s, 64, 16, "trimix/n64/solve/compute"));
  plan.push_back(dense_solve(s, 256, 16, "trimix/n256/solve/compute"));
  plan.push_back(dense_solve(s, 1024, 4, "trimix/n1024/solve/compute"));
  const pattern::cached<pattern::power2> cached2{};
  const pattern::cached<pattern::square1> cached1{};
  for (const index_t T : {1024, 4096}) {
    const auto named = [&](const char* pattern) {
      return T == 1024 ? "generalized/" + std::string(pattern) + "/given" : std::string();
    };
    const sizes_of_rows n{1, T, 1, 256};
    plan.push_back(given(s, "power2", pattern::power2{}, n, named("power2")));
    plan.push_back(given(s, "square1", pattern::square1{}, n, named("square1")));
    plan.push_back(given(s, "cached-power2", cached2, n, named("cached-power2")));
    plan.push_back(given(s, "cached-square1", cached1, n, named("cached-square1")));
  }
  growth(plan, s, "power2", pattern::power2{});
  growth(plan, s, "square1", pattern::square1{});
  growth(plan, s, "cached-power2", cached2);
  growth(plan, s, "cached-square1", cached1);
  plan.push_back(given(s, "order4", pattern::order{4}, {1, 4096, 1, 256}));
  plan.push_back(backward_workload("cached-square1", cached1, {1, 1024, 1, 256}));
  plan.push_back(backward_workload("dense", pattern::dense{}, {1, 1024, 1, 64}));
  return plan;
}

}  // namespace bench
