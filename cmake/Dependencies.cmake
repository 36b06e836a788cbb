# SPDX-License-Identifier: Apache-2.0
# The only place that names dependencies, their least versions and their pins.
include_guard(GLOBAL)
include(${CMAKE_CURRENT_LIST_DIR}/FixXsimd.cmake)

# Off by default, so that nothing is ever downloaded unasked: distributions hold every dependency.
option(MASLIN_FETCH_DEPS "Download the dependencies that are not found" OFF)

# A row without a pinned commit is found, never fetched.
set(MASLIN_DEPENDENCY_FIELDS name target least debian fedora arch brew repository commit)
set(MASLIN_DEPENDENCIES
  "xsimd|xsimd|8.1|libxsimd-dev|xsimd-devel|xsimd|xsimd|xtensor-stack/xsimd|e88a72831858123924f7118f345dfe5d70d95991"
  "Catch2|Catch2::Catch2|2.13|catch2|catch-devel|catch2|catch2|catchorg/Catch2|fa43b77429ba76c462b1898d6cd2f2d7a9416b14"
  "benchmark|benchmark::benchmark|1.7|libbenchmark-dev|google-benchmark-devel|benchmark|google-benchmark|google/benchmark|192ef10025eb2c4cdd392bc502f0c852196baa48"
  "Eigen3|Eigen3::Eigen|3.4|libeigen3-dev|eigen3-devel|eigen|eigen||"
  "nlohmann_json|nlohmann_json::nlohmann_json|3.10|nlohmann-json3-dev|json-devel|nlohmann-json|nlohmann-json||")

# maslin_dependency(<name>): sets maslin_dep_<field> for every field of one row of the table.
function(maslin_dependency name)
  set(row "${MASLIN_DEPENDENCIES}")
  list(FILTER row INCLUDE REGEX "^${name}\\|")
  string(REPLACE "|" ";" row "${row}")
  foreach(field value IN ZIP_LISTS MASLIN_DEPENDENCY_FIELDS row)
    set(maslin_dep_${field} "${value}" PARENT_SCOPE)
  endforeach()
endfunction()

# maslin_require(<name>): makes the target of one dependency known, or stops with the line that
# installs it. A target of the parent project comes first, then a package, then a fetch. A macro,
# because packages leave variables that their users read.
macro(maslin_require name)
  maslin_dependency(${name})
  if(NOT TARGET ${maslin_dep_target})
    # Unversioned: packages refuse versions by rules of their own, and ranges across majors.
    find_package(${name} CONFIG QUIET GLOBAL)
    if(${name}_FOUND AND ${name}_VERSION VERSION_LESS maslin_dep_least)
      message(FATAL_ERROR "maslin needs ${name} ${maslin_dep_least} or newer, found "
                          "${${name}_VERSION} in ${${name}_DIR}")
    elseif(NOT ${name}_FOUND AND MASLIN_FETCH_DEPS AND maslin_dep_commit)
      maslin_fetch()
    elseif(NOT ${name}_FOUND)
      maslin_missing()
    endif()
  endif()
  if("${name}" STREQUAL "xsimd")
    maslin_fix_xsimd()
  endif()
endmacro()

macro(maslin_fetch)
  include(FetchContent)
  # Their tests are not ours to build, nor their files ours to install; but a fetched xsimd is
  # installed with maslin, whose users need it.
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  FetchContent_Declare(${maslin_dep_name} SYSTEM
                       GIT_REPOSITORY https://github.com/${maslin_dep_repository}.git
                       GIT_TAG ${maslin_dep_commit})
  FetchContent_MakeAvailable(${maslin_dep_name})
endmacro()

function(maslin_missing)
  set(fetch "")
  if(maslin_dep_commit)
    set(fetch ", or -DMASLIN_FETCH_DEPS=ON to download it")
  endif()
  message(FATAL_ERROR
    "maslin needs ${maslin_dep_name} ${maslin_dep_least} or newer, which was not found. Install it:\n"
    "  Debian, Ubuntu:  sudo apt-get install ${maslin_dep_debian}\n"
    "  Fedora:          sudo dnf install ${maslin_dep_fedora}\n"
    "  Arch:            sudo pacman -S ${maslin_dep_arch}\n"
    "  macOS:           brew install ${maslin_dep_brew}\n"
    "or name its place with -DCMAKE_PREFIX_PATH=<prefix>${fetch}.\n"
    "For maslin's own tests and benches, `sh cmake/get-deps.sh` installs all that is missing.\n")
endfunction()
