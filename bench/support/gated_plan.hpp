// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Which sizes and forms the mixers with gate rows are timed at: the same plan for each of them.

#include "gated.hpp"
#include "gated_backward.hpp"
#include "scan/crossover.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// The plan for the members `Family<M>` of one mixer.
template <template <int> class Family>
class gated_planner {
 public:
  explicit gated_planner(const settings& s) : settings_(s) {}

  [[nodiscard]] std::vector<workload> take() {
    prefill<1>();
    prefill<2>();
    prefill<4>();
    prefill<8>();
    widths();
    lengths();
    in_cache<2>();
    in_cache<4>();
    in_cache<8>();
    decode<1>();
    decode<2>();
    decode<4>();
    decode<8>();
    threads();
    scaled();
    backward<1>();
    backward<2>();
    backward<4>();
    backward<8>();
    return std::move(plan_);
  }

 private:
  static constexpr index_t width = 1024;  // numbers of state of the streaming cases
  static constexpr index_t narrow = 256;  // and of those in cache
  static constexpr exec::sequential sequential{};

  template <int M>
  static std::string target(const std::string& form, const std::string& regime) {
    return std::string(Family<M>::name) + "/M" + std::to_string(M) + "/" + form + "/" + regime;
  }
  template <int M>
  [[nodiscard]] static constexpr index_t bytes_a_token(index_t D) {
    return D * (M + 3) * static_cast<index_t>(sizeof(float));
  }
  void add(workload w) { plan_.push_back(std::move(w)); }

  /// Streams from memory; every form of gates.
  template <int M>
  void prefill() {
    const index_t T = tokens_for(regime::dram, bytes_a_token<M>(width), settings_.sizes);
    const extents e{.T = T, .D = width};
    const bool all = !settings_.quick, middle = M == 4;
    if (all || M > 1) {
      gated_rows<Family<M>, normalise::none> rows(settings_, regime::dram, e);
      rows.template library<gates::grouped>("sequential", sequential, 1,
                                            M > 1 ? target<M>("given", "dram") : "");
      // The target of natural gates is set for blocks, as a part of grouped ones in the same run.
      const bool blocks = std::string(Family<M>::name) == "bdlru" && M > 1;
      rows.template library<gates::natural>("sequential", sequential, 1,
                                            blocks ? target<M>("given-natural", "dram") : "");
      if constexpr (M == 4) other_policies(rows);
      rows.template plain_loop<naive::order::tokens_outer>();
      if (all || middle) rows.template plain_loop<naive::order::channels_outer>();
      rows.with_eigen();
      add(rows.take());
    }
    {
      gated_rows<Family<M>, normalise::softmax> rows(settings_, regime::dram, e);
      rows.template library<gates::grouped>("sequential", sequential, 1,
                                            target<M>("fused", "dram"));
      rows.template library<gates::natural>("sequential", sequential);
      if constexpr (M == 4) other_policies(rows);
      rows.template plain_loop<naive::order::tokens_outer>();
      if (all) rows.template plain_loop<naive::order::channels_outer>();
      add(rows.take());
    }
    if (all || middle) {
      gated_rows<Family<M>, normalise::relu_l1> rows(settings_, regime::dram, e);
      rows.template library<gates::grouped>("sequential", sequential, 1,
                                            target<M>("fused-l1", "dram"));
      rows.template plain_loop<naive::order::tokens_outer>();
      if (all) rows.template plain_loop<naive::order::channels_outer>();
      add(rows.take());
    }
  }

  template <class Rows>
  static void other_policies(Rows& rows) {
    rows.template library<gates::grouped>("chunked", exec::chunked{});
    rows.template library<gates::grouped>("scalar", exec::scalar{});
  }

  /// Widths beside a power of two: rows 4 KiB apart share cache sets, others do not.
  void widths() {
    for (const index_t D : {1000, 1040}) {
      const index_t T = tokens_for(regime::dram, bytes_a_token<4>(D), settings_.sizes);
      gated_rows<Family<4>, normalise::none> rows(settings_, regime::dram, {.T = T, .D = D});
      rows.template library<gates::grouped>("sequential", sequential);
      rows.template library<gates::natural>("sequential", sequential);
      rows.template plain_loop<naive::order::tokens_outer>();
      add(rows.take());
    }
  }

