// SPDX-License-Identifier: Apache-2.0

/// \file
/// `compare`: maslin against the limits of the machine, plain loops and Eigen, on real text.

#include "machine.hpp"
#include "options.hpp"
#include "report.hpp"
#include "runner.hpp"

#include <maslin/core/config.hpp>

#include <Eigen/Core>

#include <ctime>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <thread>

namespace {

using namespace bench;

settings look_around(const options& o) {
  settings s;
  s.quick = o.quick;
  s.sizes = caches::detect();
  s.cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(_OPENMP)
  s.threads = true;
#endif
  return s;
}

/// All workloads with the rows that were asked for.
std::vector<workload> plan_of(const settings& s, const options& o) {
  std::vector<workload> plan;
  for (auto make : {diagonal_workloads, complex_diagonal_workloads, complex_readout_workloads,
                    rglru_workloads, hlru_workloads, bdlru_workloads, generalized_workloads,
                    generalized_scores_workloads, selective_ssm_workloads, causal_conv_workloads,
                    attention_workloads, linear_attention_workloads, delta_rule_workloads})
    for (auto& w : make(s)) {
      std::erase_if(w.rows, [&](const row& r) { return !o.selects(r.name); });
      if (!w.rows.empty()) plan.push_back(std::move(w));
    }
  return plan;
}

/// The command line, paths within the project told from its root as in the README, and the day.
std::string command_of(int argc, char** argv) {
  const std::string folder = source_folder() + "/";
  std::string text;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (i > 0) text += ' ';
    text += folder.size() > 1 && word.starts_with(folder) ? word.substr(folder.size()) : word;
  }
  const std::time_t now = std::time(nullptr);
  char day[32];
  std::strftime(day, sizeof day, ", %Y-%m-%d", std::localtime(&now));
  return text + day;
}

int compare(const options& o, char* program, const std::string& command) {
  const settings s = look_around(o);
  std::vector<workload> plan = plan_of(s, o);
  std::vector<machine_row> machine = machine_rows(s);
  std::erase_if(machine, [&](const machine_row& m) { return !o.selects(m.name); });
  if (o.list) {
    for (const auto& m : machine) std::cout << m.name << '\n';
    for (const auto& w : plan)
      for (const auto& r : w.rows)
        std::cout << r.name << (r.target.empty() ? "" : "  " + r.target) << '\n';
    return 0;
  }
  if (plan.empty() && machine.empty())
    throw usage_error("no row matches '" + o.filter + "' (--list names them)");

  const corpus text = o.text.empty() ? read_sources(source_folder()) : read_text(o.text);
  facts context = describe(s, text);
  context.emplace_back("command", command);
  std::vector<std::string> flags = o.library;
  std::vector<char*> arguments{program};
  for (auto& flag : flags) arguments.push_back(flag.data());
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  for (const auto& [name, value] : context) benchmark::AddCustomContext("maslin_" + name, value);

  Eigen::setNbThreads(1);
  print_context(std::cout, context);
  std::cout.flush();
  // What is left of a minute, or of ten, after reports and an unlucky last round.
  const double seconds = o.quick ? 44 : 520;
  results found = runner(s, text, seconds).go(std::move(plan), std::move(machine));
  found.context = context;
  print_table(std::cout, found);
  write_reports(o, found, std::cout);
  if (const int failures = found.failures(); failures > 0) {
    std::cout << '\n'
              << failures << " rows FAILED: they differ from the reference and were not timed\n";
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int wrong_use = 2;
  try {
    const bench::options o = bench::parse(argc, argv);
    if (o.help) {
      std::cout << bench::usage();
      return 0;
    }
    return compare(o, argv[0], command_of(argc, argv));
  } catch (const usage_error& e) {
    std::cerr << "compare: " << e.what() << " (compare --help lists the options)\n";
    return wrong_use;
  } catch (const std::exception& e) {
    std::cerr << "compare: " << e.what() << '\n';
    return 1;
  }
}
