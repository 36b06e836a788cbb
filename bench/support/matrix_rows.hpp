// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Workloads of mixers with a matrix state: a problem of H heads, [K, E] each, and its rows.

#include "contender.hpp"
#include "projection.hpp"

#include <maslin/scan/policy.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct head_sizes {
  index_t T = 0, H = 1, K = 1, E = 1;

  [[nodiscard]] index_t state() const { return H * K * E; }
  /// Numbers of all states that T tokens go through.
  [[nodiscard]] double updates() const { return static_cast<double>(T * state()); }
};

/// Tokens of a chunk where a bound counts them: the work of scores grows with it, and this is the
/// length at which the published figures stand.
inline constexpr double chunk_of_bound = 32;

/// The output of one case and the reference's first tokens, compared in parts of the largest output:
/// a check that a row computes what it says, beside the error bounds of the tests.
class matrix_problem : public problem {
 public:
  static constexpr double relative_tolerance = 2e-5;

  explicit matrix_problem(const head_sizes& n) : size(n), y(n.T * n.H * n.E) {}

  void spoil() override {
    std::fill_n(y.data(), y.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    double largest = 0, found = 0;
    for (const double v : exact) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double error = std::abs(y[static_cast<index_t>(i)] - exact[i]);
      found = std::max(found, std::isfinite(error) ? error : HUGE_VAL);
    }
    for (index_t i = 0; i < y.size(); ++i)
      if (!std::isfinite(y[i])) found = HUGE_VAL;
    return found / (relative_tolerance * largest);
  }
  [[nodiscard]] maslin::view<float, 4> out() const {
    return maslin::row_major(y.data(), 1, size.T, size.H, size.E);
  }

  head_sizes size;
  buffer y;
  std::vector<double> exact;  // of the first `known` tokens

 protected:
  /// More than one chunk of any default length.
  [[nodiscard]] index_t known() const { return std::min<index_t>(size.T, 144); }
  [[nodiscard]] static const float* constant(const buffer& b) { return b.data(); }
  [[nodiscard]] static std::vector<double> wide(const buffer& b, index_t count) {
    return {b.data(), b.data() + count};
  }
};

/// The gradients of a problem's tokens, of which those of the first `known` tokens are compared
/// with the reference: nothing arrives at later outputs then. Timed are calls in which something
/// arrives at every output: where nothing does, what goes back decays to denormal numbers, which cost some
/// processors a hundred cycles each.
template <class Base>
class backward_problem : public Base {
 public:
  using mixer = typename Base::mixer;

  backward_problem(const corpus& text, const head_sizes& n)
      : Base(text, n),
        dy(n.T * n.H * n.E),
        arrives(dy.size()),
        saved(Base::make().make_saved(1, n.T)) {
    const embedding tokens(text.bytes, n.T);
    tokens.project(arrives.data(), n.T, n.H * n.E, 61, 1.0f, 0.0f);
    std::copy_n(arrives.data(), this->known() * n.H * n.E, dy.data());
    std::fill_n(dy.data() + this->known() * n.H * n.E, (n.T - this->known()) * n.H * n.E, 0.0f);
    for (const auto& truth : Base::reference_gradients(dy)) {
      exact.push_back(truth);
      gradients.emplace_back(static_cast<index_t>(truth.size()) / this->known() * n.T);
    }
    scan();
  }

  void scan() {
    auto state = Base::make().make_state(1);
    Base::make().scan(maslin::exec::sequential{}, Base::tokens(), this->out(), state, saved);
  }
  /// Gradients of all tokens from what the last scan has saved: to be timed.
  template <class Policy>
  void backward(const Policy& policy, typename mixer::state& dstate) {
    backward(policy, arrives, dstate);
  }
  /// To be compared.
  template <class Policy>
  void backward(const Policy& policy) {
    auto dstate = Base::make().make_state(1);
    backward(policy, dy, dstate);
  }
  void spoil() override {
    for (buffer& b : gradients)
      std::fill_n(b.data(), b.size(), std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] double worst(double) const override {
    double found = 0;
    for (std::size_t k = 0; k < exact.size(); ++k) {
      double largest = 0;
      for (const double v : exact[k]) largest = std::max(largest, std::abs(v));
      for (index_t i = 0; i < gradients[k].size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double want = at < exact[k].size() ? exact[k][at] : 0;
        const double error = std::abs(double{gradients[k][i]} - want);
        found = std::max(found, std::isfinite(error) ? error / largest : HUGE_VAL);
      }
    }
    return found / this->relative_tolerance;
  }

  buffer dy, arrives;
  typename mixer::saved saved;
  std::vector<buffer> gradients;           // as the problem names them
  std::vector<std::vector<double>> exact;  // of the first tokens

 private:
  template <class Policy>
  void backward(const Policy& policy, const buffer& outputs, typename mixer::state& dstate) {
    Base::make().backward(
        policy, Base::tokens(), saved,
        maslin::row_major(outputs.data(), 1, this->size.T, this->size.H, this->size.E),
        Base::gradient_views(gradients), dstate);
  }
};

/// Builds the rows of one workload. A problem makes `mixer` and `tokens`, and `plain(order, T, state)`
/// runs one of the two orders of the plain loop.
template <class Problem, call Call>
class matrix_rows {
 public:
  matrix_rows(const std::string& mixer, const std::string& form, const std::string& regime,
              const head_sizes& n)
      : size_(n) {
    load_.mixer = mixer;
    load_.call = Call == call::step ? "step" : "scan";
    load_.form = form;
    load_.regime = regime;
    load_.T = Call == call::step ? 1 : n.T;
    load_.D = n.H * n.E;
    load_.preparation = 1;
    load_.prepare = [n](const corpus& text) -> std::unique_ptr<problem> {
      return std::make_unique<Problem>(text, n);
    };
  }

