// SPDX-License-Identifier: Apache-2.0
#include "mixer/accuracy.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// A long memory: T past 100,000, every gate within 1e-6 of 1, a nonzero initial state. Checks the
/// bound, and the error beside the largest value where a figure for it is published.
template <class S>
void check_long_memory(const std::string& name, const subject<S>& m,
                       double figure = std::numeric_limits<double>::infinity()) {
#if defined(MASLIN_DEBUG_CHECKS)
  constexpr index_t T = 20003, C = 3;  // such builds are slow
#else
  constexpr index_t T = 100003, C = 3;
#endif
  auto p = make_problem(m, 1, T, C, 17, memory::sticky);
  // Inputs of one sign: errors then have nothing to hide behind, since h never comes near 0.
  for (S& x : p.input) x = std::abs(x);
  const auto want = m.bounds(p);
  double largest = 0;
  for (const auto& h : want) largest = std::max(largest, static_cast<double>(magnitude(h.value)));
  for (const way& how : {way(exec::sequential{}), way(exec::chunked{.chunk = 64, .threads = 1}),
                         way(exec::chunked{})}) {
    const bool in_chunks = std::holds_alternative<exec::chunked>(how);
    const auto y = m.run(p, how).y;
    const double ratio =
        worst_error(y, want, published_factor(m, in_chunks ? walk::chunked : walk::sequential));
    double error = 0;
    for (std::size_t i = 0; i < y.size(); ++i)
      error = std::max(error, std::abs(double{y[i]} - static_cast<double>(want[i].value)));
    std::cout << name << ", long memory, " << describe(how) << ": worst error / bound " << ratio
              << ", worst error / largest value " << error / largest << '\n';
    CHECK(ratio <= 1);
    CHECK(error <= figure * largest);
  }
}

}  // namespace

TEST_CASE("a diagonal recurrence keeps to its error bound on random shapes",
          "[mixer][diagonal][accuracy]") {
  accuracy all("diagonal");
  constexpr index_t each = diagonal_shapes / 6;
  check_shapes(subject_of<diagonal<float>>{}, each, 1, all);
  check_shapes(subject_of<diagonal<float, decay::log>>{}, each, 2, all);
  check_shapes(subject_of<diagonal<float, decay::complement>>{}, each, 3, all);
  check_shapes(subject_of<diagonal<double>>{}, each, 4, all);
  check_shapes(subject_of<diagonal<double, decay::log>>{}, each, 5, all);
  check_shapes(subject_of<diagonal<double, decay::complement>>{}, each, 6, all);
  all.conclude(diagonal_shapes);
}

TEST_CASE("a long memory keeps to its bound", "[mixer][accuracy]") {
  // Of a first-order recurrence, up to T = 1e6.
  constexpr double figure = 5e-5;
  check_long_memory<float>("diagonal", subject_of<diagonal<float>>{}, figure);
  check_long_memory<float>("diagonal log", subject_of<diagonal<float, decay::log>>{}, figure);
  check_long_memory<float>("diagonal complement", subject_of<diagonal<float, decay::complement>>{},
                           figure);
  check_long_memory<float>("hlru 2", subject_of<hlru<float, 2>>{});
  check_long_memory<float>("hlru 4 given", subject_of<hlru<float, 4, normalise::none>>{});
  check_long_memory<float>("bdlru 2", subject_of<bdlru<float, 2>>{});
  check_long_memory<float>("bdlru 4 given", subject_of<bdlru<float, 4, normalise::none>>{});
}
