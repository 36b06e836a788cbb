#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone, without a warning and without OpenMP. Headers that need a further
# library are left out where it is not installed.
#
#   sh tests/structure/headers_alone.sh [compiler [flags...]]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)/include
compiler=${1:-${CXX:-c++}}
[ $# -eq 0 ] || shift
cd "$root"

has_header() { echo "#include <$1>" | "$compiler" -std=c++20 -x c++ -E - >/dev/null 2>&1; }
absent=''
has_header eigen3/Eigen/Core || absent=interop/eigen
has_header mdspan || absent="$absent interop/mdspan"

headers=$(find maslin -name '*.hpp' | sort)
for name in $absent; do
  headers=$(echo "$headers" | grep -v "^maslin/$name\\.hpp\$")
done
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
# shellcheck disable=SC2016
echo "$headers" | xargs -P "$jobs" -I '{}' sh -c '
  header=$1
  shift
  echo "#include <$header>" | "$@" -x c++ - || { echo "$header does not stand alone" >&2; exit 1; }
' alone '{}' "$compiler" -std=c++20 -fsyntax-only -I . -isystem /usr/include/eigen3 \
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror "$@"
echo "$(echo "$headers" | wc -l) headers stand alone"
