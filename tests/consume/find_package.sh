#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The installed package is found after a move, and is silent under the long list of warnings.
. "$(dirname "$0")/common.sh"

install_moved
"$CMAKE" -S "$here/find_package" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/moved" \
  -DWANTED_VERSION="$version" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="$warnings"
"$CMAKE" --build "$work/build"
expect_consumer "$work/build/consumer"
