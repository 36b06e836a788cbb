// SPDX-License-Identifier: Apache-2.0
#include "linear_attention_paths.hpp"

template void golden::linear_attention_paths<double>(const problem&, const matrix_sizes&, extent,
                                                     const report&);