  /// Time against length.
  void lengths() {
    for (const index_t T : {64, 256, 1024, 4096, 16384}) {
      if (settings_.quick && (T == 64 || T == 16384)) continue;
      // What a pass streams decides the regime, not the number of tokens.
      const index_t bytes = T * bytes_a_token<4>(narrow);
      const regime r = 2 * bytes <= settings_.sizes.l2   ? regime::l2
                       : 2 * bytes <= settings_.sizes.l3 ? regime::l3
                                                         : regime::dram;
      gated_rows<Family<4>, normalise::softmax> rows(settings_, r, {.T = T, .D = narrow});
      rows.template library<gates::grouped>("sequential", sequential);
      rows.template plain_loop<naive::order::tokens_outer>();
      add(rows.take());
    }
  }

  template <int M>
  void in_cache() {
    const index_t T = tokens_for(regime::l2, bytes_a_token<M>(narrow), settings_.sizes);
    gated_rows<Family<M>, normalise::none> rows(settings_, regime::l2, {.T = T, .D = narrow});
    rows.template library<gates::grouped>("sequential", sequential, 1, target<M>("given", "l2"));
    rows.template library<gates::natural>("sequential", sequential);
    rows.template plain_loop<naive::order::tokens_outer>();
    rows.with_eigen();
    add(rows.take());
  }

  /// One token after another, state and gates in cache.
  template <int M>
  void decode() {
    constexpr index_t verified = 8;
    const extents e{.T = verified, .D = width};
    {
      gated_rows<Family<M>, normalise::none, call::step> rows(settings_, regime::l2, e);
      rows.template library<gates::grouped>("sequential", sequential);
      rows.template library<gates::natural>("sequential", sequential);
      rows.template plain_loop<naive::order::tokens_outer>();
      add(rows.take());
    }
    gated_rows<Family<M>, normalise::softmax, call::step> rows(settings_, regime::l2, e);
    rows.template library<gates::grouped>("sequential", sequential);
    rows.template library<gates::natural>("sequential", sequential);
    rows.template plain_loop<naive::order::tokens_outer>();
    add(rows.take());
  }

  /// Two sequences on one thread and on two.
  void threads() {
    if (settings_.cores < 2 || !settings_.threads) return;
    const index_t T = tokens_for(regime::dram, bytes_a_token<4>(width), settings_.sizes);
    const extents e{.B = 2, .T = T, .D = width};
    {
      gated_rows<Family<4>, normalise::none> rows(settings_, regime::dram, e);
      rows.template library<gates::grouped>("sequential", sequential);
      rows.template library<gates::grouped>("sequential", exec::sequential{.threads = 2}, 2);
      rows.template plain_loop<naive::order::tokens_outer>();
      add(rows.take());
    }
    if (settings_.quick) return;
    gated_rows<Family<4>, normalise::softmax> rows(settings_, regime::dram, e);
    rows.template library<gates::grouped>("sequential", sequential);
    rows.template library<gates::grouped>("sequential", exec::sequential{.threads = 2}, 2);
    rows.template plain_loop<naive::order::tokens_outer>();
    add(rows.take());
  }

  /// One sequence on more and more threads, by the policy that chooses; and where chunks of time pay.
  /// Of blocks alone, which stand for both.
  void scaled() {
    if constexpr (std::string_view(Family<4>::name) == "bdlru") {
      if (settings_.cores > 1 && settings_.threads) {
        const index_t T = 2 * tokens_for(regime::dram, bytes_a_token<4>(width), settings_.sizes);
        gated_rows<Family<4>, normalise::softmax> rows(settings_, regime::dram,
                                                       {.T = T, .D = width});
        for (const int n : thread_counts(settings_))
          rows.template library<gates::grouped>("automatic", exec::automatic{n}, n);
        add(rows.take());
      }
      using mixer = typename Family<4>::template mixer<normalise::none, gates::grouped>;
      add_crossovers<mixer>(settings_, Family<4>::name, plan_);
    }
  }

  /// Gradients, of sizes that stream from memory.
  template <int M>
  void backward() {
    if (settings_.quick && M != 4) return;
    // Rows of gates and theirs, input, y, dy and the gradient of the input.
    constexpr index_t bytes = width * (2 * M + 6) * static_cast<index_t>(sizeof(float));
    const index_t T = tokens_for(regime::dram, bytes, settings_.sizes);
    add(gated_backward<Family<M>, normalise::softmax>(T, width));
    if constexpr (M > 1) add(gated_backward<Family<M>, normalise::none>(T, width));
  }

  settings settings_;
  std::vector<workload> plan_;
};

template <template <int> class Family>
[[nodiscard]] std::vector<workload> gated_plan(const settings& s) {
  return gated_planner<Family>(s).take();
}

}  // namespace bench
