// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Workloads of backward passes: the library, the scan that saves what it needs and a plain loop,
/// each compared by the gradients that it leads to. A `Problem` is made from (text, extents) and has
///   plain()   the plain loop, from the last token to the first

#include "buffer.hpp"
#include "contender.hpp"
#include "truth.hpp"

#include <maslin/scan/policy.hpp>
#include <maslin/scan/state.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// The error of a gradient that is allowed, in parts of the largest one.
inline constexpr double gradient_tolerance = 1e-4;

/// What `backward`, and the scan before it, is called with.
template <class Mixer, class View>
struct backward_call {
  Mixer mix;
  typename Mixer::tokens tokens;
  View y, dy;
  typename Mixer::gradients gradients;
};

/// The gradients from what a scan has saved.
template <class Mixer, class View>
[[nodiscard]] contender backward_contender(const backward_call<Mixer, View>& c,
                                           const std::shared_ptr<typename Mixer::saved>& keep) {
  auto dstate = std::make_shared<typename Mixer::state>(c.mix.make_state(1));
  return contender_of(
      [=] {
        c.mix.backward(maslin::exec::sequential{}, c.tokens, *keep, c.dy, c.gradients, *dstate);
      },
      [=] { dstate->reset(); });
}
/// From the y of an earlier scan that began with zeros.
template <class Mixer, class View>
[[nodiscard]] contender backward_contender(const backward_call<Mixer, View>& c) {
  auto keep = std::make_shared<typename Mixer::saved>(c.mix.make_saved(1));
  keep->y = c.y;
  return backward_contender(c, keep);
}

/// The scan that saves; compared by the gradients of what it has saved.
template <class Mixer, class View>
[[nodiscard]] contender saving_contender(const backward_call<Mixer, View>& c) {
  auto state = std::make_shared<typename Mixer::state>(c.mix.make_state(1));
  auto keep = std::make_shared<typename Mixer::saved>(c.mix.make_saved(1));
  contender scan =
      contender_of([=] { c.mix.scan(maslin::exec::sequential{}, c.tokens, c.y, *state, *keep); },
                   [=] { state->reset(); });
  scan.fresh = [save = scan.fresh, back = backward_contender(c, keep).fresh] {
    save();
    back();
  };
  return scan;
}

/// The last tokens in double, the gradients of which no other token reaches: what goes into a
/// reference and what comes out. The loss does not depend on the final state.
struct last_tokens {
  index_t T = 0, D = 0, first = 0;  // how many, how wide, after how many others
  std::vector<double> gate, input, initial, dy;
  std::vector<double> y, dgate, dinput, dstate;

  last_tokens() = default;
  /// Of `length` tokens of `width` channels, each with `gates` gates and `states` numbers of state.
  last_tokens(index_t length, index_t width, index_t gates, index_t states)
      : T(std::min<index_t>(length, 32)), D(width), first(length - T) {
    const auto resize = [](index_t count, auto&... numbers) {
      (numbers.resize(static_cast<std::size_t>(count)), ...);
    };
    resize(T * D, input, dy, y, dinput);
    resize(T * D * gates, gate, dgate);
    resize(states, initial, dstate);
  }
  /// Copies the inputs.
  void read(const buffer& gates, const buffer& inputs, const buffer& dys) {
    const auto copy = [](const buffer& from, std::vector<double>& to) {
      std::copy_n(from.data() + from.size() - static_cast<index_t>(to.size()), to.size(),
                  to.begin());
    };
    copy(gates, gate);
    copy(inputs, input);
    copy(dys, dy);
  }
  /// Scans all tokens from zeros into y and keeps the state before the last ones.
  template <class Mixer, class View>
  void scan(const backward_call<Mixer, View>& c) {
    auto state = c.mix.make_state(1);
    const auto part = [&](index_t begin, index_t end) {
      c.mix.scan(maslin::exec::sequential{}, c.tokens.range(begin, end),
                 maslin::time_range(c.y, begin, end), state);
    };
    part(0, first);
    read_initial(state);
    part(first, first + T);
  }

