#!/usr/bin/env bash
# clang-tidy over the program's sources (settings and named exceptions in .clang-tidy): tests/tidy.sh BUILD_DIR [FILE...]
set -euo pipefail
build=$(cd "${1:-${TG_BUILD_DIR:?usage: tests/tidy.sh BUILD_DIR [FILE...]}}" && pwd)
shift || true
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=clang-tidy-14
command -v $tool >/dev/null || { echo "skipped: $tool is not installed" && exit 77; }
[[ -e $build/compile_commands.json ]] || { echo "no compile_commands.json in $build" && exit 1; }
files=("$@")
((${#files[@]})) || mapfile -t files < <(find core -name '*.c' | sort)
printf '%s\0' "${files[@]}" |
  xargs -0 -P "$(nproc)" -n 1 timeout 170 $tool --quiet --warnings-as-errors='*' -p "$build" 2> >(grep -v 'warnings generated' >&2)
echo "${#files[@]} files are clean"
