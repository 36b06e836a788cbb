#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As a subdirectory maslin adds a target, and no tests, installs, downloads or flags.
. "$(dirname "$0")/common.sh"

"$CMAKE" -S "$here/add_subdirectory" -B "$work/build" -DMASLIN_SOURCE="$source" \
  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_INSTALL_PREFIX="$work/prefix"
"$CMAKE" --build "$work/build"
expect_consumer "$work/build/consumer"

"$CMAKE" --install "$work/build"
[ ! -e "$work/prefix" ] || fail 'the subproject installs files'
[ -z "$(find "$work/build" -name '_deps')" ] || fail 'the subproject downloads'
flags=$(sed -n 's/^ *"command": //p' "$work/build/compile_commands.json" | tr ' ' '\n' |
  grep '^-' | grep -v -e '^-[Ico]' -e '^-isystem$' | sort -u | paste -sd' ' -)
case $flags in
  -std=*20) ;;
  *) fail "the subproject adds the flags $flags" ;;
esac
