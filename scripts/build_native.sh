#!/bin/sh
# Builds the native part and installs it where aliquot.native finds it.
#
#   build_native.sh BUILD_DIR INSTALL_DIR [CMake arguments...]
#
# Without arguments of the caller's the compiler is the one of the ziglang package, which needs nothing of the
# system and makes libraries that load on any glibc from 2.17.
set -eu

build=$1
install=$2
shift 2
: "${ALIQUOT_PYTHON:=$PWD/.venv/bin/python}"
export ALIQUOT_PYTHON
bin=$(dirname "$ALIQUOT_PYTHON")

if [ "$#" -eq 0 ]; then
  set -- -DCMAKE_TOOLCHAIN_FILE=native/cmake/zig-toolchain.cmake
fi
if ! [ -e "$build/build.ninja" ]; then
  printf 'aliquot: building the native part (the first time takes a few minutes)\n' >&2
  "$bin/cmake" -S . -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
      -DPython3_EXECUTABLE="$ALIQUOT_PYTHON" -DALIQUOT_INSTALL_DIR=. -Wno-dev --log-level=WARNING "$@" >/dev/null
fi
"$bin/ninja" -C "$build" --quiet
rm -rf "$install.new"
"$bin/cmake" --install "$build" --prefix "$install.new" >/dev/null
# A whole new folder takes the old one's place: running programs keep the files they have mapped.
rm -rf "$install"
if [ -d "$install.new" ]; then mv "$install.new" "$install"; fi
