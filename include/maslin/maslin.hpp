// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Everything a program that runs mixers needs.

#include <maslin/core/concepts.hpp>
#include <maslin/core/expect.hpp>
#include <maslin/core/order.hpp>
#include <maslin/core/version.hpp>
#include <maslin/core/view.hpp>
#include <maslin/fwd.hpp>
#include <maslin/gradient/attention.hpp>
#include <maslin/gradient/bdlru.hpp>
#include <maslin/gradient/causal_conv.hpp>
#include <maslin/gradient/complex_readout.hpp>
#include <maslin/gradient/delta_rule.hpp>
#include <maslin/gradient/diagonal.hpp>
#include <maslin/gradient/generalized.hpp>
#include <maslin/gradient/generalized_scores.hpp>
#include <maslin/gradient/hlru.hpp>
#include <maslin/gradient/linear_attention.hpp>
#include <maslin/gradient/rglru.hpp>
#include <maslin/gradient/selective_ssm.hpp>
#include <maslin/mixer/attention.hpp>
#include <maslin/mixer/bdlru.hpp>
#include <maslin/mixer/causal_conv.hpp>
#include <maslin/mixer/complex_readout.hpp>
#include <maslin/mixer/delta_rule.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/generalized.hpp>
#include <maslin/mixer/generalized_scores.hpp>
#include <maslin/mixer/hlru.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/mixer/linear_attention.hpp>
#include <maslin/mixer/lru_parameters.hpp>
#include <maslin/mixer/position.hpp>
#include <maslin/mixer/rglru.hpp>
#include <maslin/mixer/selective_ssm.hpp>
#include <maslin/pattern/cached.hpp>
#include <maslin/pattern/distance.hpp>
#include <maslin/pattern/history.hpp>
#include <maslin/pattern/reads.hpp>
#include <maslin/pattern/table.hpp>
#include <maslin/recurrence/online_softmax.hpp>
#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
#include <maslin/simd/flush_to_zero.hpp>
