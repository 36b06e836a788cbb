// SPDX-License-Identifier: Apache-2.0
#include "generalized_paths.hpp"

template void golden::generalized_paths<float>(const rows_problem&, extent, const report&);
