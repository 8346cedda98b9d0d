#!/bin/sh
# Prepares a machine: what Debian must have, and the Python environment of the lock file.
#
#   setup.sh python DIR   a virtual environment in DIR with exactly requirements/dev.lock
#   setup.sh compiler     the system's C++ compiler, which only the sanitizer build uses
#
# Root installs what is missing; anybody else is told the command. Nothing is fetched when nothing is missing.
set -eu

say() { printf 'aliquot: %s\n' "$*" >&2; }

need_packages() {
  if [ "$(id -u)" -ne 0 ]; then
    say "this machine lacks: $*"
    say "install it with: sudo apt-get install --no-install-recommends $*"
    exit 1
  fi
  say "installing $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update || say "the package lists could not be refreshed; trying with those at hand"
  apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# The first interpreter that is new enough and starts (a shim of a version manager may not).
find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  say "no Python 3.11, 3.12 or 3.13 was found; set PYTHON to one"
  exit 1
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

prepare_python() {
  venv=$1
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    if ! has_venv "$python"; then
      need_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    say "making the Python environment in $venv"
    "$python" -m venv --clear "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
  "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.lock
}

prepare_compiler() {
  command -v g++ >/dev/null || need_packages g++
  # The runtime libraries of the sanitizers come with the compiler on Debian; say so early where they do not.
  [ -e "$(g++ -print-file-name=libasan.so)" ] || { say "g++ has no address sanitizer (libasan)"; exit 1; }
}

case ${1:-} in
  python) prepare_python "$2" ;;
  compiler) prepare_compiler ;;
  *) sed -n '2,8p' "$0"; exit 2 ;;
esac
