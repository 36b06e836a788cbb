// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "paths.hpp"
#include "replay.hpp"
#include "runs.hpp"
#include "support/attention_bound.hpp"
#include "support/tracked.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/attention.hpp>

#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace golden {

namespace {

using maslin::row_major;
namespace reference = maslin::reference;

/// [batch, head, time, width] as [batch, time, head, width].
std::vector<double> time_first(const test_case& test, const char* name, const shape& size) {
  const auto from = test.values(name, size);
  const auto v = row_major(from.data(), size[0], size[1], size[2], size[3]);
  std::vector<double> to;
  for (index_t b = 0; b < size[0]; ++b)
    for (index_t t = 0; t < size[2]; ++t)
      for (index_t h = 0; h < size[1]; ++h)
        for (index_t e = 0; e < size[3]; ++e) to.push_back(v(b, h, t, e));
  return to;
}

reference::attention_arrays arrays_of(const attention_problem& p) {
  const double* const q = p.query.data();
  const double* const k = p.key.data();
  const double* const v = p.value.data();
  return {.query = row_major(q, p.batch, p.steps, p.heads, p.key_dim),
          .key = row_major(k, p.batch, p.keys, p.key_heads, p.key_dim),
          .value = row_major(v, p.batch, p.keys, p.key_heads, p.value_dim),
          .scale = p.scale,
          .window = p.window};
}

constexpr std::array gradient_names{"d_q", "d_k", "d_v"};

/// Gradients of queries, keys and values.
template <class N>
std::array<std::vector<N>, 3> backward(const attention_problem& p) {
  const auto query = numbers<N>(p.query), key = numbers<N>(p.key), value = numbers<N>(p.value),
             dy = numbers<N>(p.dy);
  std::array<std::vector<N>, 3> d{query, key, value};
  std::vector<N> y(dy.size());
  const auto queries = [&](auto& v, index_t width) {
    return row_major(v.data(), p.batch, p.steps, p.heads, width);
  };
  const auto keys = [&](auto& v, index_t width) {
    return row_major(v.data(), p.batch, p.keys, p.key_heads, width);
  };
  const reference::attention_arrays_of<N> x{.query = queries(query, p.key_dim),
                                            .key = keys(key, p.key_dim),
                                            .value = keys(value, p.value_dim),
                                            .scale = p.scale,
                                            .window = p.window};
  reference::attention_backward(x, {.dy = queries(dy, p.value_dim),
                                    .y = queries(y, p.value_dim),
                                    .query = queries(d[0], p.key_dim),
                                    .key = keys(d[1], p.key_dim),
                                    .value = keys(d[2], p.value_dim)});
  return d;
}

/// The gradients that a run should have, and how far from them it may be.
using gradient_targets = std::array<target, 3>;

void compare(const std::string& type, const outcome& run, const target& y,
             const gradient_targets& d, same_bytes& bytes, verdict& into) {
  if (run.gradients.empty()) into.compare(type + run.path, "y", run.y, y);
  for (std::size_t k = 0; k < run.gradients.size(); ++k)
    into.compare(type + run.path, gradient_names[k], run.gradients[k], d[k]);
  into.count_path();
  bytes.check(run, into);
}

/// Bounds of float gradients around those of a double run. exp_weight(x) errs by 3 u + |x| u / 4 and
/// the rounding of x by |x| u, where the bound has 2 u and at least |x| u: half as much again, and
/// without fma |x| u more.
void bound_gradients(const attention_problem& p, gradient_targets& d) {
  constexpr double factor = maslin::fused_family ? 1.5 : 2.5;
  const auto bounds = backward<maslin::test::tracked<double>>(p);
  for (std::size_t k = 0; k < d.size(); ++k) {
    std::vector<double> allowed;
    for (const auto& x : bounds[k])
      allowed.push_back(factor * maslin::test::unit_roundoff<float> * x.roundings() +
                        double(std::numeric_limits<float>::min()) * x.lost);
    d[k].allowed = {allowed, allowed};
  }
}

}  // namespace

void run_attention(const test_case& test, verdict& into) {
  test.allow_only({"q", "k", "v", "out", "d_out", "d_q", "d_k", "d_v"});
  const shape q = test.extents("q", 4), k = test.extents("k", 4), v = test.extents("v", 4);
  attention_problem p{.batch = q[0],
                      .steps = q[2],
                      .keys = k[2],
                      .heads = q[1],
                      .key_heads = k[1],
                      .key_dim = q[3],
                      .value_dim = v[3],
                      .window = test.window(),
                      .scale = test.scale()};
  if (p.keys < p.steps) throw bad_case("'k' must have a key for each query");
  p.query = time_first(test, "q", q);
  p.key = time_first(test, "k", {p.batch, p.key_heads, p.keys, p.key_dim});
  p.value = time_first(test, "v", {p.batch, p.key_heads, p.keys, p.value_dim});
  const auto golden = time_first(test, "out", {p.batch, p.heads, p.steps, p.value_dim});
  refuse_vacuous(golden);

  // Nothing is carried over time: the tolerance does not grow with it.
  const target want = target::within(golden, test.tolerance(), largest_finite(golden));
  std::vector<double> y(golden.size());
  const auto out = row_major(y.data(), p.batch, p.steps, p.heads, p.value_dim);
  reference::attention(arrays_of(p), out);
  into.compare("reference", "y", y, want);

  gradient_targets gradients;
  if (test.has("d_out")) {
    p.dy = time_first(test, "d_out", {p.batch, p.heads, p.steps, p.value_dim});
    const std::array sizes{q, k, v};
    const auto by_reference = backward<double>(p);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto d = time_first(test, gradient_names[i], sizes[i]);
      refuse_vacuous(d);
      gradients[i] = target::within(d, test.tolerance(), largest_finite(d));
      into.compare("reference", gradient_names[i], by_reference[i], gradients[i]);
    }
  }

  same_bytes doubles, floats;
  attention_paths<double>(p, extent::all, [&](const outcome& run) {
    compare("double ", run, want, gradients, doubles, into);
  });
  for (auto* values : {&p.query, &p.key, &p.value, &p.dy}) *values = to_float(std::move(*values));
  const auto bounds = maslin::test::bounds_of(arrays_of(p), maslin::test::unit_roundoff<float>);
  target bounded{.value = {}, .allowed = {bounds.allowed, bounds.allowed}};
  if (!p.dy.empty()) bound_gradients(p, gradients);
  attention_paths<double>(p, extent::one, [&](const outcome& run) {
    if (run.gradients.empty()) bounded.value = run.y;
    for (std::size_t i = 0; i < run.gradients.size(); ++i) gradients[i].value = run.gradients[i];
  });
  attention_paths<float>(p, extent::all, [&](const outcome& run) {
    compare("float ", run, bounded, gradients, floats, into);
  });
}

}  // namespace golden
