#!/usr/bin/env bash
# All Lua is luacheck clean (settings in .luacheckrc).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v luacheck >/dev/null || { echo "skipped: luacheck is not installed" && exit 77; }
mapfile -t files < <(find lua scripts examples tests -name '*.lua' -not -path '*/node_modules/*' | sort)
((${#files[@]})) || { echo "no Lua files found" && exit 1; }
luacheck --quiet "${files[@]}"
