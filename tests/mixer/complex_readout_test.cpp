// SPDX-License-Identifier: Apache-2.0
#include "support/answer.hpp"
#include "support/bound.hpp"
#include "support/catch.hpp"
#include "support/poison.hpp"
#include "support/random.hpp"

#include <maslin/core/expect.hpp>
#include <maslin/mixer/complex_readout.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/reference/complex_readout.hpp>

#include <cmath>
#include <complex>
#include <string>
#include <vector>

using namespace maslin;
using maslin::test::poisoned, maslin::test::unit_roundoff;

namespace {

template <class S>
std::vector<std::complex<S>> complex_normal(index_t n, maslin::test::random& r) {
  std::vector<S> parts(static_cast<std::size_t>(2 * n));
  r.fill_normal(std::span<S>(parts));
  std::vector<std::complex<S>> all;
  for (std::size_t i = 0; i < parts.size(); i += 2) all.emplace_back(parts[i], parts[i + 1]);
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("real outputs of complex states are the reference's within the bound",
                   "[mixer][complex_readout]", float, double) {
  using S = TestType;
  using wide = std::complex<double>;
  maslin::test::random r(11);
  constexpr index_t B = 2, T = 3;
  double worst = 0;
  for (const index_t G : {1, 3})
    for (const index_t E : {1, 2})
      for (const index_t N : {0, 1, 3, 4, 7, 8, 9, 16, 33})
        for (const S factor : {S(1), S(2)}) {
          const auto read = complex_normal<S>(G * E * N, r),
                     h = complex_normal<S>(B * T * G * N, r);
          std::vector<S> skip(static_cast<std::size_t>(G * E)),
              input(static_cast<std::size_t>(B * T * G * E)), y(input.size());
          r.fill_normal(std::span<S>(skip));
          r.fill_normal(std::span<S>(input));
          const complex_readout<S> readout{.read = row_major(read.data(), G, E, N),
                                           .skip = row_major(std::as_const(skip).data(), G * E),
                                           .factor = factor};
          readout.apply(row_major(h.data(), B, T, G * N),
                        row_major(std::as_const(input).data(), B, T, G * E),
                        row_major(y.data(), B, T, G * E));

          const std::vector<wide> wide_read(read.begin(), read.end()), wide_h(h.begin(), h.end());
          const std::vector<double> wide_skip(skip.begin(), skip.end()),
              wide_input(input.begin(), input.end());
          std::vector<double> want(y.size());
          reference::complex_readout(
              row_major(wide_read.data(), G, E, N), row_major(wide_skip.data(), G * E),
              double{factor}, row_major(wide_h.data(), B, T, G * N),
              row_major(wide_input.data(), B, T, G * E), row_major(want.data(), B, T, G * E));
          for (index_t i = 0; i < B * T * G * E; ++i) {
            const index_t token = i / (G * E), c = i % (G * E), g = c / E;
            const auto at = [](index_t k) { return static_cast<std::size_t>(k); };
            double size = std::abs(wide_skip[at(c)] * wide_input[at(i)]);
            for (index_t n = 0; n < N; ++n) {
              const wide a = wide_read[at(c * N + n)], x = wide_h[at((token * G + g) * N + n)];
              size +=
                  double{factor} * (std::abs(a.real() * x.real()) + std::abs(a.imag() * x.imag()));
            }
            const double allowed =
                (static_cast<double>(N) / 8 + 7) * unit_roundoff<S> * size * (fused_family ? 1 : 2);
            // The reference in double has roundings of its own, of as many terms.
            const double theirs = static_cast<double>(2 * N + 3) * unit_roundoff<double> * size;
            const double error = std::abs(double{y[at(i)]} - want[at(i)]);
            REQUIRE(error <= allowed + theirs);
            if (allowed > 0) worst = std::max(worst, error / allowed);
          }
          // One register width is as good as another.
          if (N > 0)
            CHECK(recurrence::real_dot_row<S>(read.data(), h.data(), N) ==
                  recurrence::real_dot_row<simd::native<S>>(read.data(), h.data(), N));
        }
  CHECK(worst > 0.02);
}

TEST_CASE("a state and its conjugate answer as a real recurrence of order two",
          "[mixer][complex_readout][diagonal]") {
  // y[t] = 2 Re(c h[t]), h[t] = a h[t-1] + x[t] with real x:
  // y[t] = 2 Re(a) y[t-1] - |a|^2 y[t-2] + 2 Re(c) x[t] - 2 Re(c conj(a)) x[t-1]
  using number = std::complex<double>;
  constexpr index_t T = 60;
  const number a = std::polar(0.97, 0.7), c(0.3, -1.2);
  std::vector<number> x(T), h(T);
  maslin::test::random r(3);
  for (number& value : x) value = r.uniform() - 0.5;
  const diagonal<number> mixer{.channels = 1, .decay = row_major(&a, 1)};
  auto state = mixer.make_state();
  mixer.scan(exec::sequential{}, {.gate = {}, .input = row_major(std::as_const(x).data(), 1, T, 1)},
             row_major(h.data(), 1, T, 1), state);
  std::vector<double> y(T);
  complex_readout<double>{.read = row_major(&c, 1, 1, 1)}.apply(
      row_major(std::as_const(h).data(), 1, T, 1), row_major(y.data(), 1, T, 1));
  for (std::size_t t = 2; t < static_cast<std::size_t>(T); ++t) {
    const double want = 2 * a.real() * y[t - 1] - std::norm(a) * y[t - 2] +
                        2 * c.real() * x[t].real() -
                        2 * (c * std::conj(a)).real() * x[t - 1].real();
    // |h| <= 1 / 2 / (1 - |a|), and so many u of it and of its products.
    CHECK(std::abs(y[t] - want) <= 100 * unit_roundoff<double> * std::abs(c) / (1 - std::abs(a)));
  }
}

TEST_CASE("a wrong call of complex_readout names what it wanted and writes nothing",
          "[mixer][complex_readout][check]") {
  using number = std::complex<float>;
  const std::vector<number> read(2 * 1 * 3), h(4 * 6);
  const std::vector<float> skip(2), input(4 * 2);
  const auto refuses = [&](const std::string& text, auto change) {
    complex_readout<float> readout{.read = row_major(read.data(), 2, 1, 3),
                                   .skip = row_major(skip.data(), 2)};
    auto states = row_major(h.data(), 1, 4, 6);
    auto in = row_major(input.data(), 1, 4, 2);
    poisoned<float, 3> y({1, 4, 2});
    auto out = y.get();
    change(readout, states, in, out);
    const std::string said = maslin::test::answer([&] { readout.apply(states, in, out); });
    INFO(said << " | wanted: " << text);
    CHECK(said.starts_with("complex_readout::apply: "));
    CHECK(said.find(text) != std::string::npos);
    CHECK(y.untouched());
  };
  refuses("h must be [B, T, G N] = [1, 4, 6], got [1, 4, 5]", [](auto&, auto& s, auto&, auto&) {
    s = view<const number, 3>(s.data_handle(), {1, 4, 5}, {20, 5, 1});
  });
  refuses("h must be", [](auto&, auto& s, auto&, auto&) { s = {}; });
  refuses("y must be", [](auto&, auto&, auto&, auto& y) {
    y = view<float, 3>(y.data_handle(), {1, 4, 1}, {8, 2, 1});
  });
  refuses("input must be", [](auto&, auto&, auto& in, auto&) { in = time_range(in, 0, 3); });
  refuses("skip must be", [](auto& m, auto&, auto&, auto&) {
    m.skip = view<const float, 1>(m.skip.data_handle(), {1}, {1});
  });
  refuses("read [G, E, N] = [2, 1, 3] must have", [](auto& m, auto&, auto&, auto&) {
    m.read = view<const number, 3>(m.read.data_handle(), {2, 1, 3}, {3, 3, 2});
  });
  refuses("y must not overlap skip", [](auto& m, auto&, auto&, auto& y) {
    m.skip = view<const float, 1>(y.data_handle(), {2}, {1});
  });
  refuses("y must not overlap input", [](auto&, auto&, auto& in, auto& y) {
    in = view<const float, 3>(y.data_handle(), {1, 4, 2}, {6, 2, 1});
    y = view<float, 3>(y.data_handle() + 2, {1, 4, 2}, {6, 2, 1});
  });
  complex_readout<float> readout{.read = row_major(read.data(), 2, 1, 3),
                                 .skip = row_major(skip.data(), 2)};
  poisoned<float, 3> y({1, 4, 2});
  CHECK_THROWS_AS(readout.apply(row_major(h.data(), 1, 4, 6), y.get()), shape_error);
  CHECK(y.untouched());
}
