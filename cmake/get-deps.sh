#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Finds which of maslin's dependencies are missing, and installs those with apt on Debian and Ubuntu.
# Elsewhere it prints the command that does so. Harmless to run twice: what is there is left alone.
#
#   sh cmake/get-deps.sh          what the tests, the examples and compare need
#   sh cmake/get-deps.sh --ci     also what .ci/run needs, on Debian 12: other compilers, an emulator
set -eu

usage() { sed -n '3,7s/^# \{0,1\}//p' "$0"; }

ci=no
case "${1-}" in
  '') ;;
  --ci) ci=yes ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

missing='' optional=''
has() { command -v "$1" >/dev/null 2>&1; }

compiler=${CXX:-g++}
has "$compiler" || compiler=c++
# Homebrew keeps headers outside the compiler's own path.
brew_include=''
if has brew; then brew_include="-I$(brew --prefix)/include"; fi
has_header() {
  # shellcheck disable=SC2086
  echo "#include <$1>" | "$compiler" -std=c++20 -x c++ $brew_include -E - >/dev/null 2>&1
}

clang_links_openmp() {
  echo 'int main() {}' | clang++-14 -fopenmp -x c++ -o /dev/null - 2>/dev/null
}

# need <package> <test...>: notes the package, named as in Debian, when the test fails.
need() {
  package=$1
  shift
  "$@" || missing="$missing $package"
}

need g++ has "$compiler"
need cmake has cmake
need ninja-build has ninja
need pkg-config has pkg-config
need libxsimd-dev has_header xsimd/xsimd.hpp
need libeigen3-dev has_header eigen3/Eigen/Core
need libbenchmark-dev has_header benchmark/benchmark.h
need nlohmann-json3-dev has_header nlohmann/json.hpp
has_header catch2/catch_all.hpp || need catch2 has_header catch2/catch.hpp
if [ $ci = yes ]; then
  need clang-14 has clang++-14
  need clang-19 has clang++-19
  need clang-format-14 has clang-format-14
  need libomp-dev clang_links_openmp
  need g++-12-aarch64-linux-gnu has aarch64-linux-gnu-g++-12
  need qemu-user has qemu-aarch64
fi
# Only compare uses these: for its charts, and as a contender.
python3 -c 'import matplotlib' 2>/dev/null || /usr/bin/python3 -c 'import matplotlib' 2>/dev/null ||
  optional=python3-matplotlib
has_openblas() { pkg-config --exists openblas 2>/dev/null || has_header openblas/cblas.h; }
has_openblas || optional="$optional libopenblas-dev"

# Names elsewhere: translate <system> prints the packages of that system for the missing ones.
translate() {
  for package in $missing $optional; do
    case $1:$package in
      fedora:g++) echo gcc-c++ ;;
      fedora:pkg-config) echo pkgconf-pkg-config ;;
      fedora:libxsimd-dev) echo xsimd-devel ;;
      fedora:libeigen3-dev) echo eigen3-devel ;;
      fedora:libbenchmark-dev) echo google-benchmark-devel ;;
      fedora:nlohmann-json3-dev) echo json-devel ;;
      fedora:catch2) echo catch-devel ;;
      fedora:libomp-dev) echo libomp-devel ;;
      fedora:clang-*) echo clang clang-tools-extra ;;
      fedora:g++-12-aarch64-linux-gnu) echo gcc-c++-aarch64-linux-gnu ;;
      arch:g++) echo gcc ;;
      arch:ninja-build) echo ninja ;;
      arch:pkg-config) echo pkgconf ;;
      arch:libbenchmark-dev) echo benchmark ;;
      arch:python3-matplotlib) echo python-matplotlib ;;
      fedora:libopenblas-dev) echo openblas-devel ;;
      arch:libopenblas-dev | macos:libopenblas-dev) echo openblas ;;
      arch:libomp-dev) echo openmp ;;
      arch:clang-*) echo clang ;;
      arch:g++-12-aarch64-linux-gnu) echo aarch64-linux-gnu-gcc ;;
      macos:g++ | macos:clang-*) echo llvm ;;
      macos:ninja-build) echo ninja ;;
      macos:pkg-config) echo pkgconf ;;
      macos:libbenchmark-dev) echo google-benchmark ;;
      macos:python3-matplotlib) echo python-matplotlib ;;
      macos:libomp-dev) echo libomp ;;
      macos:g++-12-aarch64-linux-gnu) ;;
      arch:libxsimd-dev | macos:libxsimd-dev) echo xsimd ;;
      arch:libeigen3-dev | macos:libeigen3-dev) echo eigen ;;
      arch:nlohmann-json3-dev | macos:nlohmann-json3-dev) echo nlohmann-json ;;
      macos:qemu-user) echo qemu ;;
      *) echo "$package" ;;
    esac
  done | sort -u | tr '\n' ' '
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if [ -n "$missing$optional" ]; then
  if has apt-get; then
    echo "missing:$missing $optional"
    if [ "$(id -u)" -ne 0 ] && ! has sudo; then
      echo "run as root: apt-get update && apt-get install$missing $optional" >&2
      [ -z "$missing" ] || exit 1
    else
      as_root apt-get update || echo 'apt-get update failed; trying with the lists at hand' >&2
      # shellcheck disable=SC2086
      [ -z "$missing" ] ||
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
      # shellcheck disable=SC2086
      [ -z "$optional" ] ||
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
          $optional ||
        echo "note: without $optional compare lacks charts or a contender; all else works" >&2
    fi
  elif [ -n "$missing" ]; then
    {
      echo "missing:$missing"
      echo "install them, then run this again:"
      echo "  Fedora:  sudo dnf install $(translate fedora)"
      echo "  Arch:    sudo pacman -S --needed $(translate arch)"
      echo "  macOS:   brew install $(translate macos)"
    } >&2
    exit 1
  else
    echo "note: without $optional compare lacks charts or a contender; all else works" >&2
  fi
fi

# An older distribution has all packages, but may have them too old.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
cmake_version=$(cmake --version | sed -n '1s/[^0-9]*//p')
at_least "$cmake_version" 3.25 || {
  echo "maslin needs cmake 3.25 or newer; this is $cmake_version" >&2
  exit 1
}
case $(${CXX:-c++} --version | head -n 1) in
  *clang*) least=14 ;;
  *) least=12 ;;
esac
compiler_version=$(${CXX:-c++} -dumpversion)
at_least "$compiler_version" $least || {
  echo "maslin needs g++ 12 or clang 14, or newer; ${CXX:-c++} is $compiler_version (set CXX)" >&2
  exit 1
}
echo "dependencies: all there"
