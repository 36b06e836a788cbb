// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Workloads whose problem says all about itself, every output compared with the reference.
/// A `Problem` has, beside what `problem` asks for:
///   mixer, make(), tokens(), out()   what the library is called with
///   plain(T, h)                      the plain loop over the first T tokens
///   state_size(D)                    numbers of state of a sequence

#include "contender.hpp"
#include "truth.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace bench {

[[nodiscard]] inline const float* constant(const buffer& b) { return b.data(); }

/// Buffers of one case and the reference's output, with a tolerance in parts of the largest one: a
/// check that a row computes what it says, beside the error bounds of the tests.
class reference_problem : public problem {
 public:
  static constexpr double relative_tolerance = 1e-4;

  /// Each channel has `parts` numbers: 2 if it is complex.
  explicit reference_problem(const extents& e, index_t parts = 1)
      : size(e), input(e.T * e.D * parts), y(input.size()) {}

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    return largest_error(exact, [&](index_t i) { return y[i]; }) / relative_tolerance;
  }

  extents size;
  buffer input, y;
  std::vector<double> exact;
};

/// Builds the rows of one workload.
template <class Problem, call Call>
class problem_rows {
 public:
  static constexpr bool decode = Call == call::step;

  problem_rows(const std::string& mixer, const std::string& form, const extents& e, work least,
               const std::string& regime = "compute")
      : size_(e), least_(least) {
    load_.mixer = mixer;
    load_.call = decode ? "step" : "scan";
    load_.form = form;
    load_.regime = regime;
    load_.M = 1;
    load_.T = decode ? 1 : e.T;
    load_.D = e.D;
    load_.preparation = 0.5 + least.slots * 5e-9;
    load_.prepare = [e](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<Problem>(text, e);
    };
  }

  template <class Policy>
  problem_rows& library(const std::string& policy, const Policy& p, int threads = 1,
                        const std::string& target = {}) {
    row& r = add(policy, threads);
    r.target = target;
    r.estimate = 3 * least_.slots / 50e9 + least_.bytes() / 10e9;
    r.bind = [p](problem& any) {
      auto& data = static_cast<Problem&>(any);
      return library_contender<Call>(data.make(), data.tokens(), data.out(), data.size, p);
    };
    return *this;
  }

  problem_rows& plain_loop() {
    row& r = add("naive", 1);
    r.naive = true;
    r.estimate = least_.slots * 1e-9 + least_.bytes() / 2e9;
    r.bind = [T = load_.T](problem& any) {
      auto& data = static_cast<Problem&>(any);
      auto h = std::make_shared<buffer>(Problem::state_size(data.size.D));
      return contender{.repeat =
                           [&data, h, T](index_t calls) {
                             for (index_t i = 0; i < calls; ++i) {
                               data.plain(T, h->data());
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh =
                           [&data, h] {
                             std::fill_n(h->data(), h->size(), 0.0f);
                             data.plain(data.size.T, h->data());
                           }};
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  row& add(const std::string& policy, int threads) {
    row r;
    r.name = row_name(load_, policy, "", threads);
    r.title = policy + (threads > 1 ? ", " + std::to_string(threads) + " threads" : "");
    r.tolerance = 1;
    r.least = least_;
    r.least.threads = threads;
    r.tokens = load_.T;
    r.cache_bytes = Problem::state_size(size_.D) * static_cast<index_t>(sizeof(float));
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  extents size_;
  work least_;
  workload load_;
};

}  // namespace bench
