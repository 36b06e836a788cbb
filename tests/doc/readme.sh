#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first program in README.md (a ```cpp block with a main) compiles as it stands there, and prints
# what the ```text block after it shows.
#
#   sh tests/doc/readme.sh [scratch folder]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
rm -f "$work/readme.cpp" "$work/expected"

awk -v program="$work/readme.cpp" -v expected="$work/expected" '
  /^```/ && open {
    open = 0
    if (kind == "cpp" && text ~ /int main\(/ && !found) { printf "%s", text > program; found = 1 }
    else if (kind == "text" && found) { printf "%s", text > expected; exit }
    next
  }
  /^```/ { open = 1; kind = substr($0, 4); text = ""; next }
  open { text = text $0 "\n" }
' "$root/README.md"
if [ ! -s "$work/readme.cpp" ] || [ ! -s "$work/expected" ]; then
  echo 'README.md has no program followed by its output' >&2
  exit 1
fi

"${CXX:-c++}" -std=c++20 -O2 -Wall -Wextra -Werror -I "$root/include" "$work/readme.cpp" \
  -o "$work/readme"
"$work/readme" | tee "$work/printed"
diff -u "$work/expected" "$work/printed"
