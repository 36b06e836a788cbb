// SPDX-License-Identifier: Apache-2.0
#include "rglru_paths.hpp"

template void golden::rglru_paths<double>(const problem&, extent, const report&);
