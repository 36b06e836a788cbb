#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A program that must not compile: the compiler has to answer with the sentence that the file names
# in its line `// message: ...`.
#
#   sh tests/compile_fail/check.sh <file>
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
message=$(sed -n 's|^// message: ||p' "$1")
[ -n "$message" ] || { echo "$1 names no message" >&2; exit 1; }
if printed=$("${CXX:-c++}" -std=c++20 -fsyntax-only -I "$root/include" "$1" 2>&1); then
  echo "$1 compiles" >&2
  exit 1
fi
echo "$printed" | grep -qF "$message" || {
  echo "$printed" | head -n 40
  echo "$1 fails, but not with: $message" >&2
  exit 1
}
