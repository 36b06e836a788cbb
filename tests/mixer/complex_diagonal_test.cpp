// SPDX-License-Identifier: Apache-2.0
#include "laws/mixer_laws.hpp"

using namespace maslin;
using namespace maslin::test;

using single = std::complex<float>;

TEMPLATE_TEST_CASE("a complex diagonal recurrence keeps the laws of mixers",
                   "[mixer][complex][law]", single, std::complex<double>) {
  mixer_laws(subject_of<diagonal<TestType>>{});
}
