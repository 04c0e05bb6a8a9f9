#!/usr/bin/env bash
# Every recipe of docs/rules.md works as it stands: tests/recipes.sh BINARY
#
# A block ```lua whose first line is `-- FILE` is that file. Those of "Begin" and of the spec before the recipes make
# the folder; each recipe (###) replaces some of them in a copy, which is checked and whose specs run.
set -euo pipefail
binary=$(realpath "${1:?usage: tests/recipes.sh BINARY}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One folder a section: begin/, then 01/, 02/, ... with the recipe's name in .name
awk -v work="$work" '
  BEGIN { dir = work "/begin"; system("mkdir -p " dir "/spec") }
  /^## Recipes/ { in_recipes = 1 }
  in_recipes && /^### / {
    dir = sprintf("%s/%02d", work, ++n)
    system("mkdir -p " dir "/spec")
    print substr($0, 5) > (dir "/.name")
  }
  /^```lua$/ { in_block = 1; first = 1; next }
  /^```$/ { if (in_block && file) close(file); in_block = 0; file = ""; next }
  in_block && first { first = 0; file = ($2 ~ /\.lua$/ && $1 == "--") ? dir "/" $2 : "" }
  in_block && file { print > file }
' docs/rules.md

fail() { echo "docs/rules.md, $1: $2" && cat "$work/out" && exit 1; }
n=0
for dir in "$work"/begin "$work"/[0-9]*; do
  name=$(cat "$dir/.name" 2>/dev/null || echo Begin)
  if [[ $dir != "$work/begin" ]]; then
    [[ -n $(find "$dir/spec" -name '*_spec.lua') ]] || { echo "docs/rules.md, $name: has no spec" && exit 1; }
    for file in gateway tags routing strategy retention; do
      [[ -e $dir/$file.lua ]] || cp "$work/begin/$file.lua" "$dir/"
    done
  fi
  (cd "$dir" && "$binary" check --config gateway.lua --strict) >"$work/out" 2>&1 || fail "$name" "check --strict"
  (cd "$dir" && "$binary" test spec) >"$work/out" 2>&1 || fail "$name" "its spec"
  n=$((n + 1))
done
((n > 15)) || { echo "only $n recipes were found in docs/rules.md" && exit 1; }

echo "$n recipes"
