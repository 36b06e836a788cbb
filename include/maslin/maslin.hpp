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
#include <maslin/mixer/bdlru.hpp>
#include <maslin/mixer/diagonal.hpp>
#include <maslin/mixer/hlru.hpp>
#include <maslin/mixer/layout.hpp>
#include <maslin/scan/executor.hpp>
#include <maslin/scan/policy.hpp>
