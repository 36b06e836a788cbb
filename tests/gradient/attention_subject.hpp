// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Attention's backward pass behind the plain arrays of the laws.

#include "laws/gradient_laws.hpp"
#include "support/poison.hpp"

#include <maslin/gradient/attention.hpp>
#include <maslin/mixer/position.hpp>
#include <maslin/reference/attention.hpp>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace maslin::test {

/// What a subject's calls have in common.
struct attention_variant {
  index_t group = 1;
  index_t window = 0;
  bool ring = false;
  index_t most_past = 0;   // keys before the call, at most; of a window those that it sees
  index_t mask_heads = 0;  // 1 or, for all heads, 2; 0: no mask
  bool sinks = false, slopes = false, log_sums = false;
  double cap = 0;
};

/// Outputs of a token are y [H, E] and, if the variant has them, log-sum-exps [H]. The state is
/// `past` rows of keys [H', K] and values [H', E]: those that the window sees, or the first ones.
template <class S>
class attention_gradients final : public gradient_subject<S> {
 public:
  using mixer_type = attention<S>;
  using state_type = typename mixer_type::state;
  using problem = gradient_problem<S>;
  using typename gradient_subject<S>::number;

  explicit attention_gradients(const attention_variant& v) : variant_(v) {}

  [[nodiscard]] std::vector<gradient_array> arrays() const override {
    // The keys of a state are no linear input.
    const bool linear = variant_.most_past == 0 && !variant_.log_sums;
    std::vector<gradient_array> all{{"query"}, {"key"}, {"value", true, linear}};
    if (variant_.mask_heads > 0) all.push_back({"mask"});
    if (variant_.sinks) all.push_back({"sinks", false});
    return all;
  }

  [[nodiscard]] problem draw(index_t batch, index_t length, random& r) const override {
    problem p;
    p.batch = batch;
    p.length = length;
    const index_t widths[] = {1, 7, 8, 9, 17};
    const index_t G = r.between(1, 2), H = G * variant_.group;
    const index_t K = widths[r.below(5)], E = widths[r.below(5)];
    const index_t past =
        variant_.window > 0 ? variant_.most_past : r.between(0, variant_.most_past);
    const index_t start = variant_.window > 0 ? past + r.between(0, 70) : past;
    const index_t N = start + std::max(batch, index_t{1}) * length + 3;
    p.sizes = {H, G, K, E, past, start, N};
    const auto fill = [&](std::vector<S>& x, index_t count) {
      x.resize(static_cast<std::size_t>(count));
      r.fill_normal<S>(x, 0.7);
    };
    p.inputs.resize(arrays().size());
    const index_t tokens = batch * length;
    fill(p.inputs[0], tokens * H * K);
    fill(p.inputs[1], tokens * G * K);
    fill(p.inputs[2], tokens * G * E);
    if (variant_.mask_heads > 0) {
      std::vector<S>& mask = p.inputs[3];
      fill(mask, tokens * mask_heads(p) * N);
      // A token's own key stays, so that every row gives something.
      for (index_t i = 0; i < static_cast<index_t>(mask.size()); ++i)
        if (r.below(5) == 0 && i % N != start + i / N / mask_heads(p) % length)
          mask[static_cast<std::size_t>(i)] = -std::numeric_limits<S>::infinity();
    }
    if (variant_.sinks) fill(p.inputs.back(), H);
    fill(p.dy, tokens * H * (E + (variant_.log_sums ? 1 : 0)));
    fill(p.initial, batch * past * G * (K + E));
    fill(p.dfinal, batch * past * G * (K + E));
    return p;
  }

  [[nodiscard]] std::vector<S> forward(const problem& p) const override {
    const call c(*this, p, {});
    auto state = c.initial_state();
    std::vector<S> out = c.scan(state, exec::sequential{});
    const auto rows = c.rows_of(state, true);
    out.insert(out.end(), rows.begin(), rows.end());
    return out;
  }

  [[nodiscard]] gradient_arrays<S> backward(const problem& p,
                                            const backward_plan& plan) const override {
    call c(*this, p, plan);
    return std::visit([&](const auto& policy) { return c.gradients(policy); }, plan.how);
  }

