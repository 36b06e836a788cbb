// SPDX-License-Identifier: Apache-2.0
#include "delta_rule_paths.hpp"

template void golden::delta_rule_paths<float>(const problem&, const matrix_sizes&, extent,
                                              const report&);
