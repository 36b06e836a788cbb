// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Names only. Include this where a type is mentioned and not used; never declare our templates
/// yourself: they live in an ABI namespace whose name depends on compiler flags.

#include <maslin/core/config.hpp>
#include <maslin/core/types.hpp>

namespace maslin::inline MASLIN_ABI {

template <class S, int Rank>
class view;

class shape_error;
class state_error;

namespace exec {
struct scalar;
struct sequential;
struct chunked;
}  // namespace exec

namespace scan {
template <class S, int Rank>
class lane_state;
}  // namespace scan

template <class S, decay Form = decay::value>
struct diagonal;
template <class S, int M, normalise N = normalise::softmax, gates Order = gates::natural,
          gate_side Side = gate_side::read>
struct hlru;
template <class S, int M, normalise N = normalise::softmax, gates Order = gates::natural>
struct bdlru;

}  // namespace maslin::inline MASLIN_ABI