  [[nodiscard]] gradient_truth<double> reference(const problem& p) const override {
    return truth_in<double>(p);
  }
  [[nodiscard]] gradient_truth<number> bounds(const problem& p) const override {
    return truth_in<number>(p);
  }

  [[nodiscard]] index_t lane(const problem& p, std::size_t array, index_t element) const override {
    const index_t H = p.sizes[0], G = p.sizes[1], K = p.sizes[2], E = p.sizes[3];
    if (array == arrays().size() + 1)
      return (element < H * E ? element / E : element - H * E) / (H / G);
    if (array == 0) return element / K / (H / G);
    if (array == 1) return element / K;
    if (array == 2) return element / E;
    return variant_.mask_heads == 2 && array == 3 ? element / p.sizes[6] / (H / G) : -1;
  }
  /// exp_weight(x) errs by 3 u + |x| u / 4, and the rounding of x by |x| u, where the bound has 2 u and
  /// at least |x| u: at most half as much again. Without fma |x| u more.
  [[nodiscard]] double factor(const backward_way&) const override {
    return fused_family ? 1.5 : 2.5;
  }
  /// Time is never cut: chunks give the bytes of the default policy.
  [[nodiscard]] std::vector<backward_way> ways() const override {
    auto all = gradient_subject<S>::ways();
    all.push_back(exec::chunked{.chunk = 3, .threads = 2});
    return all;
  }
  [[nodiscard]] std::vector<std::pair<backward_way, backward_way>> chunked_ways() const override {
    return {};
  }

  /// The second call begins at a later position, and without a window sees all keys of the first.
  [[nodiscard]] gradient_arrays<S> in_two_segments(const problem& p, index_t at) const override {
    problem early = gradient_law::time_slice(*this, p, 0, at);
    problem late = gradient_law::time_slice(*this, p, at, p.length);
    late.sizes[5] += at;
    const call first(*this, early, {});
    auto state = first.initial_state();
    first.scan(state, exec::sequential{});
    if (variant_.window == 0) late.sizes[4] += at;
    late.initial = call(*this, late, {}).rows_of(state, false);
    const auto second = backward(late, {});
    early.dfinal = second.back();
    auto whole = backward(early, {});
    for (std::size_t k = 0; k < arrays().size(); ++k) {
      if (!arrays()[k].timed) {
        for (std::size_t i = 0; i < whole[k].size(); ++i) whole[k][i] += second[k][i];
        continue;
      }
      const auto parts = std::pair{whole[k], second[k]};
      const index_t rest = gradient_law::rest_of(p, p.inputs[k]);
      whole[k].clear();
      for (index_t b = 0; b < p.batch; ++b)
        for (const auto& [part, tokens] :
             {std::pair{&parts.first, at}, std::pair{&parts.second, p.length - at}})
          whole[k].insert(whole[k].end(), part->begin() + b * tokens * rest,
                          part->begin() + (b + 1) * tokens * rest);
    }
    return whole;
  }

 private:
  [[nodiscard]] index_t mask_heads(const problem& p) const {
    return variant_.mask_heads == 1 ? 1 : p.sizes[0];
  }

  /// One call, its arrays placed in poisoned memory.
  class call {
   public:
    call(const attention_gradients& subject, const problem& p, const backward_plan& plan)
        : subject_(subject),
          p_(p),
          plan_(plan),
          H(p.sizes[0]),
          G(p.sizes[1]),
          K(p.sizes[2]),
          E(p.sizes[3]),
          past(p.sizes[4]),
          start(p.sizes[5]),
          N(p.sizes[6]),
          slopes_(alibi_slopes<S>(H)),
          query_(placed(H, K)),
          key_(placed(G, K)),
          value_(placed(G, E)),
          mask_(placed(subject.mask_heads(p), subject.variant_.mask_heads > 0 ? N : 0)),
          dquery_(query_),
          dkey_(key_),
          dvalue_(value_),
          dmask_(mask_),
          dy_(placed(H, E)),
          y_(dy_),
          dlse_({p.batch, p.length, H}, gaps3()),
          dsinks_({H}) {
      query_.template assign<S>(p.inputs[0]);
      key_.template assign<S>(p.inputs[1]);
      value_.template assign<S>(p.inputs[2]);
      if (subject.variant_.mask_heads > 0) mask_.template assign<S>(p.inputs[3]);
      std::vector<S> dy, dlse;
      const index_t extra = subject.variant_.log_sums ? H : 0;
      for (auto at = p.dy.begin(); at != p.dy.end(); at += H * E + extra) {
        dy.insert(dy.end(), at, at + H * E);
        dlse.insert(dlse.end(), at + H * E, at + H * E + extra);
      }
      dy_.template assign<S>(dy);
      if (extra > 0) dlse_.template assign<S>(dlse);
      set_mixer();
    }

