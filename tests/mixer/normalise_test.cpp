// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

namespace {

/// The same mixer with its gates normalised in the kernel and with them given.
template <template <normalise> class Mixer, normalise Kind>
struct both_gates {
  using normalised = Mixer<Kind>;
  using given = Mixer<normalise::none>;
};
// BD-LRU and H-LRU by turns, every normalisation but none round and round.
template <std::size_t I>
struct at {
  static constexpr normalise kind = normalisations[I % (std::size(normalisations) - 1)];
  template <normalise N>
  using hlru_of = hlru<scalar_at<I / 2>, test_orders[I], N>;
  template <normalise N>
  using bdlru_of = bdlru<scalar_at<I / 2 + 1>, test_orders[I], N>;
  using type =
      std::conditional_t<I % 2 == 0, both_gates<bdlru_of, kind>, both_gates<hlru_of, kind>>;
};
template <std::size_t I>
using mixer_at = typename at<I>::type;

}  // namespace

TEMPLATE_LIST_TEST_CASE("logits give the bytes of their coefficients given",
                        "[mixer][hlru][bdlru][normalise]", for_each_order<mixer_at>::type) {
  given_law(subject_of<typename TestType::normalised>{}, subject_of<typename TestType::given>{});
}
