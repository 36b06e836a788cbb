#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every file that can hold a comment names its licence in its first lines.
set -eu
cd "$(dirname "$0")/../.."

# Files of the repository, or all files where this is an unpacked archive.
git ls-files --cached --others --exclude-standard 2>/dev/null >/dev/null &&
  list='git ls-files --cached --others --exclude-standard' ||
  list='find . -type f ! -path ./build/*'
bad=$($list | grep -vE '(^|/)LICENSE$|\.(md|json|npy|npz|png|svg|csv|expected|txt)$' |
  while read -r file; do
    [ ! -e "$file" ] || head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
      echo "$file"
  done)
[ -z "$bad" ] || {
  echo "without a licence line:" "$bad" >&2
  exit 1
}
