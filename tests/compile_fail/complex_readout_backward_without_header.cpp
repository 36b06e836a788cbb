// SPDX-License-Identifier: Apache-2.0
// message: complex_readout::backward is defined in <maslin/gradient/complex_readout.hpp>: include it
#include <maslin/mixer/complex_readout.hpp>

int main() {
  const maslin::complex_readout<float> readout{};
  readout.backward({}, {}, {}, {});
}
