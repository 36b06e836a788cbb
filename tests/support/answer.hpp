// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <maslin/core/expect.hpp>

#include <string>

namespace maslin::test {

/// What a call answers: the text of the `Error` that it throws, or nothing if it succeeds.
template <class Error = shape_error, class F>
[[nodiscard]] std::string answer(F&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

}  // namespace maslin::test
