// SPDX-License-Identifier: Apache-2.0
#include "diagonal_paths.hpp"

template void golden::diagonal_paths<double>(const problem&, maslin::decay, extent, const report&);
template void golden::complex_paths<double>(const problem&, extent, const report&);
