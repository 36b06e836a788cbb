# SPDX-License-Identifier: Apache-2.0
# The warnings under which maslin's own programs are built, and under which its headers stay silent.
# CMAKE_COMPILE_WARNING_AS_ERROR turns them into errors.
include_guard(GLOBAL)

add_library(maslin_warnings INTERFACE)
target_compile_options(maslin_warnings INTERFACE
  $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wsign-conversion;-Wshadow>)
