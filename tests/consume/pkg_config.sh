#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A bare Makefile builds with the flags of the installed and moved pkg-config file.
. "$(dirname "$0")/common.sh"
command -v make >/dev/null || skip 'there is no make'
command -v pkg-config >/dev/null || skip 'there is no pkg-config'

install_moved
PKG_CONFIG_PATH=$work/moved/share/pkgconfig
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion maslin)" = "$version" ] || fail 'the version differs'
mkdir "$work/build"
make -C "$work/build" -f "$here/pkg_config/Makefile" SOURCES="$here" CXX="$CXX"
expect_consumer "$work/build/consumer"
