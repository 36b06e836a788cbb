#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Without exceptions and RTTI the headers build; a wrong call prints its sentence and aborts.
. "$(dirname "$0")/common.sh"

"$CXX" -std=c++20 -fno-exceptions -fno-rtti -I "$source/include" "$here/wrong_shape.cpp" \
  -o "$work/wrong_shape"
status=0
(cd "$work" && exec ./wrong_shape) >"$work/printed" 2>"$work/error" || status=$?
cat "$work/printed" "$work/error"
# 128 + SIGABRT
[ $status -eq 134 ] || fail "ended with $status, not by abort"
[ "$(cat "$work/printed")" = exact ] || fail 'the right call before it went wrong'
grep -q '^bdlru::scan: y must be .*\[1, 4, 3, 2\], got \[1, 5, 3, 2\]' "$work/error" ||
  fail 'the message does not name function, argument, wanted and got'
