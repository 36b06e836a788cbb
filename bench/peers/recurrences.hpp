// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace bench {

/// The recurrences of jax_scans.py under every policy, at 1 thread and at all, beside the limits of
/// memory measured in the same rounds: a line of CSV each, on stdout. False if a result was wrong,
/// which is then not timed. Only those of which `only`, a regular expression, is found in a name such as
/// "bdlru M4 T4096 D1024".
bool compare_recurrences(const std::string& only);

}  // namespace bench
