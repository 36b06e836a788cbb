// SPDX-License-Identifier: Apache-2.0
#include "attention_paths.hpp"

template void golden::attention_paths<double>(const attention_problem&, extent, const report&);
