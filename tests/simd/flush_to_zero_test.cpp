// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <maslin/core/config.hpp>
#include <maslin/core/view.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/simd/flush_to_zero.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace {

using maslin::flush_to_zero, maslin::index_t;

constexpr float smallest = std::numeric_limits<float>::min();

/// Half of the smallest normal number, at run time.
[[gnu::noinline]] float denormal() {
  const volatile float normal = smallest, half = 0.5f;
  return normal * half;
}

constexpr bool flushes =
#if defined(__SSE2__) || defined(__aarch64__)
    true;
#else
    false;
#endif

constexpr float decay_rate = 0.9f;

/// y of a state of 1 that decays while nothing arrives.
std::vector<float> decaying(index_t T, index_t D) {
  const std::vector<float> decay(std::size_t(T * D), decay_rate), input(decay.size(), 0.0f);
  std::vector<float> y(decay.size());
  const maslin::diagonal<float> mixer{.channels = D};
  auto state = mixer.make_state(1);
  const std::vector<float> ones(std::size_t(D), 1.0f);
  state.copy_from(maslin::row_major(ones.data(), 1, D));
  mixer.scan(maslin::exec::sequential{1},
             {.gate = maslin::row_major(decay.data(), 1, T, D),
              .input = maslin::row_major(input.data(), 1, T, D)},
             maslin::row_major(y.data(), 1, T, D), state);
  return y;
}

}  // namespace

TEST_CASE("denormal numbers are zeros in a scope, and as before after it",
          "[simd][flush_to_zero]") {
  REQUIRE(denormal() > 0);
  {
    const flush_to_zero outer;
    CHECK((denormal() == 0) == flushes);
    {
      const flush_to_zero inner;
      CHECK((denormal() == 0) == flushes);
    }
    CHECK((denormal() == 0) == flushes);
  }
  CHECK(denormal() > 0);
}

TEST_CASE(
    "a scan leaves the mode as it is, and moves by less than a normal number times its memory "
    "where "
    "denormals are zeros",
    "[simd][flush_to_zero]") {
  const index_t T = 1200, D = 19;
  const auto exact = decaying(T, D);
  CHECK(denormal() > 0);
  std::vector<float> flushed;
  {
    const flush_to_zero zeros;
    flushed = decaying(T, D);
    CHECK((denormal() == 0) == flushes);
  }
  // One fma a step, whose denormal result is its last; or h - (1 - a) h, of whose three operations each
  // may lose less than `smallest`, in every step of the memory.
  const double least_part = maslin::fused_family ? 1 : 1 - double(decay_rate);
  const double moved = maslin::fused_family ? 1 : 3 / (1 - double(decay_rate));
  REQUIRE(exact.back() < smallest);
  CHECK(exact[std::size_t(900 * D)] > 0);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (least_part * double(exact[i]) >= double(smallest))
      REQUIRE(flushed[i] == exact[i]);
    else
      REQUIRE(std::abs(double(flushed[i]) - double(exact[i])) < moved * double(smallest));
  }
  if (maslin::fused_family) CHECK((flushed.back() == 0) == flushes);
}
