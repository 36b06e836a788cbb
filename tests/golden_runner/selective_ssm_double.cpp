// SPDX-License-Identifier: Apache-2.0
#include "selective_ssm_paths.hpp"

template void golden::selective_ssm_paths<double>(const problem&, extent, const report&);
