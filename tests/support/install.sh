#!/usr/bin/env bash
# Installs the Debian packages of the named groups that are missing: tests/support/install.sh build [test]
# Quiet when nothing is missing; says what to run when it may not install.
set -euo pipefail
list=$(dirname "${BASH_SOURCE[0]}")/packages.txt

command -v dpkg-query >/dev/null || exit 0 # not Debian: CMake says what it misses

# Node.js of its makers brings npm along and bars Debian's packages of both.
came_otherwise() {
  case $1 in
    nodejs) command -v node >/dev/null ;;
    npm) command -v npm >/dev/null ;;
    *) false ;;
  esac
}

missing=()
for group in "$@"; do
  while read -r package; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || came_otherwise "$package" || missing+=("$package")
  done < <(sed -n "s/^$group //p" "$list")
done
((${#missing[@]})) || exit 0

apt=(apt-get)
if ((EUID != 0)); then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    apt=(sudo apt-get)
  else
    echo "These packages are missing; install them as root:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing ${#missing[@]} packages" >&2
run() { "${apt[@]}" -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1; }
export DEBIAN_FRONTEND=noninteractive
# Servers that the tests start by themselves must not be started by their packages.
policy=/usr/sbin/policy-rc.d
if ((EUID == 0)) && [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  trap 'rm -f "$log" "$policy"' EXIT
fi
install() { run install -y --no-install-recommends "$@"; }
if ! install "${missing[@]}" && ! { run update && install "${missing[@]}"; }; then
  # One that cannot be had does not keep the others away.
  failed=()
  for package in "${missing[@]}"; do
    install "$package" && continue
    cat "$log" >&2
    failed+=("$package")
  done
  if ((${#failed[@]})); then
    echo "installing failed; the packages are: ${failed[*]}" >&2
    exit 1
  fi
fi
