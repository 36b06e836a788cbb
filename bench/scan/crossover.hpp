// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Time in order against time in chunks, over lengths and widths: where one overtakes the other, and
/// what exec::automatic makes of it.

#include "grid.hpp"
#include "support/contender.hpp"
#include "support/plan.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace bench {

/// Made-up tokens, of which a few channels are held to a loop in double.
template <class Mixer>
class crossover_problem final : public problem {
 public:
  crossover_problem(index_t T, index_t D) : data(T, D) {}

  void spoil() override { std::fill_n(data.y.data(), data.y.size(), -1.0f); }
  [[nodiscard]] double worst(double) const override {
    double found = 0;
    for (const index_t c : {index_t{0}, data.D / 2, data.D - 1})
      found = std::max(found, data.error(c));
    return found;
  }

  synthetic<Mixer> data;
};

/// Every policy on one shape.
template <class Mixer>
[[nodiscard]] workload crossover_at(const std::string& mixer, index_t T, index_t D, int threads) {
  using tokens = synthetic<Mixer>;
  workload load;
  load.mixer = mixer;
  load.call = "scan";
  load.form = crossover_form;
  load.regime = "time in order or in chunks";
  load.M = tokens::order;
  load.T = T;
  load.D = D * tokens::values;
  load.preparation = static_cast<double>(T) * 100e-9;
  load.prepare = [T, D](const corpus&) -> std::unique_ptr<problem> {
    return std::make_unique<crossover_problem<Mixer>>(T, D);
  };
  for_policies(threads, [&](const char* name, const auto& policy, int team) {
    row r;
    r.name = row_name(load, name, "", team);
    r.title = policy_title(name, team);
    r.tolerance = 1;
    r.least = {.elements = T * load.D, .rows_read = tokens::rows_read, .threads = team};
    r.tokens = T;
    r.estimate = r.least.bytes() / 5e9;
    r.bind = [T, policy](problem& any) {
      auto& p = static_cast<crossover_problem<Mixer>&>(any).data;
      return library_contender<call::scan>(p.mixer(), p.tokens(), p.out(), {.T = T, .D = p.D},
                                           policy);
    };
    load.rows.push_back(std::move(r));
  });
  return load;
}

/// The grid of one mixer, for 1 thread and for all.
template <class Mixer>
void add_crossovers(const settings& s, const std::string& mixer, std::vector<workload>& plan) {
  const int most = s.threads ? s.cores : 1;
  const auto add = [&](index_t T, index_t D) {
    plan.push_back(crossover_at<Mixer>(mixer, T, D, most));
  };
  if (s.quick)
    for_shapes<Mixer>({4096}, {1, 8, 256}, add);
  else
    for_shapes<Mixer>({256, 4096, 65536}, {1, 4, 16, 64, 256, 1024}, add);
}

}  // namespace bench
