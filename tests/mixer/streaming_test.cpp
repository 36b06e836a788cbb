// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/random.hpp"

#include <maslin/maslin.hpp>

#include <cstring>
#include <vector>

using namespace maslin;

namespace {

/// A buffer whose first number begins a cache line, plus `shift` numbers.
template <class S>
class shifted {
 public:
  shifted(index_t count, index_t shift) : memory_(static_cast<std::size_t>(count + shift)) {
    first_ = memory_.data() + shift;
  }
  [[nodiscard]] S* data() { return first_; }

 private:
  aligned_vector<S> memory_;
  S* first_;
};

/// Outputs stored past the cache, from registers where every row begins a line, have the bytes of
/// outputs stored through it; what lies between rows stays as it was.
template <class Mixer, class Tokens>
void same_bytes(const Mixer& mixer, const Tokens& tokens, index_t T, index_t width,
                int components) {
  using S = typename Mixer::scalar_type;
  for (const index_t shift : {0, 1, 8})
    for (const index_t gap : {0, 3, 16}) {
      CAPTURE(T, width, components, shift, gap);
      const index_t row = width * components + gap;
      std::vector<S> plain, past;
      for (const auto store : {exec::stores::plain, exec::stores::streaming}) {
        shifted<S> out(T * row, shift);
        std::fill_n(out.data(), T * row, S(7));
        const auto y = [&] {
          if constexpr (Mixer::output::rank() == 3)
            return strided(out.data(), std::array<index_t, 3>{1, T, width},
                           std::array<index_t, 3>{T * row, row, 1});
          else
            return strided(out.data(), std::array<index_t, 4>{1, T, width, components},
                           std::array<index_t, 4>{T * row, row, components, 1});
        }();
        auto state = mixer.make_state();
        mixer.scan(exec::sequential{.threads = 1, .store = store}, tokens, y, state);
        (store == exec::stores::plain ? plain : past).assign(out.data(), out.data() + T * row);
      }
      REQUIRE(std::memcmp(plain.data(), past.data(), plain.size() * sizeof(S)) == 0);
    }
}

template <class S, int M>
void every_mixer(index_t T, index_t D) {
  test::random random(static_cast<std::uint64_t>(D * 100 + M));
  std::vector<S> gate(static_cast<std::size_t>(T * D * M * (M + 1))),
      input(static_cast<std::size_t>(T * D * M));
  random.fill_normal<S>(gate);
  random.fill_normal<S>(input);
  const S *g = gate.data(), *x = input.data();
  same_bytes(
      diagonal<S>{.channels = D},
      typename diagonal<S>::tokens{.gate = row_major(g, 1, T, D), .input = row_major(x, 1, T, D)},
      T, D, 1);
  using order_m = hlru<S, M>;
  same_bytes(order_m{.channels = D},
             typename order_m::tokens{.gate = row_major(g, 1, T, D, M + 1),
                                      .input = row_major(x, 1, T, D)},
             T, D, 1);
  if constexpr (M == 1) {
    const index_t groups = layout::groups(D, default_group);
    std::vector<S> grouped(static_cast<std::size_t>(T * groups * 2 * default_group));
    regroup_gate(row_major(g, 1, T, D, 2),
                 row_major(grouped.data(), 1, T, groups, 2, default_group));
    const S* z = grouped.data();
    using pairs = hlru<S, 1, normalise::softmax, gates::grouped>;
    same_bytes(pairs{.channels = D},
               typename pairs::tokens{.gate = row_major(z, 1, T, groups, 2, default_group),
                                      .input = row_major(x, 1, T, D)},
               T, D, 1);
  }
  using blocks = bdlru<S, M>;
  same_bytes(blocks{.blocks = D},
             typename blocks::tokens{.gate = row_major(g, 1, T, D, M, M + 1),
                                     .input = row_major(x, 1, T, D, M)},
             T, D, M);
}

}  // namespace

TEMPLATE_TEST_CASE("streaming from registers writes the plain bytes", "[mixer][streaming]", float,
                   double) {
  for (const index_t D : {16, 37, 48, 88}) {
    every_mixer<TestType, 1>(3, D);
    every_mixer<TestType, 2>(3, D);
    every_mixer<TestType, 4>(3, D);
  }
}
