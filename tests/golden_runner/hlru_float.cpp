// SPDX-License-Identifier: Apache-2.0
#include "hlru_paths.hpp"

template void golden::hlru_paths<float>(const problem&, extent, const report&);
