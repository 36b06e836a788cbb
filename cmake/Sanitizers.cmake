# SPDX-License-Identifier: Apache-2.0
include_guard(GLOBAL)

set(MASLIN_SANITIZE "" CACHE STRING "Sanitizers of maslin's own programs, such as address,undefined")

add_library(maslin_sanitizers INTERFACE)
if(MASLIN_SANITIZE)
  target_compile_options(maslin_sanitizers INTERFACE
    -fsanitize=${MASLIN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  # Under sanitizers g++ 12 takes initialised members of the standard library for uninitialised.
  target_compile_options(maslin_sanitizers INTERFACE
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(maslin_sanitizers INTERFACE -fsanitize=${MASLIN_SANITIZE})
endif()
