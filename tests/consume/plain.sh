#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A compiler and the header folder are enough.
. "$(dirname "$0")/common.sh"

"$CXX" -std=c++20 -I "$source/include" "$here/consumer.cpp" -o "$work/consumer"
expect_consumer "$work/consumer"
