// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <ios>
#include <sstream>
#include <string>
#include <vector>

namespace maslin::test {

/// Equal numbers and equal bytes of each: unlike ==, which takes zeros for one another and no NaN
/// for itself.
template <class S>
[[nodiscard]] bool equal_bytes(const std::vector<S>& a, const std::vector<S>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(S)) == 0);
}

/// Where `got` first differs from `want` by a bit, or an empty text.
template <class S>
[[nodiscard]] std::string bits_apart(const std::vector<S>& want, const std::vector<S>& got) {
  if (want.size() != got.size()) return "another number of values";
  for (std::size_t i = 0; i < want.size(); ++i)
    if (std::memcmp(&want[i], &got[i], sizeof(S)) != 0) {
      std::ostringstream text;
      text << "number " << i << " is " << std::hexfloat << got[i] << ", want " << want[i];
      return text.str();
    }
  return {};
}

}  // namespace maslin::test
