// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Attention for tests: problems in plain arrays, and a stage that carries them out.

#include "support/attention_bound.hpp"
#include "support/bits.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <maslin/mixer/attention.hpp>
#include <maslin/reference/attention.hpp>

#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace maslin::test {

struct attention_sizes {
  index_t B, T, H, G, K, E;  // G key-value heads
};

[[nodiscard]] inline std::string describe(const attention_sizes& n) {
  std::string text = "[B, T, H, H', K, E] =";
  for (const index_t x : {n.B, n.T, n.H, n.G, n.K, n.E}) text += " " + std::to_string(x);
  return text;
}

/// Arrays of a call, last axis fastest; optional ones may be empty.
template <class S>
struct attention_problem {
  attention_sizes size;
  std::vector<S> query, key, value;  // [B, T, H, K], [B, T, G, K], [B, T, G, E]
  std::vector<S> mask{};             // [B, T, mask_heads, T]
  std::vector<S> slopes{}, sinks{};  // [H]
  index_t mask_heads = 1, window = 0;
  S scale = 0, cap = 0;

  attention_problem(const attention_sizes& n, std::uint64_t seed, double deviation = 1) : size(n) {
    random r(seed);
    const auto fill = [&](std::vector<S>& x, index_t count) {
      x.resize(static_cast<std::size_t>(count));
      r.fill_normal<S>(x, deviation);
    };
    fill(query, n.B * n.T * n.H * n.K);
    fill(key, n.B * n.T * n.G * n.K);
    fill(value, n.B * n.T * n.G * n.E);
  }
  /// Mask, slopes, sinks and a soft cap, drawn; every fifth key is masked.
  void add_everything(std::uint64_t seed, index_t heads_of_mask) {
    random r(seed);
    mask_heads = heads_of_mask;
    mask.resize(static_cast<std::size_t>(size.B * size.T * mask_heads * size.T));
    r.fill_normal<S>(mask);
    for (S& x : mask)
      if (r.below(5) == 0) x = -std::numeric_limits<S>::infinity();
    for (index_t h = 0; h < size.H; ++h) {
      slopes.push_back(static_cast<S>(std::ldexp(1.0, -static_cast<int>(h) - 2)));
      sinks.push_back(static_cast<S>(r.normal()));
    }
    cap = S(2);
  }
};

/// One problem, ready to run: outputs strided in poisoned memory.
template <class S, class C = S>
struct attention_stage {
  using mixer_t = attention<S, C>;
  using state_t = typename mixer_t::state;

  attention_problem<S> p;
  mixer_t mixer;
  typename mixer_t::tokens tokens;
  poisoned<S, 4> y;
  poisoned<S, 3> lse;

  explicit attention_stage(const attention_problem<S>& of)
      : p(of),
        y({p.size.B, p.size.T, p.size.H, p.size.E}, {7, 3, 1, 0}),
        lse({p.size.B, p.size.T, p.size.H}, {1, 5, 0}) {
    const auto [B, T, H, G, K, E] = p.size;
    mixer.heads = H;
    mixer.key_heads = G;
    mixer.key_dim = K;
    mixer.value_dim = E;
    mixer.window = p.window;
    mixer.scale = p.scale;
    mixer.cap = p.cap;
    const auto data = [](const std::vector<S>& x) { return x.data(); };
    if (!p.slopes.empty()) mixer.slopes = row_major(data(p.slopes), H);
    if (!p.sinks.empty()) mixer.sinks = row_major(data(p.sinks), H);
    tokens.query = row_major(data(p.query), B, T, H, K);
    tokens.key = row_major(data(p.key), B, T, G, K);
    tokens.value = row_major(data(p.value), B, T, G, E);
    if (!p.mask.empty()) tokens.mask = row_major(data(p.mask), B, T, p.mask_heads, T);
  }
  attention_stage(const attention_stage&) = delete;
  attention_stage& operator=(const attention_stage&) = delete;

