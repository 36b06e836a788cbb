// SPDX-License-Identifier: Apache-2.0

// Attention in double, and over caches of 16 bits.

#include "attention_subject.hpp"

#include <iostream>
#include <sstream>

using namespace maslin;
using namespace maslin::test;

namespace {

template <class S, class C>
void storage_law(const char* name) {
  worst_ratio worst(std::string("attention, ") + name);
  for (const auto& n :
       {attention_sizes{2, 29, 3, 3, 16, 16}, attention_sizes{1, 130, 6, 2, 33, 20}})
    for (const bool full : {false, true}) {
      attention_problem<S> p(n, 5);
      if (full) p.add_everything(6, 1);
      p.window = full ? 40 : 0;
      attention_stage<S, C> stage(p);
      const auto want = stage.run();
      add_errors<C>(p, want, worst);
      for (const index_t t : {index_t{0}, n.T / 2, n.T - 1}) {
        stage.forget();
        auto h = stage.fresh();
        stage.scan(exec::sequential{.threads = 3}, 0, t, h);
        std::stringstream store;
        h.save(store);
        auto resumed = stage.fresh();
        resumed.load(store);
        REQUIRE(resumed == h);
        stage.decode(t, n.T, resumed);
        REQUIRE(bits_apart(want, stage.result()) == "");
      }
      REQUIRE(bits_apart(want, stage.run(exec::scalar{})) == "");
    }
  std::cout << worst << '\n';
  // The reference in double is itself only as exact as the kernel in double.
  CHECK(worst.value() <= (sizeof(S) == 8 ? 2 : 1));
}

}  // namespace

TEST_CASE("attention in double, every path", "[mixer][attention][accuracy]") {
  storage_law<double, double>("double");
}

TEST_CASE("a cache in bf16 is attention over the rounded keys and values",
          "[mixer][attention][storage]") {
  storage_law<float, bf16>("float over bf16");
}

TEST_CASE("a cache in fp16 is attention over the rounded keys and values, at half the bytes",
          "[mixer][attention][storage]") {
  storage_law<float, fp16>("float over fp16");
  const attention<float> plain{.key_dim = 8, .value_dim = 16};
  const attention<float, fp16> half{.key_dim = 8, .value_dim = 16};
  CHECK(2 * half.make_state(3, 100).bytes() == plain.make_state(3, 100).bytes());
}
