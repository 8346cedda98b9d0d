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
      -DPython3_EXECUTABLE="$ALIQUOT_PYTHON" -DALIQUOT_INSTALL_DIR=. -Wno-author --log-level=WARNING "$@" >/dev/null
fi
"$bin/ninja" -C "$build" --quiet
rm -rf "$install.new"
"$bin/cmake" --install "$build" --prefix "$install.new" >/dev/null

# Each new file takes the old one's place at once: programs that start meanwhile find one or the other, and running
# programs keep the files that they have mapped.
mkdir -p "$install.new" "$install"
(cd "$install.new" && find . -type f) >"$build/installed.txt"
while IFS= read -r file; do
  mkdir -p "$install/$(dirname "$file")"
  mv -f "$install.new/$file" "$install/$file"
done <"$build/installed.txt"
(cd "$install" && find . -type f) | while IFS= read -r file; do
  grep -qxF "$file" "$build/installed.txt" || rm -f "$install/$file"
done
rm -rf "$install.new"