  [[nodiscard]] state_t fresh() const { return mixer.make_state(p.size.B, p.size.T); }
  template <class Policy>
  void scan(const Policy& policy, index_t begin, index_t end, state_t& h) {
    mixer.scan(policy, tokens.range(begin, end), time_range(y.get(), begin, end), h,
               time_range(lse.get(), begin, end));
  }
  void decode(index_t begin, index_t end, state_t& h) {
    for (index_t t = begin; t < end; ++t)
      mixer.step(tokens_at(t), time_at(y.get(), t), h, time_at(lse.get(), t));
  }
  template <class Policy = exec::sequential>
  [[nodiscard]] std::vector<S> run(const Policy& policy = {}) {
    forget();
    auto h = fresh();
    scan(policy, 0, p.size.T, h);
    return result();
  }
  /// Outputs, then log-sum-exps.
  [[nodiscard]] std::vector<S> result() const {
    REQUIRE(y.intact());
    REQUIRE(lse.intact());
    auto all = y.values();
    const auto sums = lse.values();
    all.insert(all.end(), sums.begin(), sums.end());
    return all;
  }
  void forget() {
    y.reset();
    lse.reset();
  }

 private:
  [[nodiscard]] typename mixer_t::token tokens_at(index_t t) const { return tokens[t]; }
};

/// A problem in double, keys and values as a cache of C keeps them.
template <class C>
class wide_problem {
 public:
  template <class S>
  explicit wide_problem(const attention_problem<S>& p)
      : query_(p.query.begin(), p.query.end()),
        mask_(p.mask.begin(), p.mask.end()),
        slopes_(p.slopes.begin(), p.slopes.end()),
        sinks_(p.sinks.begin(), p.sinks.end()) {
    for (const S x : p.key) key_.push_back(static_cast<double>(static_cast<S>(static_cast<C>(x))));
    for (const S x : p.value)
      value_.push_back(static_cast<double>(static_cast<S>(static_cast<C>(x))));
    const auto [B, T, H, G, K, E] = p.size;
    const auto data = [](const std::vector<double>& x) { return x.data(); };
    arrays.query = row_major(data(query_), B, T, H, K);
    arrays.key = row_major(data(key_), B, T, G, K);
    arrays.value = row_major(data(value_), B, T, G, E);
    if (!mask_.empty()) arrays.mask = row_major(data(mask_), B, T, p.mask_heads, T);
    if (!slopes_.empty()) arrays.slopes = row_major(data(slopes_), H);
    if (!sinks_.empty()) arrays.sinks = row_major(data(sinks_), H);
    arrays.scale = static_cast<double>(p.scale);
    arrays.cap = static_cast<double>(p.cap);
    arrays.window = p.window;
  }
  wide_problem(const wide_problem&) = delete;
  wide_problem& operator=(const wide_problem&) = delete;
  reference::attention_arrays arrays;

 private:
  std::vector<double> query_, mask_, slopes_, sinks_, key_, value_;
};

/// Adds the errors of a run, over what the bound allows, to `worst`.
template <class C, class S>
void add_errors(const attention_problem<S>& p, const std::vector<S>& got, worst_ratio& worst,
                double chain = 0) {
  const wide_problem<C> wide(p);
  const auto bounds = bounds_of(wide.arrays, unit_roundoff<S>, chain);
  const std::size_t count = bounds.y.size();
  const auto add = [&](std::size_t i, double want, double allowed) {
    const double error = double(got[i]) == want ? 0 : std::abs(double(got[i]) - want);
    worst.add(error == 0 ? 0 : error / allowed,
              [&] { return describe(p.size) + ", number " + std::to_string(i); });
  };
  for (std::size_t i = 0; i < count; ++i) add(i, bounds.y[i], bounds.allowed[i]);
  for (std::size_t i = 0; i < bounds.lse.size(); ++i)
    add(count + i, bounds.lse[i], bounds.lse_allowed[i]);
}

}  // namespace maslin::test
