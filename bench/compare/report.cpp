// SPDX-License-Identifier: Apache-2.0

#include "report.hpp"

#include "curves.hpp"
#include "targets.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace bench {
namespace {

/// printf into a string.
template <class... A>
std::string text(const char* format, A... arguments) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, arguments...);
  return buffer;
}

std::string time_of(double seconds) {
  if (seconds >= 1) return text("%.3g s", seconds);
  if (seconds >= 1e-3) return text("%.3g ms", seconds * 1e3);
  if (seconds >= 1e-6) return text("%.3g us", seconds * 1e6);
  return text("%.3g ns", seconds * 1e9);
}

std::string rate_of(double per_second) {
  if (per_second >= 1e9) return text("%.3g G", per_second / 1e9);
  if (per_second >= 1e6) return text("%.3g M", per_second / 1e6);
  if (per_second >= 1e3) return text("%.3g k", per_second / 1e3);
  return text("%.3g", per_second);
}

std::string gigabytes(double bytes, double seconds) { return text("%.1f", bytes / seconds / 1e9); }

std::string title_of(const workload& w) {
  std::string title =
      text("%s %s, %s, M=%d T=%lld D=%lld", w.mixer.c_str(), w.call.c_str(), w.form.c_str(), w.M,
           static_cast<long long>(w.T), static_cast<long long>(w.D));
  if (w.B > 1) title += " B=" + std::to_string(w.B);
  return title + " (" + w.regime + ")";
}

/// What bounds a workload, from its first row that was timed.
std::string limit_of(const measured& m) {
  for (const auto& o : m.rows) {
    if (o.samples.empty()) continue;
    const limit l = o.least();
    const std::string what =
        l.memory >= l.compute
            ? o.what.least.bytes() == 0
                  ? std::string("rows gathered")
                  : "memory at " + gigabytes(o.what.least.bytes(), l.memory) + " GB/s" +
                        (l.best == stores::plain       ? ", plain stores"
                         : l.best == stores::streaming ? ", NT stores"
                                                       : ", NT, prefetch")
            : std::string(o.what.least.chain > 0 ? "latency of fma" : "FMA pipes");
    return "limit " + time_of(l.seconds()) + ": " + what;
  }
  return "nothing was timed";
}

/// Columns as wide as their widest word.
void print_sheet(std::ostream& out, const sheet& s) {
  std::vector<std::size_t> widths;
  for (const auto& head : s.heads) widths.push_back(head.size());
  for (const auto& line : s.lines)
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  const auto print = [&](const std::vector<std::string>& line) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      out << "  " << line[i] << std::string(widths[i] - line[i].size(), ' ');
    out << '\n';
  };
  out << '\n' << s.title << ": " << s.note << '\n';
  print(s.heads);
  for (const auto& line : s.lines) print(line);
}

void print_row(std::ostream& out, const outcome& o) {
  if (o.failed()) {
    out << text("  %-29s FAILED: worst error is %.3g times what is allowed; not timed\n",
                o.what.title.c_str(), o.error);
    return;
  }
  if (o.samples.empty()) return;
  const double s = o.seconds(), speedup = o.speedup();
  out << text("  %-29s %9s %9s %5.1f%%%s%8s %7s %8.3f %8s\n", o.what.title.c_str(),
              time_of(s).c_str(), time_of(o.best()).c_str(), 100 * o.spread(),
              o.spread() > 0.05 ? "!" : " ",
              rate_of(static_cast<double>(o.what.tokens) / s).c_str(),
              gigabytes(o.what.least.bytes(), s).c_str(), o.fraction(),
              speedup > 0 ? text("%.2fx", speedup).c_str() : "-");
}

/// The cache that holds so many bytes, half of it left to others.
const char* level_of(index_t bytes, const caches& sizes) {
  if (2 * bytes <= sizes.l1) return "L1";
  if (2 * bytes <= sizes.l2) return "L2";
  return 2 * bytes <= sizes.l3 ? "L3" : "DRAM";
}

/// What one row costs that a mixer reads again, and where the rows that it keeps lie.
void print_rows_read(std::ostream& out, const results& r) {
  const caches sizes = caches::detect();
  bool titled = false;
  for (const auto& w : r.workloads)
    for (const auto& o : w.rows) {
      if (o.what.gathered == 0 || o.what.cache_bytes == 0 || o.samples.empty()) continue;
      if (!std::exchange(titled, true)) out << "\nearlier rows that are read again\n";
      out << text(
          "  %-44s T %-7lld %8.1f rows a token %9.3f ns a row  keeps %8.1f KiB, %s\n",
          (w.what.mixer + " " + w.what.form).c_str(), static_cast<long long>(w.what.T),
          o.what.gathered / static_cast<double>(o.what.tokens), o.seconds() * 1e9 / o.what.gathered,
          static_cast<double>(o.what.cache_bytes) / 1024, level_of(o.what.cache_bytes, sizes));
    }
}

