# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Read by the scripts beside it, each of which tests one way to consume maslin. All of them may be
# called by hand, `sh tests/consume/plain.sh [scratch folder]`, with CXX naming the compiler.
# They end with status 77 where the machine lacks a tool that the test is about.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=${1:-$(mktemp -d)}
: "${CXX:=c++}" "${CMAKE:=cmake}"
export CXX
warnings='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror'
version=$(sed -n 's/^#define MASLIN_VERSION_[A-Z]* //p' "$source/include/maslin/core/version.hpp" |
  paste -sd. -)

fail() {
  echo "failed: $*" >&2
  exit 1
}
skip() {
  echo "skipped: $*"
  exit 77
}

# expect_consumer <command...>: runs a built consumer, which must print what a right one prints.
expect_consumer() {
  printed=$("$@") || fail "$* ended with $?"
  [ "$printed" = "maslin $version exact" ] || fail "$* printed '$printed'"
  echo "$printed"
}

# install_moved: installs maslin to a scratch prefix, then moves that to $work/moved.
install_moved() {
  "$CMAKE" -S "$source" -B "$work/maslin" -DMASLIN_BUILD_TESTS=OFF -DMASLIN_BUILD_BENCH=OFF \
    -DMASLIN_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX="$work/prefix" >/dev/null
  "$CMAKE" --install "$work/maslin" >/dev/null
  mv "$work/prefix" "$work/moved"
  if grep -rl -e "$work" -e "$source" "$work/moved"; then
    fail 'the files above name the folder they were built in'
  fi
}

# CMake takes prefixes as absolute paths alone.
mkdir -p "$work"
work=$(cd "$work" && pwd)
rm -rf "$work/build" "$work/maslin" "$work/prefix" "$work/moved"
