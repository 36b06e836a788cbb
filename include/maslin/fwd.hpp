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
struct automatic;
}  // namespace exec

namespace scan {
template <class S, int Rank>
class lane_state;
template <class S>
class matrix_state;
}  // namespace scan

namespace pattern {
struct order;
struct dense;
struct power2;
struct square1;
struct linear;
template <class F>
struct user;
template <class P>
struct cached;
class table;
class ring;
class slots;
}  // namespace pattern

template <class S, decay Form = decay::value>
struct diagonal;
template <class S, int M, normalise N = normalise::softmax, gates Order = gates::natural,
          gate_side Side = gate_side::read>
struct hlru;
template <class S, int M, normalise N = normalise::softmax, gates Order = gates::natural>
struct bdlru;
template <class S, discretisation Rule = discretisation::euler>
struct selective_ssm;
template <class S, int Width>
struct causal_conv;
template <class S>
struct complex_readout;

template <class S, decay_axis Axis = decay_axis::none, feature Map = feature::given>
struct linear_attention;
template <class S, decay_axis Axis = decay_axis::none, updates Steps = updates::one>
struct delta_rule;

template <class S, class Pattern, weights W = weights::given>
struct generalized;
template <class S, class Pattern, weights W = weights::softmax, direct A = direct::self>
struct generalized_scores;
template <class S, gate_form Form = gate_form::probability>
struct rglru;

struct bf16;
struct fp16;
template <class S, class C>
class attention_state;
template <class S, class C = S>
struct attention;

/// The adjoint of a mixer, defined in gradient/<name>.hpp.
namespace gradient {
template <class Mixer>
struct diagonal;
template <class Mixer>
struct hlru;
template <class Mixer>
struct bdlru;
template <class Mixer>
struct rglru;
template <class Mixer>
struct selective_ssm;
template <class Mixer>
struct causal_conv;
template <class Mixer>
struct complex_readout;
template <class Mixer>
struct linear_attention;
template <class Mixer>
struct delta_rule;
template <class Mixer>
struct generalized;
template <class Mixer>
struct generalized_scores;
template <class Mixer>
struct attention;
}  // namespace gradient

}  // namespace maslin::inline MASLIN_ABI
