// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What happens when a caller is wrong. `MASLIN_EXPECT` is always on and answers with an exception
/// (or, with exceptions off, prints the same sentence and aborts) before anything is written;
/// `MASLIN_ASSERT` guards against our own mistakes and is compiled in by MASLIN_DEBUG_CHECKS only.

#include <maslin/core/types.hpp>

#include <stdexcept>
#include <string>

#if !defined(__cpp_exceptions)
#include <cstdio>
#include <cstdlib>
#endif

namespace maslin::inline MASLIN_ABI {

/// A call whose arguments do not fit together: nothing was written. The text names the function,
/// the argument, what was wanted and what came.
class shape_error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A stored state that cannot be loaded: truncated, corrupt, or of another mixer, shape or version.
/// The object it was to be loaded into is unchanged.
class state_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Raises `Error`, or prints its text and aborts where exceptions are off.
template <class Error>
[[noreturn]] inline void raise(const std::string& text) {
#if defined(__cpp_exceptions)
  throw Error(text);
#else
  std::fprintf(stderr, "%s\n", text.c_str());
  std::abort();
#endif
}

}  // namespace maslin::inline MASLIN_ABI

/// Reports `text` (any expression that gives a std::string, built only on failure) unless
/// `condition`.
#define MASLIN_EXPECT(condition, Error, text)         \
  do {                                                \
    if (!(condition)) ::maslin::raise<Error>((text)); \
  } while (false)

#if defined(MASLIN_DEBUG_CHECKS)
#define MASLIN_ASSERT(condition)                                                \
  do {                                                                          \
    if (!(condition)) ::maslin::raise<std::logic_error>("maslin: " #condition); \
  } while (false)
#else
#define MASLIN_ASSERT(condition) static_cast<void>(0)
#endif
