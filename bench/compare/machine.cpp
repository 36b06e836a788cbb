// SPDX-License-Identifier: Apache-2.0

#include "machine.hpp"

#include "support/origin.hpp"

#include <maslin/core/version.hpp>

#include <Eigen/Core>

#include <unistd.h>

#include <set>

// The build names these; by hand they may be left out.
#if !defined(MASLIN_SOURCE_DIR)
#define MASLIN_SOURCE_DIR ""
#endif
#if !defined(MASLIN_BUILD_TYPE)
#define MASLIN_BUILD_TYPE "unnamed"
#endif
#if !defined(MASLIN_COMPILE_FLAGS)
#define MASLIN_COMPILE_FLAGS "unknown"
#endif
#if !defined(MASLIN_COMMIT)
#define MASLIN_COMMIT "unknown"
#endif

namespace bench {
namespace {

std::string build_type() {
#if defined(NDEBUG)
  const std::string asserts = "no asserts";
#else
  const std::string asserts = "asserts on";
#endif
#if defined(__OPTIMIZE__)
  return std::string(MASLIN_BUILD_TYPE) + " (optimised, " + asserts + ")";
#else
  return std::string(MASLIN_BUILD_TYPE) + " (NOT optimised, " + asserts + ")";
#endif
}

std::string version() {
  return std::to_string(MASLIN_VERSION_MAJOR) + "." + std::to_string(MASLIN_VERSION_MINOR) + "." +
         std::to_string(MASLIN_VERSION_PATCH);
}

std::string kib(index_t bytes) {
  if (bytes == 0) return "unknown";
  if (bytes >= (index_t{1} << 33)) return std::to_string(bytes >> 30) + " GiB";
  return bytes >= (index_t{1} << 20) ? std::to_string(bytes >> 20) + " MiB"
                                     : std::to_string(bytes >> 10) + " KiB";
}

}  // namespace

std::string source_folder() { return MASLIN_SOURCE_DIR; }

facts describe(const settings& s, const corpus& text) {
  return {
      {"maslin", version() + ", commit " + MASLIN_COMMIT},
      {"cpu", cpu_name() + ", " + std::to_string(s.cores) + " cores, L1d " + kib(s.sizes.l1) +
                  ", L2 " + kib(s.sizes.l2) + ", L3 " + kib(s.sizes.l3)},
      {"memory", kib(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE))},
      {"isa", std::string(maslin::abi_name) + ", " + std::to_string(lanes::width) +
                  " float lanes, " + (maslin::fused_family ? "FMA" : "non-FMA") + " family"},
      {"compiler", compiler()},
      {"build", build_type()},
      {"flags", MASLIN_COMPILE_FLAGS},
      {"threads", s.threads ? "OpenMP; 1 a row unless its name says more"
                            : "built without OpenMP: one thread"},
      {"eigen", std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) +
                    "." + std::to_string(EIGEN_MINOR_VERSION)},
      {"text", text.source},
      {"limit",
       "max(useful bytes / measured ceiling of that read:write mix at that size, FMA-pipe slots / "
       "measured rate); the mix of a diagonal scan is the triad; an exp is charged 18 slots, "
       "one exp at M = 1"},
      {"clock",
       "the thread's CPU time for one thread (equal to wall time on a quiet machine), wall "
       "time for more"},
      {"forms",
       "given: normalised gates; fused: softmax in the kernel; fused-l1: relu_l1 in the "
       "kernel; log, complement: forms of a diagonal decay"},
  };
}

std::vector<machine_row> machine_rows(const settings& s) {
  struct level {
    std::string name;
    index_t bytes;
  };
  std::vector<level> levels;
  if (s.sizes.l1 > 0) levels.push_back({"l1", s.sizes.l1 * 3 / 4});
  if (s.sizes.l2 > 0) levels.push_back({"l2", s.sizes.l2 / 2});
  if (s.sizes.l3 > 0) levels.push_back({"l3", s.sizes.l3 * 3 / 8});
  levels.push_back({"dram", index_t{128} << 20});

  std::vector<machine_row> rows;
  std::set<int> counts{1};
  if (!s.quick && s.threads) counts.insert({std::min(2, s.cores), s.cores});
  for (const int threads : counts)
    for (const auto& [where, bytes] : levels) {
      const std::string tail =
          "/" + where + (threads > 1 ? "/threads:" + std::to_string(threads) : "");
      const index_t n = bytes / static_cast<index_t>(sizeof(float));
      const auto useful = static_cast<double>(bytes);
      rows.push_back({"machine/read" + tail, useful, 0, threads,
                      [=](roofline& r) { return r.read(n, threads); }});
      for (const stores kind : {stores::plain, stores::streaming}) {
        const std::string how = kind == stores::plain ? "/plain" : "/streaming";
        rows.push_back({"machine/write" + how + tail, useful, 0, threads,
                        [=](roofline& r) { return r.write(n, kind, threads); }});
        rows.push_back({"machine/copy" + how + tail, useful, 0, threads,
                        [=](roofline& r) { return r.copy(n / 2, kind, threads); }});
        rows.push_back({"machine/triad" + how + tail, useful, 0, threads,
                        [=](roofline& r) { return r.triad(n / 3, kind, threads); }});
      }
    }
  constexpr double slots = 1e6;
  rows.push_back({"machine/fma", 0, slots, 1, [](roofline& r) { return slots / r.slot_rate(); }});
  rows.push_back({"machine/fma-latency", 0, 0, 1, [](roofline& r) { return r.chain_step(); }});
  return rows;
}

}  // namespace bench
