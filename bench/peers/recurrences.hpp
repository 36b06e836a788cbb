// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bench {

/// The recurrences of jax_scans.py under every policy, at 1 thread and at all, beside the limits of
/// memory measured in the same rounds: a line of CSV each, on stdout. False if a result was wrong,
/// which is then not timed.
bool compare_recurrences();

}  // namespace bench