    /// The state of all sequences with the keys before the call.
    [[nodiscard]] state_type initial_state() const {
      state_type h = empty_state(start + p_.length);
      append(h, p_.initial, start - past, past);
      return h;
    }
    std::vector<S> scan(state_type& h, const exec::sequential& policy) const {
      std::vector<S> y(static_cast<std::size_t>(p_.batch * p_.length * H * E)),
          lse(static_cast<std::size_t>(p_.batch * p_.length * H)), out;
      mixer_.scan(policy, tokens(), row_major(y.data(), p_.batch, p_.length, H, E), h,
                  row_major(lse.data(), p_.batch, p_.length, H));
      for (index_t i = 0; i < p_.batch * p_.length; ++i) {
        out.insert(out.end(), y.begin() + i * H * E, y.begin() + (i + 1) * H * E);
        if (subject_.variant_.log_sums)
          out.insert(out.end(), lse.begin() + i * H, lse.begin() + (i + 1) * H);
      }
      return out;
    }
    /// The `past` rows of a state that a subject's state is: at the end of a call or the beginning.
    [[nodiscard]] std::vector<S> rows_of(const state_type& h, bool after) const {
      std::vector<S> all;
      for (index_t b = 0; b < p_.sequences(); ++b) {
        std::vector<S> key(static_cast<std::size_t>(past * G * K)),
            value(static_cast<std::size_t>(past * G * E));
        const index_t first =
            start - past + (after && subject_.variant_.window > 0 ? tokens_of(b) : 0);
        h.copy_to(b, first, row_major(key.data(), past, G, K), row_major(value.data(), past, G, E));
        for (index_t j = 0; j < past; ++j) {
          all.insert(all.end(), key.begin() + j * G * K, key.begin() + (j + 1) * G * K);
          all.insert(all.end(), value.begin() + j * G * E, value.begin() + (j + 1) * G * E);
        }
      }
      return all;
    }

    template <class Policy>
    [[nodiscard]] gradient_arrays<S> gradients(const Policy& policy) {
      auto h = initial_state();
      auto keep = mixer_.make_saved(p_.sequences(), p_.length);
      mixer_.scan(policy, tokens(), y_.get(), h, keep);
      auto dstate = final_gradient();
      const auto d = wanted();
      const bool log_sums = subject_.variant_.log_sums;
      mixer_.backward(policy, tokens(), keep, std::as_const(dy_).get(), d, dstate,
                      log_sums ? std::as_const(dlse_).get() : view<const S, 3>{});
      for (const auto* x :
           {&query_, &key_, &value_, &mask_, &dquery_, &dkey_, &dvalue_, &dmask_, &dy_, &y_})
        REQUIRE(x->intact());
      REQUIRE(dsinks_.intact());
      gradient_arrays<S> all{dquery_.values(), dkey_.values(), dvalue_.values()};
      if (subject_.variant_.mask_heads > 0) all.push_back(dmask_.values());
      if (subject_.variant_.sinks) all.push_back(dsinks_.values());
      if (plan_.left_out >= 0) {
        auto& missing = all[static_cast<std::size_t>(plan_.left_out)];
        for (S& x : missing) {
          REQUIRE(poison<S>::is(x));
          x = 0;
        }
      }
      all.push_back(rows_of(dstate, false));
      return all;
    }

