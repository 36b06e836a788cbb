// SPDX-License-Identifier: Apache-2.0

#include "options.hpp"

namespace bench {

std::string usage() {
  return "compare: times the mixers of maslin on real text against the limits of this machine, "
         "plain\n"
         "-O3 loops and Eigen. Every row is compared with the reference before it is timed.\n"
         "\n"
         "usage: compare [options]\n"
         "  --quick         fewer sizes and rounds, within a minute (the full run: within ten)\n"
         "  --text FILE     the text to run on (default: the headers, tests and README of maslin)\n"
         "  --out DIR       folder of the reports (default: compare-results)\n"
         "  --filter REGEX  only rows whose name matches, such as 'bdlru/.*M:4'\n"
         "  --list          print the names of the rows, with the target that each answers\n"
         "  --help          this text\n"
         "\n"
         "of Google Benchmark's own flags: --benchmark_filter=REGEX, --benchmark_list_tests,\n"
         "--benchmark_out=FILE (JSON), --benchmark_context=KEY=VALUE\n"
         "\n"
         "exit status: 0; 1 if a row differs from the reference; 2 if the command line is wrong\n";
}

namespace {

/// What follows `prefix` in `argument`, if it begins so.
bool begins(const std::string& argument, const std::string& prefix, std::string& rest) {
  if (argument.rfind(prefix, 0) != 0) return false;
  rest = argument.substr(prefix.size());
  return true;
}

}  // namespace

options parse(int argc, char** argv) {
  options found;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    // An option's value follows it, or an equals sign.
    const auto value = [&](const std::string& name, std::string& to) {
      if (begins(argument, name + "=", to)) return true;
      if (argument != name) return false;
      if (++i == arguments.size()) throw usage_error(name + " needs a value");
      to = arguments[i];
      return true;
    };
    std::string rest;
    if (argument == "--quick") {
      found.quick = true;
    } else if (argument == "--list" || argument == "--benchmark_list_tests" ||
               argument == "--benchmark_list_tests=true") {
      found.list = true;
    } else if (argument == "--help" || argument == "-h") {
      found.help = true;
    } else if (begins(argument, "--benchmark_context=", rest)) {
      found.library.push_back(argument);
    } else if (!(value("--text", found.text) || value("--out", found.out) ||
                 value("--filter", found.filter) ||
                 begins(argument, "--benchmark_filter=", found.filter) ||
                 begins(argument, "--benchmark_out=", found.json))) {
      throw usage_error("unknown option " + argument);
    }
  }
  try {
    static_cast<void>(found.selects(""));
  } catch (const std::regex_error&) {
    throw usage_error("'" + found.filter + "' is not a regular expression");
  }
  if (found.out.empty()) throw usage_error("--out needs the name of a folder");
  return found;
}

}  // namespace bench
