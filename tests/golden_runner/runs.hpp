// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "case.hpp"
#include "paths.hpp"

#include <maslin/core/types.hpp>

#include <string>

namespace golden {

// All paths of a mixer over a problem whose values are exact in S, each handed to `each`. Defined
// in one file per mixer and type, so that a build compiles them side by side.

/// gate, input [B, T, D]; initial [B, D].
template <class S>
void diagonal_paths(const problem& p, maslin::decay form, extent paths, const report& each);

/// gate [B, T, D, M+1], input [B, T, D], initial [B, D, M]; in both orders of the gates.
template <class S>
void hlru_paths(const problem& p, extent paths, const report& each);

/// gate [B, T, G, M, M+1], input [B, T, G, M], initial [B, G, M]; in both orders of the gates.
template <class S>
void bdlru_paths(const problem& p, extent paths, const report& each);

/// Runs one case by all paths of its mixer.
/// throws    bad_case, skipped_case
void run_diagonal(const test_case& test, verdict& into);
void run_hlru(const test_case& test, verdict& into);
void run_bdlru(const test_case& test, verdict& into);

}  // namespace golden
