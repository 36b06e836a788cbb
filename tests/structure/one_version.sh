#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The files that must repeat the version of core/version.hpp repeat the same one.
set -eu
cd "$(dirname "$0")/../.."

version=$(sed -n 's/^#define MASLIN_VERSION_[A-Z]* //p' include/maslin/core/version.hpp | paste -sd. -)
cited=$(sed -n 's/^version: //p' CITATION.cff)
newest=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
[ "$cited" = "$version" ] || { echo "CITATION.cff names $cited, not $version" >&2; exit 1; }
[ "$newest" = "$version" ] || { echo "CHANGELOG.md begins with $newest, not $version" >&2; exit 1; }
