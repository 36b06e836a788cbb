#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A missing dependency is answered by the line that installs it, not by a compiler error.
. "$(dirname "$0")/common.sh"

# expect_message <package> <cmake arguments...>: configuring must fail and name the package.
expect_message() {
  package=$1
  shift
  rm -rf "$work/build"
  if "$CMAKE" -B "$work/build" "$@" >"$work/log" 2>&1; then
    fail "configured without $package"
  fi
  tr -s ' \n' '  ' <"$work/log" | grep -q "sudo apt-get install $package" || {
    cat "$work/log"
    fail "$package is not named"
  }
}

expect_message libxsimd-dev -S "$source" -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON
expect_message catch2 -S "$source" -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON
expect_message libeigen3-dev -S "$source" -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON \
  -DMASLIN_BUILD_TESTS=OFF
expect_message libbenchmark-dev -S "$source" -DCMAKE_DISABLE_FIND_PACKAGE_benchmark=ON \
  -DMASLIN_BUILD_TESTS=OFF
expect_message nlohmann-json3-dev -S "$source" -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON

install_moved
expect_message libxsimd-dev -S "$here/find_package" -DWANTED_VERSION="$version" \
  -DCMAKE_PREFIX_PATH="$work/moved" -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON
echo 'every missing dependency names its package'