   private:
    using shape4 = std::array<index_t, 4>;
    [[nodiscard]] poisoned<S, 4> placed(index_t heads, index_t width) const {
      return poisoned<S, 4>({p_.batch, p_.length, heads, width},
                            plan_.gaps ? shape4{7, 3, 1, 0} : shape4{});
    }
    [[nodiscard]] std::array<index_t, 3> gaps3() const {
      return plan_.gaps ? std::array<index_t, 3>{1, 5, 0} : std::array<index_t, 3>{};
    }
    [[nodiscard]] index_t tokens_of(index_t b) const {
      if (p_.offsets.empty()) return p_.length;
      return p_.offsets[static_cast<std::size_t>(b) + 1] - p_.offsets[static_cast<std::size_t>(b)];
    }
    void set_mixer() {
      const attention_variant& v = subject_.variant_;
      mixer_.heads = H;
      mixer_.key_heads = G;
      mixer_.key_dim = K;
      mixer_.value_dim = E;
      mixer_.window = v.window;
      mixer_.scale = S(0.375);
      mixer_.cap = static_cast<S>(v.cap);
      if (v.slopes) mixer_.slopes = row_major(std::as_const(slopes_).data(), H);
      if (v.sinks) mixer_.sinks = row_major(p_.inputs.back().data(), H);
    }
    [[nodiscard]] typename mixer_type::tokens tokens() const {
      typename mixer_type::tokens u{.query = query_.get(),
                                    .key = key_.get(),
                                    .value = value_.get(),
                                    .mask = {},
                                    .offsets = p_.offsets};
      if (subject_.variant_.mask_heads > 0) u.mask = mask_.get();
      return u;
    }
    [[nodiscard]] state_type empty_state(index_t capacity) const {
      return subject_.variant_.ring ? mixer_.make_state(p_.sequences())
                                    : mixer_.make_state(p_.sequences(), capacity);
    }
    /// Appends `before` rows of zeros to each sequence, and `count` rows of it from `rows`.
    void append(state_type& h, const std::vector<S>& rows, index_t before, index_t count) const {
      append_each(h, rows, std::vector<index_t>(static_cast<std::size_t>(p_.sequences()), before),
                  count);
    }
    void append_each(state_type& h, const std::vector<S>& rows, const std::vector<index_t>& before,
                     index_t count) const {
      std::vector<S> key, value;
      std::vector<index_t> offsets{0};
      auto from = rows.begin();
      for (const index_t zeros : before) {
        key.insert(key.end(), static_cast<std::size_t>(zeros * G * K), S(0));
        value.insert(value.end(), static_cast<std::size_t>(zeros * G * E), S(0));
        for (index_t j = 0; j < count; ++j, from += G * (K + E)) {
          key.insert(key.end(), from, from + G * K);
          value.insert(value.end(), from + G * K, from + G * (K + E));
        }
        offsets.push_back(offsets.back() + zeros + count);
      }
      if (before.empty()) return;
      typename mixer_type::tokens u;
      u.key = row_major(std::as_const(key).data(), 1, offsets.back(), G, K);
      u.value = row_major(std::as_const(value).data(), 1, offsets.back(), G, E);
      u.offsets = offsets;
      mixer_.append(u, h);
    }
    /// The state's gradient from `dfinal`.
    [[nodiscard]] state_type final_gradient() const {
      const index_t sequences = p_.sequences();
      const index_t count =
          sequences == 0 ? 0 : static_cast<index_t>(p_.dfinal.size()) / (sequences * G * (K + E));
      state_type d = empty_state(std::max(start, count) + p_.length);
      std::vector<index_t> before;
      for (index_t b = 0; b < sequences; ++b)
        before.push_back(subject_.variant_.window > 0 ? start - past + tokens_of(b) : 0);
      append_each(d, p_.dfinal, before, count);
      return d;
    }
    [[nodiscard]] typename mixer_type::gradients wanted() {
      typename mixer_type::gradients d;
      d.accumulate = plan_.accumulate;
      const auto take = [&](int array, auto& memory, auto& v) {
        if (plan_.left_out == array) return;
        v = memory.get();
        if (plan_.accumulate) memory.each([&](S& x) { x = static_cast<S>(plan_.preset); });
      };
      take(0, dquery_, d.query);
      take(1, dkey_, d.key);
      take(2, dvalue_, d.value);
      int array = 3;
      if (subject_.variant_.mask_heads > 0) take(array++, dmask_, d.mask);
      if (subject_.variant_.sinks) take(array, dsinks_, d.sinks);
      return d;
    }

