// SPDX-License-Identifier: Apache-2.0
#include "bdlru_paths.hpp"

template void golden::bdlru_paths<double>(const problem&, extent, const report&);
