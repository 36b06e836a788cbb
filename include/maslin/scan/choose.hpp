// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What exec::automatic chooses, from the shape of a call and a table of measured costs. Table,
/// shape and choice are values: print them with `explain`.

#include <maslin/core/types.hpp>
#include <maslin/scan/chunked.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>

namespace maslin::inline MASLIN_ABI::scan {

/// Kernels of which the table knows costs. A kernel says which it is by `costs`, a constant; those
/// that say nothing are never cut in time.
enum class cost_family {
  unknown,
  diagonal,           ///< gates given, or differences from 1
  diagonal_exp,       ///< gates that an exp makes
  complex_diagonal,   ///< complex, gates given
  companion,          ///< order M, gates given or divided by a norm
  companion_weighed,  ///< order M, an exp for each gate
  block,              ///< M x M blocks, gates given or divided by a norm
  block_weighed,      ///< M x M blocks, an exp for each gate
};

/// Costs of one family at one order, in ns on one thread.
struct unit_costs {
  cost_family family;
  int order;
  double partial;  ///< in order: a token of fewer channels than a register has lanes
  double one;      ///< in order: a token of exactly a register of channels
  double rows;     ///< in order: the least that a token of more channels costs
  double step;     ///< in order: a channel and token of many, from cache
  double summary;  ///< in chunks: a channel and token more, lanes being channels
  double turned;   ///< in chunks: a channel and token, lanes being chunks
};

/// Measured by bench/scan/policies.cpp on an AMD EPYC (Zen 3, AVX2, 8 lanes), g++ 12.2, -O3; where
/// chunks and order are close, set so that its grid of shapes chooses the faster. Ratios
/// within a row decide, so that the speed of a core hardly matters.
inline constexpr unit_costs cost_table[] = {
    {cost_family::diagonal, 1, 1.25, 1.3, 2.8, 0.13, 0.11, 0.73},
    {cost_family::diagonal_exp, 1, 4.4, 3.8, 7.8, 0.48, 0.4, 1.7},
    {cost_family::complex_diagonal, 2, 3.6, 2.9, 6.5, 0.36, 0.48, 1.65},
    {cost_family::companion, 2, 4.6, 4.8, 10, 0.55, 0.6, 1.4},
    {cost_family::companion, 4, 7.5, 4.6, 10.5, 0.64, 1.05, 2.8},
    {cost_family::companion, 8, 12.6, 8.4, 19, 1.15, 3.7, 8.4},
    {cost_family::companion_weighed, 2, 14.2, 13.7, 28, 1.5, 1.3, 3.8},
    {cost_family::companion_weighed, 4, 20, 20, 41, 2, 2.1, 7},
    {cost_family::block, 2, 10, 6.3, 13.4, 0.8, 1.4, 2.7},
    {cost_family::block, 4, 19.4, 19, 37.5, 2.3, 8.6, 13.4},
    {cost_family::block, 8, 75, 56, 120, 10, 70, 86},
    {cost_family::block_weighed, 2, 31, 32, 44.5, 2.3, 2.6, 7.5},
    {cost_family::block_weighed, 4, 85, 68, 126, 7.8, 13.4, 31},
};

/// The same on an Intel Xeon (AVX-512, 16 lanes), g++ 12.2.
inline constexpr unit_costs cost_table_16_lanes[] = {
    {cost_family::diagonal, 1, 1.6, 2.2, 4.8, 0.25, 0.09, 0.74},
    {cost_family::diagonal_exp, 1, 5.8, 5.4, 10.8, 0.35, 0.26, 1.35},
    {cost_family::complex_diagonal, 2, 3.1, 4.2, 12.4, 0.4, 0.26, 1.63},
    {cost_family::companion, 2, 4.2, 4.3, 10.1, 0.48, 0.34, 1.28},
    {cost_family::companion, 4, 16, 13.5, 27, 0.81, 0.88, 2.55},
    {cost_family::companion, 8, 24.5, 20.4, 45.3, 1.44, 3.5, 7},
    {cost_family::companion_weighed, 2, 16.2, 14.4, 30.6, 0.92, 0.72, 3},
    {cost_family::companion_weighed, 4, 37.5, 32.5, 65, 1.78, 2.1, 4.9},
    {cost_family::block, 2, 19, 13.6, 27.4, 1.2, 1.3, 3.2},
    {cost_family::block, 4, 50.4, 49, 93, 3.8, 7, 12.6},
    {cost_family::block, 8, 150, 173, 328, 14.5, 50, 93},
    {cost_family::block_weighed, 2, 53, 40.5, 67, 2.3, 2.7, 6.5},
    {cost_family::block_weighed, 4, 124, 104, 205, 6.6, 11.5, 22},
};

/// A channel run shorter than this many bytes a row gains no bandwidth from a thread of its own.
inline constexpr index_t run_bytes = 4096;

/// What a machine does beside arithmetic, in ns.
struct machine_costs {
  double fork;           ///< to start tasks on other threads and to wait for them
  double join;           ///< and for each of these threads
  double cached_byte;    ///< to move a byte through the caches of one core
  double streamed_byte;  ///< from and to memory, by one core
  double shared_byte;    ///< from and to memory, by all cores together
  double again_byte;     ///< to read a byte that has not stayed near a second time
  double apart;          ///< times streamed_byte, where a row is shared out in runs of channels
  double short_run;      ///< the same, where a token of such a run has less than `run_bytes`
  index_t near;          ///< bytes that stay close to a core from one pass to the next
  index_t far;           ///< bytes of a call that come from far away
};
inline constexpr machine_costs machine{
    4700, 650, 0.016, 0.045, 0.010, 0.045, 1.5, 3, index_t{448} << 10, index_t{8} << 20};
inline constexpr machine_costs machine_16_lanes{
    2000, 650, 0.010, 0.045, 0.010, 0.02, 1.5, 3, index_t{448} << 10, index_t{8} << 20};
[[nodiscard]] constexpr const machine_costs& machine_of(int lanes) noexcept {
  return lanes < 16 ? machine : machine_16_lanes;
}

/// What the choice depends on.
struct scan_shape {
  cost_family family;
  int order;
  index_t sequences, tokens;  ///< tokens of all sequences together
  index_t channels, runs;     ///< runs of channels that are worth a thread
  index_t bytes;              ///< that the call moves
  index_t chunk;              ///< tokens, if time is cut
  int lanes;                  ///< of the register that the call uses
  bool turns;                 ///< chunks may be lanes
  int threads;                ///< that the caller offers
};

/// What was chosen and what it was expected to cost.
struct choice {
  bool chunks;  ///< exec::chunked, else exec::sequential
  int threads;
  double ns;
};

namespace detail {

/// The costs of a family at any order, from the table nearest to so many lanes: the nearest row at or
/// below it, scaled by what grows.
[[nodiscard]] constexpr unit_costs costs_of(cost_family family, int order, int lanes) noexcept {
  unit_costs found{};
  for (const unit_costs& row :
       lanes < 16 ? std::span<const unit_costs>(cost_table) : cost_table_16_lanes)
    if (row.family == family && (found.order == 0 || row.order <= order)) found = row;
  if (found.order == 0 || order <= found.order) return found;
  const bool block = family == cost_family::block || family == cost_family::block_weighed;
  const double more = static_cast<double>(order) / found.order;
  const double gates = block ? more * more : more, maps = gates * more;
  for (double* c : {&found.partial, &found.one, &found.rows, &found.step}) *c *= gates;
  for (double* c : {&found.summary, &found.turned}) *c *= maps;
  return found;
}

/// A token of so many channels, in order.
[[nodiscard]] constexpr double token_in_order(const unit_costs& c, const scan_shape& of,
                                              index_t channels) noexcept {
  if (channels < of.lanes) return c.partial;
  if (channels == of.lanes) return c.one;
  return std::max(c.rows, c.step * static_cast<double>(channels));
}

/// Memory is waited for while nothing else is: the larger of both, and what threads cost. A core
/// takes `times` as long for a byte.
[[nodiscard]] constexpr double time_of(double compute, const scan_shape& of, index_t workers,
                                       int threads, double times = 1) noexcept {
  const machine_costs& m = machine_of(of.lanes);
  const auto w = static_cast<double>(workers), bytes = static_cast<double>(of.bytes);
  const double moved = of.bytes < exec::streaming_bytes
                           ? bytes * m.cached_byte / w
                           : bytes * std::max(times * m.streamed_byte / w, m.shared_byte);
  return std::max(compute, moved) + (threads > 1 ? m.fork + m.join * w : 0);
}

[[nodiscard]] constexpr choice in_order(const unit_costs& c, const scan_shape& of,
                                        int threads) noexcept {
  const index_t runs = of.sequences < threads
                           ? std::min<index_t>(of.runs, (threads + of.sequences - 1) / of.sequences)
                           : 1;
  const index_t tasks = of.sequences * runs, workers = std::min<index_t>(threads, tasks);
  const index_t rounds = (tasks + workers - 1) / workers;
  const double longest = static_cast<double>(of.tokens) / static_cast<double>(of.sequences);
  const double task = longest * token_in_order(c, of, (of.channels + runs - 1) / runs);
  const machine_costs& m = machine_of(of.lanes);
  const double times = runs == 1                                 ? 1
                       : of.bytes / of.tokens / runs < run_bytes ? m.short_run
                                                                 : m.apart;
  return {false, threads, time_of(task * static_cast<double>(rounds), of, workers, threads, times)};
}

[[nodiscard]] constexpr choice in_chunks(const unit_costs& c, const scan_shape& of,
                                         int threads) noexcept {
  const bool narrow = of.turns && of.channels < of.lanes;
  const index_t unit = of.chunk * (narrow ? of.lanes : 1);
  const index_t units = (of.tokens + unit - 1) / unit, workers = std::min<index_t>(threads, units);
  const index_t rounds = (units + workers - 1) / workers;
  const auto channels = static_cast<double>(of.channels);
  const double token =
      narrow ? channels * c.turned
             : token_in_order(c, of, of.channels) + std::max(c.one, channels * c.summary);
  const double all =
      token * static_cast<double>(std::min(rounds * workers * unit, of.tokens + unit));
  // Lanes that lie far apart and are not near any more when they are replayed come from far again.
  const machine_costs& m = machine_of(of.lanes);
  const bool again = narrow && of.bytes >= m.far && unit * (of.bytes / of.tokens) > m.near;
  const double reread = again ? static_cast<double>(of.bytes) * m.again_byte : 0;
  return {true, threads,
          time_of((all + reread) / static_cast<double>(workers), of, workers, threads)};
}

}  // namespace detail

/// The cheapest way by the table: in order or in chunks, on the caller or on all threads. Chunks must
/// promise a tenth to be worth their other bytes.
[[nodiscard]] constexpr choice choose(const scan_shape& of) noexcept {
  if (of.sequences == 0 || of.tokens == 0 || of.channels == 0) return {false, 1, 0};
  const unit_costs costs = detail::costs_of(of.family, of.order, of.lanes);
  // Of a kernel that the table does not know, as many numbers as cost more than threads do.
  constexpr index_t worth_threads = 32768;
  if (costs.order == 0)
    return {false, of.tokens * of.channels >= worth_threads ? of.threads : 1, 0};
  choice best = detail::in_order(costs, of, 1);
  const auto consider = [&](const choice& other, double worth) {
    if (other.ns < best.ns * worth) best = other;
  };
  constexpr double worth_chunks = 0.9;
  if (of.threads > 1) consider(detail::in_order(costs, of, of.threads), 1);
  consider(detail::in_chunks(costs, of, 1), worth_chunks);
  if (of.threads > 1)
    consider(detail::in_chunks(costs, of, of.threads), best.chunks ? 1 : worth_chunks);
  return best;
}

/// The choice in words, beside what the alternatives were expected to cost.
[[nodiscard]] inline std::string explain(const scan_shape& of) {
  const unit_costs costs = detail::costs_of(of.family, of.order, of.lanes);
  const auto text = [](const choice& c) {
    return std::string(c.chunks ? "chunked" : "sequential") +
           "{.threads = " + std::to_string(c.threads) + "}";
  };
  std::string out = text(choose(of));
  if (costs.order == 0 || of.tokens == 0) return out;
  out += " of";
  for (const int threads : {1, of.threads}) {
    for (const choice& c :
         {detail::in_order(costs, of, threads), detail::in_chunks(costs, of, threads)})
      out += " " + text(c) + " " + std::to_string(static_cast<long>(c.ns / 1000)) + " us";
    if (of.threads == 1) break;
  }
  return out;
}

namespace detail {

template <class Kernel>
[[nodiscard]] constexpr cost_family family_of() noexcept {
  if constexpr (requires { Kernel::costs; })
    return Kernel::costs;
  else
    return cost_family::unknown;
}

}  // namespace detail

}  // namespace maslin::inline MASLIN_ABI::scan