    const attention_gradients& subject_;
    const problem& p_;
    backward_plan plan_;
    index_t H, G, K, E, past, start, N;
    std::vector<S> slopes_;
    mixer_type mixer_;
    poisoned<S, 4> query_, key_, value_, mask_, dquery_, dkey_, dvalue_, dmask_, dy_, y_;
    poisoned<S, 3> dlse_;
    poisoned<S, 1> dsinks_;
  };

  /// One sequence in Number, from `tokens` tokens at `begin` of the flat axis.
  template <class Number>
  void add_sequence(const problem& p, index_t b, index_t begin, index_t tokens,
                    gradient_truth<Number>& all) const;
  template <class Number>
  [[nodiscard]] gradient_truth<Number> truth_in(const problem& p) const;

  attention_variant variant_;
};

/// An array of numbers and its view.
template <class Number>
struct numbers_of_call {
  std::vector<Number> values;
  index_t extents[4];

  numbers_of_call(index_t a, index_t b, index_t c, index_t d)
      : values(static_cast<std::size_t>(a * b * c * d)), extents{a, b, c, d} {}
  [[nodiscard]] view<Number, 4> get() {
    return row_major(values.data(), extents[0], extents[1], extents[2], extents[3]);
  }
  [[nodiscard]] view<const Number, 4> read() const {
    return row_major(values.data(), extents[0], extents[1], extents[2], extents[3]);
  }
  template <class S>
  void take(const std::vector<S>& from, index_t first, index_t count, index_t to = 0) {
    for (index_t i = 0; i < count; ++i)
      values[static_cast<std::size_t>(to + i)] = Number(from[static_cast<std::size_t>(first + i)]);
  }
};

