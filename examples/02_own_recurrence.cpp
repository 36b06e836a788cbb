// SPDX-License-Identifier: Apache-2.0
// A recurrence of your own: damped resonators, h[t] = p h[t-1] + x[t] in complex numbers. Its
// algebra is written once, for numbers and for registers; every policy of the library then runs it.
#include <maslin/maslin.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using maslin::index_t, maslin::lane;
namespace exec = maslin::exec;
namespace scan = maslin::scan;

template <class V>
struct resonator {
  using value = V;
  static constexpr int order = 2;  // numbers of state a channel
  struct state {
    V h[2];  // real and imaginary part
  };
  struct map {
    state p, s;  // h <- p h + s: what one token does, or any run of tokens
  };
  using token = map;
  // Products are fma by name, so that numbers and registers give the same bits.
  static state act(const state& p, const state& z, const state& s) noexcept {
    const auto fma = lane<V>::fma;
    return {{fma(p.h[0], z.h[0], fma(-p.h[1], z.h[1], s.h[0])),
             fma(p.h[0], z.h[1], fma(p.h[1], z.h[0], s.h[1]))}};
  }
  static state real(typename lane<V>::scalar x) noexcept {
    return {{lane<V>::broadcast(x), lane<V>::broadcast(0)}};
  }
  static void step(const token& u, state& h) noexcept { h = act(u.p, h, u.s); }
  static void apply(const map& f, state& h) noexcept { h = act(f.p, h, f.s); }
  static map identity() noexcept { return {real(1), real(0)}; }
  static map compose(const map& later, const map& earlier) noexcept {
    return {act(later.p, earlier.p, real(0)), act(later.p, earlier.s, later.s)};
  }
  static void append(map& m, const token& u) noexcept { m = compose(u, m); }
  static token convert(const auto& u) noexcept {  // exec::chunked keeps its maps in double
    return {{{u.p.h[0], u.p.h[1]}}, {{u.s.h[0], u.s.h[1]}}};
  }
};
static_assert(maslin::linear_recurrence<resonator<float>>);
static_assert(maslin::linear_recurrence<resonator<maslin::simd::native<float>>>);

constexpr float radius = 0.9f;
constexpr index_t T = 995, D = 24;  // tokens, resonators with periods of 2 to 25 tokens

// One sequence as a schedule sees it: tokens come from here, a click every 7, and outputs go here.
struct kernel {
  using scalar_type = float;
  template <class V>
  using recurrence = resonator<V>;
  static constexpr int order = 2, outputs = 1;
  const float *re, *im;  // decays of the resonators, [D] each
  float* out;            // [T, D]
  kernel shifted(index_t, index_t) const noexcept { return *this; }  // there is only one
  template <class V>
  typename resonator<V>::token token(index_t t, index_t c, auto n) const noexcept {
    return {{{lane<V>::load(re + c, n), lane<V>::load(im + c, n)}},
            resonator<V>::real(t % 7 == 0 ? 1.0f : 0.0f)};
  }
  template <class V>
  void emit(float* to, index_t, auto n, const typename resonator<V>::state& h) const noexcept {
    lane<V>::store(to, h.h[0], n);
  }
  float* y(index_t t, index_t c) const noexcept { return out + t * D + c; }
  index_t y_stride() const noexcept { return 1; }
};

int main() {
  std::vector<float> re, im;
  for (index_t d = 0; d < D; ++d) {
    const float angle = 2 * std::acos(-1.0f) / static_cast<float>(d + 2);
    re.push_back(radius * std::cos(angle));
    im.push_back(radius * std::sin(angle));
  }
  const auto run = [&](const auto& policy) {
    std::vector<float> out(T * D);
    scan::lane_state<float, 3> state("resonator", 1, D, kernel::order);
    const scan::source<kernel> source{
        .first = {re.data(), im.data(), out.data()}, .length = T, .channel_count = D};
    scan::run(policy, source, state);
    return out;
  };
  const auto y = run(exec::sequential{}), chunked = run(exec::chunked{.chunk = 64, .threads = 2});
  std::printf("registers give the bytes of numbers: %s\n", y == run(exec::scalar{}) ? "yes" : "no");
  // |h| <= H = 1 / (1 - radius). A step rounds four times a component, each time by at most u H,
  // and errors decay as h does: 6 u H^2 for each result, 2 for carries rounded where chunks begin.
  const float bound = 14 * 0x1p-24f / ((1 - radius) * (1 - radius));
  const auto near = [&](float a, float b) { return std::abs(a - b) <= bound; };
  std::printf("chunks of 64 tokens: within %.0e: %s\n", bound,
              std::equal(y.begin(), y.end(), chunked.begin(), near) ? "yes" : "no");
  const auto loudest = std::max_element(y.end() - D, y.end()) - (y.end() - D);
  std::printf("clicks every 7 tokens: the loudest resonator has a period of %td\n", loudest + 2);
}
