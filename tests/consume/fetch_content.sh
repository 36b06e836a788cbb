#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# FetchContent gives the same target, as a system one, with everything else off.
. "$(dirname "$0")/common.sh"

"$CMAKE" -S "$here/fetch_content" -B "$work/build" -DMASLIN_SOURCE="$source" \
  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
"$CMAKE" --build "$work/build"
expect_consumer "$work/build/consumer"
grep -q -e "-isystem $source/include" "$work/build/compile_commands.json" ||
  fail 'the headers are not a system folder'