template <class S>
template <class Number>
void attention_gradients<S>::add_sequence(const problem& p, index_t b, index_t begin,
                                          index_t tokens, gradient_truth<Number>& all) const {
  using array = numbers_of_call<Number>;
  const index_t H = p.sizes[0], G = p.sizes[1], K = p.sizes[2], E = p.sizes[3], past = p.sizes[4],
                start = p.sizes[5], N = p.sizes[6], keys = past + tokens, heads = mask_heads(p);
  array query(1, tokens, H, K), key(1, keys, G, K), value(1, keys, G, E), y(1, tokens, H, E),
      dy = y, later_key = key, later_value = value, mask(1, tokens, heads, keys),
      slopes(1, 1, 1, H), sinks = slopes, dquery = query, dkey = key, dvalue = value, dmask = mask,
      dsinks = slopes, lse(1, 1, tokens, H), dlse = lse;
  query.take(p.inputs[0], begin * H * K, tokens * H * K);
  key.take(p.inputs[1], begin * G * K, tokens * G * K, past * G * K);
  value.take(p.inputs[2], begin * G * E, tokens * G * E, past * G * E);
  const index_t row = G * (K + E);
  for (index_t j = 0; j < past; ++j) {
    key.take(p.initial, (b * past + j) * row, G * K, j * G * K);
    value.take(p.initial, (b * past + j) * row + G * K, G * E, j * G * E);
  }
  const index_t count = static_cast<index_t>(p.dfinal.size()) / (p.sequences() * row);
  for (index_t i = 0; i < count; ++i) {
    const index_t j = variant_.window > 0 ? tokens + i : i;
    later_key.take(p.dfinal, (b * count + i) * row, G * K, j * G * K);
    later_value.take(p.dfinal, (b * count + i) * row + G * K, G * E, j * G * E);
  }
  const index_t out = H * (E + (variant_.log_sums ? 1 : 0));
  for (index_t t = 0; t < tokens; ++t) {
    dy.take(p.dy, (begin + t) * out, H * E, t * H * E);
    if (variant_.log_sums) dlse.take(p.dy, (begin + t) * out + H * E, H, t * H);
  }
  if (variant_.mask_heads > 0)
    for (index_t i = 0; i < tokens * heads; ++i)
      mask.take(p.inputs[3], (begin * heads + i) * N + start - past, keys, i * keys);
  slopes.take(alibi_slopes<S>(H), 0, H);
  if (variant_.sinks) sinks.take(p.inputs.back(), 0, H);

  reference::attention_arrays_of<Number> x{
      .query = query.read(), .key = key.read(), .value = value.read()};
  reference::attention_adjoint<Number> d{.dy = dy.read(),
                                         .final_key = later_key.read(),
                                         .final_value = later_value.read(),
                                         .y = y.get(),
                                         .query = dquery.get(),
                                         .key = dkey.get(),
                                         .value = dvalue.get(),
                                         .lse = slice(lse.get(), 0, 0)};
  const auto line = [](array& a) { return row_major(a.values.data(), a.extents[3]); };
  if (variant_.mask_heads > 0) {
    x.mask = mask.read();
    d.mask = dmask.get();
  }
  if (variant_.slopes) x.slopes = line(slopes);
  if (variant_.sinks) {
    x.sinks = line(sinks);
    d.sinks = line(dsinks);
  }
  if (variant_.log_sums) d.dlse = slice(dlse.read(), 0, 0);
  x.scale = 0.375;
  x.cap = variant_.cap;
  x.window = variant_.window;
  // Row-major [1, 1, T, H] is [1, T, H].
  reference::attention_backward(x, d);

  const auto put = [](std::vector<Number>& to, const std::vector<Number>& from, index_t first,
                      index_t n) {
    to.insert(to.end(), from.begin() + first, from.begin() + first + n);
  };
  for (index_t t = 0; t < tokens; ++t) {
    put(all.outputs, y.values, t * H * E, H * E);
    if (variant_.log_sums) put(all.outputs, lse.values, t * H, H);
  }
  put(all.gradients[0], dquery.values, 0, tokens * H * K);
  put(all.gradients[1], dkey.values, past * G * K, tokens * G * K);
  put(all.gradients[2], dvalue.values, past * G * E, tokens * G * E);
  std::size_t k = 3;
  if (variant_.mask_heads > 0) {
    for (index_t i = 0; i < tokens * heads; ++i) {
      auto& to = all.gradients[k];
      to.insert(to.end(), static_cast<std::size_t>(start - past), Number(0));
      put(to, dmask.values, i * keys, keys);
      to.insert(to.end(), static_cast<std::size_t>(N - start - tokens), Number(0));
    }
    ++k;
  }
  if (variant_.sinks) {
    auto& to = all.gradients[k];
    to.resize(static_cast<std::size_t>(H));
    for (std::size_t h = 0; h < to.size(); ++h) to[h] += dsinks.values[h];
  }
  for (index_t j = 0; j < past; ++j) {
    put(all.gradients.back(), dkey.values, j * G * K, G * K);
    put(all.gradients.back(), dvalue.values, j * G * E, G * E);
  }
}

template <class S>
template <class Number>
gradient_truth<Number> attention_gradients<S>::truth_in(const problem& p) const {
  gradient_truth<Number> all;
  all.gradients.resize(arrays().size() + 1);
  for (index_t b = 0; b < p.sequences(); ++b) {
    const auto at = static_cast<std::size_t>(b);
    const index_t begin = p.offsets.empty() ? b * p.length : p.offsets[at];
    add_sequence(p, b, begin, p.offsets.empty() ? p.length : p.offsets[at + 1] - begin, all);
  }
  // What the state keeps is exact.
  const std::vector<S> out = forward(p);
  for (std::size_t i = all.outputs.size(); i < out.size(); ++i)
    all.outputs.push_back(Number(out[i]));
  return all;
}

}  // namespace maslin::test
