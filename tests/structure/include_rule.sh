#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks every #include below include/maslin against the table of rooms: a header includes its own
# room and rooms below, never a higher one, never a sibling implementation, and third parties only
# where they are let in. Prints every breach; ends with 1 if there is one.
#
#   sh tests/structure/include_rule.sh [folder that holds maslin/]
set -eu
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)/include}
cd "$root"

find maslin -name '*.hpp' | sort | xargs grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null | awk '
BEGIN {
  # room: the rooms it may include. The umbrella and fwd.hpp, which declares the names of the mixers
  # with their defaults, are rooms of one file.
  may["core"] = "core"
  may["simd"] = "simd core"
  may["recurrence"] = "recurrence simd core"
  may["scan"] = "scan recurrence simd core"
  may["pattern"] = "pattern core"
  may["mixer"] = "fwd.hpp mixer scan recurrence simd core pattern"
  may["gradient"] = "fwd.hpp gradient mixer scan recurrence simd core pattern"
  may["reference"] = "reference core"
  may["analysis"] = "analysis core pattern"
  may["interop"] = "interop core"
  may["layer"] = "fwd.hpp layer gradient mixer scan recurrence simd core pattern interop"
  may["maslin.hpp"] = "core scan recurrence simd mixer gradient pattern fwd.hpp"
  may["fwd.hpp"] = "core"
  # room or header: what else it may include beside the standard library.
  third["simd/xsimd.hpp"] = "xsimd"
  third["simd"] = "immintrin.h arm_neon.h"
  third["core/aligned.hpp"] = "sys"
  third["scan/executor.hpp"] = "omp.h"
  third["interop"] = third["layer"] = "Eigen"
  # Implementations never include each other; everything else in a room is its vocabulary.
  split("diagonal complex_diagonal companion block online_softmax", names, " ")
  for (i in names) concrete["recurrence/" names[i]] = 1
  split("diagonal rglru selective_ssm hlru bdlru attention linear_attention delta_rule generalized", names, " ")
  for (i in names) concrete["mixer/" names[i]] = concrete["gradient/" names[i]] = concrete["reference/" names[i]] = 1
}
function breach(why) { print file ":" line ": " why; found = 1 }
function listed(word, words) { return index(" " words " ", " " word " ") > 0 }
{
  file = $0; sub(/:.*/, "", file)
  rest = substr($0, length(file) + 2)
  line = rest; sub(/:.*/, "", line)
  target = rest; gsub(/^[^<"]*[<"]|[>"].*$/, "", target)

  own = file; sub(/^maslin\//, "", own)
  room = own; sub(/\/.*/, "", room)
  stem = own; sub(/\.hpp$/, "", stem)
  if (!(room in may)) { breach("no room of the table"); next }

  if (rest ~ /include[[:space:]]*"/) { breach("headers of maslin are included as <maslin/...>"); next }
  if (target ~ /^maslin\//) {
    sub(/^maslin\//, "", target)
    to = target; sub(/\/.*/, "", to)
    to_stem = target; sub(/\.hpp$/, "", to_stem)
    if (!listed(to, may[room])) breach(room " may not include " target)
    else if (to == room && (stem in concrete) && (to_stem in concrete)) breach("sibling implementation " target)
    else if (room == "scan" && to == "recurrence" && (to_stem in concrete)) breach("scan names no concrete recurrence: " target)
    else if (room == "fwd.hpp" && target != "core/config.hpp" && target != "core/types.hpp") breach("fwd.hpp may not include " target)
  } else if (target ~ /[\/.]/) {
    library = target; sub(/\/.*/, "", library)
    if (library == "unsupported") library = "Eigen"
    if (!listed(library, third[room] " " third[own])) breach("third party header " target)
  }
}
END { exit found }
'
