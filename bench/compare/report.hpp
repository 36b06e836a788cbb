// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Results for people and programs.

#include "options.hpp"
#include "results.hpp"

#include <iosfwd>
#include <string>

namespace bench {

/// The machine and the build, and what may alarm a reader.
void print_context(std::ostream& out, const facts& context);

/// A table of at most 100 columns, and the verdicts on the targets.
void print_table(std::ostream& out, const results& r);

/// Google Benchmark's JSON, CSV, Markdown and, through python3, a page with charts, in `o.out`.
/// Says on `log` what was written and what was not.
/// throws    std::runtime_error if the folder cannot be written
void write_reports(const options& o, const results& r, std::ostream& log);

}  // namespace bench
