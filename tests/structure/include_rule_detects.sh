#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The include rule must find each of these planted breaches, and nothing in the lawful lines.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# plant <header> <include>
plant() {
  mkdir -p "$work/$(dirname "$1")"
  echo "#include $2" >>"$work/$1"
}
plant maslin/core/lane.hpp '<maslin/simd/lane.hpp>'
plant maslin/core/view.hpp '"types.hpp"'
plant maslin/simd/lane.hpp '<xsimd/xsimd.hpp>'
plant maslin/scan/chunked.hpp '<maslin/recurrence/block.hpp>'
plant maslin/mixer/hlru.hpp '<maslin/mixer/bdlru.hpp>'
plant maslin/mixer/bdlru.hpp '<Eigen/Core>'
plant maslin/reference/hlru.hpp '<maslin/recurrence/companion.hpp>'
plant maslin/fwd.hpp '<maslin/core/view.hpp>'
plant maslin/maslin.hpp '<maslin/reference/hlru.hpp>'
plant maslin/attic/old.hpp '<vector>'
breaches=10
plant maslin/simd/xsimd.hpp '<xsimd/xsimd.hpp>'
plant maslin/mixer/bdlru.hpp '<maslin/mixer/layout.hpp>'
plant maslin/mixer/bdlru.hpp '<vector>'
plant maslin/interop/eigen.hpp '<Eigen/Core>'

found=$(sh "$here/include_rule.sh" "$work") && { echo 'no breach was found' >&2; exit 1; }
echo "$found"
[ "$(echo "$found" | wc -l)" -eq $breaches ] || { echo "wanted $breaches breaches" >&2; exit 1; }
