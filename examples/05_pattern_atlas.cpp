// SPDX-License-Identifier: Apache-2.0
// An atlas of patterns for generalized mixers: how many positions a token reads, how many outputs a
// decoder keeps, and how many hops carry an output to the last token. Given a file name it also
// draws each pattern at 64 tokens: B, whose entries are the reads, and (I - B)^-1 A, what the mixer
// makes of them when all coefficients of a token are equal; darker is larger, in steps of a factor 3.
//
//   05_pattern_atlas [FILE.svg]
#include <maslin/analysis/hops.hpp>
#include <maslin/analysis/operator.hpp>
#include <maslin/maslin.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

using maslin::index_t;
namespace analysis = maslin::analysis;
namespace pattern = maslin::pattern;

constexpr index_t drawn = 64;  // tokens of a picture
constexpr int side = 4;        // of a cell, in pixels
constexpr int panel = static_cast<int>(drawn) * side, gap = 24;

// The weight of input s in output t as a square, in one of 8 shades.
std::string cell(index_t t, index_t s, double weight, int left, int top) {
  const int shade = std::clamp(static_cast<int>(-std::log(weight) / std::log(3.0)), 0, 7);
  char text[120];
  std::snprintf(text, sizeof text, "<path d=\"M%d %dh%dv%dh-%dz\" fill=\"#%02x%02x%02x\"/>\n",
                left + static_cast<int>(s) * side, top + static_cast<int>(t) * side, side, side,
                side, 24 + 27 * shade, 48 + 24 * shade, 96 + 18 * shade);
  return text;
}

template <class P>
std::string picture(const char* name, const P& p, int top) {
  const auto equal = [&](index_t t) {
    return 1 / static_cast<double>(pattern::read_count(p, t) + 1);
  };
  const auto op =
      analysis::closed_form(p, drawn, equal, [&](index_t t, index_t, index_t) { return equal(t); });
  std::string svg = "<text x=\"" + std::to_string(gap) + "\" y=\"" + std::to_string(top - 6) +
                    "\" font-family=\"sans-serif\" font-size=\"12\">" + name +
                    ": B, and (I - B)^-1 A</text>\n";
  for (const int left : {gap, 2 * gap + panel})
    svg += "<path d=\"M" + std::to_string(left) + " " + std::to_string(top) + "h" +
           std::to_string(panel) + "v" + std::to_string(panel) + "h-" + std::to_string(panel) +
           "z\" fill=\"none\" stroke=\"#888\"/>\n";
  for (index_t t = 0; t < drawn; ++t) {
    pattern::for_each_read(p, t,
                           [&](index_t s, index_t) { svg += cell(t, s, equal(t), gap, top); });
    for (index_t s = 0; s <= t; ++s)
      if (op(0, 0, t, s) > 0) svg += cell(t, s, op(0, 0, t, s), 2 * gap + panel, top);
  }
  return svg;
}

template <class P>
void rows(const char* name, const P& p) {
  for (index_t n = 64; n <= 65536; n *= 4) {
    const auto paths = analysis::paths_to_last(p, n);
    const double reads = static_cast<double>(pattern::read_total(p, n)) / static_cast<double>(n);
    std::printf("%-20s %6td %11.2f %7td %7td %9.2f\n", n == 64 ? name : "", n, reads,
                pattern::cache_entries(p, n), paths.worst, paths.mean);
  }
}

int main(int count, char** arguments) {
  std::string svg;
  int top = gap;
  std::printf("%-20s %6s %11s %7s %7s %9s\n", "pattern", "n", "reads/token", "cache", "hops",
              "mean hops");
  const auto show = [&](const char* name, const auto& p) {
    rows(name, p);
    svg += picture(name, p, top);
    top += panel + gap;
  };
  const pattern::user triangle{[](index_t k) { return k * (k + 1) / 2 + 1; }};
  show("order(8)", pattern::order{8});
  show("1 + 16 k", pattern::linear{16});
  show("dense", pattern::dense{});
  show("2^k", pattern::power2{});
  show("2^k, cached", pattern::cached{pattern::power2{}});
  show("k^2 + 1", pattern::square1{});
  show("k^2 + 1, cached", pattern::cached{pattern::square1{}});
  show("k(k+1)/2 + 1", triangle);
  show("k(k+1)/2 + 1, cached", pattern::cached{triangle});
  if (count < 2) return 0;

  std::FILE* const file = std::fopen(arguments[1], "w");
  if (file == nullptr) return std::fprintf(stderr, "cannot write %s\n", arguments[1]), 1;
  std::fprintf(file,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n%s</svg>\n",
               2 * panel + 3 * gap, top, svg.c_str());
  return std::fclose(file) == 0 ? 0 : 1;
}
