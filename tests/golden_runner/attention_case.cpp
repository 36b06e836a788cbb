// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "check.hpp"
#include "paths.hpp"
#include "runs.hpp"
#include "support/attention_bound.hpp"

#include <maslin/core/view.hpp>
#include <maslin/reference/attention.hpp>

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

}  // namespace

void run_attention(const test_case& test, verdict& into) {
  test.allow_only({"q", "k", "v", "out"});
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

  same_bytes doubles, floats;
  attention_paths<double>(p, extent::all, [&](const outcome& run) {
    into.compare("double " + run.path, "y", run.y, want);
    into.count_path();
    doubles.check(run, into);
  });
  for (auto* values : {&p.query, &p.key, &p.value}) *values = to_float(std::move(*values));
  const auto bounds = maslin::test::bounds_of(arrays_of(p), maslin::test::unit_roundoff<float>);
  target bounded{.value = {}, .allowed = {bounds.allowed, bounds.allowed}};
  attention_paths<double>(p, extent::one, [&](const outcome& run) { bounded.value = run.y; });
  attention_paths<float>(p, extent::all, [&](const outcome& run) {
    into.compare("float " + run.path, "y", run.y, bounded);
    into.count_path();
    floats.check(run, into);
  });
}

}  // namespace golden
