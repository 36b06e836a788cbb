// SPDX-License-Identifier: Apache-2.0

/// \file
/// Decoding allocates nothing. This file replaces the global operator new, plain and aligned, for
/// the whole program that it is linked into; the replacements count, and otherwise do the usual.

#include "laws/mixer_laws.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> allocations{0};

void* or_throw(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* plain(std::size_t size) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
void* aligned(std::size_t size, std::align_val_t alignment) noexcept {
  ++allocations;
  const auto to = static_cast<std::size_t>(alignment);
  // std::aligned_alloc wants whole multiples of the alignment.
  return std::aligned_alloc(to, (size / to + 1) * to);
}

}  // namespace

void* operator new(std::size_t size) { return or_throw(plain(size)); }
void* operator new[](std::size_t size) { return or_throw(plain(size)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return plain(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return plain(size); }
void* operator new(std::size_t size, std::align_val_t to) { return or_throw(aligned(size, to)); }
void* operator new[](std::size_t size, std::align_val_t to) { return or_throw(aligned(size, to)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

using namespace maslin;
using namespace maslin::test;

namespace {

using plain_t = diagonal<float>;
using lags_t = hlru<float, 4>;
using block_t = bdlru<float, 4>;
using grouped_t = bdlru<double, 4, normalise::sigmoid_l1, gates::grouped>;

template <class T, std::size_t Rank>
auto dense(T* data, const std::array<index_t, Rank>& extents) {
  return std::apply([&](auto... e) { return row_major(data, e...); }, extents);
}

/// Numbers to read for a view of any of these shapes.
template <class S, std::size_t Rank>
std::vector<S> numbers_for(const std::array<index_t, Rank>& extents) {
  index_t n = 1;
  for (const index_t e : extents) n *= e;
  return std::vector<S>(static_cast<std::size_t>(n), S(0.25));
}

template <class F>
long allocations_of(const F& f) {
  const long before = allocations;
  f();
  return allocations - before;
}

}  // namespace

TEST_CASE("the counters of this program count", "[mixer][allocation]") {
  // Kept beyond the lambdas, since a compiler may drop an allocation that nobody uses.
  std::vector<int> numbers;
  CHECK(allocations_of([&] { numbers.resize(5); }) == 1);
  std::vector<lags_t::state> states;
  states.reserve(1);
  CHECK(allocations_of([&] { states.push_back(lags_t{.channels = 3}.make_state()); }) == 1);
}

TEMPLATE_TEST_CASE("decode, default scans and rollbacks allocate nothing", "[mixer][allocation]",
                   plain_t, lags_t, block_t, grouped_t) {
  using A = anatomy<TestType>;
  using S = typename TestType::scalar_type;
  constexpr index_t B = 2, T = 20, C = 37;
  const auto gate_shape = A::gate(B, T, C, default_group);
  const auto value_shape = A::values(B, T, C);
  const auto gate = numbers_for<S>(gate_shape), input = numbers_for<S>(value_shape);
  auto out = numbers_for<S>(value_shape);
  const auto y = dense(out.data(), value_shape);
  typename TestType::tokens tokens{.gate = dense(gate.data(), gate_shape),
                                   .input = dense(input.data(), value_shape)};
  const TestType mixer = A::make(C);
  auto state = mixer.make_state(B);
  const auto checkpoint = state;

  CHECK(allocations_of([&] {
          for (index_t t = 0; t < T; ++t) mixer.step(tokens[t], time_at(y, t), state);
        }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::sequential{}, tokens, y, state); }) == 0);
  CHECK(allocations_of([&] { mixer.scan(exec::scalar{}, tokens, y, state); }) == 0);
  constexpr exec::sequential streaming{.threads = 1, .store = exec::stores::streaming};
  CHECK(allocations_of(
            [&] { mixer.scan(streaming, tokens.range(3, T), time_range(y, 3, T), state); }) == 0);

  const S* memory = state.row(0);
  CHECK(allocations_of([&] { state = checkpoint; }) == 0);
  CHECK(state.row(0) == memory);
  CHECK(allocations_of([&] { state.reset(); }) == 0);

  // A chunked scan needs scratch: the first one takes it, the second finds it.
  const exec::chunked chunks{.chunk = 4, .threads = 1};
  mixer.scan(chunks, tokens, y, state);
  CHECK(allocations_of([&] { mixer.scan(chunks, tokens, y, state); }) == 0);
}
