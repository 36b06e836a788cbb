// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "paths.hpp"
#include "replay.hpp"
#include "runs.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/generalized.hpp>

#include <cmath>
#include <limits>
#include <map>

namespace golden {

namespace {

using maslin::row_major;
namespace reference = maslin::reference;

reference::pattern_reads reads_of(const std::string& pattern) {
  const auto order3 = [](index_t k) { return k < 3 ? k + 1 : std::numeric_limits<index_t>::max(); };
  const auto power2 = [](index_t k) { return index_t{1} << k; };
  const auto square1 = [](index_t k) { return k * k + 1; };
  const std::map<std::string, reference::pattern_reads> known{
      {"order3", reference::plain_reads(order3)},
      {"power2", reference::plain_reads(power2)},
      {"square1", reference::plain_reads(square1)},
      {"dense", reference::dense_reads()},
      {"power2_cached", reference::cached_reads(power2)},
      {"square1_cached", reference::cached_reads(square1)}};
  const auto found = known.find(pattern);
  if (found == known.end()) throw bad_case("meta.json: unknown pattern '" + pattern + "'");
  return found->second;
}

/// Moves beta [T, T] to the slots of the pattern; those that are not read are NaN. The case's mask
/// was made apart from our patterns: it must be the same set.
void fill_slots(const reference::pattern_reads& reads, const std::vector<double>& beta,
                const std::vector<double>& mask, rows_problem& p) {
  const index_t T = p.steps;
  std::vector<double> seen(mask.size(), 0.0);
  for (index_t t = 0; t < T; ++t)
    for (const auto& read : reads(t)) p.slots = std::max(p.slots, read.level + 1);
  // The highest level may share its position with a lower one, which is the one that reads.
  ++p.slots;
  p.past.assign(static_cast<std::size_t>(T * p.slots), std::numeric_limits<double>::quiet_NaN());
  for (index_t t = 0; t < T; ++t)
    for (const auto& [position, slot] : reads(t)) {
      row_major(p.past.data(), T, p.slots)(t, slot) = row_major(beta.data(), T, T)(t, position);
      row_major(seen.data(), T, T)(t, position) = 1;
    }
  if (seen != mask) throw bad_case("mask is not the set of positions of " + p.pattern);
}

std::vector<double> by_reference(const reference::pattern_reads& reads, const rows_problem& p) {
  const index_t T = p.steps, E = p.width;
  std::vector<double> y(p.input.size());
  reference::generalized(reads, row_major(p.self.data(), 1, T, 1),
                         row_major(p.past.data(), 1, T, 1, p.slots),
                         row_major(p.input.data(), 1, T, 1, E), row_major(y.data(), 1, T, 1, E));
  return y;
}

const char* const gradient_names[] = {"d_alpha", "d_beta", "d_x"};

/// Gradients of alpha, of the slots and of x.
template <class N>
std::vector<std::vector<N>> backward(const reference::pattern_reads& reads, const rows_problem& p) {
  const index_t T = p.steps, E = p.width, S = p.slots;
  const auto self = numbers<N>(p.self), past = numbers<N>(p.past), input = numbers<N>(p.input),
             dy = numbers<N>(p.dy);
  const std::vector<N> nothing, dafter(dy.size(), N(0));
  std::vector<N> y(input.size()), dself(self.size()), dpast(past.size()), dinput(input.size()),
      dbefore;
  const auto rows = [&](auto& v) { return row_major(v.data(), 1, T, 1, E); };
  reference::generalized_backward<N>({.kind = maslin::weights::given,
                                      .reads = reads,
                                      .smallest_normal = 0,
                                      .self = row_major(self.data(), 1, T, 1),
                                      .past = row_major(past.data(), 1, T, 1, S),
                                      .input = rows(input),
                                      .before = row_major(nothing.data(), 1, 0, 1, E),
                                      .dy = rows(dy),
                                      .dafter = rows(dafter)},
                                     {.y = rows(y),
                                      .dself = row_major(dself.data(), 1, T, 1),
                                      .dpast = row_major(dpast.data(), 1, T, 1, S),
                                      .dinput = rows(dinput),
                                      .dbefore = row_major(dbefore.data(), 1, 0, 1, E)});
  return {dself, dpast, dinput};
}

/// The case's gradients; that of beta [T, T] goes to the slots of the pattern, zeros elsewhere.
std::vector<std::vector<double>> read_gradients(const test_case& test,
                                                const reference::pattern_reads& reads,
                                                rows_problem& p) {
  if (!test.has("d_out")) return {};
  const index_t T = p.steps, E = p.width;
  p.dy = test.values("d_out", {T, E});
  const auto dbeta = test.values("d_beta", {T, T});
  std::vector<double> dpast(p.past.size(), 0.0);
  for (index_t t = 0; t < T; ++t)
    for (const auto& [position, slot] : reads(t))
      row_major(dpast.data(), T, p.slots)(t, slot) = row_major(dbeta.data(), T, T)(t, position);
  std::vector<std::vector<double>> all{test.values("d_alpha", {T}), dpast,
                                       test.values("d_x", {T, E})};
  for (const auto& d : all) refuse_vacuous(d);
  return all;
}

void compare_gradients(const std::string& path, const std::vector<std::vector<double>>& got,
                       const std::vector<target>& want, verdict& into) {
  for (std::size_t k = 0; k < got.size(); ++k)
    into.compare(path, gradient_names[k], got[k], want[k]);
}

/// The residual alpha x - (I - B) y of a float run, and what is allowed of it.
struct residual {
  std::vector<double> value;
  target none;
};
residual residual_of(const reference::pattern_reads& reads, const rows_problem& p,
                     const std::vector<double>& y_values) {
  const index_t T = p.steps, E = p.width;
  const auto y = row_major(y_values.data(), T, E), x = row_major(p.input.data(), T, E);
  const auto past = row_major(p.past.data(), T, p.slots);
  residual r;
  for (index_t t = 0; t < T; ++t) {
    const auto positions = reads(t);
    const double terms = static_cast<double>(positions.size()) + 2;
    for (index_t e = 0; e < E; ++e) {
      const double own = p.self[static_cast<std::size_t>(t)] * x(t, e);
      double sum = own - y(t, e), size = std::abs(own) + std::abs(y(t, e));
      for (const auto& [position, slot] : positions) {
        sum += past(t, slot) * y(position, e);
        size += std::abs(past(t, slot) * y(position, e));
      }
      r.value.push_back(sum);
      r.none.value.push_back(0);
      r.none.allowed[0].push_back(terms * maslin::test::unit_roundoff<float> * size);
    }
  }
  r.none.allowed[1] = r.none.allowed[0];
  return r;
}

}  // namespace

void run_generalized(const test_case& test, verdict& into) {
  test.allow_only({"x", "alpha", "beta", "mask", "y", "d_out", "d_alpha", "d_beta", "d_x"});
  const shape size = test.extents("x", 2);
  rows_problem p{.pattern = test.pattern(), .steps = size[0], .width = size[1]};
  const index_t T = p.steps, E = p.width;
  p.self = test.values("alpha", {T});
  p.input = test.values("x", size);
  const auto beta = test.values("beta", {T, T}), golden = test.values("y", size);
  refuse_vacuous(golden);
  const auto reads = reads_of(p.pattern);
  fill_slots(reads, beta, test.values("mask", {T, T}), p);

  const target want = target::within(golden, relative_tolerance(test, T), largest_finite(golden));
  into.compare("reference", "y", by_reference(reads, p), want);
  std::vector<double> direct(beta.size()), y(golden.size());
  for (index_t t = 0; t < T; ++t)
    row_major(direct.data(), T, T)(t, t) = p.self[static_cast<std::size_t>(t)];
  reference::generalized_dense(
      row_major(direct.data(), 1, T, 1, T), row_major(beta.data(), 1, T, 1, T),
      row_major(p.input.data(), 1, T, 1, E), row_major(y.data(), 1, T, 1, E));
  into.compare("dense reference", "y", y, want);

  std::vector<target> gradients;
  for (const auto& d : read_gradients(test, reads, p))
    gradients.push_back(target::within(d, relative_tolerance(test, T), largest_finite(d)));
  if (!p.dy.empty()) compare_gradients("reference", backward<double>(reads, p), gradients, into);

  same_bytes doubles, floats;
  generalized_paths<double>(p, extent::all, [&](const outcome& run) {
    if (run.gradients.empty())
      into.compare("double " + run.path, "y", run.y, want);
    else
      compare_gradients("double " + run.path, run.gradients, gradients, into);
    into.count_path();
    doubles.check(run, into);
  });
  for (auto* values : {&p.self, &p.past, &p.input, &p.dy}) *values = to_float(std::move(*values));
  gradients.clear();
  if (!p.dy.empty()) {
    const auto bounds = backward<maslin::test::tracked<double>>(reads, p);
    generalized_paths<double>(p, extent::one, [&](const outcome& run) {
      for (std::size_t k = 0; k < run.gradients.size(); ++k)
        gradients.push_back(tracked_target(run.gradients[k], bounds[k]));
    });
  }
  generalized_paths<float>(p, extent::all, [&](const outcome& run) {
    if (run.gradients.empty()) {
      const residual r = residual_of(reads, p, run.y);
      into.compare("float " + run.path, "residual of y", r.value, r.none);
    } else {
      compare_gradients("float " + run.path, run.gradients, gradients, into);
    }
    into.count_path();
    floats.check(run, into);
  });
}

}  // namespace golden
