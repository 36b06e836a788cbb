#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two files that include everything link into one program, one with AVX2 and FMA and one without, and
# both still run. Inlining is off: that is when a linker keeps one copy of each inline function, and
# an older processor would meet AVX code in the file built without it. What both instantiate of the
# standard library is still shared: no library can prevent that.
. "$(dirname "$0")/common.sh"
case $(uname -m) in
  x86_64 | amd64) ;;
  *) skip 'not an x86 processor' ;;
esac

# Every header but those that need a further library.
(cd "$source/include" && find maslin -name '*.hpp' ! -path '*/interop/*' ! -path '*/layer/*') |
  sort | sed 's/.*/#include <&>/' >"$work/all.hpp"

compile() { "$CXX" -std=c++20 -O1 -fno-inline -I "$source/include" -I "$work" -c "$@"; }
compile -mavx2 -mfma "$here/first_file.cpp" -o "$work/first.o"
compile "$here/second_file.cpp" -o "$work/second.o"
"$CXX" "$work/first.o" "$work/second.o" -o "$work/two_files"
"$work/two_files"

# No function of maslin may stand in both: the linker would keep either.
weak() { nm -C "$work/$1.o" | sed -n 's/^[0-9a-f]* [uVW] //p' | grep 'maslin::' | sort -u; }
weak first >"$work/first.symbols"
weak second >"$work/second.symbols"
[ -s "$work/second.symbols" ] || fail 'no symbols of maslin were seen'
shared=$(comm -12 "$work/first.symbols" "$work/second.symbols")
[ -z "$shared" ] || fail "both files define: $shared"