 private:
  template <int Rank>
  void read_initial(const maslin::scan::lane_state<float, Rank>& state) {
    std::vector<float> h(initial.size());
    if constexpr (Rank == 2)
      state.copy_to(maslin::row_major(h.data(), 1, state.channels()));
    else
      state.copy_to(maslin::row_major(h.data(), 1, state.channels(), state.order()));
    std::copy(h.begin(), h.end(), initial.begin());
  }
};

/// The worst error of a gradient over `gradient_tolerance`; infinite if the last numbers, or those
/// before them, are not all finite. `place` says where a number of `want` lies.
template <class Place>
[[nodiscard]] double gradient_error(const std::vector<double>& want, const buffer& got,
                                    const Place& place) {
  for (index_t i = 0; i < got.size(); ++i)
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
  return largest_error(want, [&](index_t i) { return got[place(i)]; }) / gradient_tolerance;
}
/// Of a gradient whose last numbers are `want`.
[[nodiscard]] inline double gradient_error(const std::vector<double>& want, const buffer& got) {
  const index_t first = got.size() - static_cast<index_t>(want.size());
  return gradient_error(want, got, [=](index_t i) { return first + i; });
}

/// The work of n steps that read `read` and write `written` numbers each: as many bytes, in the
/// nearest proportion that the roofline streams.
[[nodiscard]] inline work streaming_work(index_t n, index_t read, index_t written) {
  const index_t rows = std::max<index_t>(1, (2 * read + written) / (2 * written));
  return {.elements = (read + written) * n / (rows + 1), .rows_read = static_cast<int>(rows)};
}

/// What a backward pass and the scan before it cannot avoid.
struct backward_work {
  work backward, scan;
};

/// Builds the rows of one workload.
template <class Problem>
class backward_rows {
 public:
  backward_rows(const std::string& mixer, const std::string& form, int M, const extents& e,
                const backward_work& least)
      : least_(least) {
    load_.mixer = mixer;
    load_.call = "backward";
    load_.form = form;
    load_.regime = name_of(regime::dram);
    load_.M = M;
    load_.T = e.T;
    load_.D = e.D;
    load_.preparation = 3 * least.backward.bytes() * 1e-9;
    load_.prepare = [e](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<Problem>(text, e);
    };
  }

  /// The library; `call_of(problem)` is a backward_call. `order` of the gates may be empty.
  template <class CallOf>
  backward_rows& library(const std::string& order, const CallOf& call_of,
                         const std::string& target = {}) {
    row& r = add("sequential", order, order.empty() ? "sequential" : "sequential " + order);
    r.target = target;
    r.least = least_.backward;
    r.estimate = r.least.bytes() / 10e9 + r.least.slots * 0.02e-9;
    r.bind = [call_of](problem& any) {
      return backward_contender(call_of(static_cast<Problem&>(any)));
    };
    return *this;
  }

  template <class CallOf>
  backward_rows& saving_scan(const std::string& order, const CallOf& call_of) {
    row& r = add("saving-scan", order, "the scan that saves");
    r.least = least_.scan;
    r.estimate = r.least.bytes() / 10e9 + r.least.slots * 0.02e-9;
    r.bind = [call_of](problem& any) {
      return saving_contender(call_of(static_cast<Problem&>(any)));
    };
    return *this;
  }

  backward_rows& plain_loop(const std::string& order) {
    row& r = add("naive", order, order.empty() ? "naive" : "naive " + order);
    r.naive = true;
    r.least = least_.backward;
    r.estimate = r.least.bytes() / 10e9 + r.least.slots * 0.4e-9;
    r.bind = [](problem& any) {
      auto& data = static_cast<Problem&>(any);
      return contender_of([&data] { data.plain(); }, [] {});
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  row& add(const std::string& policy, const std::string& order, const std::string& title) {
    row r;
    r.name = row_name(load_, policy, order);
    r.title = title;
    r.tolerance = 1;  // of a worst error in parts of what is allowed
    r.tokens = load_.T;
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  backward_work least_;
  workload load_;
};

}  // namespace bench
