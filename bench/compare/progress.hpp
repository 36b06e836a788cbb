// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What is being done and how long it will take, on stderr.

#include "support/clock.hpp"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace bench {

/// One line that is rewritten on a terminal; elsewhere a line for each step.
class progress {
 public:
  /// `planned`: seconds that all steps are expected to take.
  void begin(double planned) {
    planned_ = planned;
    started_ = now();
  }

  /// Starts a step; `done` of the planned seconds lie behind.
  void step(const std::string& what, double done) {
    what_ = what;
    done_ = done;
    show("", true);
  }
  /// Goes on within a step.
  void detail(const std::string& what) const { show(what, false); }
  /// Clears the line.
  void end() const {
    if (terminal_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  void show(const std::string& more, bool first) const {
    const std::string line = what_ + (more.empty() ? "" : ", " + more);
    const double spent = now() - started_;
    // Plans err; what is left is scaled by how the plan has fared so far, once that says something.
    const double scale = done_ > 2 ? spent / done_ : 1;
    const double left = (planned_ - done_) * scale;
    const int seconds = left > 0 ? static_cast<int>(left) : 0;
    if (terminal_)
      std::fprintf(stderr, "\r\033[K%3d%%  %d:%02d left  %.70s", percent(), seconds / 60,
                   seconds % 60, line.c_str());
    else if (first)
      std::fprintf(stderr, "%3d%%  %d:%02d left  %s\n", percent(), seconds / 60, seconds % 60,
                   line.c_str());
    std::fflush(stderr);
  }
  [[nodiscard]] int percent() const {
    return planned_ > 0 ? static_cast<int>(100 * (done_ < planned_ ? done_ / planned_ : 1)) : 0;
  }

  double planned_ = 0, started_ = 0, done_ = 0;
  std::string what_;
  bool terminal_ = isatty(2) == 1;
};

}  // namespace bench
