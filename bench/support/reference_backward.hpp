// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Workloads of backward passes whose forward problem says all about itself
/// (support/problem_rows.hpp): every gradient is compared with the reference's. What derives from
/// `reference_backward` has
///   gradients()   where the library writes d[0], d[1], ...
///   plain()       the plain loops that do the same
/// and fills `exact`.

#include "contender.hpp"
#include "problem_rows.hpp"
#include "projection.hpp"
#include "truth.hpp"

#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Gradients of one forward problem, beside the reference's.
template <class Forward, std::size_t Count>
class reference_backward : public problem {
 public:
  static constexpr double relative_tolerance = 1e-4;
  using mixer = typename Forward::mixer;

  reference_backward(const corpus& text, const extents& e)
      : forward(text, e),
        dy(forward.y.size()),
        keep(forward.make().make_saved(1, e.T)),
        dstate(forward.make().make_state()) {
    embedding(text.bytes, e.T).project(dy.data(), e.T, e.D, 35, 1.0f, 0.0f);
    auto h = dstate;
    forward.make().scan(maslin::exec::sequential{}, forward.tokens(), forward.out(), h, keep);
  }
  void spoil() override {
    for (buffer& b : d) std::fill_n(b.data(), b.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    double found = 0;
    for (std::size_t k = 0; k < Count; ++k)
      found = std::max(
          found, largest_error(exact[k], [&](index_t i) { return d[k][i]; }) / relative_tolerance);
    return found;
  }
  [[nodiscard]] maslin::view<const float, 3> arriving() const {
    return maslin::row_major(constant(dy), 1, forward.size.T, forward.size.D);
  }

  Forward forward;
  buffer dy;
  typename mixer::saved keep;
  typename mixer::state dstate;
  std::array<buffer, Count> d;
  std::array<std::vector<double>, Count> exact;
};

/// backward of a problem under a policy. `adjoint`: without it the scan that saves, whose gradients
/// are then compared.
template <class Problem>
[[nodiscard]] contender reference_backward_contender(problem& any,
                                                     const maslin::exec::sequential& policy,
                                                     bool adjoint) {
  auto& p = static_cast<Problem&>(any);
  const auto back = [&p, policy] {
    p.dstate.reset();
    p.forward.make().backward(policy, p.forward.tokens(), p.keep, p.arriving(), p.gradients(),
                              p.dstate);
  };
  if (adjoint) return contender_of(back, [] {});
  contender c = contender_of(
      [&p, policy] {
        p.dstate.reset();
        p.forward.make().scan(policy, p.forward.tokens(), p.forward.out(), p.dstate, p.keep);
      },
      [] {});
  c.fresh = [once = c.fresh, back] {
    once();
    back();
  };
  return c;
}

/// Rows of a backward pass: `forward` is the least of a scan, whose arithmetic backward has
/// `factor` times.
template <class Problem>
[[nodiscard]] workload reference_backward_rows(const settings& s, const std::string& mixer,
                                               const std::string& form, const extents& e,
                                               work forward, double factor, int rows_moved,
                                               const std::string& target = {}) {
  workload load;
  load.mixer = mixer;
  load.call = "backward";
  load.form = form;
  load.regime = "compute";
  load.T = e.T;
  load.D = e.D;
  load.preparation = 1 + forward.slots * 15e-9;
  load.prepare = [e](const corpus& text) -> std::unique_ptr<problem> {
    return std::make_unique<Problem>(text, e);
  };
  work least{.elements = e.T * e.D, .rows_read = rows_moved, .slots = factor * forward.slots};
  const auto add = [&](const std::string& title, work of, double rate) -> row& {
    row r;
    r.name = row_name(load, title, "", of.threads);
    r.title = title + (of.threads > 1 ? ", " + std::to_string(of.threads) + " threads" : "");
    r.tolerance = 1;
    r.least = of;
    r.tokens = e.T;
    r.estimate = of.slots / rate;
    load.rows.push_back(std::move(r));
    return load.rows.back();
  };
  row& own = add("sequential", least, 15e9);
  own.target = target;
  own.bind = [](problem& any) { return reference_backward_contender<Problem>(any, {}, true); };
  if (s.cores > 1 && s.threads) {
    least.threads = 2;
    add("sequential", least, 25e9).bind = [](problem& any) {
      return reference_backward_contender<Problem>(any, {.threads = 2}, true);
    };
    least.threads = 1;
  }
  add("the scan that saves", forward, 15e9).bind = [](problem& any) {
    return reference_backward_contender<Problem>(any, {}, false);
  };
  row& naive = add("naive", least, 1e9);
  naive.naive = true;
  naive.bind = [](problem& any) {
    return contender_of([&p = static_cast<Problem&>(any)] { p.plain(); }, [] {});
  };
  return load;
}

}  // namespace bench
