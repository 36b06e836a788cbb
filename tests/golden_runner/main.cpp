// SPDX-License-Identifier: Apache-2.0
// Replays stored cases of public reference implementations through every path of the library.
//   golden_runner DIR

#include "case.hpp"
#include "check.hpp"
#include "runs.hpp"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace {

struct counts {
  int passed = 0, failed = 0, skipped = 0;
};

/// Runs the case of one meta.json and prints its line.
void run_case(const std::filesystem::path& meta_file, const std::string& name, counts& total) {
  using namespace golden;
  static const std::map<std::string, void (*)(const test_case&, verdict&)> mixers{
      {"attention", run_attention},
      {"diagonal", run_diagonal},
      {"hlru", run_hlru},
      {"bdlru", run_bdlru},
      {"generalized", run_generalized},
      {"selective_ssm", run_selective_ssm},
      {"linear_attention", run_linear_attention},
      {"delta_rule", run_delta_rule}};
  const char* word = "failed";
  std::string line;
  int* count = &total.failed;
  try {
    const test_case test(meta_file);
    const auto mixer = mixers.find(test.mixer());
    if (mixer == mixers.end()) throw skipped_case("this library has no mixer " + test.mixer());
    verdict result;
    mixer->second(test, result);
    if (result.passed()) {
      word = "passed";
      count = &total.passed;
    }
    line = result.text();
  } catch (const skipped_case& e) {
    word = "skipped";
    count = &total.skipped;
    line = e.what();
  } catch (const std::exception& e) {
    line = e.what();
  }
  ++*count;
  std::printf("%-7s  %-42s  %s\n", word, name.c_str(), line.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: golden_runner DIR\n");
    return 1;
  }
  const std::filesystem::path folder = argv[1];
  std::vector<std::filesystem::path> cases;
  try {
    cases = golden::find_cases(folder);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "golden_runner: %s\n", e.what());
    return 1;
  }
  counts total;
  for (const auto& meta_file : cases) {
    // A folder that is itself a case has no path below itself.
    auto name = meta_file.parent_path().lexically_relative(folder);
    if (name == ".") name = std::filesystem::absolute(meta_file).parent_path().filename();
    run_case(meta_file, name.generic_string(), total);
  }
  if (cases.empty()) std::printf("no meta.json under %s\n", argv[1]);
  std::printf("%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped);
  return cases.empty() || total.failed > 0 ? 1 : 0;
}