void print_targets(std::ostream& out, const results& r) {
  const auto verdicts = judge(r);
  if (verdicts.empty()) return;
  int met = 0;
  out << "\ntargets, single thread unless the name ends in /t and a number\n";
  for (const auto& v : verdicts) {
    const bool good = v.met();
    met += good ? 1 : 0;
    out << text("  %-34s %7.2f  %-18s wanted %5.2f  %s\n", v.target.c_str(), v.got,
                name_of(v.what).c_str(), v.wanted, good ? "met" : "below");
  }
  out << "  " << met << " of " << verdicts.size() << " met\n";
}

void write_sheet(std::ostream& out, const sheet& s) {
  const auto write = [&](const std::vector<std::string>& line) {
    for (const auto& word : line) out << "| " << word << ' ';
    out << "|\n";
  };
  out << "\n## " << s.title << "\n\n" << s.note << "\n\n";
  write(s.heads);
  write(std::vector<std::string>(s.heads.size(), "---"));
  for (const auto& line : s.lines) write(line);
}

// Files.
// --------------------------------------------------------------------------------------------

std::ofstream open(const std::filesystem::path& path) {
  std::ofstream out(path);
  if (!out) throw std::runtime_error("cannot write " + path.string());
  return out;
}

void write_json(const std::filesystem::path& path, const results& r) {
  std::ofstream out = open(path);
  benchmark::JSONReporter reporter;
  reporter.SetOutputStream(&out);
  reporter.SetErrorStream(&out);
  reporter.ReportContext(benchmark::BenchmarkReporter::Context());
  for (const auto& m : r.machine) reporter.ReportRuns(m.runs);
  for (const auto& w : r.workloads)
    for (const auto& o : w.rows)
      if (!o.runs.empty()) reporter.ReportRuns(o.runs);
  reporter.Finalize();
}

void write_csv(const std::filesystem::path& path, const results& r) {
  std::ofstream out = open(path);
  out << "name,target,status,rounds,median_us,best_us,mean_us,stddev_us,tokens_per_second,"
         "gigabytes_per_second,limit_us,limited_by,fraction_of_limit,speedup_vs_naive,"
         "cache_bytes,error_of_bound\n";
  for (const auto& w : r.workloads)
    for (const auto& o : w.rows) {
      out << o.what.name << ',' << o.what.target << ',';
      if (o.samples.empty()) {
        out << "FAILED,0,,,,,,,,,,," << o.what.cache_bytes << ',' << o.error << '\n';
        continue;
      }
      const auto times = o.values(&sample::seconds);
      const limit l = o.least();
      const double s = o.seconds();
      out << "ok," << o.samples.size()
          << text(",%.6g,%.6g,%.6g,%.6g", s * 1e6, o.best() * 1e6, mean(times) * 1e6,
                  deviation(times) * 1e6)
          << text(",%.6g,%.6g,%.6g,%s", static_cast<double>(o.what.tokens) / s,
                  o.what.least.bytes() / s / 1e9, l.seconds() * 1e6,
                  l.memory >= l.compute ? "memory" : "compute")
          << text(",%.4f,", o.fraction())
          << (o.speedup() > 0 ? text("%.4f", o.speedup()) : std::string())
          << text(",%lld,%.4g\n", static_cast<long long>(o.what.cache_bytes), o.error);
    }
}

void write_markdown(const std::filesystem::path& path, const results& r) {
  std::ofstream out = open(path);
  out << "# maslin compare\n\n| | |\n|---|---|\n";
  for (const auto& [name, value] : r.context) out << "| " << name << " | " << value << " |\n";
  if (const auto verdicts = judge(r); !verdicts.empty()) {
    out << "\n## Targets\n\n| target | measured | | wanted | |\n|---|---:|---|---:|---|\n";
    for (const auto& v : verdicts)
      out << "| `" << v.target << "` | " << text("%.2f", v.got) << " | " << name_of(v.what) << " | "
          << text("%.2f", v.wanted) << " | " << (v.met() ? "met" : "below") << " |\n";
  }
  if (const sheet limits = machine_sheet(r); !limits.lines.empty()) write_sheet(out, limits);
  for (const sheet& s : sheets_of(r)) write_sheet(out, s);
  for (const auto& w : r.workloads) {
    out << "\n## " << title_of(w.what) << "\n\n"
        << limit_of(w) << "\n\n"
        << "| contender | median | best | spread | tokens/s | GB/s | of limit | vs plain loop |\n"
        << "|---|---:|---:|---:|---:|---:|---:|---:|\n";
    for (const auto& o : w.rows) {
      out << "| " << o.what.title << " | ";
      if (o.samples.empty()) {
        out << "FAILED | | | | | | |\n";
        continue;
      }
      const double s = o.seconds();
      out << time_of(s) << " | " << time_of(o.best()) << " | " << text("%.1f %%", 100 * o.spread())
          << " | " << rate_of(static_cast<double>(o.what.tokens) / s) << " | "
          << gigabytes(o.what.least.bytes(), s) << " | " << text("%.3f", o.fraction()) << " | "
          << (o.speedup() > 0 ? text("%.2fx", o.speedup()) : std::string("-")) << " |\n";
    }
  }
}

