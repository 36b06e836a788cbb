# SPDX-License-Identifier: Apache-2.0
# The CMake target of xsimd 8.1, as Debian 12 and Ubuntu package it, asks to link `xtl`, which its
# package never looks up: every program that links xsimd then fails with "cannot find -lxtl". maslin
# uses nothing of xtl, so the item is dropped unless xtl is really there. Installed beside our package
# file, because the users of an installed maslin meet the same target.
include_guard(DIRECTORY)

function(maslin_fix_xsimd)
  get_target_property(libraries xsimd INTERFACE_LINK_LIBRARIES)
  if(NOT "xtl" IN_LIST libraries)
    return()
  endif()
  find_package(xtl CONFIG QUIET)
  if(NOT TARGET xtl)
    list(REMOVE_ITEM libraries xtl)
    set_property(TARGET xsimd PROPERTY INTERFACE_LINK_LIBRARIES ${libraries})
  endif()
endfunction()
