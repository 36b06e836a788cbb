# SPDX-License-Identifier: Apache-2.0
# What maslin's own tests, benches and examples add to the library: `maslin_own` carries it all.
# Users of the library never meet these flags.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/Warnings.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/Sanitizers.cmake)

option(MASLIN_OPENMP "Link OpenMP into maslin's own programs, where it is found" ON)
option(MASLIN_DEBUG_CHECKS "Check the library's own invariants in its own programs" OFF)

add_library(maslin_own INTERFACE)
target_link_libraries(maslin_own INTERFACE maslin::maslin maslin_warnings maslin_sanitizers)
if(MASLIN_DEBUG_CHECKS)
  target_compile_definitions(maslin_own INTERFACE MASLIN_DEBUG_CHECKS=1 _GLIBCXX_ASSERTIONS)
endif()
if(MASLIN_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    target_link_libraries(maslin_own INTERFACE OpenMP::OpenMP_CXX)
  endif()
endif()