  template <class Policy>
  matrix_rows& library(const std::string& policy, const Policy& p, const work& least,
                       const std::string& target = {}) {
    row& r = add(policy, least);
    r.target = target;
    r.bind = [p](problem& any) {
      auto& data = static_cast<Problem&>(any);
      return library_contender<Call>(data.make(), data.tokens(), data.out(),
                                     {.B = 1, .T = data.size.T, .D = data.size.H}, p);
    };
    return *this;
  }

  /// Both orders of the loops inside a head.
  matrix_rows& plain_loops(const work& least) {
    for (const int order : {0, 1}) {
      row& r = add(order == 0 ? "naive, keys outside" : "naive, values outside", least);
      r.naive = true;
      r.estimate *= 3;
      r.bind = [order, T = load_.T](problem& any) {
        auto& data = static_cast<Problem&>(any);
        auto state = std::make_shared<buffer>(data.size.state());
        return contender{.repeat =
                             [&data, state, order, T](index_t calls) {
                               for (index_t i = 0; i < calls; ++i) {
                                 data.plain(order, T, state->data());
                                 benchmark::ClobberMemory();
                               }
                             },
                         .fresh =
                             [&data, state, order] {
                               std::fill_n(state->data(), state->size(), 0.0f);
                               data.plain(order, data.size.T, state->data());
                             }};
      };
    }
    return *this;
  }

  /// The scan that saves, token by token, which backward passes are measured against; compared by
  /// the gradients that it leads to.
  matrix_rows& saving_scan(const work& least) {
    load_.call = "backward";
    row& r = add("the scan that saves", least);
    r.bind = [](problem& any) {
      auto& data = static_cast<Problem&>(any);
      auto state = std::make_shared<typename Problem::mixer::state>(data.make().make_state(1));
      return contender{.repeat =
                           [&data, state](index_t calls) {
                             for (index_t i = 0; i < calls; ++i) {
                               data.make().scan(maslin::exec::sequential{}, data.tokens(),
                                                data.out(), *state, data.saved);
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh =
                           [&data] {
                             data.scan();
                             data.backward(maslin::exec::sequential{});
                           }};
    };
    return *this;
  }

  /// A backward pass from what that scan has saved.
  template <class Policy>
  matrix_rows& backward(const std::string& policy, const Policy& p, const work& least,
                        const std::string& target = {}) {
    load_.call = "backward";
    row& r = add(policy, least);
    r.target = target;
    r.bind = [p](problem& any) {
      auto& data = static_cast<Problem&>(any);
      auto dstate = std::make_shared<typename Problem::mixer::state>(data.make().make_state(1));
      return contender{.repeat =
                           [&data, dstate, p](index_t calls) {
                             for (index_t i = 0; i < calls; ++i) {
                               data.backward(p, *dstate);
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh =
                           [&data, p] {
                             data.scan();
                             data.backward(p);
                           }};
    };
    return *this;
  }
  /// The same in plain loops over all states of a head, which they keep.
  matrix_rows& plain_backward(const work& least) {
    row& r = add("naive", least);
    r.naive = true;
    r.estimate *= 3;
    r.bind = [](problem& any) {
      auto& data = static_cast<Problem&>(any);
      auto states = std::make_shared<buffer>((data.size.T + 1) * data.size.K * data.size.E);
      const auto run = [&data, states](const buffer& outputs) {
        data.plain_backward(outputs, states->data(), data.gradients);
      };
      return contender{.repeat =
                           [&data, run](index_t calls) {
                             for (index_t i = 0; i < calls; ++i) {
                               run(data.arrives);
                               benchmark::ClobberMemory();
                             }
                           },
                       .fresh = [&data, run] { run(data.dy); }};
    };
    return *this;
  }

  [[nodiscard]] workload take() { return std::move(load_); }

 private:
  row& add(const std::string& title, const work& least) {
    row r;
    r.name = row_name(load_, title);
    r.title = title;
    r.tolerance = 1;
    r.least = least;
    r.estimate = 2 * least.slots / 50e9 + least.bytes() / 10e9;
    r.tokens = load_.T;
    r.cache_bytes = size_.state() * static_cast<index_t>(sizeof(float));
    load_.rows.push_back(std::move(r));
    return load_.rows.back();
  }

  head_sizes size_;
  workload load_;
};

}  // namespace bench