/// Exit status of a program with arguments; 127 if it cannot be started.
int call(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const auto& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return 127;
  if (child == 0) {
    execvp(arguments[0], arguments.data());
    std::_Exit(127);
  }
  int status = 0;
  if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) return 127;
  return WEXITSTATUS(status);
}

/// Draws the page with the first Python that has matplotlib; without one, with any Python and no
/// charts.
void write_page(const std::filesystem::path& json, const std::filesystem::path& page,
                std::ostream& log) {
  const std::string script = source_folder() + "/bench/report/report.py";
  if (source_folder().empty() || !std::filesystem::exists(script)) {
    log << "  no page: bench/report/report.py was not found\n";
    return;
  }
  log.flush();
  constexpr int no_matplotlib = 3;  // exit status of the script
  int worst = 127;
  // The distribution's matplotlib belongs to the distribution's Python, which need not come first
  // in the path.
  const std::vector<std::string> pythons{"python3", "/usr/bin/python3"};
  for (const auto& python : pythons) {
    const int status = call({python, script, json.string(), page.string()});
    if (status == 0) {
      log << "  " << page.string() << '\n';
      return;
    }
    if (status == no_matplotlib) worst = no_matplotlib;
  }
  if (worst == no_matplotlib)
    log << "  " << page.string() << " (without charts: no python3 here has matplotlib)\n";
  else
    log << "  no page: python3 is missing or failed\n";
}

}  // namespace

void print_context(std::ostream& out, const facts& context) {
  constexpr std::size_t width = 98;
  for (const auto& [name, value] : context) {
    // Long values go on below their beginning.
    const std::size_t indent = 10;
    out << text("%-10s", name.c_str());
    std::size_t column = indent;
    std::istringstream words(value);
    for (std::string word; words >> word;) {
      if (column > indent && column + 1 + word.size() > width) {
        out << '\n' << std::string(indent, ' ');
        column = indent;
      }
      if (column > indent) {
        out << ' ';
        ++column;
      }
      out << word;
      column += word.size();
    }
    out << '\n';
  }
  out << "note      Debian's Google Benchmark is built with its asserts on and may call itself a\n"
         "          DEBUG library; what is timed is built as the line above says.\n";
}

void print_table(std::ostream& out, const results& r) {
  if (const sheet limits = machine_sheet(r); !limits.lines.empty()) print_sheet(out, limits);
  out << "\nmedian over rounds; spread is deviation / mean, '!' above 5 %; `of limit` is limit / "
         "time,"
         "\nboth taken in the same round\n";
  for (const auto& m : r.workloads) {
    if (m.rows.empty()) continue;
    out << '\n'
        << title_of(m.what) << "  " << limit_of(m) << '\n'
        << text("  %-29s %9s %9s %6s %8s %7s %8s %8s\n", "", "median", "best", "spread", "token/s",
                "GB/s", "of limit", "vs naive");
    for (const auto& o : m.rows) print_row(out, o);
  }
  double worst = 0;
  for (const auto& m : r.workloads)
    for (const auto& o : m.rows) worst = std::max(worst, o.failed() ? 0 : o.error);
  if (worst > 0) out << text("\nworst error of a timed row: %.2f of its bound\n", worst);
  print_rows_read(out, r);
  for (const sheet& s : sheets_of(r)) print_sheet(out, s);
  print_targets(out, r);
}

void write_reports(const options& o, const results& r, std::ostream& log) {
  namespace fs = std::filesystem;
  const fs::path folder = o.out;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw std::runtime_error("cannot make the folder " + folder.string());
  log << "\nwritten\n";
  const fs::path json = folder / "compare.json";
  write_json(json, r);
  log << "  " << json.string() << '\n';
  if (!o.json.empty()) {
    write_json(o.json, r);
    log << "  " << o.json << '\n';
  }
  write_csv(folder / "compare.csv", r);
  log << "  " << (folder / "compare.csv").string() << '\n';
  write_markdown(folder / "compare.md", r);
  log << "  " << (folder / "compare.md").string() << '\n';
  write_page(json, folder / "compare.html", log);
}

}  // namespace bench
